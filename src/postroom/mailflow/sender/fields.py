"""The header fields by which a policy tells what it found; what strangers write there goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from postroom.formats import headers
from postroom.mailflow.sender.language import Verb, parse

SCORE: Final = "X-Postroom-Sender-Score"
_LINE: Final = re.compile(r"line ([0-9]+): ")
_LAST_LINE_END: Final = re.compile(rb"\n(?![ \t])")


def score_field(score: int, scored: Sequence[str]) -> bytes:
    """`X-Postroom-Sender-Score: 5 (lines 2, 4)`; `scored` is that of the fact."""
    numbers = [found[1] for each in scored if (found := _LINE.match(each))]
    lines = "lines" if len(numbers) > 1 else "line"
    return headers.field(SCORE, f"{score} ({lines} {', '.join(numbers)})")


def forged(head: bytes, rules: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Where in a header block fields stand that only we may write, in order.

    `head` is all of the header, also beyond what `headers.scan` looks at.
    """
    lower = head.lower()
    names, pattern = _ours(rules)
    if not any(name in lower for name in names):
        return ()
    found: list[tuple[int, int]] = []
    opening = pattern.search(lower)
    while opening is not None:
        end = _LAST_LINE_END.search(lower, opening.end())
        after = end.end() if end is not None else len(lower)
        found.append((opening.start(), after))
        opening = pattern.search(lower, after)
    return tuple(found)


@lru_cache(maxsize=64)
def _ours(rules: tuple[str, ...]) -> tuple[tuple[bytes, ...], re.Pattern[bytes]]:
    """The names of such fields, and one of them at the beginning of a line, with its colon."""
    tags = [line.tag for line in map(parse, rules) if line.verb is Verb.TAG and line.has_field]
    fields = {SCORE, *(tag.partition(":")[0] for tag in tags)}
    names = tuple(sorted({name.lower().encode() for name in fields}))
    any_name = b"|".join(map(re.escape, names))
    return names, re.compile(rb"^(?:%b)[ \t]*+:" % any_name, re.MULTILINE)
