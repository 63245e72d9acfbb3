"""FETCH: which data of which messages.

RFC 9051 §6.4.5; RFC 3501 §6.4.5 for the RFC822 items; CONDSTORE and QRESYNC: RFC 7162 §3.1.4,
§3.2.6; PARTIAL: RFC 9394 §3.3; BINARY: RFC 3516; OBJECTID: RFC 8474; PREVIEW: RFC 8970;
SAVEDATE: RFC 8514.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

from postroom.wire.imap.commands.partial import Partial, parse_partial
from postroom.wire.imap.cursor import NUMBER32, BadSyntax, Cursor, unexpected
from postroom.wire.imap.sequence import SequenceSet

_PART_DEPTH: Final = 100  # deeper parts do not exist: MIME is read to this depth
_WORD: Final = re.compile(rb"[A-Za-z0-9.]+")
_PATH: Final = re.compile(rb"[1-9][0-9]{0,9}+(?:\.[1-9][0-9]{0,9}+)*+")
_SIMPLE: Final = re.compile(rb"\(([A-Za-z0-9. ]+)\)")
_LAZY: Final = re.compile(rb" \([Ll][Aa][Zz][Yy]\)")
_FIELD_NAME: Final = re.compile(rb"[!-9;-~]{1,998}+")  # ftext, RFC 5322 §2.2; length: §2.1.1
_ATOM: Final = re.compile(rb'[^(){ %*"\\\]\x00-\x1f\x7f-\xff]+')


class FetchAttribute(StrEnum):
    """Items that are one word."""

    BODY = "BODY"  # BODYSTRUCTURE without extension data
    BODYSTRUCTURE = "BODYSTRUCTURE"
    EMAILID = "EMAILID"
    ENVELOPE = "ENVELOPE"
    FLAGS = "FLAGS"
    INTERNALDATE = "INTERNALDATE"
    MODSEQ = "MODSEQ"
    PREVIEW = "PREVIEW"
    RFC822 = "RFC822"
    RFC822_HEADER = "RFC822.HEADER"
    RFC822_SIZE = "RFC822.SIZE"
    RFC822_TEXT = "RFC822.TEXT"
    SAVEDATE = "SAVEDATE"
    THREADID = "THREADID"
    UID = "UID"


class Section(StrEnum):
    """What of a part BODY[…] asks for. RFC 9051 §6.4.5.1."""

    ALL = ""
    HEADER = "HEADER"
    HEADER_FIELDS = "HEADER.FIELDS"
    HEADER_FIELDS_NOT = "HEADER.FIELDS.NOT"
    TEXT = "TEXT"
    MIME = "MIME"


@dataclass(frozen=True, slots=True)
class FetchBody:
    """BODY[…] or BINARY[…], with or without PEEK."""

    path: tuple[int, ...] = ()
    section: Section = Section.ALL
    fields: tuple[bytes, ...] = ()  # header field names as given
    partial: tuple[int, int] | None = None  # first octet, most octets (> 0)
    peek: bool = False
    binary: bool = False

    def label(self) -> bytes:
        """The item's name in the response: no PEEK, the first octet alone. RFC 9051 §7.5.2."""
        inside = [b".".join(b"%d" % n for n in self.path)] if self.path else []
        if self.section:
            inside.append(self.section.encode("ascii"))
        text = b".".join(inside)
        if self.fields:
            text += b" (" + b" ".join(map(_field_name, self.fields)) + b")"
        origin = b"" if self.partial is None else b"<%d>" % self.partial[0]
        return (b"BINARY[" if self.binary else b"BODY[") + text + b"]" + origin


@dataclass(frozen=True, slots=True)
class FetchBinarySize:
    """BINARY.SIZE[…]. RFC 3516 §4.3."""

    path: tuple[int, ...] = ()

    def label(self) -> bytes:
        return b"BINARY.SIZE[" + b".".join(b"%d" % n for n in self.path) + b"]"


@dataclass(frozen=True, slots=True)
class FetchPreview:
    """PREVIEW (LAZY): only if it costs nothing. RFC 8970 §3.1."""


FetchItem: TypeAlias = FetchAttribute | FetchBody | FetchBinarySize | FetchPreview


@dataclass(frozen=True, slots=True)
class Fetch:
    messages: SequenceSet
    items: tuple[FetchItem, ...]  # macros expanded, in order, each once
    changed_since: int | None = None
    vanished: bool = False
    partial: Partial | None = None


_SIMPLE_ITEMS: Final[dict[bytes, FetchAttribute]] = {
    item.value.encode("ascii"): item for item in FetchAttribute
}
_FAST: Final = (
    FetchAttribute.FLAGS, FetchAttribute.INTERNALDATE, FetchAttribute.RFC822_SIZE
)  # fmt: skip
_ALL: Final = (*_FAST, FetchAttribute.ENVELOPE)
_MACROS: Final[dict[bytes, tuple[FetchItem, ...]]] = {
    b"ALL": _ALL,
    b"FAST": _FAST,
    b"FULL": (*_ALL, FetchAttribute.BODY),
}
_SECTIONS: Final = {section.value.encode("ascii"): section for section in Section}


def parse_fetch(args: Cursor) -> Fetch:
    """FETCH; see `parse_uid_fetch` for what only UID FETCH takes."""
    fetch = parse_uid_fetch(args)
    if fetch.vanished:
        raise BadSyntax("VANISHED is for UID FETCH")  # RFC 7162 §3.2.6
    if fetch.partial is not None:
        raise BadSyntax("PARTIAL is for UID FETCH")  # RFC 9394 §3.3
    return fetch


