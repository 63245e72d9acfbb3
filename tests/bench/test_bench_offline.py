"""What fills a stopped Postroom leaves a store that a client's APPEND could have left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.model import Filling
from bench.peers.offline import UNIT, OfflinePlan, fill_offline
from postroom.core.errors import NotFound
from postroom.domain import check
from postroom.domain.directory import people
from postroom.domain.directory.people import Verifiers
from postroom.domain.mailboxes import folders, reading
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.address import Address
from postroom.server import first_start
from postroom.server.house import migrate, open_house, read_bootstrap
from postroom.server.instance import Layout
from postroom.store.sql import Tx

MESSAGES = UNIT + 3  # of more than one unit


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A store with one account."""
    made = Layout(str(tmp_path / "data"))
    made.create()
    migrate(made, read_bootstrap(made))
    asyncio.run(first(made))
    return made


async def first(layout: Layout) -> None:
    async with open_house(layout) as house:
        await first_start.make(house, "bench.example", "a password", Verifiers("one", "another"))


async def seen(layout: Layout) -> tuple[list[bytes], list[str]]:
    """The contents of INBOX in the order of their UIDs; the problems that a check finds."""
    async with open_house(layout) as house:
        blobs = await house.mail.read(placed)
        contents = [await house.mail.read(house.blobs.read, blob) for blob in blobs]
        report = await check.check(house.mail, house.blobs, repair=False)
        return contents, report.problems


def placed(tx: Tx) -> list[int]:
    box = folders.by_role(tx, people.account(tx, Address("admin", "bench.example")).id, "inbox")
    assert box is not None
    opened = reading.open_mailbox(tx, box.id)
    assert opened.mailbox.total == len(opened.uids)
    rows = reading.full(tx, box.id, Pick(1, opened.uids[-1]))
    return [row.blob for row in rows]


@pytest.mark.parametrize("small", [True, False])
def test_every_message_is_there_in_order_and_a_check_finds_nothing(
    layout: Layout, small: bool
) -> None:
    filling = Filling("admin@bench.example", MESSAGES if small else 40, 5, small)
    assert fill_offline(OfflinePlan(layout.root, (filling, filling))) == 2 * filling.count
    contents, problems = asyncio.run(seen(layout))
    assert contents == list(filling.messages()) * 2
    assert problems == []


def test_an_account_that_is_not_there_is_not_made(layout: Layout) -> None:
    with pytest.raises(NotFound):
        fill_offline(OfflinePlan(layout.root, (Filling("ann@bench.example", 1, 5),)))
