from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from postroom.core.errors import StoreFull
from postroom.store import recompress as module
from postroom.store.blobs import Facts, Form, NewBlob, Place, facts, insert
from postroom.store.files import Files
from postroom.store.recompress import LEAST, recompress
from postroom.store.sql import Statement, Tx
from postroom.store.units import Database
from postroom.testing.faults import Fault, Faults
from tests.store.contents import Contents, noise, text
from tests.stores import Stores

DAMAGE = Statement("UPDATE blob SET data = :data WHERE id = :id")


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def contents(tmp_path: Path, faults: Faults) -> Contents:
    return Contents(tmp_path, Files(faults.syscalls()))


async def all_of(mail: Database, contents: Contents) -> int:
    """Every round that there is to do; returns how many."""
    rounds = 0
    after: int | None = 0
    while after is not None:
        after = await recompress(mail, contents.blobs, contents.now(), after)
        rounds += 1
    return rounds


async def known(mail: Database, blob: NewBlob) -> Facts:
    return await mail.read(facts, blob.id)


async def test_old_content_shrinks_and_stays_equal(stores: Stores, contents: Contents) -> None:
    row = await contents.keep(stores.mail, text(50_000))
    file = await contents.keep(stores.mail, text(500_000))
    small = await contents.keep(stores.mail, text(LEAST - 1))
    loud = await contents.keep(stores.mail, noise(50_000))
    loud_file = await contents.keep(stores.mail, noise(200_000))
    contents.clock.advance(2 * 86_400)
    young = await contents.keep(stores.mail, text(50_000))
    await all_of(stores.mail, contents)
    for blob, content in (
        (row, text(50_000)),
        (file, text(500_000)),
        (small, text(LEAST - 1)),
        (loud, noise(50_000)),
        (loud_file, noise(200_000)),
        (young, text(50_000)),
    ):
        assert await stores.mail.read(contents.blobs.read, blob.id) == content
    for blob in (row, file):
        assert (await known(stores.mail, blob)).stored < blob.size // 2
    for blob in (small, loud, loud_file, young):
        assert (await known(stores.mail, blob)).stored == blob.size
    packed = contents.file(file, compressed=True)
    assert contents.files() == sorted([packed.name, contents.file(loud_file).name])
    assert packed.stat().st_size == (await known(stores.mail, file)).stored


async def test_what_was_tried_is_not_tried_again(
    stores: Stores, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    await contents.keep(stores.mail, text(50_000))
    await contents.keep(stores.mail, noise(50_000))
    contents.clock.advance(2 * 86_400)
    assert await all_of(stores.mail, contents) == 2
    assert await all_of(stores.mail, contents) == 1


async def test_it_goes_in_pieces(
    stores: Stores, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", 2)
    blobs = [await contents.keep(stores.mail, text(3_000, n)) for n in range(5)]
    contents.clock.advance(2 * 86_400)
    assert await all_of(stores.mail, contents) == 4
    for blob in blobs:
        assert (await known(stores.mail, blob)).frames


@pytest.mark.parametrize("size", [50_000, 500_000])
async def test_a_reader_is_not_disturbed(stores: Stores, contents: Contents, size: int) -> None:
    """One snapshot before, one after; and facts that somebody held meanwhile."""
    blob = await contents.keep(stores.mail, text(size))
    held = await known(stores.mail, blob)
    contents.clock.advance(2 * 86_400)
    begun, ended = threading.Event(), threading.Event()

    def slowly(tx: Tx) -> bytes:
        own = facts(tx, blob.id)
        first = contents.blobs.read_facts(tx, own, 0, 1_000)
        begun.set()
        assert ended.wait(20)
        rest = contents.blobs.read_facts(tx, own, 1_000)
        assert contents.blobs.hashed(tx, own) == blob.sha256
        return first + rest

    reading = asyncio.ensure_future(stores.mail.read_much(slowly))
    await asyncio.to_thread(begun.wait)
    await all_of(stores.mail, contents)
    ended.set()
    assert await reading == text(size)
    assert (await known(stores.mail, blob)).frames
    assert await stores.mail.read(contents.blobs.read, blob.id) == text(size)
    if held.place is Place.FILE:
        assert (
            await stores.mail.read(contents.blobs.read_facts, held, 5, 200_000)
            == (text(size)[5:200_005])
        )


async def test_a_damaged_blob_stops_nobody_and_is_left_as_it_is(
    stores: Stores, contents: Contents
) -> None:
    """Its octets may still help; compressed under its old hash they would only look well."""
    row = await contents.keep(stores.mail, text(50_000))
    flipped = b"\0" + text(50_000)[1:]
    await stores.mail.write(lambda tx: tx.run(DAMAGE, id=row.id, data=flipped))
    file = await contents.keep(stores.mail, text(200_000))
    contents.file(file).write_bytes(b"\0" + text(200_000)[1:])
    gone = await contents.keep(stores.mail, text(300_000))
    contents.file(gone).unlink()
    good = await contents.keep(stores.mail, text(50_000, 2))
    contents.clock.advance(2 * 86_400)
    await all_of(stores.mail, contents)
    assert (await known(stores.mail, good)).frames
    for blob in (row, file, gone):
        assert (await known(stores.mail, blob)).frames is None
    assert await stores.mail.read(contents.blobs.read, row.id) == flipped
    assert contents.file(file).read_bytes()[:1] == b"\0"


async def test_a_full_disk_leaves_the_raw_file(
    stores: Stores, contents: Contents, faults: Faults
) -> None:
    blob = await contents.keep(stores.mail, text(500_000))
    contents.clock.advance(2 * 86_400)
    with faults.armed(Fault("write", "full")), pytest.raises(StoreFull):
        await all_of(stores.mail, contents)
    assert contents.files() == [contents.file(blob).name]
    assert await stores.mail.read(contents.blobs.read, blob.id) == text(500_000)
    await all_of(stores.mail, contents)
    assert contents.files() == [contents.file(blob, compressed=True).name]
    assert await stores.mail.read(contents.blobs.read, blob.id) == text(500_000)


async def test_a_rope_over_what_shrinks_stays_equal(stores: Stores, contents: Contents) -> None:
    spool = contents.blobs.spool()
    spool.write(text(400_000))
    made = (await contents.blobs.finish(spool, [Form(b"Received: x\r\n")])).stored
    for blob in made:
        await stores.mail.write(insert, blob, contents.now())
    contents.clock.advance(2 * 86_400)
    await all_of(stores.mail, contents)
    assert (await known(stores.mail, made[0])).frames
    whole = await stores.mail.read(contents.blobs.read, made[-1].id)
    assert whole == b"Received: x\r\n" + text(400_000)
