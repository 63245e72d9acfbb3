"""One record that is to be published, and how its text is written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

TTL: Final = 3_600
"""Seconds: long enough to be cached, short enough that a change is there within the hour."""
STRING: Final = 255
"""Octets of one character-string. RFC 1035 §3.3."""


class Need(StrEnum):
    """How much it matters."""

    NEEDED = "needed"
    ADVISED = "advised"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One record. `data` is as in a zone file; `why` is one sentence."""

    owner: str  # absolute, without a dot at the end
    kind: str
    data: str
    need: Need
    why: str
    ttl: int = TTL
    elsewhere: bool = False  # in a zone that whoever lends the address keeps


def quoted(text: str) -> str:
    """A TXT value of printable ASCII as character-strings in quotes. RFC 1035 §5.1."""
    pieces = [text[at : at + STRING] for at in range(0, len(text), STRING)] or [""]
    return " ".join(f'"{_escaped(piece)}"' for piece in pieces)


def _escaped(piece: str) -> str:
    return piece.replace("\\", "\\\\").replace('"', '\\"')
