"""The kernel of the search index: trigrams of a text, and sets of message numbers. Pure.

A text that holds a string holds every trigram of it. So the trigrams of a string narrow a search
to candidates, and the exact scan decides: the index never adds a match and never hides one.
Why trigrams, and why kept in sets of this form: docs/adr/0009.

Floor 2. Imports nothing of the house but core.
"""

from __future__ import annotations

from postroom.store.search.postings import (
    ALWAYS,
    SPAN,
    Segment,
    common,
    pack,
    renumbered,
    unpack,
)
from postroom.store.search.trigrams import Collector, number, trigrams

__all__ = [
    "ALWAYS",
    "SPAN",
    "Collector",
    "Segment",
    "common",
    "number",
    "pack",
    "renumbered",
    "trigrams",
    "unpack",
]
