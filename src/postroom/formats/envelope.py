"""IMAP's ENVELOPE of a message, as the bytes that go on the wire.

RFC 9051 §7.5.2, RFC 3501 §7.4.2. Made once, at delivery. Whatever a header holds, the answer is
well formed and holds no NUL; it is bounded: 1,000 addresses and 64 KiB for each field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from postroom.formats.address import Group, Mailbox, parse_address_list
from postroom.formats.headers import Headers, unfold

ADDRESSES_MAX: Final = 1_000  # of one field, group marks included
FIELD_MAX: Final = 64 * 1024  # octets of one field, read and written

# What a quoted string takes without thought; 8-bit, controls and NUL never go in one.
_SIMPLE: Final = re.compile(rb"[ !#-\[\]-~\t]*+").fullmatch
_QUOTABLE: Final = re.compile(rb"[ -~\t]*+").fullmatch
_QUOTED_MAX: Final = 1_000  # octets; longer strings are literals
_TO_ESCAPE: Final = re.compile(rb'(["\\])')
_BLANKS: Final = b" \t\r\n"
_GROUP_END: Final = b"(NIL NIL NIL NIL)"

_FIELDS: Final = frozenset(
    {b"date", b"subject", b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"in-reply-to"}
    | {b"message-id", b"references"}
)
AddressList = list[Mailbox | Group]


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields of a header that ENVELOPE shows: unfolded values, parsed address lists.

    None for a string is an absent field, an empty one a field that is there and empty. Sender and
    Reply-To are already From where they are absent or empty.
    """

    date: bytes | None
    subject: bytes | None
    from_: AddressList
    sender: AddressList
    reply_to: AddressList
    to: AddressList
    cc: AddressList
    bcc: AddressList
    in_reply_to: bytes | None
    message_id: bytes | None
    references: bytes  # not in ENVELOPE; empty without the field


def envelope(headers: Headers, raw: bytes) -> bytes:
    """ENVELOPE of the message with these headers."""
    return compose(read(headers, raw))


def read(headers: Headers, raw: bytes) -> Envelope:
    """What ENVELOPE shows of these headers, and the References, in one walk over the fields."""
    found: dict[bytes, list[bytes]] = {}
    for each in headers.fields:
        name = each.name.lower()
        if name in _FIELDS:
            value = raw[each.value_start : min(each.end, each.value_start + FIELD_MAX)]
            found.setdefault(name, []).append(unfold(value.strip(_BLANKS)))
    first = {name: values[0] for name, values in found.items()}
    from_ = _addresses(found, b"from")
    return Envelope(
        date=first.get(b"date"),
        subject=first.get(b"subject"),
        from_=from_,
        sender=_addresses(found, b"sender") or from_,
        reply_to=_addresses(found, b"reply-to") or from_,
        to=_addresses(found, b"to"),
        cc=_addresses(found, b"cc"),
        bcc=_addresses(found, b"bcc"),
        in_reply_to=first.get(b"in-reply-to"),
        message_id=first.get(b"message-id"),
        references=b" ".join(found.get(b"references", [])),
    )


def _addresses(found: dict[bytes, list[bytes]], name: bytes) -> AddressList:
    """The addresses of every field of this name, as one list."""
    values = found.get(name)
    if values is None:
        return []
    if len(values) == 1:
        return parse_address_list(values[0])
    return [entry for value in values for entry in parse_address_list(value)]


def compose(fields: Envelope) -> bytes:
    """The wire form: ten members in parentheses."""
    from_ = address_list(fields.from_)
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(fields.date),
        nstring(fields.subject),
        from_,
        from_ if fields.sender is fields.from_ else address_list(fields.sender),
        from_ if fields.reply_to is fields.from_ else address_list(fields.reply_to),
        address_list(fields.to),
        address_list(fields.cc),
        address_list(fields.bcc),
        nstring(fields.in_reply_to),
        nstring(fields.message_id),
    )


class _List:
    """An address list in the making, within the caps."""

    __slots__ = ("out", "room")

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.room = FIELD_MAX - len(_GROUP_END)

    def add(self, piece: bytes) -> bool:
        """Take one more address, or answer False: it and what follows are left out."""
        self.room -= len(piece)
        if self.room < 0 or len(self.out) >= ADDRESSES_MAX - 1:
            self.room = -1
            return False
        self.out.append(piece)
        return True

    def add_group(self, group: Group) -> bool:
        """Take a group between its two marks; once begun it is closed."""
        if not self.add(b"(NIL NIL %b NIL)" % string(group.name_raw)):
            return False
        whole = all(self.add(_address(member)) for member in group.members)
        self.room -= len(_GROUP_END)
        self.out.append(_GROUP_END)
        return whole


def address_list(addresses: AddressList) -> bytes:
    """`((name adl mailbox host) ...)`, or NIL for none. RFC 9051 §7.5.2."""
    if not addresses:
        return b"NIL"
    made = _List()
    for entry in addresses:
        if isinstance(entry, Group):
            if not made.add_group(entry):
                break
        elif not made.add(_address(entry)):
            break
    return b"(%b)" % b"".join(made.out) if made.out else b"NIL"


def _address(entry: Mailbox) -> bytes:
    """`(name adl mailbox host)`. A mailbox without a host has an empty one: NIL marks a group."""
    return b"(%b %b %b %b)" % (
        string(entry.name_raw) if entry.name_raw else b"NIL",
        string(entry.route) if entry.route else b"NIL",
        string(entry.local.encode("utf-8", "replace")),
        string(entry.domain.encode("utf-8", "replace")),
    )


def nstring(value: bytes | None) -> bytes:
    """A `nstring` of the IMAP grammar: NIL for None. RFC 9051 §9."""
    return b"NIL" if value is None else string(value)


def string(value: bytes) -> bytes:
    """A `string` of the IMAP grammar: quoted where that is safe, else a literal.

    NUL is dropped (no string may hold it), and what is beyond 64 KiB. RFC 9051 §9.
    """
    if len(value) <= _QUOTED_MAX:
        if _SIMPLE(value):
            return b'"%b"' % value
        if _QUOTABLE(value):
            return b'"%b"' % _TO_ESCAPE.sub(rb"\\\1", value)
    if b"\0" in value:
        value = value.replace(b"\0", b"")
    if len(value) > FIELD_MAX:
        value = _whole_characters(value[:FIELD_MAX])
    return b"{%d}\r\n%b" % (len(value), value)


def _whole_characters(value: bytes) -> bytes:
    """Without the UTF-8 character that a cut left incomplete at the end."""
    for back in range(1, min(4, len(value)) + 1):
        lead = value[-back]
        if lead >= 0xC0:
            width = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return value[:-back] if width > back else value
        if lead < 0x80:
            break
    return value
