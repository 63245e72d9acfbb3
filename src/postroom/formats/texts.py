"""The texts of a message, as they are searched: decoded piece by piece, never all at once.

The scan of SEARCH and the index of searches both read a message through this, so they cannot
disagree. Text parts are decoded from their transfer encoding and charset; headers of body parts
and of messages inside the message are text of the body too. Other parts hold no text. Linear in the
message whatever it holds, and bounded: a piece is about 256 KiB, cut at a line end (a line of over
1 MiB is cut anywhere, and a character across that cut is lost). RFC 3501 §6.4.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from postroom.formats import charsets, headers, mime
from postroom.formats.mime import Part
from postroom.formats.transfer import Decoder
from postroom.formats.words import decode_words

PIECE: Final = 256 * 1024
_LINE_MOST: Final = 1024 * 1024


def texts(raw: bytes) -> Iterator[Iterator[str]]:
    """The text of the header block, then those of the body, each in pieces. Not folded."""
    yield iter((header_text(raw, 0, len(raw)),))
    yield from body_texts(raw)


def header_text(raw: bytes, start: int, end: int) -> str:
    """The header block at `start` as text, a line for each field."""
    found = headers.scan(raw, start, end)
    return "\r\n".join(
        f"{each.name.decode('latin-1')}: {decode_words(each.value(raw))}" for each in found.fields
    )


def body_texts(raw: bytes) -> Iterator[Iterator[str]]:
    """The texts of the body one after the other, each in pieces."""
    root = mime.scan(raw)
    for part in root.walk():
        if part is not root and part.body > part.start:
            yield iter((header_text(raw, part.start, part.body),))
        if part.end > part.body and (part.type == b"text" or _is_report(part)):
            yield _pieces(raw, part)


def _is_report(part: Part) -> bool:
    """Such as message/delivery-status: text of which people remember a line. RFC 3464 §2."""
    return part.type == b"message" and not part.is_message


def _pieces(raw: bytes, part: Part) -> Iterator[str]:
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
        yield charsets.decode(held[:cut], charset)
        held = held[cut:]


def _charset(part: Part) -> str | None:
    for name, value in part.params:
        if name.lower() == b"charset":
            return value.decode("latin-1")
    return None
