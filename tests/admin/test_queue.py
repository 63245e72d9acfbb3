"""The queue by hand: what waits is shown, held back, let go, tried at once, deleted."""

from __future__ import annotations

import hashlib

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import Malformed, Misuse, NotFound
from postroom.core.ids import TRACE, external
from postroom.domain import queue
from postroom.domain.queue import REMOTE, Hop, NewRecipient, QueuedMessage
from postroom.store import blobs
from postroom.store.blobs import NewBlob, Place
from postroom.store.sql import Tx
from tests.admin.housing import Admin

HOUR = 3_600_000
FAR = Hop(REMOTE, "mx:far.example")


async def waits(admin: Admin, number: int, *addresses: str, hop: Hop = FAR) -> str:
    """A message that waits for an hour yet; returns its id."""
    now = admin.clock.now()
    content = b"%d" % number
    blob = NewBlob(number, hashlib.sha256(content).digest(), 1, Place.ROW, content)

    def unit(tx: Tx) -> None:
        blobs.insert(tx, blob, now)
        message = QueuedMessage(
            number, number, number, 1, "ann@example.test", None, None, now,
            Instant(now + 120 * HOUR), origin="submission",
        )  # fmt: skip
        due = Instant(now + HOUR)
        recipients = [
            NewRecipient(a, None, "", (), (), None, due, 2, "450 later", hop) for a in addresses
        ]
        queue.put(tx, message, recipients, {hop: 1_000 + number})

    await admin.house.flow.mail.write(unit)
    return external(TRACE, number)


async def test_what_waits_is_shown_with_its_next_hop_and_last_reply(admin: Admin) -> None:
    number = await waits(admin, 7, "bob@far.example", "eve@far.example")
    lines = await admin.do("queue list")
    assert [(each.id, each.recipient) for each in lines] == [
        (number, "bob@far.example"),
        (number, "eve@far.example"),
    ]
    shown = await admin.do("queue show", id=number)
    assert (shown.sender, shown.came_by) == ("ann@example.test", "submission")
    told = shown.told()
    assert "bob@far.example by mx:far.example: tried 2 times, next at" in told
    assert "450 later" in told


async def test_a_message_is_held_back_and_released(admin: Admin) -> None:
    number = await waits(admin, 7, "bob@far.example", "eve@far.example")
    assert (await admin.do("queue hold", id=number)).recipients == 2
    assert {each.due for each in await admin.do("queue list")} == {"held"}
    assert "held back" in (await admin.do("queue show", id=number)).told()
    (there,) = await admin.do("queue destinations")
    assert (there.next_hop, there.recipients) == ("mx:far.example", 2)
    assert (await admin.do("queue release", id=number)).recipients == 2
    now = admin.clock.now()
    assert await admin.house.flow.mail.read(queue.any_due, REMOTE, now)


@pytest.mark.parametrize("by", ["far.example", "FAR.example", "mx:far.example"])
async def test_a_domain_is_tried_at_once(admin: Admin, by: str) -> None:
    await waits(admin, 7, "bob@far.example")
    await waits(admin, 8, "eve@far.example")
    assert (await admin.do("queue retry", next_hop=by)).recipients == 2
    assert (await admin.do("queue destinations"))[0].due == "now"


async def test_one_message_is_tried_at_once(admin: Admin) -> None:
    number = await waits(admin, 7, "bob@far.example")
    await waits(admin, 8, "eve@far.example")
    assert (await admin.do("queue retry", id=number)).recipients == 1


async def test_a_message_is_deleted_and_then_there_is_none(admin: Admin) -> None:
    number = await waits(admin, 7, "bob@far.example", "eve@far.example")
    assert (await admin.do("queue delete", id=number)).recipients == 2
    assert await admin.do("queue list") == ()
    for operation in ("queue show", "queue delete", "queue hold", "queue release"):
        with pytest.raises(NotFound):
            await admin.do(operation, id=number)


async def test_what_names_nothing_is_refused(admin: Admin) -> None:
    with pytest.raises(Misuse):
        await admin.do("queue retry")
    with pytest.raises(Misuse):
        await admin.do("queue retry", id=external(TRACE, 7), next_hop="far.example")
    with pytest.raises(NotFound):
        await admin.do("queue retry", next_hop="far.example")
    with pytest.raises(Malformed, match="nothing is not the id of a message"):
        await admin.do("queue show", id="nothing")
    with pytest.raises(Malformed):
        await admin.do("queue retry", next_hop="carrier:pigeon")
