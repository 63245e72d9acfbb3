"""The address lists of header fields, read as the common mail programs read them.

RFC 5322 §3.4 with its obsolete syntax (§4.4), RFC 6532, and what mailers send instead. The
public face is `postroom.formats.address`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Final

from postroom.formats import charsets, words

ADDRESSES_MAX: Final = 5_000
"""How many addresses of one field are read; the rest is left."""
_TOKENS_MAX: Final = 100_000
_PARENTHESES_MAX: Final = 10_000
"""How many marks one comment may hold, nested or side by side."""

_STRING_TOKEN: Final = rb'"((?:[^"\\]++|\\.)*+)"'


def _tokens(string: bytes) -> re.Pattern[bytes]:
    return re.compile(
        rb"([\x00-\x20\x7f]++)"  # 1 blanks, and junk
        rb"|(=\?[!->@-~]{1,64}\?[BbQq]\?[^?\s]*+\?=)"  # 2 an encoded word
        rb"|" + string + rb"|(\[[^\[\]\\]*+\])"  # 3 a string, 4 a literal
        rb'|([^\x00-\x20"(),:;<>@\[\]\\\x7f]++)'  # 5 an atom, dots and all
        rb"|\\(.)"  # 6 a pair out of place
        rb"|(.)",  # 7 a special
        re.DOTALL,
    )


_TOKEN: Final = _tokens(_STRING_TOKEN)
_TOKEN_UNQUOTED: Final = _tokens(rb"(?!)()")  # for what follows a quote that never closes
_BLANKS, _ENCODED, _STRING, _ATOM, _SINGLE = 1, 2, 3, 5, 6  # groups of a token

_PARENTHESES: Final = re.compile(rb"\\.|[()]", re.DOTALL)
_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(slots=True)
class Mailbox:
    """One mailbox of a header field, as sent; nothing says that it is a valid address."""

    name: str
    """The display name, decoded; from a comment where old mailers put it; or empty."""
    local: str
    """Unquoted; empty if there is none."""
    domain: str
    """As written; empty if there is none."""
    name_raw: bytes = b""
    """The phrase unquoted, with its encoded words: ENVELOPE's addr-name. RFC 9051 §7.5.2."""
    route: bytes = b""
    """An obsolete source route: ENVELOPE's addr-adl."""


@dataclass(slots=True)
class Group:
    """A named group, which may be empty: `undisclosed-recipients:;`."""

    name: str
    members: list[Mailbox] = field(default_factory=list)
    name_raw: bytes = b""


def comment_end(value: bytes, at: int) -> int:
    """Past the comment whose `(` lies before `at`. RFC 5322 §3.2.2.

    -1 if it never closes, or not within 10,000 marks.
    """
    depth = 1
    for found in islice(_PARENTHESES.finditer(value, at), _PARENTHESES_MAX):
        mark = found[0]
        if mark == b"(":
            depth += 1
        elif mark == b")":
            depth -= 1
            if not depth:
                return found.end()
    return -1


def unquote(text: bytes) -> bytes:
    """The inside of a quoted string or comment, its pairs resolved. RFC 5322 §3.2.1."""
    return _PAIR.sub(rb"\1", text) if b"\\" in text else text


def parse_address_list(value: bytes) -> list[Mailbox | Group]:
    """The mailboxes and groups of a From, To or like field. Never raises; linear.

    Reads what the common mail programs read: obsolete syntax, comments, names without quotes,
    names after addresses, missing commas and brackets, semicolons for commas, encoded words
    inside of quotes, UTF-8 (RFC 6532). Of two `@` the last one counts. A word alone is a
    local part; several are a name. Nothing but blanks gives nothing. At most 5,000 addresses.
    """
    return list(_remembered(value) if len(value) <= _SHORT else _read(value))


_SHORT: Final = 512
"""Octets of a list that is remembered: From is read by all who ask who wrote a message."""


def _read(value: bytes) -> tuple[Mailbox | Group, ...]:
    one = _plain(value)
    if one is not None:
        return (one,)
    # Without strings and comments a comma can only part addresses.
    if b"," in value and b'"' not in value and b"(" not in value and len(value) < _PLAIN_LIST:
        several = [_plain(piece) for piece in value.split(b",")]
        plain = [each for each in several if each is not None]
        if len(plain) == len(several):
            return tuple(plain)
    return tuple(_ListReader(value).read())


_remembered = lru_cache(maxsize=64)(_read)  # of the messages at hand, and of no more


_PLAIN_LIST: Final = 8_192
"""Beyond this a list is read token by token, under the caps."""


def _plain(value: bytes) -> Mailbox | None:
    """One address in the form that nearly all have, or None: then it takes the reader."""
    simple = _SIMPLE(value)
    if simple is None:
        return None
    quoted, phrase, local, domain, bare_local, bare_domain = simple.groups()
    raw = (quoted or phrase or b"").strip(b" ")
    if b"  " in raw or b"=?" in raw:
        return None
    return Mailbox(
        raw.decode(), (local or bare_local).decode(), (domain or bare_domain).decode(), raw
    )


