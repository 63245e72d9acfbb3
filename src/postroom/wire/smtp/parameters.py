"""The parameters of MAIL and RCPT: one row each, with its extension and its reader.

A row's extension is the EHLO keyword under which a server must have offered it.
RFC 5321 §4.1.1.11: what was not offered is answered with 555, what is malformed with 501.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from postroom.core.clock import Instant, from_datetime
from postroom.formats.address import Address, BadAddress, parse_mailbox
from postroom.wire.smtp import limits
from postroom.wire.smtp.errors import BadArgument, UnknownParameter
from postroom.wire.smtp.xtext import (
    decode_utf8_address,
    decode_xtext,
    encode_utf8_address,
    encode_xtext,
)


class Body(enum.Enum):
    """What the octets of the message are. RFC 6152 §2, RFC 3030 §3."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


class Return(enum.Enum):
    """How much of the message a failure notice returns. RFC 3461 §4.3."""

    FULL = "FULL"
    HEADERS = "HDRS"


class Notify(enum.Flag):
    """When the sender wants a notice about this recipient. RFC 3461 §4.1."""

    NEVER = 0
    SUCCESS = 1
    FAILURE = 2
    DELAY = 4


class ByMode(enum.Enum):
    """What happens to a message that is late. RFC 2852 §4."""

    RETURN = "R"
    NOTIFY = "N"


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """BY=: deliver within `seconds` (negative: it is late already). RFC 2852 §4."""

    seconds: int
    mode: ByMode
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Submitter:
    """AUTH=: who submitted the message; None is <>, not known or not to be told. RFC 4954 §5."""

    mailbox: Address | None


