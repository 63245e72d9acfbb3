"""Operations that restore: a whole store, one mailbox, one message.

A whole store is restored into a directory that holds none; a mailbox or a message is restored
beside what is there, as new messages in a mailbox of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from postroom.admin.backup import LATEST, reading_from
from postroom.admin.house import OWNER, AdminHouse, CheckReport, checker
from postroom.core.clock import Instant, iso, to_datetime
from postroom.core.errors import MailError, NotFound, OverQuota
from postroom.core.operations import argument, operation
from postroom.core.plural import all_counted, all_well, counted
from postroom.core.settings import Role
from postroom.domain import audit, queue
from postroom.domain import backup as kept
from postroom.domain.audit import Entry, Outcome
from postroom.domain.backup import KeptMessage
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.directory.spelling import address_of
from postroom.domain.mailboxes import folders, messages, reading
from postroom.domain.mailboxes.messages import NewMessage, Quota
from postroom.formats.parsed import Parsed, parse
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings
from postroom.store.backup import (
    Copy,
    Manifest,
    PostgresLoading,
    Restored,
    SqliteLoading,
    restore,
)
from postroom.store.blobs import Blobs, NewBlob
from postroom.store.files import Files
from postroom.store.sql import Tx

RESTORED: Final = "Restored"
"""The mailbox for single messages, if no other is named."""

BATCH: Final = 100
BATCH_OCTETS: Final = 8 << 20
_SAME_NAME: Final = 100


# --- a whole store --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Vacancy:
    """A data directory that holds no store, and that nobody else may use until it does."""

    files: Files
    blobs: Blobs
    folders: Mapping[str, str]  # of small files
    loading: Callable[[], SqliteLoading | PostgresLoading]
    begin: Callable[[str], bool]
    """Say which backup comes; True if all of it is in the stores already, from a run before."""
    loaded: Callable[[str], None]
    """All of it is in the stores."""
    migrate: Callable[[], None]
    """Bring the stores to this release's schema."""
    open_house: Callable[[], AbstractAsyncContextManager[MailHouse]]
    finish: Callable[[], None]
    """From now on the directory may be served."""


@dataclass(frozen=True, slots=True)
class RestoreFrom:
    """Which backup."""

    target: str = argument("The folder of the backups", path=True)
    at: str = argument("The backup's name; the latest if none is given", default=LATEST)
    unchecked: bool = argument("Do not check the store afterwards", default=False)


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was restored, what could not be had, and what `check` found then."""

    backup: str
    made: str
    rows: int
    contents: int
    octets: int
    files: int
    waiting: int  # messages in the queue: some may have been sent since the backup
    checked: Mapping[str, int]
    problems: tuple[str, ...]

    def told(self) -> str:
        lines = [
            f"Restored the backup {self.backup}: {counted(self.rows, 'row')}, "
            f"{counted(self.contents, 'content')} of {counted(self.octets, 'octet')}, "
            f"{counted(self.files, 'file')}.",
            f"In the queue: {counted(self.waiting, 'message')}; what was sent after the backup "
            "was made is sent again.",
        ]
        if self.checked:
            lines.append(f"Checked {all_counted(self.checked)}.")
        lines += [f"PROBLEM: {text}" for text in self.problems]
        lines.append(all_well(len(self.problems)))
        return "\n".join(lines)


@operation("restore", Role.ADMIN, changes=False, makes_store=True)
async def restore_all(vacancy: Vacancy, asked: RestoreFrom) -> RestoreReport:
    """Restore a whole backup into a data directory that holds no store. If its postroom.toml
    names a database, into that, which is empty; whichever engine the backup was taken from. What
    is interrupted is begun again by the same command; until then the directory is not served."""
    manifest, restored = await asyncio.to_thread(_fill, vacancy, asked)
    await asyncio.to_thread(vacancy.migrate)
    async with vacancy.open_house() as flow:
        await _renumber(flow)
        waiting = int((await flow.mail.read(queue.counts)).get("messages", 0))
        found = CheckReport((), {}) if asked.unchecked else await checker(flow)(False)
        await flow.state.write(audit.note, _entry(flow, manifest.name))
    await asyncio.to_thread(vacancy.finish)
    return RestoreReport(
        backup=manifest.name,
        made=iso(manifest.made_at),
        rows=restored.rows,
        contents=restored.blobs,
        octets=restored.octets,
        files=restored.files,
        waiting=waiting,
        checked=found.counts,
        problems=(*manifest.problems, *restored.problems, *found.problems),
    )


def _fill(vacancy: Vacancy, asked: RestoreFrom) -> tuple[Manifest, Restored]:
    with reading_from(asked.target, vacancy.files) as repository:
        manifest = repository.choose(asked.at)
        if vacancy.begin(manifest.name):
            return manifest, Restored()
        with contextlib.closing(vacancy.loading()) as loading:
            done = restore(
                repository, manifest, loading, vacancy.blobs, kept.STEPS, vacancy.folders
            )
        vacancy.loaded(manifest.name)
        return manifest, done


def _entry(flow: MailHouse, backup: str) -> Entry:
    """What the restored store's own audit says of it."""
    told = {"backup": backup}
    now = flow.clock.now()
    return Entry(flow.ids.new(), now, OWNER.principal, "restore", Outcome.PERFORMED, told)


