"""All that is derived from a message at delivery, in one call: wire bytes, keys, a preview.

What is here is never authoritative: it can be made again from the message. MAKER_VERSION says
by which rules it was made; raise it when the same bytes would give another answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from postroom.formats import bodystructure as structure
from postroom.formats import envelope as envelopes
from postroom.formats import layout, mime
from postroom.formats.address import Group, Mailbox
from postroom.formats.dates import parse_date
from postroom.formats.envelope import AddressList
from postroom.formats.headers import Headers
from postroom.formats.mime import Part
from postroom.formats.preview import preview
from postroom.formats.subject import base_subject
from postroom.formats.words import decode_words

MAKER_VERSION: Final = 3

REFERENCES_MAX: Final = 100
FROM_MAX: Final = 100
SUBJECT_MAX: Final = 4_096  # characters
SORT_MAX: Final = 256  # characters: beyond them an order has no meaning for anyone

# RFC 5322 §3.6.4, leniently: whatever stands in angles, up to a line's length.
_MESSAGE_ID: Final = re.compile(rb"<([^<>]{1,998}+)>")
_BLANKS: Final = b" \t\r\n\0"
_SIGNATURES: Final = frozenset(
    {b"pgp-signature", b"pkcs7-signature", b"x-pkcs7-signature", b"pgp-encrypted"}
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the store keeps beside a message.

    `sort_*` are the keys of RFC 5256 §3 in lower case, at most 256 characters: the local part of
    the first address, the base subject. `sent_at` is milliseconds since 1970 UTC, None where the
    Date cannot be read. `complex` names the cap that the structure exceeded.
    """

    envelope: bytes
    bodystructure: bytes
    layout: bytes
    header_size: int
    preview: str
    message_id: bytes | None
    in_reply_to: tuple[bytes, ...]
    references: tuple[bytes, ...]
    subject: str
    subject_base: str
    sent_at: int | None
    sort_from: str
    sort_to: str
    sort_cc: str
    sort_subject: str
    from_addresses: tuple[str, ...]
    has_attachment: bool
    received: int  # Received fields: how often the message was passed on
    complex: str | None
    version: int = MAKER_VERSION


def parse(raw: bytes, header: Headers | None = None) -> Parsed:
    """Everything about the message `raw`. Never raises; linear in its size.

    `header` is what `headers.scan(raw)` says, of who has asked already.
    """
    root = mime.scan(raw, header=header)
    headers = root.headers
    assert headers is not None  # mime.scan keeps them where a message begins
    fields = envelopes.read(headers, raw)
    parts = root.walk()
    subject = decode_words((fields.subject or b"")[: 4 * SUBJECT_MAX])[:SUBJECT_MAX]
    base, _ = base_subject(subject)
    at = parse_date(fields.date) if fields.date else None
    ids = message_ids(fields.message_id or b"")
    return Parsed(
        envelope=envelopes.compose(fields),
        bodystructure=structure.bodystructure(root, raw),
        layout=layout.pack(root),
        header_size=root.body,
        preview=preview(raw, root),
        message_id=ids[0] if ids else None,
        in_reply_to=message_ids(fields.in_reply_to or b"")[-REFERENCES_MAX:],
        references=message_ids(fields.references)[-REFERENCES_MAX:],
        subject=subject,
        subject_base=base,
        sent_at=int(at.timestamp() * 1000) if at is not None else None,
        sort_from=_sort_key(fields.from_),
        sort_to=_sort_key(fields.to),
        sort_cc=_sort_key(fields.cc),
        sort_subject=base.lower()[:SORT_MAX],
        from_addresses=_addresses(fields.from_),
        has_attachment=any(map(_is_attachment, parts[1:] or parts)),
        received=len(headers.find(b"received")),
        complex=next((part.opaque for part in parts if part.opaque in mime.OVER_CAP), None),
    )


def message_ids(value: bytes) -> tuple[bytes, ...]:
    """The message ids in a field, angles included, each once, where it stands last.

    White space within one goes: it comes from folding. RFC 5322 §3.6.4.
    """
    found: dict[bytes, None] = {}
    for inner in _MESSAGE_ID.findall(value):
        identifier = b"<%b>" % inner.translate(None, _BLANKS)
        found.pop(identifier, None)
        found[identifier] = None
    found.pop(b"<>", None)
    return tuple(found)


def _mailboxes(addresses: AddressList, count: int) -> list[Mailbox]:
    """The first mailboxes of a list, those in groups too."""
    found: list[Mailbox] = []
    for entry in addresses:
        if isinstance(entry, Group):
            found += entry.members[: count - len(found)]
        else:
            found.append(entry)
        if len(found) >= count:
            break
    return found


def _sort_key(addresses: AddressList) -> str:
    """addr-mailbox of the first address, in lower case: of a group, its name. RFC 5256 §3."""
    if not addresses:
        return ""
    first = addresses[0]
    local = first.name if isinstance(first, Group) else first.local
    return local[:SORT_MAX].lower()[:SORT_MAX]


def _addresses(addresses: AddressList) -> tuple[str, ...]:
    """`local@domain` as written, of those that have both."""
    found = _mailboxes(addresses, FROM_MAX)
    return tuple([f"{each.local}@{each.domain}" for each in found if each.local and each.domain])


def _is_attachment(part: Part) -> bool:
    """Would a reader show a paper clip for this part? RFC 8621 §4.1.4."""
    if part.is_multipart:
        return False
    disposition = (part.disposition or b"").lstrip()[:10].lower()
    if disposition == b"attachment":
        return part.subtype not in _SIGNATURES
    if part.type == b"text":
        return disposition[:6] != b"inline" and any(
            name.lower().startswith(b"name") for name, _ in part.params
        )
    if part.type == b"message" or part.subtype in _SIGNATURES:
        return part.is_message  # the status parts of reports are none
    # An image that the text shows by its Content-ID is part of the text.
    return disposition[:6] != b"inline" and part.id is None


def below(parsed: Parsed, octets: int) -> Parsed:
    """The same message with `octets` of trace fields put on top.

    None of them is in the envelope or the structure, so nothing is parsed again.
    RFC 5321 §4.4.
    """
    return replace(
        parsed,
        header_size=parsed.header_size + octets,
        layout=layout.moved(parsed.layout, octets),
    )