# What most fields hold: one address, its name plain or quoted.
_ATEXT: Final = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_ADDR_SPEC: Final = rb"([%b.]++)@([A-Za-z0-9.\-]++)" % _ATEXT
_PHRASE: Final = rb'"([ !#-\[\]-~]*+)"[ \t]*+|([%b][ %b.]*+)' % (_ATEXT, _ATEXT)
_SIMPLE: Final = re.compile(
    rb"[ \t]*+(?:(?:%b)?<%b>|%b)[ \t\r\n]*+" % (_PHRASE, _ADDR_SPEC, _ADDR_SPEC)
).fullmatch


@dataclass(slots=True)
class _Piece:
    """A word, or the mark `@`."""

    text: bytes
    spaced: bool
    mark: bool = False
    name_only: bool = False  # a string or an encoded word: no local part if it stands alone


class _ListReader:
    """Reads one address list, token by token; each method is what one token means."""

    __slots__ = (
        "_angle", "_angle_colon", "_closed", "_comments", "_count", "_fallback", "_group", "_out",
        "_route", "_spaced", "_tail", "_value", "_words",
    )  # fmt: skip

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._out: list[Mailbox | Group] = []
        self._count = 0
        self._group: Group | None = None
        self._fallback: str | None = None
        self._spaced = False
        self._restart()

    def _restart(self) -> None:
        self._words: list[_Piece] = []  # before the bracket
        self._angle: list[_Piece] | None = None  # inside
        self._tail: list[_Piece] = []  # after
        self._closed = False
        self._angle_colon = False
        self._route = b""
        self._comments: list[bytes] = []

    def read(self) -> list[Mailbox | Group]:
        value = self._value
        match = _TOKEN.match
        parens = True  # until one never closes
        at = 0
        for _ in range(_TOKENS_MAX):
            found = match(value, at)
            if found is None or self._count >= ADDRESSES_MAX:
                break
            at = found.end()
            kind = found.lastindex or 0
            text: bytes = found[kind]
            if kind == _BLANKS:
                self._spaced = True
            elif kind <= _SINGLE:
                self._word(text, kind)
            elif text == b"(":
                end = comment_end(value, at) if parens else -1
                if end < 0:
                    parens = False
                else:
                    self._comments.append(value[at : end - 1])
                    at = end
                self._spaced = True
            elif text == b'"':
                match = _TOKEN_UNQUOTED.match
            else:
                self._special(text)
        self._flush()
        self._end_group()
        return self._out

    def _word(self, text: bytes, kind: int) -> None:
        if kind == _STRING:
            text = unquote(words.join_folds(text))
        piece = _Piece(text, self._spaced, name_only=kind in (_STRING, _ENCODED))
        self._spaced = False
        self._into().append(piece)

    def _into(self) -> list[_Piece]:
        if self._angle is None:
            return self._words
        return self._tail if self._closed else self._angle

    def _special(self, text: bytes) -> None:
        match text:
            case b"@":
                self._at()
            case b"<":
                self._open()
            case b">":
                self._closed = self._angle is not None
                self._spaced = True
            case b",":
                self._comma()
            case b":":
                self._colon()
            case b";":
                self._semicolon()
            case b")":
                self._spaced = True
            case _:  # a bracket or backslash that belongs to nothing
                self._word(text, _ATOM)

    def _at(self) -> None:
        if self._closed:  # a comma is missing
            self._next_from_tail()
        self._into().append(_Piece(b"@", self._spaced, mark=True))
        self._spaced = False

    def _next_from_tail(self) -> None:
        tail = self._tail
        self._tail = []
        self._flush()
        self._words = tail

    def _open(self) -> None:
        if self._closed:
            self._next_from_tail()
        elif self._angle:  # the bracket before it never closed
            if any(piece.mark for piece in self._angle):
                self._flush()
            else:
                self._angle[0].spaced = True
                self._words += self._angle
        self._angle = []
        self._angle_colon = False
        self._route = b""
        self._spaced = False

    def _comma(self) -> None:
        angle = self._angle
        if angle and not self._closed and angle[0].mark:  # a route goes on
            angle.append(_Piece(b",", False))
            self._spaced = False
        else:
            self._flush()

    def _colon(self) -> None:
        angle = self._angle
        if angle is not None and not self._closed:
            if angle and angle[0].mark:
                self._route = b"".join([piece.text for piece in angle])
                self._angle = []
            elif len(angle) == 1 and angle[0].text.lower() == b"mailto":
                self._angle = []
            else:
                self._angle_colon = True
                angle.append(_Piece(b":", self._spaced))
        elif self._words and not self._closed:
            if len(self._words) == 1 and self._words[0].text.lower() == b"mailto":
                self._words = []
            elif self._group is not None or any(piece.mark for piece in self._words):
                self._words.append(_Piece(b":", self._spaced))
            else:
                self._start_group(self._words)
                self._restart()
        self._spaced = False

    def _semicolon(self) -> None:
        if self._angle_colon and not self._closed and self._angle is not None:
            self._angle.append(_Piece(b";", False))
            return
        self._flush()
        self._end_group()

    # what has been read

    def _flush(self) -> None:
        """The address, or addresses, between two separators."""
        pieces, angle, tail = self._words, self._angle, self._tail
        comment, route, colon = self._comment(), self._route, self._angle_colon
        self._restart()
        if angle is None:
            self._bare(pieces, comment)
        elif colon and angle[-1].text == b";":  # <undisclosed-recipients:;>
            before = next(n for n, piece in enumerate(angle) if piece.text == b":")
            self._end_group()
            self._start_group(pieces + angle[:before])
            self._end_group()
        else:
            self._add(_phrase(pieces) or _phrase(tail) or comment, angle, route)

    def _comment(self) -> bytes:
        return b" ".join([unquote(words.join_folds(each)).strip() for each in self._comments])

    def _bare(self, pieces: list[_Piece], comment: bytes) -> None:
        """Without brackets: what hangs together around an `@` is an address, the rest names."""
        name: list[_Piece] = []
        segment: list[_Piece] = []
        found: list[tuple[list[_Piece], list[_Piece]]] = []
        marked = False
        for n, piece in enumerate([*pieces, None]):
            if piece is None or (n and _gap(pieces[n - 1], piece, marked)):
                if marked:
                    found.append((name, segment))
                    name = []
                else:
                    name += segment
                segment, marked = [], False
            if piece is not None:
                segment.append(piece)
                marked = marked or piece.mark
        if not found:
            if len(name) == 1 and not name[0].name_only:
                self._add(comment, name, b"")
            elif name:
                self._add(_phrase(name), [], b"")
            return
        for n, (phrase, spec) in enumerate(found):
            last = n == len(found) - 1
            self._add(_phrase(phrase) or (last and (_phrase(name) or comment)) or b"", spec, b"")

    def _add(self, name_raw: bytes, spec: list[_Piece], route: bytes) -> None:
        local, domain = (self._text(each) for each in _split(spec))
        if not (name_raw or local or domain) or self._count >= ADDRESSES_MAX:
            return
        self._count += 1
        mailbox = Mailbox(self._name(name_raw), local, domain, name_raw, route)
        if self._group is None:
            self._out.append(mailbox)
        else:
            self._group.members.append(mailbox)

    def _start_group(self, pieces: list[_Piece]) -> None:
        raw = _phrase(pieces)
        self._group = Group(self._name(raw), [], raw)
        self._count += 1

    def _end_group(self) -> None:
        if self._group is not None:
            self._out.append(self._group)
            self._group = None

    def _name(self, raw: bytes) -> str:
        if not raw:
            return ""
        return words.clean(words.decode_words(raw, fallback=self._guessed(raw))).strip()

    def _text(self, raw: bytes) -> str:
        if raw.isascii():
            return words.clean(raw.decode("ascii"))
        try:
            return words.clean(raw.decode("utf-8"))
        except UnicodeDecodeError:
            return words.clean(charsets.decode_as(raw, self._guessed(raw) or "utf-8"))

    def _guessed(self, raw: bytes) -> str | None:
        """The charset of the whole field, guessed once if anything in it needs it."""
        if raw.isascii():
            return None
        if self._fallback is None:
            self._fallback = charsets.guess(self._value)
        return self._fallback