@dataclass(frozen=True, slots=True)
class OriginalRecipient:
    """ORCPT=: the recipient as the sender named it, such as rfc822 and ann@a.example.

    RFC 3461 §4.2; kind utf-8 is RFC 6533 §3. It is copied into a header of the notice, where
    a control character could add another field: the constructor raises BadArgument for all
    that is not printable, and beyond ASCII for any kind but utf-8.
    """

    kind: str
    address: str

    def __post_init__(self) -> None:
        address = self.address
        if _ATOM.fullmatch(self.kind) is None or not address or not address.isprintable():
            raise BadArgument("ORCPT is malformed")
        if not address.isascii() and not self.utf8:
            raise BadArgument("Only an ORCPT of kind utf-8 goes beyond ASCII")

    @property
    def utf8(self) -> bool:
        """True for the kind of address that may go beyond ASCII."""
        return self.kind.lower() == "utf-8"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A row of the tables below: the field that it fills, its extension, its reader.

    `read` gets the value, or None if there was no "=".
    """

    field: str
    extension: str
    read: Callable[[bytes | None], object]


def read_parameters(
    rest: bytes, table: Mapping[bytes, Parameter], offered: Container[str]
) -> dict[str, Any]:
    """The fields that the words after a path set; the caller hands them to its value type.

    Raises BadArgument (501) for a malformed or repeated one, UnknownParameter (555) for one
    that the table or the offer lacks.
    """
    fields: dict[str, Any] = {}
    for word in rest.split(b" "):
        if not word:
            continue  # COMPAT: some clients send two spaces, or one at the end
        keyword, equals, value = word.partition(b"=")
        row = table.get(keyword.upper())
        if row is None or row.extension not in offered:
            if _KEYWORD.fullmatch(keyword) is None:
                raise BadArgument
            raise UnknownParameter(f"Parameter not offered: {keyword.decode('ascii')[:40]}")
        if row.field in fields:
            raise BadArgument(f"Repeated parameter: {keyword.decode('ascii')}")
        fields[row.field] = row.read(value if equals else None)
    return fields


# --- readers ------------------------------------------------------------------------------

_KEYWORD: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*")  # RFC 5321 §4.1.2: esmtp-keyword
_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~.-]{1,64}")  # an atom that xtext keeps
_PRIORITY: Final = re.compile(rb"-?[1-9]|0")  # RFC 6710 §7
_BY: Final = re.compile(rb"([+-]?[0-9]{1,9});([RNrn])([Tt])?")  # RFC 2852 §4
_DATE_TIME: Final = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    rb"(?:\.[0-9]{1,9})?(?:[Zz]|([+-])([0-9]{2}):([0-5][0-9]))"
)  # RFC 3339 §5.6
_PRINTABLE: Final = bytes(range(32, 127))
_BODIES: Final = {body.value.encode(): body for body in Body}
_RETURNS: Final = {ret.value.encode(): ret for ret in Return}
_NOTICES: Final = {str(notice.name).encode(): notice for notice in Notify}


def _present(value: bytes | None) -> bool:
    if value is not None:
        raise BadArgument("This parameter takes no value")
    return True


def _given(value: bytes | None) -> bytes:
    if not value:
        raise BadArgument("This parameter needs a value")
    return value


def _number(value: bytes | None, digits: int) -> int:
    text = _given(value)
    if len(text) > digits or not text.isdigit():
        raise BadArgument("Not a number")
    return int(text)


def _size(value: bytes | None) -> int:
    return _number(value, limits.SIZE_DIGITS)  # RFC 1870 §3


def _body(value: bytes | None) -> Body:
    body = _BODIES.get(_given(value).upper())
    if body is None:
        raise BadArgument("Unknown BODY type")
    return body


def _auth(value: bytes | None) -> Submitter:
    mailbox = decode_xtext(_given(value))
    if mailbox == b"<>":
        return Submitter(None)
    try:
        return Submitter(parse_mailbox(mailbox.decode("utf-8")))
    except (UnicodeDecodeError, BadAddress) as error:
        raise BadArgument("AUTH= names no mailbox") from error


def _ret(value: bytes | None) -> Return:
    ret = _RETURNS.get(_given(value).upper())
    if ret is None:
        raise BadArgument("RET is FULL or HDRS")
    return ret


def _envid(value: bytes | None) -> str:
    decoded = decode_xtext(_given(value))
    if len(encode_xtext(decoded)) > limits.ENVID:
        raise BadArgument("ENVID is too long")
    # It is copied into a header of the notice: a control character could add another one.
    if decoded.translate(None, _PRINTABLE):
        raise BadArgument("ENVID holds more than printable characters")
    return decoded.decode("ascii")


def _hold_for(value: bytes | None) -> int:
    return _number(value, 9)  # RFC 4865 §4


def _hold_until(value: bytes | None) -> Instant:
    found = _DATE_TIME.fullmatch(_given(value))
    if found is None:
        raise BadArgument("HOLDUNTIL is a date and time of RFC 3339")
    year, month, day, hour, minute, second = map(int, found.group(1, 2, 3, 4, 5, 6))
    leap = second == 60  # RFC 3339 §5.7: it is counted as the second after
    try:
        zone = UTC
        if found.group(7):
            offset = timedelta(hours=int(found.group(8)), minutes=int(found.group(9)))
            zone = timezone(-offset if found.group(7) == b"-" else offset)
        at = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=zone)
        until = from_datetime(at.astimezone(UTC) + timedelta(seconds=leap))
    except (ValueError, OverflowError) as error:
        raise BadArgument("HOLDUNTIL is no such date") from error
    if until < 0:  # a time that an Instant writes back as it was read
        raise BadArgument("HOLDUNTIL is long past")
    return until


def _priority(value: bytes | None) -> int:
    text = _given(value)
    if _PRIORITY.fullmatch(text) is None:
        raise BadArgument("MT-PRIORITY is -9 to 9")
    return int(text)


def _by(value: bytes | None) -> DeliverBy:
    found = _BY.fullmatch(_given(value))
    if found is None:
        raise BadArgument("BY is malformed")
    seconds = int(found.group(1))
    mode = ByMode(found.group(2).decode("ascii").upper())
    if mode is ByMode.RETURN and seconds <= 0:
        raise BadArgument("BY with R needs time that is left")  # RFC 2852 §4
    return DeliverBy(seconds, mode, found.group(3) is not None)


def _notify(value: bytes | None) -> Notify:
    words = _given(value).upper()
    notify = Notify.NEVER
    if words == b"NEVER":
        return notify
    for word in words.split(b","):
        notice = _NOTICES.get(word)  # NEVER stands alone: RFC 3461 §4.1
        if notice is None or notice in notify:
            raise BadArgument("NOTIFY is malformed")
        notify |= notice
    return notify


def _orcpt(value: bytes | None) -> OriginalRecipient:
    kind, _, encoded = _given(value).partition(b";")
    if not kind.isascii():
        raise BadArgument("ORCPT is malformed")
    if kind.lower() == b"utf-8":
        address = decode_utf8_address(encoded)
        size, cap = len(encode_utf8_address(address)), limits.ORCPT_UTF8
    else:
        octets = decode_xtext(encoded)
        address = octets.decode("latin-1")  # the constructor refuses what is not ASCII
        size, cap = len(encode_xtext(octets)), limits.ORCPT
    if len(kind) + 1 + size > cap:
        raise BadArgument("ORCPT is too long")
    return OriginalRecipient(kind.decode("ascii"), address)


# --- the tables ----------------------------------------------------------------------------

MAIL_PARAMETERS: Final[Mapping[bytes, Parameter]] = {
    b"SIZE": Parameter("size", "SIZE", _size),  # RFC 1870 §3
    b"BODY": Parameter("body", "8BITMIME", _body),  # RFC 6152 §2
    b"SMTPUTF8": Parameter("smtputf8", "SMTPUTF8", _present),  # RFC 6531 §3.4
    b"AUTH": Parameter("auth", "AUTH", _auth),  # RFC 4954 §5
    b"RET": Parameter("ret", "DSN", _ret),  # RFC 3461 §4.3
    b"ENVID": Parameter("envid", "DSN", _envid),  # RFC 3461 §4.4
    b"REQUIRETLS": Parameter("requiretls", "REQUIRETLS", _present),  # RFC 8689 §2
    b"HOLDFOR": Parameter("hold_for", "FUTURERELEASE", _hold_for),  # RFC 4865 §4
    b"HOLDUNTIL": Parameter("hold_until", "FUTURERELEASE", _hold_until),
    b"MT-PRIORITY": Parameter("priority", "MT-PRIORITY", _priority),  # RFC 6710 §4
    b"BY": Parameter("deliver_by", "DELIVERBY", _by),  # RFC 2852 §4
}

RCPT_PARAMETERS: Final[Mapping[bytes, Parameter]] = {
    b"NOTIFY": Parameter("notify", "DSN", _notify),  # RFC 3461 §4.1
    b"ORCPT": Parameter("orcpt", "DSN", _orcpt),  # RFC 3461 §4.2
}

EXTENSIONS: Final = frozenset(
    {row.extension for table in (MAIL_PARAMETERS, RCPT_PARAMETERS) for row in table.values()}
    | {"BINARYMIME"}
)
"""Every EHLO keyword that brings a parameter which this codec reads."""
