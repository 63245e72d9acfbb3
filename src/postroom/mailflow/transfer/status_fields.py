"""Flags in the header of a message that lies in an mbox: Status, X-Status, X-Keywords.

These fields are the mailbox's, not the message's: programs add and change them. They come from
mailx and the UW IMAP server, and mutt, Dovecot and others write them; Thunderbird has its own.
A block of them on top of the header that begins with Status, where strangers' fields do not
stand, says all; without one, they are looked for everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from postroom.formats import headers
from postroom.formats.headers import Field

_HEADER_MAX: Final = 1 << 20  # octets: as far as a header is looked through
_LINE: Final = 900  # octets of a line of keywords

_STATUS: Final = {"R": "\\Seen"}
_X_STATUS: Final = {"A": "\\Answered", "F": "\\Flagged", "D": "\\Deleted", "T": "\\Draft"}
_MOZILLA: Final = (
    (0x0001, "\\Seen"),
    (0x0002, "\\Answered"),
    (0x0004, "\\Flagged"),
    (0x0008, "\\Deleted"),  # gone from view, and still there until the folder is compacted
    (0x1000, "$Forwarded"),
)
_MARK: Final = b"status"
_LEADING: Final = frozenset({_MARK, b"x-status", b"x-keywords"})
_FIELDS: Final = _LEADING | {
    b"x-uid",
    b"x-imap",
    b"x-imapbase",
    b"x-mozilla-status",
    b"x-mozilla-status2",
    b"x-mozilla-keys",
}
_FRAMING: Final = b"content-length"


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A message without the fields of its mailbox, and what they said."""

    chunks: Iterator[bytes]
    flags: tuple[str, ...]
    internal: bool
    """It is no message: the UW IMAP server keeps its own data in it."""


def unwrap(chunks: Iterator[bytes], *, counted: bool) -> Unwrapped:
    """Take the mailbox's fields out of a message. `counted`: its Content-Length is one of them."""
    head, fields = _header(chunks)
    leading = []
    # It begins with Status, which every program takes away before it writes its own elsewhere.
    if fields and fields[0].name.lower() == _MARK:
        for each in fields:
            if each.name.lower() not in _LEADING:
                break
            leading.append(each)
    ours = leading or [each for each in fields if each.name.lower() in _FIELDS]
    if counted:
        ours = [each for each in fields if each in ours or each.name.lower() == _FRAMING]
    said = {each.name.lower(): each.value(head) for each in ours}
    internal = (b"x-imap" in said or b"x-imapbase" in said) and _is_internal(head, fields)
    if not ours:
        return Unwrapped(chain((head,), chunks), (), internal)
    kept: list[bytes] = []
    at = 0
    for each in ours:
        kept.append(head[at : each.start])
        at = each.end
    kept.append(head[at:])
    return Unwrapped(chain((b"".join(kept),), chunks), _flags(said), internal)


def _header(chunks: Iterator[bytes]) -> tuple[bytes, tuple[Field, ...]]:
    """The beginning of the message with all of its header, and the header's fields."""
    head = b""
    wanted = 0
    for chunk in chunks:
        head += chunk
        if len(head) < wanted:
            continue
        block = headers.scan(head)
        # A line that was cut may yet become a field.
        if b"\n" in head[block.end :] or len(head) >= _HEADER_MAX:
            return head, block.fields
        wanted = 2 * len(head)  # so that a long header is not scanned for each piece of it
    return head, headers.scan(head).fields


def _is_internal(head: bytes, fields: tuple[Field, ...]) -> bool:
    subject = next((each for each in fields if each.name.lower() == b"subject"), None)
    return subject is not None and b"FOLDER INTERNAL DATA" in subject.value(head)


def _flags(said: dict[bytes, bytes]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for field, letters in ((b"status", _STATUS), (b"x-status", _X_STATUS)):
        for letter in said.get(field, b"").decode("latin-1"):
            if letter in letters:
                found[letters[letter]] = None
    for field in (b"x-keywords", b"x-mozilla-keys"):
        for keyword in said.get(field, b"").decode("latin-1").replace(",", " ").split():
            if not keyword.startswith("\\"):
                found[keyword] = None
    try:
        bits = int(said.get(b"x-mozilla-status", b"0")[:8], 16)
    except ValueError:
        bits = 0
    for bit, flag in _MOZILLA:
        if bits & bit:
            found[flag] = None
    return tuple(found)


def wrap(chunks: Iterable[bytes], flags: Iterable[str]) -> Iterator[bytes]:
    """The message with a block of such fields on top, lines ending in CRLF.

    Status comes always: it says that the block is there, and what follows is the message's own.
    """
    wanted = list(flags)
    folded = {flag.lower() for flag in wanted}
    status = "RO" if "\\seen" in folded else "O"
    lines = [f"Status: {status}"]
    letters = "".join(letter for letter, flag in _X_STATUS.items() if flag.lower() in folded)
    if letters:
        lines.append(f"X-Status: {letters}")
    keywords = [flag for flag in wanted if not flag.startswith("\\")]
    if keywords:
        line = "X-Keywords:"
        for keyword in keywords:
            if len(line) + len(keyword) >= _LINE:
                lines.append(line)
                line = ""
            line += f" {keyword}"
        lines.append(line)
    yield "".join(f"{line}\r\n" for line in lines).encode("ascii")
    yield from chunks
