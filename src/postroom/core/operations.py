"""Operations, declared once: a typed function with name, role, input and output.

From a declaration come the command line's verb, later the REST endpoint, the XML API's
operation and the admin action, the audit entry and the manual page.

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
    changes: bool  # whether it writes: then it is audited
    run: Callable[[Any, Any], Awaitable[Any]]


OPERATIONS: Final[dict[str, Operation]] = {}
"""Every declared operation by name; complete once `postroom.admin` is imported."""


def argument(
    help: str,  # noqa: A002 - the word that every reader expects
    *,
    default: Any = dataclasses.MISSING,
    option: bool = False,
    secret: bool = False,
) -> Any:
    """Declare a field of an input.

    Without a default it is positional on the command line, else an option. A `secret` never
    stands on a command line: it is read from standard input, and never logged.
    """
    metadata = {"help": help, "option": option, "secret": secret}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def operation(
    name: str, role: Role, *, changes: bool = True
) -> Callable[[Callable[[H, I], Awaitable[O]]], Callable[[H, I], Awaitable[O]]]:
    """Register an operation under its name; its docstring is the manual's text."""

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
        )
        return function

    return register
