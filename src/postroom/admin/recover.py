"""The operation that brings deleted messages and mailboxes back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from postroom.admin.directory import fresh
from postroom.admin.house import AdminHouse, number_of
from postroom.core.clock import Instant, from_datetime
from postroom.core.errors import Misuse, NotFound, OverQuota
from postroom.core.ids import MESSAGE, external
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.directory.spelling import address_of
from postroom.domain.mailboxes import folders, reading, recover
from postroom.domain.mailboxes.messages import Quota
from postroom.domain.mailboxes.recover import PIECE, Brought, Found, Wanted
from postroom.mailflow import upkeep
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings
from postroom.store.sql import Tx

MOST_NAMED: Final = 1_000
"""Messages that one command names."""
_AGO: Final = re.compile(r"(\d{1,6})(m|h|d)")
_MINUTES: Final = {"m": 1, "h": 60, "d": 24 * 60}


@dataclass(frozen=True, slots=True)
class RestoreDeleted:
    """Which deleted messages; all that is given must fit."""

    address: str = argument("The account's address")
    messages: tuple[str, ...] = argument(
        "The ids of messages, as `recoverable list` shows them", default=()
    )
    folder: str = argument(
        "All that was deleted from this mailbox and those below it, or with it", default=""
    )
    deleted_since: str = argument(
        "All that was deleted since then: 2026-11-22, 2026-11-22T15:00 (UTC), or how long ago, "
        "such as 90m, 12h or 3d",
        default="",
    )
    into: str = argument(
        "The mailbox to bring them into, which is made if it is not there; without it each goes "
        "where it lay",
        default="",
    )


@dataclass(frozen=True, slots=True)
class BackIn:
    """What came back into one mailbox."""

    mailbox: str
    messages: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class RestoredDeleted:
    """What came back."""

    account: str
    messages: int
    octets: int
    there: int  # asked for, but there already
    mailboxes: tuple[BackIn, ...]

    def told(self) -> str:
        if not self.messages and not self.there:
            return f"Nothing of that is left to bring back for {self.account}."
        lines = [
            f"Brought back {counted(self.messages, 'message')} of "
            f"{counted(self.octets, 'octet')} for {self.account}."
        ]
        lines += [
            f"  {each.mailbox}: {counted(each.messages, 'message')}"
            + (f" ({each.note})" if each.note else "")
            for each in self.mailboxes
        ]
        if self.there:
            lines.append(f"{counted(self.there, 'message')} lay there already.")
        return "\n".join(lines)


@operation("recoverable restore", Role.ADMIN)
async def restore_deleted(house: AdminHouse, asked: RestoreDeleted) -> RestoredDeleted:
    """Bring deleted messages back, with flags, keywords, dates and ids; only \\Deleted is taken
    off. Each goes where it lay: into that mailbox, whatever its name is now; if it is gone, into
    the one of its name, which is made again if need be. Signed-in clients see them come. All fit
    the quota, or none comes back. To do it twice changes nothing."""
    if not (asked.messages or asked.folder or asked.deleted_since):
        raise Misuse("Name messages, --folder or --deleted-since")
    if len(asked.messages) > MOST_NAMED:
        raise Misuse(f"At most {MOST_NAMED:,} messages can be named; take --deleted-since")
    flow, now = house.flow, house.flow.clock.now()
    wanted = Wanted(
        frozenset(number_of(MESSAGE, each, "a message") for each in asked.messages),
        asked.folder,
        _moment(asked.deleted_since, now) if asked.deleted_since else None,
    )
    if asked.into:
        folders.split(asked.into)
    # What was deleted a moment ago with its mailbox may wait for the job that empties that.
    while await upkeep.empty_mailboxes(flow):
        pass
    account = await flow.mail.read(people.account, address_of(asked.address))
    found = await flow.mail.read_much(recover.find, account.id, wanted, now)
    missing = await flow.mail.read(_elsewhere, account.id, wanted, found)
    quota = await flow.mail.read(_quota, flow, account)
    await _check(flow, account, quota, found)
    brought = await _bring(house, account, found, asked.into, quota)
    return RestoredDeleted(
        str(account.address),
        sum(len(each.uids) for each in brought),
        sum(each.octets for each in brought),
        sum(each.there for each in brought) + missing,
        _by_mailbox(brought, "made" if asked.into else "made again"),
    )


def _moment(text: str, now: Instant) -> Instant:
    """Raises Misuse."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return Instant(max(0, now - int(ago[1]) * _MINUTES[ago[2]] * 60_000))
    try:
        at = datetime.fromisoformat(text)
        return from_datetime(at if at.tzinfo is not None else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError) as error:
        raise Misuse(
            f"{text} is no moment: write 2026-11-22, 2026-11-22T15:00, 90m, 12h or 3d"
        ) from error


def _elsewhere(tx: Tx, account: int, wanted: Wanted, found: Found) -> int:
    """How many of the messages that were named are not deleted at all; raises NotFound for one
    that the account does not have."""
    others = sorted(wanted.messages - found.messages)
    lying = recover.lying(tx, account, others) if others else set()
    gone = [external(MESSAGE, each) for each in others if each not in lying]
    if gone:
        raise NotFound(f"{', '.join(gone)} cannot be brought back; nothing was")
    if wanted.path and not found.count and not wanted.messages:
        folders.tree(tx, account).find(wanted.path)  # raises NotFound
    return len(others)


def _quota(tx: Tx, flow: MailHouse, account: Account) -> Quota:
    held = flow.policies.current(tx, flow.chain("", account.domain, account.id)).of(QuotaSettings)
    return Quota(held.octets, held.messages)


async def _check(flow: MailHouse, account: Account, quota: Quota, found: Found) -> None:
    """Raises OverQuota before anything is done."""
    used, count = await flow.mail.read(reading.usage, account.id)
    if (quota.octets and used + found.octets > quota.octets) or (
        quota.messages and count + found.count > quota.messages
    ):
        raise OverQuota(
            f"There is no room for {counted(found.count, 'message')} of "
            f"{counted(found.octets, 'octet')} in the quota of {account.address}; "
            "nothing was brought back"
        )


async def _bring(
    house: AdminHouse, account: Account, found: Found, into: str, quota: Quota
) -> list[Brought]:
    flow = house.flow
    brought: list[Brought] = []
    for origin, uids in sorted(found.origins.items(), key=lambda each: each[0][1]):
        for start in range(0, len(uids), PIECE):
            unit = partial(
                recover.bring_back,
                account=account.id,
                origin=origin,
                uids=uids[start : start + PIECE],
                into=into,
                quota=quota,
                ids=fresh(house, folders.DEPTH),
                now=flow.clock.now(),
                actor=house.caller.principal,
            )
            brought.append(await flow.mail.write_later(unit))
    return brought


def _by_mailbox(brought: list[Brought], made: str) -> tuple[BackIn, ...]:
    messages: dict[str, int] = {}
    notes: dict[str, str] = {}
    for each in brought:
        messages[each.path] = messages.get(each.path, 0) + len(each.uids)
        if each.made:
            notes[each.path] = made
        elif each.instead:
            notes[each.path] = "where they lay no mailbox can be made any more"
    return tuple(BackIn(path, n, notes.get(path, "")) for path, n in messages.items() if n)
