"""What operations are given, and the one place that says who may perform which.

`perform` also sees to it that nothing is done unseen: what changes the configuration leaves a
change set, in its own unit (`changed`); all else that is audited leaves an entry of the audit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import structlog

from postroom.access import Authenticator
from postroom.admin import codec
from postroom.core import metrics
from postroom.core.bus import DEADLINE, Answers, Ask, Question
from postroom.core.errors import (
    AlreadyExists,
    MailError,
    Malformed,
    Misuse,
    NotAllowed,
    NotFound,
    Unreachable,
)
from postroom.core.ids import ACCOUNT, CHANGE_SET, external, internal
from postroom.core.log import HIDDEN
from postroom.core.operations import OPERATIONS, REASON_LENGTH, Operation
from postroom.core.plural import all_counted, all_well
from postroom.core.settings import Role
from postroom.domain import audit, check
from postroom.domain.audit import Entry, Outcome
from postroom.domain.changes import Changing
from postroom.domain.directory import people
from postroom.domain.policy.history import ChangeSet, Note
from postroom.mailflow.house import MailHouse
from postroom.mailflow.relay import Dialer
from postroom.net.fetch import Fetcher
from postroom.store.sql import Tx

T = TypeVar("T")
A = TypeVar("A")

PERFORMED: Final = metrics.counter(
    "admin.operations", "operations", "Operations that were asked for", label="operation"
)
REFUSED: Final = metrics.counter(
    "admin.refused", "operations", "Operations that ended in an error", label="operation"
)

FACES: Final[dict[str, Operation]] = {}
"""What faces ask for that is no operation itself: it stands in no manual, and no face offers it."""

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
        looked = all_counted(self.counts)
        lines = [f"Looked at {looked}." if looked else "There was nothing to look at."]
        lines += [f"put right: {text}" for text in self.repaired]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        lines.append(all_well(len(self.problems)))
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
    background: tuple[WorkerView, ...] = ()  # what does long work, and serves nobody


def checker(flow: MailHouse) -> Callable[[bool], Awaitable[CheckReport]]:
    """`check` on these stores."""

    async def look(repair: bool) -> CheckReport:
        found = await check.check(flow.mail, flow.blobs, repair=repair, indexer=flow.indexer)
        more = found.found - len(found.problems)
        problems = (*found.problems, *([f"and {more} more"] if more > 0 else ()))
        return CheckReport(problems, found.counts, tuple(found.repaired))

    return look


def no_server() -> ServerView | None:
    """What a command without a server is given."""
    return None


def no_keys(host: str) -> tuple[bytes, ...]:
    """What a command without a server knows of its certificates."""
    return ()


async def nobody(question: Question[A], deadline: float = DEADLINE) -> Answers[A]:
    """Asks the workers of no server."""
    raise Unreachable("The server is not running")


@dataclass(frozen=True, slots=True)
class Doing:
    """What is being performed, why, and the change sets that it has left so far."""

    operation: str = ""
    reason: str = ""
    change_sets: list[str] = field(default_factory=list)  # as people name them


@dataclass(frozen=True, slots=True)
class AdminHouse:
    """The rooms below, what only `server` can do, who asks, and what for."""

    flow: MailHouse
    authenticator: Authenticator
    check: Callable[[bool], Awaitable[CheckReport]]
    server: Callable[[], ServerView | None] = no_server
    ask: Ask = nobody  # all workers
    dialer: Dialer | None = None  # the running server's; without one nobody outside is asked
    tls_keys: Callable[[str], tuple[bytes, ...]] = no_keys  # of a host: SHA-256 of each key
    caller: Caller = field(default=OWNER)
    doing: Doing = field(default_factory=Doing)
    fetcher: Fetcher | None = None  # the running server's; without one nothing is fetched


@runtime_checkable
class OfDomain(Protocol):
    """An input that concerns one domain: a domain's administrator may perform it there."""

    def of_domain(self) -> str:
        """The domain's canonical name; raises Malformed."""
        ...


@runtime_checkable
class Hides(Protocol):
    """An input of which a field is a secret, though it is none of others of its kind."""

    def hides(self) -> frozenset[str]:
        """The names of such fields."""
        ...


