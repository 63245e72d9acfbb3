"""Why two servers may answer differently, each reason with the line of an RFC.

An answer is compared down to its smallest pieces. A reason says what Postroom does and why; it
holds for a piece only if that piece looks as the reason says, so that another difference in the
same place is none of these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from tests.differential.mail import has_no_field

_DOVECOTS_OWN: Final = frozenset({b"MISSING_MAILBOX", b"MISSING_DOMAIN", b"SYNTAX_ERROR"})
_ADDRESSES: Final = range(2, 8)  # of an ENVELOPE: from to bcc
_FIELDS: Final = ("date", "subject", "from", "sender", "reply-to", "to", "cc", "bcc")

NO_FIELD: Final = "RFC 5322 §2.2: a line that is no field ends the header section"
UNFOLDED: Final = "RFC 5322 §2.2.3: unfolding takes away the CRLF and no blank"
NO_ADDRESS: Final = "RFC 5322 §3.4: what is no address is told as far as it can be read"
EMPTY_MEMBER: Final = "RFC 5322 §4.4: empty members of a list are none"
NO_TYPE: Final = "RFC 2045 §5.2: an invalid Content-Type is text/plain, in a digest a message"
OWN_FIELDS: Final = "RFC 2045 §3: a part's other fields count without a Content-Type"
ENCODING: Final = "RFC 2045 §6.4: the name of an unknown encoding is told as it was sent"
DISPOSITION: Final = "RFC 2183 §2: a disposition without a type is none"
LANGUAGE: Final = "RFC 3501 §9, body-fld-lang: one language is a string or a list"
SECTIONS: Final = "RFC 2045 §5.1: an unquoted value with blanks is taken whole"
NO_PARTS: Final = "RFC 2046 §5.1.1: of a multipart without a delimiter the text is shown"
DELIMITER: Final = "RFC 2046 §5.1.1: a delimiter has the whole boundary and nothing but blanks"
LAST_CRLF: Final = "RFC 2046 §5.1.1: the CRLF before a delimiter belongs to it"
ENCODED_MESSAGE: Final = "RFC 2046 §5.2.1: a message in base64 is a file"
NO_SUCH_PART: Final = "RFC 3501 §6.4.5: a part that is no multipart has no parts"
FLAGS_TOLD: Final = "RFC 3501 §6.4.6: STORE without .SILENT tells the flags, changed or not"
NO_DATE: Final = "RFC 3501 §6.4.4: a message without a date was sent on no day"
FAR_DATE: Final = "RFC 3501 §6.4.4: dates before 1970 and after 2106 are dates"
ANYWHERE: Final = "RFC 3501 §6.4.4: the body is all that follows the header section"
IN_FIELD: Final = "RFC 9051 §6.4.4: an address that cannot be parsed, or its comment, is found too"
UNKNOWN_CHARSET: Final = "RFC 2047 §6.2: a word in an unknown charset stays as it is"
BLANK_NAME: Final = "RFC 9051 §7.5.2: a display name of blanks is none"
EQUALLY_LATE: Final = (
    "draft-ietf-morg-inthread, REFS: threads whose latest messages are of one time have no order"
)
MBOX_LINE: Final = "RFC 5322 §2.2: `From ` without a colon is no field"


def equally_late(
    ours: object, theirs: object, sent: Callable[[int], int | None]
) -> set[str] | None:
    """The reason, if threads by REFS are the same and differ in the order of those alone whose
    latest messages were sent at one time: `sent` by UID."""
    if not isinstance(ours, tuple) or not isinstance(theirs, tuple):
        return None
    if sorted(map(repr, ours)) != sorted(map(repr, theirs)):
        return None

    def latest(thread: object) -> int:
        return max(sent(uid) or 0 for uid in _uids(thread))

    return {EQUALLY_LATE} if [*map(latest, ours)] == [*map(latest, theirs)] else None


def _uids(thread: object) -> Iterator[int]:
    waiting = [thread]
    while waiting:
        each = waiting.pop()
        if isinstance(each, tuple):
            waiting += each
        elif isinstance(each, int | bytes | str):
            yield int(each)


def explain(command: str, item: str, raw: bytes, ours: object, theirs: object) -> set[str] | None:
    """The reasons that make up for a difference; None if some of it has none."""
    if raw and has_no_field(raw):
        return {NO_FIELD}
    if item == "ENVELOPE" and isinstance(ours, tuple) and isinstance(theirs, tuple):
        return _envelope(ours, theirs)
    if item in ("BODY", "BODYSTRUCTURE"):
        return _structure(raw, ours, theirs)
    if item == "found":
        return _found(command, raw, ours)
    if item.startswith("BODY[") and isinstance(ours, bytes) and isinstance(theirs, bytes):
        return _content(item, raw, ours, theirs)
    if item == "FLAGS" and "-FLAGS (nobody)" in command and theirs is None:
        return {FLAGS_TOLD}
    return None


# --- ENVELOPE -------------------------------------------------------------------------------------


def _envelope(ours: tuple[object, ...], theirs: tuple[object, ...]) -> set[str] | None:
    reasons: set[str] = set()
    for at, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine == other:
            continue
        why = _addresses(mine, other) if at in _ADDRESSES else _unstructured(mine, other)
        if why is None:
            return None
        reasons.add(why)
    return reasons


def _unstructured(ours: object, theirs: object) -> str | None:
    if not isinstance(ours, bytes) or not isinstance(theirs, bytes):
        return None
    return UNFOLDED if ours.split() == theirs.split() else None


def _addresses(ours: object, theirs: object) -> str | None:
    mine = ours if isinstance(ours, tuple) else ()
    other = theirs if isinstance(theirs, tuple) else ()
    read = tuple(each for each in other if not _DOVECOTS_OWN & set(each))
    if len(read) < len(other):
        both = (b"MISSING_MAILBOX", b"MISSING_DOMAIN")
        empty = all(each[2:] == both for each in other if each not in read)
        return EMPTY_MEMBER if empty and read == mine else NO_ADDRESS
    if mine[: len(other)] == other or [each[2:] for each in mine[:1]] == [other[0][2:]]:
        if len(mine) > len(other):
            return NO_ADDRESS  # `a@b c@d`: both are shown
        nameless = [(None, *each[1:]) if each[0] == b"" else each for each in other]
        return BLANK_NAME if list(mine) == nameless else None
    return NO_ADDRESS if other and other[-1][2:] != mine[-1][2:] else None


# --- BODY and BODYSTRUCTURE -----------------------------------------------------------------------


def _structure(raw: bytes, ours: object, theirs: object) -> set[str] | None:
    reasons: set[str] = set()
    for mine, other in _pieces(ours, theirs):
        why = _piece(raw, mine, other)
        if why is None:
            return None
        reasons.add(why)
    return reasons


def _pieces(ours: object, theirs: object) -> Iterator[tuple[object, object]]:
    """The smallest pieces that differ."""
    if ours == theirs:
        return
    alike = isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs)
    if alike and not _is_addresses(ours) and not _is_untyped(theirs):
        assert isinstance(ours, tuple)
        assert isinstance(theirs, tuple)
        for mine, other in zip(ours, theirs, strict=True):
            yield from _pieces(mine, other)
    else:
        yield ours, theirs


def _is_addresses(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(each, tuple) and len(each) == 4 for each in value)
    )


def _is_untyped(value: object) -> bool:
    return isinstance(value, tuple) and value[:2] == (b"", b"")


def _piece(raw: bytes, ours: object, theirs: object) -> str | None:
    if _is_untyped(theirs) or (theirs == b"" and ours == b"PLAIN"):
        return NO_TYPE
    if _is_addresses(ours) or _is_addresses(theirs):
        return _addresses(ours, theirs)
    if isinstance(ours, bytes) and theirs == (ours,):
        return LANGUAGE
    if ours is None and theirs == (b"", None):
        return DISPOSITION
    if theirs == b"7BIT" and isinstance(ours, bytes):
        known = ours in (b"8BIT", b"BINARY", b"BASE64", b"QUOTED-PRINTABLE")
        return OWN_FIELDS if known else ENCODING
    if theirs is None and ours is not None:
        return OWN_FIELDS
    if isinstance(ours, int) and isinstance(theirs, int):
        if theirs == 0 or ours > theirs:
            return NO_PARTS
        return LAST_CRLF if theirs - ours in (1, 2) else None
    if isinstance(ours, bytes) and isinstance(theirs, bytes):
        if ours.split() == theirs.split():
            return UNFOLDED
        return SECTIONS if theirs and ours.startswith(theirs) else None
    if _parts(ours) < _parts(theirs):
        return DELIMITER if _parts(ours) else NO_PARTS
    mine, other = _head(ours), _head(theirs)
    if isinstance(other, tuple) and other[1:] == (b"",):
        return NO_TYPE
    if other == (b"MESSAGE", b"RFC822") and mine == (b"APPLICATION", b"OCTET-STREAM"):
        return ENCODED_MESSAGE
    return None


def _parts(value: object) -> int:
    """How many parts a multipart has."""
    if not isinstance(value, tuple):
        return 0
    return next((n for n, each in enumerate(value) if not isinstance(each, tuple)), 0)


def _head(value: object) -> object:
    return value[:2] if isinstance(value, tuple) else None


# --- sections -------------------------------------------------------------------------------------

_FAR: Final = re.compile(rb"\b(19[0-6]\d|2[1-9]\d\d|[3-9]\d\d\d)\b")
_NUMBERED: Final = re.compile(r"BODY\[([0-9.]+)(\.[A-Z].*)?\]")


def _content(item: str, raw: bytes, ours: bytes, theirs: bytes) -> set[str] | None:
    found = _NUMBERED.match(item)
    if found is None:
        return (
            {MBOX_LINE} if "FIELDS.NOT" in item and raw.startswith((b"From ", b">From ")) else None
        )
    if not ours.strip() and theirs:
        return {NO_SUCH_PART}
    if theirs.rstrip(b"\r\n") == ours.rstrip(b"\r\n") or theirs.startswith(ours):
        return {LAST_CRLF}
    if not theirs.strip():
        return {NO_PARTS if found[2] is None else NO_TYPE}
    return None


# --- SEARCH ---------------------------------------------------------------------------------------


def _found(command: str, raw: bytes, ours: object) -> set[str] | None:
    """A message that one of them found, and the other not."""
    word = command.split()[2]
    if word.startswith("SENT"):
        date = re.search(rb"(?im)^date:([^\r]*(?:\r\n[ \t][^\r]*)*)", raw.partition(b"\r\n\r\n")[0])
        if date and _FAR.search(date[1]):
            return {FAR_DATE}
        return {NO_DATE} if not ours else None
    if word in ("FROM", "TO", "CC", "BCC"):
        return {IN_FIELD} if ours else {NO_ADDRESS}
    if word in ("BODY", "TEXT") and ours:
        return {ANYWHERE}
    if word == "SUBJECT" and ours and b"=?NONE?" in raw:
        return {UNKNOWN_CHARSET}
    return None