def _gap(left: _Piece, right: _Piece, marked: bool) -> bool:
    """True if blanks part two words; around `@`, lone dots and those of a domain, which an `@`
    before them marks, they are obsolete syntax: RFC 5322 §4.4."""
    if not right.spaced or left.mark or right.mark:
        return False
    if marked and (left.text.endswith(b".") or right.text.startswith(b".")):
        return False
    return left.text != b"." and right.text != b"."


def _phrase(pieces: list[_Piece]) -> bytes:
    text = b"".join([b" " + piece.text if piece.spaced else piece.text for piece in pieces])
    return text.strip(b" ")


def _split(spec: list[_Piece]) -> tuple[bytes, bytes]:
    """Local part and domain around the last `@`; without one all is local part."""
    at = next((n for n in range(len(spec) - 1, -1, -1) if spec[n].mark), None)
    if at is None:
        return _joined(spec), b""
    domain = spec[at + 1 :]
    for n in range(1, len(domain)):
        left, right = domain[n - 1].text, domain[n].text
        if domain[n].spaced and not left.endswith(b".") and not right.startswith(b"."):
            domain = domain[:n]
            break
    return _joined(spec[:at]), b"".join([piece.text for piece in domain])


def _joined(pieces: list[_Piece]) -> bytes:
    """A local part: blanks around dots and `@` are obsolete syntax, others were meant."""
    out = []
    before = b"."
    for piece in pieces:
        if piece.spaced and before[-1:] not in b".@" and piece.text[:1] not in b".@":
            out.append(b" ")
        out.append(piece.text)
        before = piece.text
    return b"".join(out)
