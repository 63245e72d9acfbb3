"""The texts of a message, as they are searched: decoded piece by piece, never all at once.

The scan of SEARCH and the index of searches both read a message through this, so they cannot
disagree. Text parts are decoded from their transfer encoding and charset; headers of body parts
and of messages inside the message are text of the body too. Other parts hold no text. Linear in the
message whatever it holds, and bounded: a piece is about 256 KiB, cut at a line end (a line of over
1 MiB is cut anywhere, and a character across that cut is lost). RFC 3501 §6.4.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from postroom.formats import charsets, headers, mime
from postroom.formats.mime import Part
from postroom.formats.transfer import Decoder
from postroom.formats.words import decode_words

PIECE: Final = 256 * 1024
_LINE_MOST: Final = 1024 * 1024


class Piece:
    """A piece of a text, decoded when somebody wants it."""

    __slots__ = ("_charset", "_data", "_text")

    def __init__(self, data: bytes, charset: str | None, text: str | None = None) -> None:
        """Without `text` it is what `data` means in that charset."""
        self._data = data
        self._charset = charset
        self._text = text

    @property
    def text(self) -> str:
        """Not folded."""
        if self._text is None:
            self._text = charsets.decode(self._data, self._charset)
        return self._text

    def holding(self, strings: Iterable[str]) -> set[str]:
        """Those of some folded strings that it holds for certain, without decoding it: strings of
        ASCII, as octets. Others it may hold as well.
        """
        if self._text is not None or not charsets.keeps_ascii(self._data, self._charset):
            return set()
        folded = self._data.upper()
        return {each for each in strings if each.isascii() and each.encode("ascii") in folded}


def texts(raw: bytes) -> Iterator[Iterator[Piece]]:
    """The text of the header block, then those of the body, each in pieces."""
    yield iter((_of_header(raw, 0, len(raw)),))
    yield from body_texts(raw)


def _of_header(raw: bytes, start: int, end: int) -> Piece:
    return Piece(b"", None, header_text(raw, start, end))


def header_text(raw: bytes, start: int, end: int) -> str:
    """The header block at `start` as text, a line for each field."""
    found = headers.scan(raw, start, end)
    return "\r\n".join(
        f"{each.name.decode('latin-1')}: {decode_words(each.value(raw))}" for each in found.fields
    )


def body_texts(raw: bytes) -> Iterator[Iterator[Piece]]:
    """The texts of the body one after the other, each in pieces."""
    root = mime.scan(raw)
    for part in root.walk():
        if part is not root and part.body > part.start:
            yield iter((_of_header(raw, part.start, part.body),))
        if part.end > part.body and (part.type == b"text" or _is_report(part)):
            yield _pieces(raw, part)


def _is_report(part: Part) -> bool:
    """Such as message/delivery-status: text of which people remember a line. RFC 3464 §2."""
    return part.type == b"message" and not part.is_message


def _pieces(raw: bytes, part: Part) -> Iterator[Piece]:
    charset = _charset(part)
    codec = charsets.lookup(charset) if charset else None
    wide = codec is not None and codec.startswith(("utf-16", "utf-32"))
    decoder = Decoder((part.encoding or b"").decode("latin-1"))
    held = b""
    for start in range(part.body, part.end, PIECE):
        stop = min(start + PIECE, part.end)
        held += decoder.feed(raw[start:stop])
        if stop == part.end:
            held += decoder.flush()
            cut = len(held)
        elif wide:
            cut = len(held) & ~3  # whole characters, but for a pair of surrogates
        else:
            cut = held.rfind(b"\n") + 1
            if not cut and len(held) < _LINE_MOST:
                continue
            cut = cut or len(held)
        yield Piece(held[:cut], charset)
        held = held[cut:]


def _charset(part: Part) -> str | None:
    for name, value in part.params:
        if name.lower() == b"charset":
            return value.decode("latin-1")
    return None
