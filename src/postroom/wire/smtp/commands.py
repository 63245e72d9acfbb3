"""What the arguments of the commands mean: one function for each command that has any.

They take the `argument` of a Command. Errors are CommandError, and BadAddress with its kinds
(formats.address); nothing else is raised, whatever the octets.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Container
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from postroom.core.clock import Instant
from postroom.formats.address import (
    Address,
    NotAscii,
    parse_forward_path,
    parse_reverse_path,
)
from postroom.wire.smtp import limits
from postroom.wire.smtp.errors import (
    BadArgument,
    BadBase64,
    UnknownParameter,
)
from postroom.wire.smtp.parameters import (
    EXTENSIONS,
    MAIL_PARAMETERS,
    RCPT_PARAMETERS,
    Body,
    DeliverBy,
    Notify,
    OriginalRecipient,
    Return,
    Submitter,
    read_parameters,
)


@dataclass(frozen=True, slots=True)
class Hello:
    """Who the client says it is; `literal` is set if it gave an address: RFC 5321 §4.1.3."""

    name: str  # as it was said, brackets and all
    literal: IPv4Address | IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL: the reverse-path (None is <>) and the parameters. RFC 5321 §4.1.1.2."""

    reverse_path: Address | None
    size: int | None = None  # octets, as the client expects
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    auth: Submitter | None = None
    ret: Return | None = None
    envid: str | None = None
    requiretls: bool = False
    hold_for: int | None = None  # seconds; never with hold_until
    hold_until: Instant | None = None
    priority: int | None = None  # -9 to 9
    deliver_by: DeliverBy | None = None


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT: the forward-path and the parameters. RFC 5321 §4.1.1.3."""

    forward_path: Address
    notify: Notify | None = None  # None: not said, which is not NEVER
    orcpt: OriginalRecipient | None = None


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT: a chunk of `size` octets follows. RFC 3030 §2."""

    size: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """VRFY or EXPN: a user, mailbox or list. RFC 5321 §4.1.1.6."""

    text: str
    smtputf8: bool = False  # the reply may hold UTF-8: RFC 6531 §3.7.4.2


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH: the mechanism in upper case and the initial response, if there was one.

    An empty response (the octet "=") is b"" and not None: RFC 4954 §4.
    """

    mechanism: str
    initial: bytes | None = None


_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_MECHANISM: Final = re.compile(rb"[A-Za-z0-9_-]{1,20}")  # RFC 4422 §3.1


def parse_hello(argument: bytes) -> Hello:
    """The argument of HELO, EHLO (RFC 5321 §4.1.1.1) and LHLO (RFC 2033 §4.1).

    Underscores and labels of any letters pass, since a server must not refuse mail over the
    name (RFC 5321 §4.1.4); whatever could break a Received field does not: one name or one
    address literal of at most 255 octets. Raises BadArgument.
    """
    if not argument or len(argument) > limits.DOMAIN or not argument.isascii():
        raise BadArgument("Say your domain name or address literal")
    name = argument.decode("ascii")
    if name[0] == "[":
        return Hello(name, _literal(name))
    if _NAME.fullmatch(name) is None:
        raise BadArgument("That is no domain name")
    return Hello(name)


def parse_mail(argument: bytes, *, offered: Container[str] = EXTENSIONS) -> Mail:
    """The argument of MAIL. `offered` holds the EHLO keywords that we announced.

    A space after "FROM:" passes (COMPAT: many clients; RFC 5321 §3.3 forbids it). Raises
    BadArgument, UnknownParameter, BadSender, NotAscii.
    """
    path, rest = parse_reverse_path(_path(argument, b"FROM:"), utf8=True)
    fields = read_parameters(_after(rest), MAIL_PARAMETERS, offered)
    mail = Mail(path, **fields)
    # SMTPUTF8 stands behind the address that it allows, so the address is judged here.
    if not mail.smtputf8 and not argument[: len(argument) - len(rest)].isascii():
        raise NotAscii
    if mail.body is Body.BINARY and "BINARYMIME" not in offered:
        raise UnknownParameter("BODY=BINARYMIME is not offered")
    if mail.hold_for is not None and mail.hold_until is not None:
        raise BadArgument("HOLDFOR and HOLDUNTIL exclude each other")  # RFC 4865 §4
    return mail


def parse_rcpt(argument: bytes, *, utf8: bool, offered: Container[str] = EXTENSIONS) -> Rcpt:
    """The argument of RCPT. `utf8` says whether this transaction's MAIL had SMTPUTF8.

    A space after "TO:" passes, as with MAIL. Raises BadArgument, UnknownParameter, BadAddress,
    NotAscii.
    """
    path, rest = parse_forward_path(_path(argument, b"TO:"), utf8=True)
    fields = read_parameters(_after(rest), RCPT_PARAMETERS, offered)
    # The ORCPT of kind utf-8 may be plain UTF-8 too: RFC 6533 §3.
    if not utf8 and not argument.isascii():
        raise NotAscii
    return Rcpt(path, **fields)


def parse_bdat(argument: bytes) -> Bdat:
    """The argument of BDAT: a size and perhaps LAST. Raises BadArgument; then nobody knows
    where the chunk ends, and the server closes."""
    size, _, last = argument.partition(b" ")
    if not size.isdigit() or len(size) > limits.SIZE_DIGITS:
        raise BadArgument("BDAT needs a size")
    last = last.strip(b" ").upper()
    if last not in (b"", b"LAST"):
        raise BadArgument("BDAT takes a size and LAST")
    return Bdat(int(size), last == b"LAST")


def parse_query(argument: bytes) -> Query:
    """The argument of VRFY and EXPN. Raises BadArgument, NotAscii."""
    text = argument.strip(b" ")
    head, _, tail = text.rpartition(b" ")
    smtputf8 = tail.upper() == b"SMTPUTF8" and bool(head)  # RFC 6531 §3.7.4.2
    if smtputf8:
        text = head.rstrip(b" ")
    elif not text.isascii():
        raise NotAscii
    try:
        query = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadArgument from error
    if not query or not query.isprintable():
        raise BadArgument
    return Query(query, smtputf8)


def parse_auth(argument: bytes) -> Auth:
    """The argument of AUTH: RFC 4954 §4. Raises BadArgument, BadBase64."""
    mechanism, space, initial = argument.partition(b" ")
    if _MECHANISM.fullmatch(mechanism) is None:
        raise BadArgument("AUTH needs a mechanism")
    name = mechanism.decode("ascii").upper()
    if not space:
        return Auth(name)
    return Auth(name, b"" if initial == b"=" else _base64(initial, empty=False))


def parse_auth_line(line: bytes) -> bytes | None:
    """A response to a 334, decoded; None if the client cancels with "*". Raises BadBase64."""
    return None if line == b"*" else _base64(line, empty=True)


def parse_nothing(argument: bytes) -> None:
    """The argument of DATA, RSET, QUIT, STARTTLS: there is none, or BadArgument."""
    if argument:
        raise BadArgument("This command takes no argument")


def _literal(name: str) -> IPv4Address | IPv6Address:
    inner = name[1:-1]
    try:
        if name[-1] != "]":
            raise ValueError("not closed")
        if inner[:5].upper() == "IPV6:":
            if "%" in inner:
                raise ValueError("a zone says nothing to others")
            return IPv6Address(inner[5:])
        return IPv4Address(inner)
    except ValueError as error:
        raise BadArgument("That is no address literal") from error


def _path(argument: bytes, prefix: bytes) -> bytes:
    if argument[: len(prefix)].upper() != prefix:
        raise BadArgument(f"{prefix.decode('ascii')} and a path are needed")
    return argument[len(prefix) :].lstrip(b" ")


def _after(rest: bytes) -> bytes:
    if rest and rest[0] != 0x20:
        raise BadArgument("A space is needed after the path")
    return rest


def _base64(text: bytes, *, empty: bool) -> bytes:
    if not text and not empty:
        raise BadBase64
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise BadBase64 from error
