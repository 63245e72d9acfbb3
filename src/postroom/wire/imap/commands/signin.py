"""LOGIN, AUTHENTICATE, ENABLE, COMPRESS, ID, and the commands that take nothing.

RFC 9051 §6.1, §6.2, §6.3.1; SASL-IR: RFC 4959; ID: RFC 2971.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import Final

from postroom.wire.imap.cursor import BadSyntax, Cursor

_ID_PAIRS: Final = 30  # RFC 2971 §3.3, as are the two below
_ID_FIELD: Final = 30
_ID_VALUE: Final = 1024


@dataclass(frozen=True, slots=True)
class Nothing:
    """A command without arguments: NOOP, CAPABILITY, IDLE, CLOSE, EXPUNGE …"""


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate:
    mechanism: str  # upper case
    initial: bytes | None = field(default=None, repr=False)  # decoded; b"" was `=`


@dataclass(frozen=True, slots=True)
class Compress:
    mechanism: str  # upper case


@dataclass(frozen=True, slots=True)
class Enable:
    capabilities: tuple[str, ...]  # upper case


@dataclass(frozen=True, slots=True)
class Id:
    """What the client says of itself, in its order; () was NIL. For logs, never for policy."""

    fields: tuple[tuple[str, str | None], ...]


def parse_nothing(args: Cursor) -> Nothing:
    args.end()
    return Nothing()


def parse_login(args: Cursor) -> Login:
    """RFC 9051 §6.2.3: userid and password are astrings; UTF-8 is taken."""
    args.sp()
    user = args.text()
    args.sp()
    password = args.text()
    args.end()
    return Login(user, password)


def parse_authenticate(args: Cursor) -> Authenticate:
    """RFC 9051 §6.2.2; the initial response: RFC 4959 §3."""
    args.sp()
    mechanism = args.keyword().decode("ascii")
    initial = None
    if args.accept(b" "):
        # Base64 ends in `=`, so it is no atom but still an astring.
        encoded = args.astring()
        initial = b"" if encoded == b"=" else _base64(encoded)
    args.end()
    return Authenticate(mechanism, initial)


def sasl_response(line: bytes) -> bytes | None:
    """The octets that a line of an AUTHENTICATE exchange carries; None if it cancels (`*`).

    Raises BadSyntax for what is not base64. RFC 9051 §6.2.2.
    """
    return None if line == b"*" else _base64(line)


def _base64(encoded: bytes) -> bytes:
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        raise BadSyntax("This is not base64") from None


def parse_enable(args: Cursor) -> Enable:
    """RFC 9051 §6.3.1; names that the server does not know are ignored by the session."""
    names: list[str] = []
    while not args.at_end:
        args.sp()
        names.append(args.keyword().decode("ascii"))
    if not names:
        raise BadSyntax("A capability is missing")
    return Enable(tuple(names))


def parse_compress(args: Cursor) -> Compress:
    """RFC 4978 §5."""
    args.sp()
    name = args.keyword().decode("ascii")
    args.end()
    return Compress(name)


def parse_id(args: Cursor) -> Id:
    """RFC 2971 §3.1: NIL or a list of strings in pairs."""
    args.sp()
    if args.peek() != b"(":
        if args.nstring() is not None:
            raise BadSyntax("A list or NIL is missing")
        args.end()
        return Id(())
    words = args.list(Cursor.nstring, empty=True)
    args.end()
    if len(words) % 2 or len(words) > 2 * _ID_PAIRS:
        raise BadSyntax("ID takes at most 30 pairs")
    fields: list[tuple[str, str | None]] = []
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name is None or len(name) > _ID_FIELD or len(value or b"") > _ID_VALUE:
            raise BadSyntax("A field of ID is too long or has no name")
        text = None if value is None else value.decode("utf-8", "replace")
        fields.append((name.decode("utf-8", "replace"), text))
    return Id(tuple(fields))
