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
    return text.upper() if text.isascii() else text.translate(_MAPPING)


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
