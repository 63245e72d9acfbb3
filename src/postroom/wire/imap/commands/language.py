"""LANGUAGE. RFC 5255 §3.2, §3.5; language ranges: RFC 4647 §2.1."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from postroom.wire.imap.cursor import BadSyntax, Cursor

RANGES_MOST: Final = 64

_RANGE: Final = re.compile(rb"\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,15}")
"""A basic language range; 15 subtags, where real ones have three."""


@dataclass(frozen=True, slots=True)
class ChooseLanguage:
    """Language ranges in the client's order; none asks which languages there are."""

    ranges: tuple[str, ...]


def parse_language(args: Cursor) -> ChooseLanguage:
    """`LANGUAGE *(SP lang-range-quoted)`, each an astring."""
    ranges: list[str] = []
    while not args.at_end:
        args.sp()
        if len(ranges) == RANGES_MOST:
            raise BadSyntax("Too many languages")
        wanted = args.astring()
        if _RANGE.fullmatch(wanted) is None:
            raise BadSyntax("This is not a language range")
        ranges.append(wanted.decode("ascii"))
    return ChooseLanguage(tuple(ranges))
