"""Encoded words (RFC 2047) and encoded parameters (RFC 2231): text in header fields.

Decoding never raises and is linear. Encoding refuses what could break out of a field.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple
from urllib.parse import quote

from postroom.core.errors import Malformed
from postroom.formats import charsets, transfer

# Labels of RFC 1428 gateways and their kin: encoded bytes of which nobody knew the charset.
_UNDECLARED: Final = frozenset(("unknown-8bit", "x-unknown", "unknown", "default"))

WORDS_MAX: Final = 2_000
"""How many encoded words of one value are decoded; the rest stays as it is."""

_WORD_START: Final = re.compile(rb"=\?([!->@-~]{1,64})\?([BbQq])\?")
_BLANK: Final = b" \t\r\n"
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/= \t]")

# Encoded control characters are no text (RFC 8621 §4.1.2.2); a tab stands for a space.
_CONTROLS: Final[dict[int, str | None]] = dict.fromkeys((*range(32), *range(127, 160)))
_CONTROLS[9] = " "
_RAW_CONTROLS: Final = {0: None, 10: " ", 13: " "}


def join_folds(value: bytes) -> bytes:
    """Without each line end before a blank. RFC 5322 §2.2.3.

    Four plain replacements: a pattern would make an object for each of 300,000 folds.
    """
    if b"\n" not in value:
        return value
    value = value.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")
    return value.replace(b"\n ", b" ").replace(b"\n\t", b"\t") if b"\n" in value else value


class _Word(NamedTuple):
    start: int
    end: int
    codec: str
    base64: bool
    text: bytes


def decode_words(value: bytes, *, fallback: str | None = None) -> str:
    """An unstructured value as text: unfolded, encoded words decoded. RFC 2047 §6.

    White space between neighbouring words goes, as does NUL. Characters cut in two by
    neighbours of one charset are mended. A word that is broken, or of an unknown charset,
    stays as it is. Raw bytes are UTF-8 if valid, else `fallback` (a codec of
    `charsets.lookup`), else guessed. The result holds no CR and no LF.
    """
    value = join_folds(value)
    if b"=?" not in value:
        return _raw(value, fallback)
    out: list[str] = []
    run: list[_Word] = []
    plain = 0  # where the text after the last word starts
    for word in islice(_words(value), WORDS_MAX):
        between = value[plain : word.start]
        if between.strip(_BLANK) or not run:
            out.append(_decode_run(run))
            out.append(_raw(between, fallback))
            run = []
        run.append(word)
        plain = word.end
    out.append(_decode_run(run))
    out.append(_raw(value[plain:], fallback))
    return "".join(out)


def _raw(text: bytes, fallback: str | None) -> str:
    if text.isascii():
        decoded = text.decode("ascii")
    else:
        try:
            decoded = text.decode("utf-8")
        except UnicodeDecodeError:
            decoded = charsets.decode_as(text, fallback or charsets.guess(text))
    return decoded if decoded.isprintable() else decoded.translate(_RAW_CONTROLS)


def _words(value: bytes) -> Iterator[_Word]:
    """The well-formed encoded words, in order.

    Text may hold blanks and `?`, against the grammar: many mailers send that. Each search
    goes forward only, so that openings without an end cost nothing twice.
    """
    at = value.find(b"=?")
    end = -1
    while at >= 0:
        start = _WORD_START.match(value, at)
        if start is None:
            at = value.find(b"=?", at + 2)
            continue
        if end < start.end():
            end = value.find(b"?=", start.end())
            if end < 0:
                return
        following = value.find(b"=?", start.end(), end)
        word = None if following >= 0 else _word(start, end)
        if word is not None:
            yield word
            at = value.find(b"=?", word.end)
        else:
            at = following if following >= 0 else value.find(b"=?", end + 1)


def _word(start: re.Match[bytes], end: int) -> _Word | None:
    text = start.string[start.end() : end]
    label = start[1].decode("ascii")
    codec = charsets.lookup(label)
    if codec is None:
        if label.lower() not in _UNDECLARED:
            return None
        codec = ""
    base64 = start[2] in b"Bb"
    if base64 and _NOT_BASE64.search(text):
        return None
    return _Word(start.start(), end + 2, codec, base64, text)


def _decode_run(run: list[_Word]) -> str:
    """Neighbours: bytes of one charset are joined before they become text."""
    out = []
    codec = ""
    pieces: list[bytes] = []
    cut = b""  # base64 that the next word continues, though each word should be whole
    for n, word in enumerate(run):
        if word.codec != codec and pieces:
            out.append(_text(b"".join(pieces), codec))
            pieces = []
        codec = word.codec
        if not word.base64:
            pieces.append(transfer.decode_escapes(word.text.replace(b"_", b" ")))
            continue
        text = cut + word.text
        cut = b""
        after = run[n + 1] if n + 1 < len(run) else None
        if len(text) & 3 and b"=" not in text and after and after.base64 and after.codec == codec:
            whole = len(text) & ~3
            cut = text[whole:]
            text = text[:whole]
        pieces.append(transfer.decode(text, transfer.BASE64))
    if pieces:
        out.append(_text(b"".join(pieces), codec))
    return "".join(out)


def _text(data: bytes, codec: str) -> str:
    if not codec or (codec == "us-ascii" and not data.isascii()):
        # Too short for the detector: what most such words are.
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = charsets.decode_as(data, "windows-1252")
    else:
        text = charsets.decode_as(data, codec)
    return clean(text)


def clean(text: str) -> str:
    """Decoded text without control characters, which are none. RFC 8621 §4.1.2.2."""
    return text if text.isprintable() else text.translate(_CONTROLS)


# --- encoding ------------------------------------------------------------------------------

_LINE: Final = 76  # RFC 2047 §2: of a line that holds an encoded word
_WORD: Final = 75
_OPEN_Q: Final = b"=?utf-8?q?"
_OPEN_B: Final = b"=?utf-8?b?"
_SHELL: Final = len(_OPEN_Q) + 2

# What every place of an encoded word allows, a phrase being the strictest. RFC 2047 §5 (3).
_Q_SAFE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q: Final = [bytes((n,)) if n in _Q_SAFE else b"=%02X" % n for n in range(256)]
_Q[0x20] = b"_"

_PIECE: Final = re.compile(r"[ \t]+|[^ \t]+")
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")


def refuse_controls(text: str, what: str) -> None:
    """Raises Malformed for control characters and lone surrogates; a tab passes."""
    found = _FORBIDDEN.search(text)
    if found is not None:
        raise Malformed(f"The {what} holds a control character", detail=f"{found[0]!a}")


def encode_words(text: str, *, used: int = 0, phrase: bool = False) -> bytes:
    """Text as ASCII: plain where it can be, else in encoded words of UTF-8. RFC 2047.

    `used` columns of the first line are taken (`Subject: ` takes 9). In a phrase the whole
    text is encoded. Words are parted by one space, at which the composer may fold. Raises
    Malformed for control characters; `decode_words` gives the same text back.
    """
    refuse_controls(text, "text")
    if phrase:
        return b" ".join(_encoded(text, used))
    pieces = _PIECE.findall(text)
    foreign = [n for n, piece in enumerate(pieces) if not piece.isascii() or "=?" in piece]
    if not foreign:
        return text.encode("ascii")
    first, last = foreign[0], foreign[-1] + 1
    before = "".join(pieces[:first]).encode("ascii")
    after = "".join(pieces[last:]).encode("ascii")
    middle = _encoded("".join(pieces[first:last]), used + len(before))
    return before + b" ".join(middle) + after


def _encoded(text: str, used: int) -> list[bytes]:
    """Encoded words that never part the bytes of one character."""
    units = [character.encode("utf-8") for character in text]
    size = sum(map(len, units))
    quoted = [b"".join([_Q[byte] for byte in unit]) for unit in units]
    as_base64 = (size + 2) // 3 * 4 < sum(map(len, quoted))
    room = min(_WORD, _LINE - used) - _SHELL
    if room < 16:  # the composer folds before the first word
        room = _WORD - _SHELL
    words = []
    word: list[bytes] = []
    taken = 0
    for unit in units if as_base64 else quoted:
        full = (taken + len(unit) + 2) // 3 * 4 if as_base64 else taken + len(unit)
        if full > room:
            words.append(_sealed(b"".join(word), as_base64))
            word = []
            taken = 0
            room = _WORD - _SHELL
        word.append(unit)
        taken += len(unit)
    words.append(_sealed(b"".join(word), as_base64))
    return words


def _sealed(text: bytes, as_base64: bool) -> bytes:
    if as_base64:
        return _OPEN_B + binascii.b2a_base64(text, newline=False) + b"?="
    return _OPEN_Q + text + b"?="


_TOKEN: Final = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+")
_ATTRIBUTE: Final = re.compile(r"[!#$&+\-.0-9A-Z^_`a-z{|}~]{1,40}")
_SECTION: Final = 60
_SECTIONS: Final = 100  # what our own reader would still take
_QUOTED: Final = 200  # beyond the reach of RFC 2231 are only old readers, and they have limits


def encode_parameter(name: str, value: str) -> bytes:
    """`name=token`, `name="quoted"`, or RFC 2231 for what is not ASCII or is long.

    Long values become sections `name*0*=…; name*1*=…`, parted by "; ", at which the composer
    may fold. Raises Malformed for a name that is no attribute, for control characters, and
    for a value of more than 100 sections (at least 500 characters).
    """
    if not _ATTRIBUTE.fullmatch(name):
        raise Malformed("This is no name of a parameter", detail=f"{name!a}")
    refuse_controls(value, "parameter")
    if value.isascii() and len(value) <= _QUOTED and "\t" not in value and "=?" not in value:
        if _TOKEN.fullmatch(value):
            return f"{name}={value}".encode("ascii")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{name}="{escaped}"'.encode("ascii")
    sections = []
    section = "utf-8''"
    for character in value:
        unit = quote(character, safe="!#$&+-.^_`{|}~")
        if len(section) + len(unit) > _SECTION:
            sections.append(section)
            section = ""
            if len(sections) == _SECTIONS:
                raise Malformed("The parameter is too long")
        section += unit
    sections.append(section)
    if len(sections) == 1:
        return f"{name}*={sections[0]}".encode("ascii")
    return "; ".join(f"{name}*{n}*={text}" for n, text in enumerate(sections)).encode("ascii")