async def _renumber(flow: MailHouse) -> None:
    await flow.mail.write_much(kept.renumber_accounts)
    after: int | None = 0
    while after is not None:
        after = await flow.mail.write_much(kept.renumber_messages, after)


# --- one mailbox, one message ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RestoreMailbox:
    """Which mailbox, and where to."""

    target: str = argument("The folder of the backups", path=True)
    address: str = argument("The account's address in the backup")
    mailbox: str = argument("The mailbox's path in the backup, such as INBOX or Archive/2026")
    into: str = argument("The mailbox to restore into; a new one beside if none is given",
                         default="")  # fmt: skip
    to: str = argument("Another account to restore into", default="")
    at: str = argument("The backup's name; the latest if none is given", default=LATEST)


@dataclass(frozen=True, slots=True)
class RestoreMessage:
    """Which message, and where to."""

    target: str = argument("The folder of the backups", path=True)
    address: str = argument("The account's address in the backup")
    message: str = argument("Its Message-ID, or its id as `recoverable list` and JMAP say it")
    into: str = argument(f"The mailbox to restore into; {RESTORED} if none is given", default="")
    to: str = argument("Another account to restore into", default="")
    at: str = argument("The backup's name; the latest if none is given", default=LATEST)


@dataclass(frozen=True, slots=True)
class RestoredMail:
    """Messages that were restored beside what is there."""

    backup: str
    account: str
    mailbox: str
    messages: int
    octets: int
    problems: tuple[str, ...] = ()

    def told(self) -> str:
        lines = [
            f"Restored {counted(self.messages, 'message')} of {counted(self.octets, 'octet')} "
            f"from the backup {self.backup} into {self.mailbox} of {self.account}."
        ]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        return "\n".join(lines)


@operation("restore mailbox", Role.ADMIN)
async def restore_mailbox(house: AdminHouse, asked: RestoreMailbox) -> RestoredMail:
    """Restore one mailbox beside what is there, with flags, keywords and dates. Nothing that is
    there is changed; the quota counts."""
    async with _opened(house, asked.target, asked.at) as copy:
        address = address_of(asked.address)
        found = await asyncio.to_thread(kept.mailbox, copy, address, asked.mailbox)
        account = await _account(house, asked.to or asked.address)
        into = asked.into
        if not into:
            day = to_datetime(copy.made_at).strftime("%Y-%m-%d")
            into = f"{asked.mailbox} restored {day}"
        return await _bring(house, copy, found, account, into, fresh=not asked.into)


@operation("restore message", Role.ADMIN)
async def restore_message(house: AdminHouse, asked: RestoreMessage) -> RestoredMail:
    """Restore one message beside what is there, with flags, keywords and dates."""
    async with _opened(house, asked.target, asked.at) as copy:
        address = address_of(asked.address)
        found = await asyncio.to_thread(kept.find, copy, address, asked.message)
        account = await _account(house, asked.to or asked.address)
        return await _bring(house, copy, found, account, asked.into or RESTORED, fresh=False)


@asynccontextmanager
async def _opened(house: AdminHouse, target: str, at: str) -> AsyncIterator[Copy]:
    reading_it = reading_from(target, house.flow.blobs.files)
    with contextlib.ExitStack() as stack:
        repository = await asyncio.to_thread(stack.enter_context, reading_it)
        manifest = await asyncio.to_thread(repository.choose, at)
        yield Copy(repository, manifest, "mail")


