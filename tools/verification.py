"""What a proof is: its form, and the report that it gives.

A group of proofs is a module tests/verify/NAME.py. The first line of its docstring says what it
proves; `def run(form: Form) -> Report` does it. `python -m tools.verify` finds and runs them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class Form(enum.Enum):
    """How much is done: `short` is seeded and for CI (a minute or two), `long` is the proof."""

    SHORT = "short"
    LONG = "long"


@dataclass(frozen=True)
class Report:
    """What a group found.

    `columns` are the headings of a table and `rows` its cells; the first column names what was
    tried, the others are numbers with their units. One entry of `failures` for each thing that
    does not hold, with where to look; the group passed if there is none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    failures: tuple[str, ...] = ()

    def table(self) -> str:
        """The numbers as a Markdown table."""
        head = [self.columns, ("---",) + ("---:",) * (len(self.columns) - 1)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (*head, *self.rows))


class Group(Protocol):
    """A module under tests/verify."""

    def run(self, form: Form) -> Report:
        """Do the proof. An exception counts as a failure of the whole group."""
        ...
