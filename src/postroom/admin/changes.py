"""Operations on the history of changes, and on the audit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from postroom.admin import codec
from postroom.admin.directory import fresh
from postroom.admin.house import AdminHouse, caller_name, changed, number_of
from postroom.core.clock import iso
from postroom.core.errors import InUse, Misuse
from postroom.core.ids import CHANGE_SET, external, internal
from postroom.core.operations import argument, operation
from postroom.core.secrets import veiled
from postroom.core.settings import Role
from postroom.domain import audit
from postroom.domain.audit import Entry
from postroom.domain.changes import Changing, Kind, revert
from postroom.domain.directory import people
from postroom.domain.directory.people import IDS_FOR_PASSWORD
from postroom.domain.directory.spelling import address_of
from postroom.domain.policy import history
from postroom.domain.policy.history import Change, ChangeSet, Image
from postroom.store.sql import Tx

_LIMIT: Final = 1_000
_NAMED: Final = 3
"""Objects that a line of the list names; of the others it says how many there are."""


def bounded(limit: int) -> int:
    """A limit as asked for; raises Misuse."""
    if not 1 <= limit <= _LIMIT:
        raise Misuse(f"A limit is from 1 to {_LIMIT:,}")
    return limit


# --- views --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """What happened to one object; `was` and `now` hold the fields that differ."""

    did: str  # made, deleted, changed
    kind: str
    name: str
    was: Mapping[str, Any]
    now: Mapping[str, Any]

    def told(self) -> str:
        head = f"{_SIGNS[self.did]} {self.kind} {self.name}"
        if self.kind == Kind.PASSWORD:
            return head
        if self.did != "changed":
            told = self.now or self.was
            return f"{head}  {_fields(told, self.name)}".rstrip()
        return f"{head}  " + ", ".join(
            f"{field}: {codec.shown(self.was[field])} -> {codec.shown(self.now[field])}"
            for field in self.now
        )


_SIGNS: Final = {"made": "+", "deleted": "-", "changed": "~"}
_IDENTITY: Final = frozenset({"created_at", "address", "target"})


def _fields(image: Mapping[str, Any], name: str) -> str:
    """An image's fields, but those that its name says already."""
    return ", ".join(
        f"{field}: {codec.shown(value)}"
        for field, value in image.items()
        if field not in _IDENTITY and value not in (name, "")
    )


def line(change: Change) -> ChangeLine:
    """A change as it is shown."""
    did = "made" if change.was is None else "deleted" if change.is_ is None else "changed"
    was, now = _shown(change.was), _shown(change.is_)
    if was == now:  # of a secret that was replaced by another
        now = {field: f"{value}, another one" for field, value in now.items()}
    return ChangeLine(did, change.kind, change.name, was, now)


def _shown(image: Image | None) -> Mapping[str, Any]:
    return {field: veiled(value) for field, value in image.items()} if image is not None else {}


@dataclass(frozen=True, slots=True)
class ChangeSetLine:
    """A change set in a list."""

    id: str
    at: str
    by: str
    operation: str
    changed: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChangeSetView:
    """A change set with all that it changed."""

    id: str
    at: str
    by: str
    operation: str
    reason: str
    reverts: str
    reverted_by: str
    changes: tuple[ChangeLine, ...]

    def told(self) -> str:
        head = f"{self.id}  {self.at}  {self.operation or 'by no operation'}, by {self.by}"
        lines = [head]
        if self.reason:
            lines.append(f"  because: {self.reason}")
        if self.reverts:
            lines.append(f"  takes back {self.reverts}")
        if self.reverted_by:
            lines.append(f"  taken back by {self.reverted_by}")
        return "\n".join((*lines, *(f"  {each.told()}" for each in self.changes)))


def _line(tx: Tx, made: ChangeSet) -> ChangeSetLine:
    names = [f"{each.kind} {each.name}" for each in made.diff[:_NAMED]]
    if len(made.diff) > _NAMED:
        names.append(f"{len(made.diff) - _NAMED} more")
    note = made.note
    return ChangeSetLine(
        external(CHANGE_SET, made.id),
        iso(note.at),
        caller_name(tx, note.author),
        note.operation,
        ", ".join(names),
        note.reason,
    )


def _view(tx: Tx, made: ChangeSet) -> ChangeSetView:
    note = made.note
    later = history.of(tx, history.reverting(made.id), 1)
    return ChangeSetView(
        external(CHANGE_SET, made.id),
        iso(note.at),
        caller_name(tx, note.author),
        note.operation,
        note.reason,
        external(CHANGE_SET, note.reverts) if note.reverts else "",
        external(CHANGE_SET, later[0].id) if later else "",
        tuple(map(line, made.diff)),
    )


# --- operations ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListChanges:
    """Which change sets."""

    object: str = argument(
        "Only those that changed this: an address, a domain or a setting, by a name it has or had",
        default="",
    )
    by: str = argument("Only those of this administrator, by address", default="")
    limit: int = argument("How many at most, the latest first", default=50)


@dataclass(frozen=True, slots=True)
class OneChangeSet:
    """One change set."""

    id: str = argument("The id of the change set, as `changes list` shows it")


