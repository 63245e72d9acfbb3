"""Operations, declared once: a typed function with name, role, input and output.

From a declaration come the command line's verb, later the REST endpoint, the XML API's
operation and the admin action, the audit entry and the manual page. What changes something takes
a reason besides its own input: it stands here once, for every face.

    @dataclass(frozen=True, slots=True)
    class CreateDomain:
        name: str = argument("The domain's name, such as example.org")

    @operation("domain create", Role.ADMIN)
    async def create_domain(house: House, asked: CreateDomain) -> DomainView:
        \"\"\"Make a domain.\"\"\"
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from postroom.core.settings import Role

I = TypeVar("I")  # noqa: E741 - input
O = TypeVar("O")  # noqa: E741 - output
H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class Operation:
    """One declared operation. `run(house, input)` performs it."""

    name: str  # as the command line says it: "domain create"
    role: Role
    input: type
    output: type
    summary: str
    changes: bool  # whether it writes: then it takes a reason, and is audited
    run: Callable[[Any, Any], Awaitable[Any]]
    audited: bool = True  # whether it is kept who performed it
    makes_store: bool = False  # whether it is performed where there is no store yet

    def arguments(self) -> tuple[Argument, ...]:
        """What a caller may say, in order: the input's fields, and the reason of a change."""
        own = _arguments(self.input)
        if not self.changes or any(each.field.name == REASON for each in own):
            return own
        return own + _arguments(Why)


@dataclass(frozen=True, slots=True)
class Argument:
    """One thing that a caller may say, with its type."""

    field: dataclasses.Field[Any]
    kind: Any


@cache
def _arguments(of: type) -> tuple[Argument, ...]:
    hints = typing.get_type_hints(of)
    return tuple(Argument(each, hints[each.name]) for each in dataclasses.fields(of))


OPERATIONS: Final[dict[str, Operation]] = {}
"""Every declared operation by name; complete once `postroom.admin` is imported."""


def argument(
    help: str,  # noqa: A002 - the word that every reader expects
    *,
    default: Any = dataclasses.MISSING,
    option: bool = False,
    secret: bool = False,
    document: bool = False,
    path: bool = False,
) -> Any:
    """Declare a field of an input.

    Without a default it is positional on the command line, else an option. A `secret` never
    stands on a command line: it is read from standard input, and never logged. A `document` is
    named there as a file, or - for standard input, and its text is what the operation is given;
    it is too long to be logged, and may hold secrets. A `path` of this machine is made absolute
    where it is typed: the server works elsewhere.
    """
    metadata = {
        "help": help,
        "option": option,
        "secret": secret,
        "document": document,
        "path": path,
    }
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Why:
    """What every operation that changes something takes besides its own input."""

    reason: str = argument("Why, for whoever reads the history", default="")


REASON: Final = "reason"
REASON_LENGTH: Final = 1_000


def operation(
    name: str,
    role: Role,
    *,
    changes: bool = True,
    audited: bool = False,
    makes_store: bool = False,
) -> Callable[[Callable[[H, I], Awaitable[O]]], Callable[[H, I], Awaitable[O]]]:
    """Register an operation under its name; its docstring is the manual's text.

    `audited` is for what only reads, but what somebody would not like to be read unseen. What
    `makes_store` is given an empty directory in place of a house, by the command line alone.
    """

    def register(function: Callable[[H, I], Awaitable[O]]) -> Callable[[H, I], Awaitable[O]]:
        hints = typing.get_type_hints(function)
        parameters = list(inspect.signature(function).parameters)
        summary = inspect.getdoc(function)
        if not summary:
            raise TypeError(f"operation {name} has no docstring")
        if name in OPERATIONS:
            raise ValueError(f"operation {name} is declared twice")
        OPERATIONS[name] = Operation(
            name=name,
            role=role,
            input=hints[parameters[1]],
            output=hints["return"],
            summary=summary,
            changes=changes,
            run=function,
            audited=audited or changes,
            makes_store=makes_store,
        )
        return function

    return register
