"""The load against a server in this process, and what a look at its store finds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from email.parser import BytesHeaderParser
from pathlib import Path

import pytest

from postroom.domain.check import check
from postroom.server import house as stores
from postroom.server.house import Parts
from postroom.server.instance import Layout
from postroom.store.files import Files
from postroom.testing import rounds
from postroom.testing.faults import Fault, Faults
from postroom.testing.imap import ImapClient
from postroom.testing.load import Mix, Reader, Senders, Writer, stop
from postroom.testing.promises import INBOX, Ledger
from postroom.testing.rounds import PASSWORD, Looker, Ports
from postroom.testing.smtp import trusting_context

PEOPLE = rounds.addresses(4)
MIXED = Mix()
LARGE = Mix(sizes=((1, 70_000, 90_000),), recipients=((1, 1),))


def loads(ports: Ports, ledger: Ledger, mix: Mix = MIXED) -> tuple[Senders, Reader]:
    rng = random.Random(1)
    writer = Writer(rng, "test", mix)
    senders = Senders(ports.smtp, PEOPLE, writer, rng, ledger.note)
    context = trusting_context()
    reader = Reader(ports.imaps, PEOPLE[0], PASSWORD, context, writer, rng, ledger.note)
    return senders, reader


async def until(enough: Callable[[], bool], senders: Senders, reader: Reader) -> None:
    """Run both until it is enough."""
    tasks = [asyncio.create_task(senders.run(3)), asyncio.create_task(reader.run())]
    async with asyncio.timeout(20):
        while not enough():
            await asyncio.sleep(0.01)
        stop(senders, reader)
        await asyncio.gather(*tasks)


@pytest.fixture
async def layout(tmp_path: Path) -> Layout:
    made = Layout(str(tmp_path / "data"))
    await rounds.furnish(made, PEOPLE)
    return made


async def test_what_was_promised_is_found_by_store_and_imap(layout: Layout) -> None:
    ledger = Ledger()
    async with rounds.serving(layout, workers=2) as ports:
        senders, reader = loads(ports, ledger)
        await until(lambda: senders.taken >= 20 and reader.changes >= 5, senders, reader)
        async with stores.open_house(layout) as house:
            assert await rounds.emptied(house)
            found = await Looker(ledger).look(house, PEOPLE)
            assert (await check(house.mail, house.blobs, repair=False)).clean
        client = await ImapClient.connect("127.0.0.1", ports.imaps, tls=trusting_context())
        async with client:
            assert (await client.login(PEOPLE[0], PASSWORD)).ok
            seen = await rounds.seen_by_imap(client, ledger, tuple(found[PEOPLE[0]]))
    assert not senders.refused
    assert not reader.refused
    assert ledger.broken(found) == []
    assert seen == found[PEOPLE[0]]


async def test_a_store_that_forgets_is_found_out(layout: Layout) -> None:
    ledger = Ledger()
    async with rounds.serving(layout) as ports:
        senders, reader = loads(ports, ledger)
        await until(lambda: senders.taken >= 5, senders, reader)
    async with stores.open_house(layout) as house:
        await rounds.end_queue(house)
        found = await Looker(ledger).look(house, PEOPLE)
    assert ledger.broken(found) == []
    account = next(a for a in PEOPLE[1:] if found[a][INBOX].messages)
    found[account][INBOX].messages.popitem()
    assert len(ledger.broken(found)) == 1


async def test_refusals_are_counted_and_not_promised(layout: Layout) -> None:
    faults = Faults()
    ledger = Ledger()
    parts = Parts(files=Files(faults.syscalls()))
    async with rounds.serving(layout, parts=parts) as ports:
        senders, reader = loads(ports, ledger, LARGE)
        with faults.armed(Fault("write", "full")):
            await until(lambda: senders.refused.total() >= 3, senders, reader)
    assert set(senders.refused) == {"452 4.3.1"}
    assert not senders.taken
    async with stores.open_house(layout) as house:
        found = await Looker(ledger).look(house, PEOPLE)
    assert ledger.broken(found) == []
    assert not ledger.open


def test_messages_are_unlike_each_other_and_repeatable() -> None:
    def some() -> list[tuple[str, bytes]]:
        writer = Writer(random.Random(3), "run")
        return [writer.write() for _ in range(50)]

    made = some()
    assert made == some()
    assert len({content for _, content in made}) == 50
    for name, content in made:
        assert BytesHeaderParser().parsebytes(content)["Message-ID"] == f"<{name}>"
        assert content.endswith(b"\r\n")
        assert max(map(len, content.split(b"\r\n"))) <= 998


def test_unfinished_files_are_found(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    folder = tmp_path / "blobs"
    for name in ("new/B1", "ab/.new-1-2.tmp", "ab/B2"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert [Path(p).name for p in rounds.unfinished(layout)] == [".new-1-2.tmp", "B1"]


def test_tracebacks_in_a_log_are_found_once() -> None:
    one = 'Traceback (most recent call last):\n  File "x.py", line 1, in y\nKeyError: 1\n'
    assert rounds.tracebacks(f"worker died\n{one}ready\n{one}") == ["KeyError: 1"]
    assert rounds.tracebacks("all is well\n") == []
