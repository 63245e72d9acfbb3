"""Text as it is compared: names are composed, what is searched and sorted has lost its case.

Python's `unicodedata.normalize` sorts each run of combining marks by insertion, so its time is
quadratic in the longest run, and a stranger chooses that: 128,000 marks cost 12 seconds. Text that
is not stream-safe (UAX #15 §13: at most 30 marks in a row) is therefore left uncomposed. No
language writes such text.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache
from typing import Final

MAPPED: Final = 8192
"""Characters whose mapping is remembered: those of most languages, and a bound."""
_MARKS_MOST: Final = 30  # UAX #15, D3


def nfc(text: str) -> str:
    """The text in Normalization Form C, if it is stream-safe. Linear."""
    if text.isascii() or _too_many_marks().search(text):
        return text
    return unicodedata.normalize("NFC", text)


def fold(text: str) -> str:
    """What a text compares by, for searching and for order: i;unicode-casemap. RFC 5051 §2.

    Each character becomes its title case, then is decomposed, compatibility mappings too, and
    nothing is put in another place; texts compare by code point. Two texts that differ in case,
    width, or in how accents are encoded fold alike, and `e` is found in `é`. One character at a
    time: linear, and a text may be cut anywhere.
    """
    if text.isascii():
        return text.upper()
    # Two texts in turn, from the first on: what folds as a whole, and what by the character.
    pieces = _by_character().split(text)
    pieces[::2] = [unicodedata.normalize("NFKD", piece.upper()) for piece in pieces[::2]]
    pieces[1::2] = [piece.translate(_MAPPING) for piece in pieces[1::2]]
    return "".join(pieces)


class _Mapping(dict[int, str]):
    """From a code point to what it compares as; filled as texts are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        title = character.title()
        if len(title) != 1:
            title = character  # only a simple mapping counts: ß stays
        found = unicodedata.normalize("NFKD", title)
        if len(self) < MAPPED:
            self[code] = found
        return found


_MAPPING: Final = _Mapping()


_LOOKED_AT: Final = ((0x80, 0x3400), (0x1F000, 0x1FB00))
"""Most scripts with their accents, and pictures: here each character is looked at."""
_ALIKE: Final = ((0x4E00, 0xA000), (0xAC00, 0xD7A4))
"""Ideographs and Hangul: none of them is an exception."""


@lru_cache(maxsize=1)
def _by_character() -> re.Pattern[str]:
    """Finds runs of characters that `str.upper` and NFKD of a whole text might treat otherwise than
    one after the other: those whose upper case is not their title case, and whatever marks
    could move over. What nobody looked at is among them.
    """
    odd: list[str] = []
    beyond = 0x80
    for start, end in sorted((*_LOOKED_AT, *_ALIKE)):
        odd.append(_range(beyond, start - 1) if start > beyond else "")
        beyond = end
    odd.append(_range(beyond, sys.maxunicode))
    odd += [
        chr(code) for start, end in _LOOKED_AT for code in range(start, end) if _is_odd(chr(code))
    ]
    return re.compile(f"([{''.join(odd)}]+)")


def _is_odd(character: str) -> bool:
    alone = character.translate(_Mapping())
    if unicodedata.combining(character) or unicodedata.combining(alone[0]):
        return True
    return alone != unicodedata.normalize("NFKD", character.upper())


@lru_cache(maxsize=1)
def _too_many_marks() -> re.Pattern[str]:
    """Finds a run of more marks than any language needs, each character looked at once."""
    marks: list[str] = []
    first = last = -2
    for code in range(sys.maxunicode + 1):
        if not unicodedata.combining(chr(code)):
            continue
        if code != last + 1:
            marks.append(_range(first, last))
            first = code
        last = code
    marks.append(_range(first, last))
    one = f"[{''.join(marks)}]"
    return re.compile(f"(?<!{one}){one}{{{_MARKS_MOST + 1}}}")


def _range(first: int, last: int) -> str:
    return f"{chr(first)}-{chr(last)}" if first >= 0 else ""
