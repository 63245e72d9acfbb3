"""New mail is indexed at once, where that is wanted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from postroom.core.clock import Instant
from postroom.core.ids import Ids
from postroom.core.settings import Place, Scope
from postroom.domain import jobs
from postroom.domain.events import Changed, Type
from postroom.domain.policy import Assignment, Policies, change
from postroom.mailflow import searching
from postroom.mailflow.house import MailHouse
from postroom.server.promptly import Promptly
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.testing.clock import ManualClock
from tests.stores import Stores

SERVER = Place(Scope.SERVER)


async def due(house: MailHouse) -> int:
    (state,) = await house.mail.read(jobs.states)
    return state.due


async def test_mail_makes_indexing_due_and_other_changes_do_not(
    stores: Stores, clock: ManualClock, tmp_path: Path
) -> None:
    ids = Ids(clock)
    house = MailHouse(
        stores.mail, stores.state, Blobs(str(tmp_path), Files(), ids), clock, ids, Policies()
    )
    await house.mail.read(house.policies.current, house.chain(""))
    far = Instant(clock.now() + 1_000_000)
    await house.mail.write(jobs.ensure, {searching.INDEX: far})
    woken = asyncio.Event()
    promptly = Promptly(house, woken.set, delay=0.0)
    running = asyncio.create_task(promptly.run())
    try:
        promptly.changed(Changed(1, 5, Type.MAILBOX))
        with suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), 0.1)
        assert not woken.is_set()
        assert await due(house) == far
        promptly.changed(Changed(1, 6, Type.EMAIL))
        await asyncio.wait_for(woken.wait(), 5)
        assert await due(house) == clock.now()
        off = [Assignment(SERVER, "search.realtime", False)]
        await house.mail.write(change, off, ids.new(), clock.now(), 0, "test")
        await house.mail.read(house.policies.current, house.chain(""))
        woken.clear()
        clock.advance(10)
        promptly.changed(Changed(1, 7, Type.EMAIL))
        with suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), 0.1)
        assert not woken.is_set()
        assert await due(house) < clock.now()
    finally:
        running.cancel()
