"""Fills a mailbox of a stopped Postroom through its own domain functions.

The rows are those that IMAP's APPEND writes, in the units that it writes them in, parsed and
hashed as it does: only the protocol is left out. `postroom check` finds nothing wrong after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from bench.model import BenchError, Filling
from postroom.domain.directory import people
from postroom.domain.mailboxes import folders, messages
from postroom.domain.mailboxes.messages import UNLIMITED, NewMessage
from postroom.formats.address import Address
from postroom.formats.parsed import parse
from postroom.mailflow.house import MailHouse
from postroom.server.house import open_house
from postroom.server.instance import Layout
from postroom.store.blobs import NewBlob
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS

UNIT = UNIT_ROWS // 8  # messages of a unit: each is some eight rows


@dataclass(frozen=True, slots=True)
class OfflinePlan:
    """What to put where; `data` is the directory of a server that does not run."""

    data: str
    fillings: tuple[Filling, ...]


def fill_offline(plan: OfflinePlan) -> int:
    """Append every message and return how many; all of them are on disc then.

    Raises MailError as the stores do, BenchError without an INBOX.
    """
    return asyncio.run(_fill(plan))


async def _fill(plan: OfflinePlan) -> int:
    async with open_house(Layout(plan.data)) as house:
        return sum([await _fill_one(house, filling) for filling in plan.fillings])


async def _fill_one(house: MailHouse, filling: Filling) -> int:
    account, box = await house.mail.read(_inbox, filling.account)
    contents = filling.messages()
    count = 0
    while made := await _made(house, islice(contents, UNIT)):
        now = house.clock.now()
        await house.mail.write_much(
            messages.append, account, box, tuple(made), UNLIMITED, now, account
        )
        count += len(made)
    return count


def _inbox(tx: Tx, address: str) -> tuple[int, int]:
    """The ids of the account and of its INBOX."""
    local, _, domain = address.partition("@")
    account = people.account(tx, Address(local, domain)).id
    box = folders.by_role(tx, account, "inbox")
    if box is None:
        raise BenchError(f"{address} has no INBOX")
    return account, box.id


async def _made(house: MailHouse, contents: Iterator[bytes]) -> list[tuple[NewBlob, NewMessage]]:
    """Messages that are ready for their unit."""
    made: list[tuple[NewBlob, NewMessage]] = []
    for content in contents:
        blob = await house.blobs.make(content)
        message = NewMessage(
            id=house.ids.new(),
            blob=blob.id,
            size=blob.size,
            received_at=house.clock.now(),
            parsed=parse(content),
        )
        made.append((blob, message))
    return made
