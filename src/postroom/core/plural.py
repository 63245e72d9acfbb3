"""Numbers of things, as people say them."""

from __future__ import annotations

from collections.abc import Mapping


def counted(number: int, one: str, many: str = "") -> str:
    """`1 account`, `2 accounts`; `many` where an s is not the whole difference."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def all_counted(numbers: Mapping[str, int]) -> str:
    """`1 account, 5 mailboxes`, of numbers under the names of many things."""
    return ", ".join(counted(n, _one(many), many) for many, n in numbers.items())


def all_well(found: int) -> str:
    """The last line of what looked for problems."""
    return f"{counted(found, 'problem')}." if found else "All is well."


def _one(many: str) -> str:
    return many.removesuffix("es") if many.endswith("xes") else many.removesuffix("s")