def parse_uid_fetch(args: Cursor) -> Fetch:
    args.sp()
    messages = args.sequence_set()
    args.sp()
    items = _items(args)
    fetch = Fetch(messages, items)
    if args.accept(b" "):
        fetch = _modified(args, fetch)
    args.end()
    return fetch


def _modified(args: Cursor, fetch: Fetch) -> Fetch:
    """`(CHANGEDSINCE n VANISHED PARTIAL 1:100)`. RFC 7162 §7, RFC 9394 §4."""
    changed_since: int | None = None
    vanished = False
    partial: Partial | None = None
    args.expect(b"(")
    while True:
        word = args.keyword()
        if word == b"CHANGEDSINCE" and changed_since is None:
            args.sp()
            changed_since = args.number64()
        elif word == b"VANISHED":
            vanished = True
        elif word == b"PARTIAL" and partial is None:
            args.sp()
            partial = parse_partial(args)
        else:
            unexpected("This modifier")
        if args.accept(b")"):
            break
        args.sp()
    if vanished and changed_since is None:
        raise BadSyntax("VANISHED needs CHANGEDSINCE")  # RFC 7162 §3.2.6
    return Fetch(fetch.messages, fetch.items, changed_since, vanished, partial)


def _items(args: Cursor) -> tuple[FetchItem, ...]:
    found = args.look(_SIMPLE)
    if found is not None:  # the common case: (UID FLAGS)
        words = dict.fromkeys(found[1].upper().split(b" "))
        if words.keys() <= _SIMPLE_ITEMS.keys():
            args.take(found)
            return tuple([_SIMPLE_ITEMS[word] for word in words])
    if args.peek() == b"(":
        return tuple(dict.fromkeys(args.list(_item)))
    word = _word(args)
    return _MACROS.get(word) or (_rest_of_item(args, word),)


def parse_fetch_items(args: Cursor) -> tuple[FetchItem, ...]:
    """`item SP item …)`, behind the parenthesis that opens it: no macro. RFC 5465 §8."""
    items = [_item(args)]
    while not args.accept(b")"):
        args.sp()
        items.append(_item(args))
    return tuple(dict.fromkeys(items))


def _word(args: Cursor) -> bytes:
    found = args.match(_WORD)
    if found is None:
        raise BadSyntax("An item to fetch is missing")
    return found[0].upper()


def _item(args: Cursor) -> FetchItem:
    return _rest_of_item(args, _word(args))


def _rest_of_item(args: Cursor, word: bytes) -> FetchItem:
    if args.peek() == b"[":
        if word in (b"BODY", b"BODY.PEEK"):
            return _body(args, peek=word == b"BODY.PEEK")
        if word in (b"BINARY", b"BINARY.PEEK"):
            path = _binary_section(args)
            peek = word == b"BINARY.PEEK"
            return FetchBody(path, partial=_partial(args), peek=peek, binary=True)
        if word == b"BINARY.SIZE":
            return FetchBinarySize(_binary_section(args))
    item = _SIMPLE_ITEMS.get(word)
    if item is None:
        raise BadSyntax("This item cannot be fetched")
    if item is FetchAttribute.PREVIEW and args.match(_LAZY):
        return FetchPreview()
    return item


def _body(args: Cursor, *, peek: bool) -> FetchBody:
    """`[section]<partial>`; part numbers first, then at most one word. RFC 9051 §9."""
    args.expect(b"[")
    path = _path(args)
    section = Section.ALL
    fields: tuple[bytes, ...] = ()
    if (not path or args.accept(b".")) and (path or args.peek() != b"]"):
        word = args.match(_WORD)
        known = _SECTIONS.get(word[0].upper()) if word else None
        if known is None or (known is Section.MIME and not path):
            raise BadSyntax("No such section")
        section = known
    if section in (Section.HEADER_FIELDS, Section.HEADER_FIELDS_NOT):
        args.sp()
        fields = tuple(args.list(_read_field_name))
    args.expect(b"]")
    return FetchBody(path, section, fields, _partial(args), peek)


def parse_section(text: bytes, partial: tuple[int, int] | None = None) -> FetchBody:
    """A section outside its brackets, as an IMAP URL has it. RFC 5092 §11. Raises BadSyntax."""
    args = Cursor(b"[%b]" % text)
    wanted = _body(args, peek=True)
    args.end()
    return replace(wanted, partial=partial)


def _binary_section(args: Cursor) -> tuple[int, ...]:
    args.expect(b"[")
    path = _path(args)
    args.expect(b"]")
    return path


def _path(args: Cursor) -> tuple[int, ...]:
    found = args.match(_PATH)
    if found is None:
        return ()
    path = tuple(map(int, found[0].split(b".")))
    if len(path) > _PART_DEPTH or max(path) > NUMBER32:
        raise BadSyntax("No such part")
    return path


def _partial(args: Cursor) -> tuple[int, int] | None:
    """`<first.most>`: 32 bits in RFC 3501 §9, 63 in RFC 9051 §9; `most` is not 0."""
    if not args.accept(b"<"):
        return None
    first = args.number64()
    args.expect(b".")
    most = args.number64()
    args.expect(b">")
    if most == 0:
        raise BadSyntax("A partial fetch of nothing")
    return first, most


def _read_field_name(args: Cursor) -> bytes:
    name = args.astring()
    if not _FIELD_NAME.fullmatch(name):
        raise BadSyntax("Not the name of a header field")
    return name


def _field_name(name: bytes) -> bytes:
    """The name as an astring of printable ASCII; `_read_field_name` let nothing else in."""
    if _ATOM.fullmatch(name):
        return name
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
