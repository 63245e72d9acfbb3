"""Canonical forms of header fields and body. RFC 6376 §3.4. Linear; the body in one pass.

A body is fed in pieces of any size, and is never held: what waits for its end is a count of line
ends and two octets at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from postroom.formats.headers import Field

SIMPLE: Final = "simple"
RELAXED: Final = "relaxed"

_PIECE: Final = 1 << 16
_EMPTY_LINES: Final = b"\r\n" * (_PIECE // 2)


def collapsed(text: bytes) -> bytes:
    """Each run of blanks as one space."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    while b"  " in text:  # each turn halves every run
        text = text.replace(b"  ", b" ")
    return text


def field(name: bytes, raw: bytes, value: bytes, how: str) -> bytes:
    """A header field in its canonical form, with its line end. RFC 6376 §3.4.1, §3.4.2.

    `raw` is the whole field, `value` what follows its colon, without the last line end.
    """
    if how == SIMPLE:
        return raw
    text = collapsed(value.replace(b"\r\n", b"")).strip(b" ")
    return b"%b:%b\r\n" % (name.lower(), text)


def field_of(source: bytes, each: Field, how: str) -> bytes:
    """The same of a field of a header that was scanned."""
    if how == SIMPLE:
        return each.raw(source)
    return field(each.name, b"", each.raw_value(source), how)


class Part(NamedTuple):
    """Of what a hash is wanted: the body in this form, up to so many octets of it (`l=`)."""

    how: str
    limit: int | None = None


class Hashed(NamedTuple):
    """What became of a part."""

    digest: bytes
    length: int  # octets of the whole body in this form, beyond a limit too


class BodyHasher:
    """SHA-256 of a body in several forms at once. Feed it, finish it, ask it."""

    __slots__ = ("_forms",)

    def __init__(self, parts: Iterable[Part]) -> None:
        wanted: dict[str, _Sums] = {}
        for part in parts:
            wanted.setdefault(part.how, _Sums()).add(part.limit)
        self._forms: dict[str, _Simple] = {
            how: _Relaxed(sums) if how == RELAXED else _Simple(sums) for how, sums in wanted.items()
        }

    def feed(self, piece: bytes) -> None:
        """The next octets of the body."""
        self.feed_from(piece, 0)

    def feed_from(self, content: bytes, start: int) -> None:
        """The next octets of the body: those from `start` on."""
        for form in self._forms.values():
            for at in range(start, len(content), _PIECE):
                form.feed(content[at : at + _PIECE])

    def finish(self) -> None:
        """That was all. Call it once."""
        for form in self._forms.values():
            form.finish()

    def of(self, part: Part) -> Hashed:
        """The hash of a part that was asked for, after the end."""
        sums = self._forms[part.how].sums
        return Hashed(sums.each[part.limit].digest(), sums.length)


class _Sums:
    """The hashes of one form: of all of it, and of beginnings of it."""

    __slots__ = ("each", "length")

    def __init__(self) -> None:
        self.each: dict[int | None, hashlib._Hash] = {}
        self.length = 0

    def add(self, limit: int | None) -> None:
        if limit not in self.each:
            self.each[limit] = hashlib.sha256()

    def update(self, piece: bytes) -> None:
        for limit, found in self.each.items():
            if limit is None or limit >= self.length + len(piece):
                found.update(piece)
            elif limit > self.length:
                found.update(piece[: limit - self.length])
        self.length += len(piece)


def body(content: bytes, start: int, how: str) -> bytes:
    """The body of a message in its canonical form: what a hash is over, for people to compare."""
    kept = _Kept()
    form = _Relaxed(kept) if how == RELAXED else _Simple(kept)
    for at in range(start, len(content), _PIECE):
        form.feed(content[at : at + _PIECE])
    form.finish()
    return b"".join(kept.pieces)


class _Kept(_Sums):
    """The octets themselves."""

    __slots__ = ("pieces",)

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def update(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.length += len(piece)


class _Simple:
    """Empty lines at the end go; the last line has an end. RFC 6376 §3.4.3."""

    __slots__ = ("_cr", "_lines", "sums")

    def __init__(self, sums: _Sums) -> None:
        self.sums = sums
        self._lines = 0  # line ends of which nobody knows yet whether they are the last
        self._cr = False  # and half of one

    def feed(self, piece: bytes) -> None:
        if self._cr:
            piece = b"\r" + piece
        kept, lines, self._cr = _parted(piece)
        if kept:
            self._flush()
            self.sums.update(kept)
        self._lines += lines

    def _flush(self) -> None:
        while self._lines:
            many = min(self._lines, _PIECE // 2)
            self.sums.update(_EMPTY_LINES[: 2 * many])
            self._lines -= many

    def finish(self) -> None:
        if self._cr:
            self._flush()
            self.sums.update(b"\r")
        self.sums.update(b"\r\n")


class _Relaxed(_Simple):
    """Blanks at the ends of lines go, others are one space; of nothing, nothing. §3.4.4."""

    __slots__ = ("_held",)

    def __init__(self, sums: _Sums) -> None:
        super().__init__(sums)
        self._held = b""  # a space, a CR, or both: what follows says what they are

    def feed(self, piece: bytes) -> None:
        piece = self._held + piece
        cr = piece.endswith(b"\r")
        core = piece[:-1] if cr else piece
        bare = core.rstrip(b" \t")
        self._held = (b" " if len(bare) < len(core) else b"") + (b"\r" if cr else b"")
        text = collapsed(bare)
        if b" \r\n" in text:
            text = text.replace(b" \r\n", b"\r\n")
        super().feed(text)

    def finish(self) -> None:
        if self._held.endswith(b"\r"):
            super().feed(self._held)
        if self._cr or self.sums.length:
            super().finish()


def _parted(piece: bytes) -> tuple[bytes, int, bool]:
    """A piece without the line ends at its end, their number, and whether half a one follows."""
    bare = piece.rstrip(b"\r\n")
    tail = piece[len(bare) :]
    cr = tail.endswith(b"\r")
    if cr:
        tail = tail[:-1]
    # The longest run of CRLF at the end begins after the last octet that stands there twice.
    begin = max(tail.rfind(b"\r\r"), tail.rfind(b"\n\n")) + 1
    if tail[begin : begin + 1] == b"\n":
        begin += 1
    if tail.endswith(b"\r"):  # two CR: the first of them ends no line
        begin = len(tail)
    return bare + tail[:begin], (len(tail) - begin) // 2, cr
