"""The order of texts: i;unicode-casemap. RFC 5051 §2, as RFC 5256 §3 asks for by way of RFC 5255.

Each character becomes its title case, then is decomposed, compatibility mappings too, and nothing
is put in another place; texts compare by code point. One character at a time: linear.
"""

from __future__ import annotations

import unicodedata
from typing import Final

MAPPED: Final = 8192
"""Characters whose mapping is remembered: those of most languages, and a bound."""


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


def collated(text: str) -> str:
    """What a text compares by, as str compares."""
    return text.upper() if text.isascii() else text.translate(_MAPPING)
