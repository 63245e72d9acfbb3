"""What operations are given, and the one place that says who may perform which."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import structlog

from postroom.access import Authenticator
from postroom.core import metrics
from postroom.core.errors import MailError, Misuse, NotAllowed, NotFound
from postroom.core.log import HIDDEN
from postroom.core.operations import OPERATIONS, Operation
from postroom.core.settings import Role
from postroom.domain import check
from postroom.mailflow.house import MailHouse

PERFORMED: Final = metrics.counter(
    "admin.operations", "operations", "Operations that were asked for", label="operation"
)
REFUSED: Final = metrics.counter(
    "admin.refused", "operations", "Operations that ended in an error", label="operation"
)

_log: Final = structlog.get_logger("postroom.admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `domain` is where a domain's administrator may act."""

    principal: int
    role: Role
    domain: str = ""


OWNER: Final = Caller(0, Role.ADMIN)
"""Whoever can open the data directory: the command line."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` looked at and found. A problem that was put right is in `repaired`."""

    problems: tuple[str, ...]
    counts: Mapping[str, int]
    repaired: tuple[str, ...] = ()

    def told(self) -> str:
        looked = ", ".join(f"{number} {what}" for what, number in self.counts.items())
        lines = [f"Looked at {looked}." if looked else "There was nothing to look at."]
        lines += [f"put right: {text}" for text in self.repaired]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        lines.append(f"{len(self.problems)} problems." if self.problems else "All is well.")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker, as the supervisor sees it."""

    worker: int
    process: int
    state: str
    deaths: int


@dataclass(frozen=True, slots=True)
class ServerView:
    """The running server, as the supervisor sees it."""

    state: str
    workers: tuple[WorkerView, ...]
    listeners: tuple[str, ...]


def checker(flow: MailHouse) -> Callable[[bool], Awaitable[CheckReport]]:
    """`check` on these stores."""

    async def look(repair: bool) -> CheckReport:
        found = await check.check(flow.mail, flow.blobs, repair=repair)
        more = found.found - len(found.problems)
        problems = (*found.problems, *([f"and {more} more"] if more > 0 else ()))
        return CheckReport(problems, found.counts, tuple(found.repaired))

    return look


def no_server() -> ServerView | None:
    """What a command without a server is given."""
    return None


@dataclass(frozen=True, slots=True)
class AdminHouse:
    """The rooms below, what only `server` can do, and who asks."""

    flow: MailHouse
    authenticator: Authenticator
    check: Callable[[bool], Awaitable[CheckReport]]
    server: Callable[[], ServerView | None] = no_server
    caller: Caller = field(default=OWNER)


@runtime_checkable
class OfDomain(Protocol):
    """An input that concerns one domain: a domain's administrator may perform it there."""

    def of_domain(self) -> str:
        """The domain's canonical name; raises Malformed."""
        ...


def named(name: str) -> Operation:
    """The operation of that name; raises NotFound."""
    found = OPERATIONS.get(name)
    if found is None:
        raise NotFound(f"There is no operation {name}")
    return found


async def perform(house: AdminHouse, name: str, asked: object) -> Any:
    """Check the caller's right, perform, and audit what changes.

    Raises NotFound for an unknown operation, Misuse for another's input, NotAllowed, and what
    the operation raises.
    """
    operation = named(name)
    if type(asked) is not operation.input:
        raise Misuse(f"{name} does not take {type(asked).__name__}")
    told = {"operation": name, "caller": house.caller.principal, "asked": open_part(asked)}
    PERFORMED.add(label=name)
    try:
        permit(house.caller, operation, asked)
        output = await operation.run(house, asked)
    except MailError as error:
        REFUSED.add(label=name)
        _log.info("operation refused", reason=str(error), detail=error.detail, **told)
        raise
    if operation.changes:
        _log.info("operation performed", **told)
    return output


def permit(caller: Caller, operation: Operation, asked: object) -> None:
    """Raises NotAllowed if this caller may not perform this operation on this."""
    if not caller.role.covers(operation.role):
        raise NotAllowed(f"{operation.name} needs the role {operation.role}")
    if caller.role is Role.DOMAIN_ADMIN:
        own = caller.domain and isinstance(asked, OfDomain) and asked.of_domain() == caller.domain
        if not own:
            raise NotAllowed(f"A domain's administrator may do that in {caller.domain} alone")


def open_part(asked: object) -> dict[str, Any]:
    """An input's fields for the log: what is declared secret is hidden."""
    shown: dict[str, Any] = {}
    for each in dataclasses.fields(asked):  # type: ignore[arg-type]  # every input is a dataclass
        value = getattr(asked, each.name)
        if each.metadata.get("secret"):
            shown[each.name] = HIDDEN if value else ""
        else:
            shown[each.name] = value
    return shown