@dataclass(frozen=True, slots=True)
class RevertChangeSet:
    """A change set that is taken back."""

    id: str = argument("The id of the change set, as `changes list` shows it")
    force: bool = argument(
        "Take it back though what it changed was changed again since: that is lost", default=False
    )


@operation("changes list", Role.ADMIN, changes=False)
async def list_changes(house: AdminHouse, asked: ListChanges) -> tuple[ChangeSetLine, ...]:
    """List what administrators changed, the latest first: when, who, what and why."""
    limit = bounded(asked.limit)

    def look(tx: Tx) -> tuple[ChangeSetLine, ...]:
        return tuple(_line(tx, made) for made in _found(tx, asked, limit))

    return await house.flow.mail.read_much(look)


def _found(tx: Tx, asked: ListChanges, limit: int) -> Iterable[ChangeSet]:
    author = people.account(tx, address_of(asked.by)).id if asked.by else None
    if asked.object:
        found = history.of(tx, history.named(asked.object), limit)
        return [made for made in found if author in (None, made.note.author)]
    return history.by(tx, author, limit) if author is not None else history.latest(tx, limit)


@operation("changes show", Role.ADMIN, changes=False)
async def show_changes(house: AdminHouse, asked: OneChangeSet) -> ChangeSetView:
    """Show a change set: of each thing that it changed what was and what is since."""
    number = number_of(CHANGE_SET, asked.id, "a change set")
    return await house.flow.mail.read_much(lambda tx: _view(tx, history.get(tx, number)))


@operation("changes revert", Role.ADMIN)
async def revert_changes(house: AdminHouse, asked: RevertChangeSet) -> ChangeSetView:
    """Take a change set back: all that it changed becomes what it was, or nothing does. That is a
    change set itself, and can be reverted. Refused if something was changed again since."""
    number = number_of(CHANGE_SET, asked.id, "a change set")
    made = await house.flow.mail.read(history.get, number)
    passwords = sum(each.kind == Kind.PASSWORD for each in made.diff)
    ids = fresh(house, passwords * IDS_FOR_PASSWORD)

    def unit(changing: Changing) -> None:
        revert(changing, made, iter(ids), force=asked.force)

    await changed(house, unit, reverts=number, much=True)
    if not house.doing.change_sets:
        raise InUse("All is as it was before that change set: there is nothing to take back")
    left = internal(CHANGE_SET, house.doing.change_sets[-1])
    return await house.flow.mail.read(lambda tx: _view(tx, history.get(tx, left)))


# --- audit --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListAudit:
    """Which operations."""

    by: str = argument("Only what this caller asked for, by address", default="")
    operation: str = argument("Only this operation, such as account create", default="")
    outcome: str = argument("Only what was performed, refused or failed", default="")
    limit: int = argument("How many at most, the latest first", default=50)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """An operation that somebody asked for, and how it ended."""

    at: str
    by: str
    operation: str
    outcome: str
    what: str
    answer: str  # why it was refused
    reason: str
    change_set: str


@operation("audit list", Role.ADMIN, changes=False)
async def list_audit(house: AdminHouse, asked: ListAudit) -> tuple[AuditLine, ...]:
    """List who asked for which operation and how it ended: what was changed, what was refused,
    and who looked at what is others'."""
    limit = bounded(asked.limit)
    if asked.outcome and asked.outcome not in tuple(audit.Outcome):
        raise Misuse(f"An outcome is one of {', '.join(audit.Outcome)}")
    flow = house.flow
    who = address_of(asked.by) if asked.by else None
    caller = (await flow.mail.read(people.account, who)).id if who is not None else None

    def changes(tx: Tx) -> list[ChangeSet]:
        if asked.outcome not in ("", audit.Outcome.PERFORMED):
            return []
        if caller is None:
            return history.latest(tx, limit, asked.operation)
        return history.by(tx, caller, limit, asked.operation)

    sets = await flow.mail.read_much(changes)
    entries = await flow.state.read_much(
        audit.latest, limit, caller, asked.operation, asked.outcome
    )
    return await flow.mail.read_much(_audit_lines, sets, entries, limit)


def _audit_lines(
    tx: Tx, sets: list[ChangeSet], entries: list[Entry], limit: int
) -> tuple[AuditLine, ...]:
    lines = [(each.id, _of_change_set(tx, each)) for each in sets]
    lines += [(each.id, _of_entry(tx, each)) for each in entries]
    lines.sort(key=lambda each: each[0], reverse=True)
    return tuple(told for _, told in lines[:limit])


def _of_change_set(tx: Tx, made: ChangeSet) -> AuditLine:
    told = _line(tx, made)
    done = str(audit.Outcome.PERFORMED)
    return AuditLine(told.at, told.by, told.operation, done, told.changed, "", told.reason, told.id)


def _of_entry(tx: Tx, entry: Entry) -> AuditLine:
    what = ", ".join(f"{name}={codec.shown(value)}" for name, value in entry.asked.items() if value)
    return AuditLine(
        iso(entry.at),
        caller_name(tx, entry.caller),
        entry.operation,
        str(entry.outcome),
        what,
        entry.answer,
        entry.reason,
        "",
    )
