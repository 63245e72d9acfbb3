"""Text as it is compared: composed, and without case. For names and for searching.

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

_MARKS_MOST: Final = 30  # UAX #15, D3


def nfc(text: str) -> str:
    """The text in Normalization Form C, if it is stream-safe. Linear."""
    if text.isascii() or _too_many_marks().search(text):
        return text
    return unicodedata.normalize("NFC", text)


def fold(text: str) -> str:
    """The text as a search compares it: composed, then with full case folding. Linear.

    Two texts that differ in case, or in how their accents are encoded, fold alike. Accents
    themselves count, and so do width and ligatures: `e` does not find `é`.
    """
    return text.lower() if text.isascii() else nfc(text).casefold()


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