async def _account(house: AdminHouse, address: str) -> Account:
    try:
        return await house.flow.mail.read(people.account, address_of(address))
    except NotFound as error:
        raise NotFound(f"There is no account {address}; name another one with --to") from error


async def _bring(
    house: AdminHouse,
    copy: Copy,
    found: Sequence[KeptMessage],
    account: Account,
    into: str,
    *,
    fresh: bool,
) -> RestoredMail:
    """Append the messages to a mailbox, which is made if it is not there; `fresh` asks for one
    that is new. All fit the quota, or none is restored."""
    flow = house.flow
    quota = await flow.mail.read(_quota, flow, account)
    octets = sum(message.size for message in found)
    used, count = await flow.mail.read(reading.usage, account.id)
    if (quota.octets and used + octets > quota.octets) or (
        quota.messages and count + len(found) > quota.messages
    ):
        raise OverQuota(
            f"There is no room for {counted(len(found), 'message')} of "
            f"{counted(octets, 'octet')} in the quota of {account.address}; nothing was restored"
        )
    bringing = _Bringing(house, copy, account.id, quota)
    box, path = await flow.mail.write(
        _mailbox, account.id, into, fresh, bringing.ids(), flow.clock.now(), house.caller.principal
    )
    for batch in _batches(found):
        await bringing.batch(box, batch)
    return RestoredMail(
        copy.name,
        str(account.address),
        path,
        bringing.done,
        bringing.octets,
        tuple(bringing.problems),
    )


def _quota(tx: Tx, flow: MailHouse, account: Account) -> Quota:
    chain = flow.chain("", account.domain, account.id)
    held = flow.policies.current(tx, chain).of(QuotaSettings)
    return Quota(held.octets, held.messages)


def _mailbox(
    tx: Tx, account: int, into: str, fresh: bool, made: Sequence[int], now: Instant, actor: int
) -> tuple[int, str]:
    """The mailbox to append to, and its path."""
    boxes = folders.tree(tx, account).by_path
    path = folders.canonical(into)
    if fresh:
        names = (path, *(f"{path} {n}" for n in range(2, _SAME_NAME)))
        path = next((name for name in names if name not in boxes), path)
    there = boxes.get(path)
    if there is not None and not fresh:
        return there.id, path
    return folders.create(tx, account, path, iter(made), now, actor), path


def _batches(found: Sequence[KeptMessage]) -> Iterator[list[KeptMessage]]:
    batch: list[KeptMessage] = []
    octets = 0
    for message in found:
        if batch and (len(batch) >= BATCH or octets + message.size > BATCH_OCTETS):
            yield batch
            batch, octets = [], 0
        batch.append(message)
        octets += message.size
    if batch:
        yield batch


@dataclass(slots=True)
class _Bringing:
    """Messages on their way out of a backup."""

    house: AdminHouse
    copy: Copy
    account: int
    quota: Quota
    done: int = 0
    octets: int = 0
    problems: list[str] = field(default_factory=list)

    def ids(self) -> list[int]:
        return [self.house.flow.ids.new() for _ in range(folders.DEPTH)]

    async def batch(self, box: int, batch: Sequence[KeptMessage]) -> None:
        flow = self.house.flow
        new: list[tuple[NewBlob, NewMessage]] = []
        for message, raw, parsed in await asyncio.to_thread(self._read, batch):
            blob = await flow.blobs.make(raw)
            new.append(
                (
                    blob,
                    NewMessage(
                        id=flow.ids.new(),
                        blob=blob.id,
                        size=blob.size,
                        received_at=message.received_at,
                        parsed=parsed,
                        flags=message.flags,
                    ),
                )
            )
        if not new:
            return
        append = partial(
            messages.append,
            account=self.account,
            box_id=box,
            new=new,
            quota=self.quota,
            now=flow.clock.now(),
            actor=self.house.caller.principal,
        )
        await flow.mail.write_later(append)
        self.done += len(new)
        self.octets += sum(message.size for _, message in new)

    def _read(self, batch: Sequence[KeptMessage]) -> list[tuple[KeptMessage, bytes, Parsed]]:
        read = []
        for message in batch:
            try:
                raw = self.copy.content(message.blob)
            except MailError as error:
                where = f"{message.path} UID {message.uid}"
                self.problems.append(f"{where}: {error.detail or error}")
                continue
            read.append((message, raw, parse(raw)))
        return read