def number_of(letter: str, text: str, what: str) -> int:
    """The number behind an id that somebody gave; raises Malformed, which names it."""
    try:
        return internal(letter, text)
    except Malformed as error:
        raise Malformed(f"{text or '(empty)'} is not the id of {what}") from error


def named(name: str) -> Operation:
    """The operation of that name; raises NotFound."""
    found = OPERATIONS.get(name) or FACES.get(name)
    if found is None:
        raise NotFound(f"There is no operation {name}")
    return found


async def perform(house: AdminHouse, name: str, asked: object, reason: str = "") -> Any:
    """Check the caller's right, perform, and audit what changes or looks at what is others'.

    Raises NotFound for an unknown operation, Misuse for another's input, NotAllowed, and what
    the operation raises.
    """
    operation = named(name)
    if type(asked) is not operation.input:
        raise Misuse(f"{name} does not take {type(asked).__name__}")
    if operation.makes_store:
        raise AlreadyExists(f"There is a store here; {name} needs a directory that holds none")
    if len(reason) > REASON_LENGTH:
        raise Misuse(f"A reason has at most {REASON_LENGTH:,} characters")
    doing = Doing(name, codec.decode(str, reason, "reason"))
    told = {"operation": name, "caller": house.caller.principal, "asked": open_part(asked)}
    counted = name in OPERATIONS  # what a face asks for asks for one of them in turn
    if counted:
        PERFORMED.add(label=name)
    try:
        permit(house.caller, operation, asked)
        output = await operation.run(dataclasses.replace(house, doing=doing), asked)
    except MailError as error:
        REFUSED.add(label=name)
        _log.info("operation refused", reason=str(error), detail=error.detail, **told)
        _audit(house, doing, told, Outcome.REFUSED, str(error))
        raise
    except Exception:
        _audit(house, doing, told, Outcome.FAILED)
        raise
    if operation.changes:
        _log.info("operation performed", why=doing.reason, change_sets=doing.change_sets, **told)
    if operation.audited and not doing.change_sets:
        _audit(house, doing, told, Outcome.PERFORMED)
    return output


def _audit(
    house: AdminHouse, doing: Doing, told: Mapping[str, Any], outcome: Outcome, answer: str = ""
) -> None:
    flow = house.flow
    entry = Entry(
        flow.ids.new(),
        flow.clock.now(),
        house.caller.principal,
        doing.operation,
        outcome,
        codec.encode(told["asked"]),
        doing.reason,
        answer,
    )
    flow.state.note(audit.note, entry)


async def changed(
    house: AdminHouse, unit: Callable[[Changing], T], *, reverts: int = 0, much: bool = False
) -> T:
    """Run a unit that changes the configuration; what differs after it is one change set, in the
    same unit. What the unit raises is raised, and then nothing is kept.

    `much` is for a unit that takes milliseconds.
    """
    flow, doing = house.flow, house.doing
    note = Note(
        flow.ids.new(),
        flow.clock.now(),
        house.caller.principal,
        doing.operation,
        doing.reason,
        reverts,
    )

    def whole(tx: Tx) -> tuple[T, ChangeSet | None]:
        changing = Changing(tx, note)
        result = unit(changing)
        return result, changing.finish()

    write = flow.mail.write_much if much else flow.mail.write
    result, made = await write(whole)
    if made is not None:
        doing.change_sets.append(external(CHANGE_SET, made.id))
    return result


def caller_name(tx: Tx, principal: int) -> str:
    """Who a principal is, as people name them."""
    if not principal:
        return "the command line"
    try:
        return str(people.by_id(tx, principal).address)
    except (NotFound, Malformed):
        return f"{external(ACCOUNT, principal)}, which is gone"


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
    hidden = asked.hides() if isinstance(asked, Hides) else frozenset()
    for each in dataclasses.fields(asked):  # type: ignore[arg-type]  # every input is a dataclass
        value = getattr(asked, each.name)
        if each.metadata.get("secret") or each.name in hidden:
            shown[each.name] = HIDDEN if value else ""
        elif each.metadata.get("document"):
            shown[each.name] = f"{len(value)} characters"
        else:
            shown[each.name] = value
    return shown
