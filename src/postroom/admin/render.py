"""Outputs for people: tables, records, sentences. Nothing that a peer wrote moves the cursor."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable


@runtime_checkable
class Told(Protocol):
    """An output that knows how it is told."""

    def told(self) -> str: ...


@runtime_checkable
class ToldWithin(Protocol):
    """The same, for one that holds a table."""

    def told_within(self, columns: int) -> str: ...


def text(output: object, columns: int = 0) -> str:
    """The output as an operator reads it; without a line end at its end.

    A table fits into so many columns of a terminal; 0 means that it goes elsewhere, and that
    each row is one line.
    """
    if isinstance(output, tuple):
        if not output:
            return "(none)"
        if isinstance(output[0], Told):
            return "\n\n".join(visible(each.told()) for each in output)
        return table(output, columns)
    if isinstance(output, Told):
        return visible(output.told())
    if isinstance(output, ToldWithin):
        return visible(output.told_within(columns))
    if dataclasses.is_dataclass(output):
        return record(output)
    return visible(str(output))


DETAIL: Final = MappingProxyType({"detail": True})
"""The metadata of a field that is told of one thing, but is no column of a list."""

_GAP: Final = "  "
_WORD: Final = 32
"""Characters: a longer word, such as an address, may be broken to fit a terminal."""


def table(rows: Sequence[Any], columns: int = 0) -> str:
    """Rows of one dataclass in aligned columns; numbers to the right.

    What is too wide for the terminal loses its empty columns, then lets its texts take several
    lines, and at last becomes a record for each row.
    """
    fields = [each.name for each in dataclasses.fields(rows[0]) if "detail" not in each.metadata]
    heads = [name.replace("_", " ").upper() for name in fields]
    cells = [[_cell(getattr(row, name), short=True) for name in fields] for row in rows]
    right = [
        all(isinstance(getattr(row, name), int | float) for row in rows)  # a bool is one too
        for name in fields
    ]
    widths = [max(map(len, each)) for each in zip(heads, *cells, strict=True)]
    if columns and _total(widths) > columns:
        filled = [n for n in range(len(fields)) if any(line[n] for line in cells)]
        heads = [heads[n] for n in filled]
        right = [right[n] for n in filled]
        cells = [[line[n] for n in filled] for line in cells]
        widths = _fitting([heads, *cells], [widths[n] for n in filled], columns)
        if _total(widths) > columns:
            return "\n\n".join(record(row) for row in rows)
    lines = [line for row in (heads, *cells) for line in _placed(row, widths, right)]
    return "\n".join(lines)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _fitting(rows: Sequence[Sequence[str]], widths: Sequence[int], columns: int) -> list[int]:
    """Widths that fit, the widest made narrower first; or the least that words allow."""
    fitted = list(widths)
    least = [
        min(width, max(len(word) for row in rows for word in (row[n].split() or [""])), _WORD)
        for n, width in enumerate(widths)
    ]
    least = [max(width, len(head)) for width, head in zip(least, rows[0], strict=True)]
    while _total(fitted) > columns:
        loose = [n for n, width in enumerate(fitted) if width > least[n]]
        if not loose:
            break
        widest = max(loose, key=fitted.__getitem__)
        fitted[widest] -= 1
    return fitted


def _placed(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> Iterator[str]:
    """The lines of one row."""
    pieces = [
        textwrap.wrap(cell, width, break_on_hyphens=False) if len(cell) > width else [cell]
        for cell, width in zip(row, widths, strict=True)
    ]
    for line in zip_longest(*pieces, fillvalue=""):
        placed = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        )
        yield _GAP.join(placed).rstrip()


def record(output: Any) -> str:
    """The fields of one dataclass, a line each; empty ones are left out."""
    shown = [
        (each.name.replace("_", " "), _cell(getattr(output, each.name)))
        for each in dataclasses.fields(output)
    ]
    shown = [(name, value) for name, value in shown if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown)


_MILLISECONDS: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{3}Z")


def _cell(value: object, *, short: bool = False) -> str:
    """A value as people read it; with `short`, a moment to the second."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_cell(item)}" for key, item in value.items())
    said = visible(str(value)).replace("\n", " ")
    moment = _MILLISECONDS.fullmatch(said) if short else None
    return f"{moment[1]}Z" if moment else said


def visible(said: str) -> str:
    """The text with controls and other invisible characters escaped; lines stay lines."""
    if said.isprintable():
        return said
    return "".join(
        c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in said
    )
