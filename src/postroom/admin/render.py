"""Outputs for people: tables, records, sentences. Nothing that a peer wrote moves the cursor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Told(Protocol):
    """An output that knows how it is told."""

    def told(self) -> str: ...


def text(output: object) -> str:
    """The output as an operator reads it; without a line end at its end."""
    if isinstance(output, tuple):
        if not output:
            return "(none)"
        if isinstance(output[0], Told):
            return "\n\n".join(visible(each.told()) for each in output)
        return table(output)
    if isinstance(output, Told):
        return visible(output.told())
    if dataclasses.is_dataclass(output):
        return record(output)
    return visible(str(output))


def table(rows: Sequence[Any]) -> str:
    """Rows of one dataclass in aligned columns; numbers to the right."""
    fields = [each.name for each in dataclasses.fields(rows[0])]
    cells = [[name.replace("_", " ").upper() for name in fields]]
    cells += [[_cell(getattr(row, name)) for name in fields] for row in rows]
    numeric = [isinstance(getattr(rows[0], name), int | float) for name in fields]
    widths = [max(len(line[n]) for line in cells) for n in range(len(fields))]
    lines = []
    for line in cells:
        placed = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines)


def record(output: Any) -> str:
    """The fields of one dataclass, a line each; empty ones are left out."""
    shown = [
        (each.name.replace("_", " "), _cell(getattr(output, each.name)))
        for each in dataclasses.fields(output)
    ]
    shown = [(name, value) for name, value in shown if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown)


def _cell(value: object) -> str:
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
    return visible(str(value)).replace("\n", " ")


def visible(said: str) -> str:
    """The text with controls and other invisible characters escaped; lines stay lines."""
    if said.isprintable():
        return said
    return "".join(
        c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in said
    )
