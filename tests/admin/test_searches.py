"""The index of message texts as administrators see it, and as `check` does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from postroom.core.clock import Instant
from postroom.core.errors import NotAllowed, NotFound
from postroom.core.ids import ACCOUNT, internal
from postroom.domain import jobs, searching
from postroom.domain.mailboxes import folders, messages
from postroom.domain.mailboxes.messages import UNLIMITED, NewMessage
from postroom.domain.searching import indexing
from postroom.domain.searching.indexing import Indexer
from postroom.formats.parsed import parse
from postroom.mailflow import searching as mailflow
from postroom.store.search import trigrams
from postroom.store.sql import Tx, sql
from tests.admin.housing import Admin
from tests.stores import open_index

ANN = "ann@example.org"
BOB = "bob@example.org"


class Indexed:
    """A house with an index, and Ann and Bob in it."""

    def __init__(self, admin: Admin, indexer: Indexer) -> None:
        self.admin = admin
        self.indexer = indexer
        self.accounts: dict[str, int] = {}

    async def deliver(self, address: str, text: bytes) -> None:
        flow, account = self.admin.house.flow, self.accounts[address]
        raw = b"Subject: x\r\n\r\n" + text
        blob, now = await flow.blobs.make(raw), flow.clock.now()
        box = await flow.mail.read(lambda tx: folders.tree(tx, account).find("INBOX").id)
        new = NewMessage(flow.ids.new(), blob.id, len(raw), now, parse(raw))
        await flow.mail.write(messages.append, account, box, [(blob, new)], UNLIMITED, now, account)

    async def work(self) -> None:
        while await self.indexer.step():
            pass

    async def states(self) -> dict[str, tuple[int, int, str]]:
        told = await self.admin.do("search status")
        return {view.address: (view.messages, view.indexed, view.state) for view in told}


@pytest_asyncio.fixture
async def indexed(
    admin: Admin, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Indexed]:
    engine, flow = admin.stores.engine, admin.house.flow
    place = str(tmp_path) if engine == "sqlite" else str(request.getfixturevalue("postgres_url"))
    index = open_index(engine, place)
    flow.indexer = Indexer(flow.mail, index, flow.blobs, flow.clock, flow.ids)
    made = Indexed(admin, flow.indexer)
    for address in (ANN, BOB):
        view = await admin.do("account create", address=address, name="", password="long enough")
        made.accounts[address] = internal(ACCOUNT, view.id)
        await made.deliver(address, b"a needle\r\n")
    try:
        yield made
    finally:
        await index.close()


async def test_status_tells_how_far_each_account_is(indexed: Indexed) -> None:
    assert await indexed.states() == {
        ANN: (1, 0, "not looked at yet"), BOB: (1, 0, "not looked at yet")
    }  # fmt: skip
    await indexed.work()
    assert await indexed.states() == {ANN: (1, 1, "up to date"), BOB: (1, 1, "up to date")}
    await indexed.deliver(BOB, b"more\r\n")
    assert await indexed.states() == {ANN: (1, 1, "up to date"), BOB: (2, 1, "behind")}
    (view,) = await indexed.admin.json("search status", address=BOB)
    assert (view.address, view.segments, view.damaged) == (BOB, 1, 0)
    with pytest.raises(NotFound):
        await indexed.admin.do("search status", address="eve@example.org")


async def test_rebuild_throws_away_what_was_asked_for_and_hastens_the_job(indexed: Indexed) -> None:
    flow = indexed.admin.house.flow
    await indexed.work()
    far = Instant(flow.clock.now() + 10_000_000)
    await flow.mail.write(jobs.ensure, {mailflow.INDEX: far})
    assert (await indexed.admin.do("search rebuild", address=ANN)).accounts == 1
    assert await indexed.states() == {ANN: (1, 0, "not looked at yet"), BOB: (1, 1, "up to date")}
    (state,) = await flow.mail.read(jobs.states)
    assert state.due == flow.clock.now()
    await indexed.work()
    told = await indexed.admin.do("search rebuild")
    assert told.told() == "The texts of 2 accounts are indexed anew."
    assert {state for _, _, state in (await indexed.states()).values()} == {"not looked at yet"}
    await indexed.work()
    assert {state for _, _, state in (await indexed.states()).values()} == {"up to date"}


async def test_a_house_without_an_index_says_so(admin: Admin) -> None:
    for operation in ("search status", "search rebuild"):
        with pytest.raises(NotAllowed, match="index"):
            await admin.do(operation)


_SPOIL = sql("UPDATE segment_set SET numbers = :numbers WHERE trigram = :trigram")
_LOSE = sql("DELETE FROM segment_member WHERE number = 0")


def _spoil(tx: Tx) -> None:
    (nee,) = trigrams("NEE")
    tx.run(_SPOIL, numbers=b"\7", trigram=nee)


def _lose(tx: Tx) -> None:
    tx.run(_LOSE)


@pytest.mark.parametrize("harm", [_spoil, _lose])
async def test_check_finds_what_is_wrong_and_repair_drops_it(
    indexed: Indexed, harm: object
) -> None:
    check = indexed.admin.house.check
    await indexed.work()
    assert [each for each in (await check(False)).problems if "index" in each] == []
    await indexed.indexer.index.write(harm)  # type: ignore[arg-type]  # a unit, as a parameter
    problems = [each for each in (await check(False)).problems if "index" in each]
    assert len(problems) == 2
    assert len((await check(True)).repaired) == 2
    assert [each for each in (await check(False)).problems if "index" in each] == []
    await indexed.work()
    assert {state for _, _, state in (await indexed.states()).values()} == {"up to date"}


async def test_the_job_works_through_all_and_then_rests(indexed: Indexed) -> None:
    flow = indexed.admin.house.flow
    await indexed.admin.do("settings set", name="search.realtime", value="false")
    await flow.mail.read(flow.policies.current, flow.chain(""))
    while await mailflow.index_messages(flow):
        pass
    assert {state for _, _, state in (await indexed.states()).values()} == {"up to date"}
    await indexed.indexer.index.write(searching.forget_all)
    await indexed.admin.do("settings set", name="search.index", value="false")
    await flow.mail.read(flow.policies.current, flow.chain(""))
    assert not await mailflow.index_messages(flow)
    assert not await mailflow.merge_segments(flow)
    assert {state for _, _, state in (await indexed.states()).values()} == {"not looked at yet"}


@pytest.mark.parametrize("realtime", ["true", "false"])
@pytest.mark.parametrize("piece", [0.0, 60.0])
async def test_the_job_rests_only_when_nothing_is_left_behind(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch, realtime: str, piece: float
) -> None:
    """However many pieces a walk over the accounts takes, and segments an account."""
    flow = indexed.admin.house.flow
    await indexed.admin.do("settings set", name="search.realtime", value=realtime)
    await flow.mail.read(flow.policies.current, flow.chain(""))
    monkeypatch.setattr(mailflow, "PIECE", piece)
    monkeypatch.setattr(mailflow, "DELAY", 0.0)
    monkeypatch.setattr(indexing, "SPAN", searching.PAGE + 2)  # so few messages make a segment
    monkeypatch.setattr(indexing, "BATCH", 1)
    for n in range(12):
        await indexed.deliver(ANN, b"word %d" % n)
    while await mailflow.index_messages(flow):
        pass
    assert {state for _, _, state in (await indexed.states()).values()} == {"up to date"}
