from __future__ import annotations

import threading
from pathlib import Path

import pytest

from postroom.core.ids import BLOB, external
from postroom.domain.schema import SWEEP
from postroom.store import postgres, sweeper
from postroom.store.blobs import SPOOL_LIMIT, NewBlob, Place, Slice, insert, reuse
from postroom.store.postgres import PostgresTx
from postroom.store.recompress import recompress
from postroom.store.sql import Tx
from postroom.store.sweeper import clear_strays, clear_unfinished, sweep
from tests.store.contents import Contents, marks, noise, refer, release, text
from tests.stores import Stores, migrate

_DAY = 86_400


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    return Contents(tmp_path)


async def swept(stores: Stores, contents: Contents) -> int:
    return await sweep(stores.mail, contents.blobs, SWEEP, contents.now())


async def test_what_nobody_refers_to_goes_a_day_after_it_was_marked(
    stores: Stores, contents: Contents
) -> None:
    row = await contents.keep(stores.mail, b"row")
    file = await contents.keep(stores.mail, noise(100_000))
    held = await contents.keep(stores.mail, b"held")
    await stores.mail.write(refer, held.id, 1)
    contents.clock.advance(30 * _DAY)
    # Age is nothing: the day begins with the mark.
    assert await swept(stores, contents) == 0
    marked = contents.now()
    assert await stores.mail.read(marks) == {row.id: marked, file.id: marked, held.id: None}
    contents.clock.advance(_DAY - 60)
    assert await swept(stores, contents) == 0
    assert await stores.mail.read(marks) == {row.id: marked, file.id: marked, held.id: None}
    contents.clock.advance(60)
    assert await swept(stores, contents) == 2
    assert await stores.mail.read(marks) == {held.id: None}
    assert contents.files() == []
    assert await stores.mail.read(contents.blobs.read, held.id) == b"held"


async def test_a_reference_that_comes_back_takes_the_mark_off(
    stores: Stores, contents: Contents
) -> None:
    blob = await contents.keep(stores.mail, b"abc")
    await swept(stores, contents)
    assert (await stores.mail.read(marks))[blob.id] is not None
    await stores.mail.write(refer, blob.id, 1)
    contents.clock.advance(2 * _DAY)
    assert await swept(stores, contents) == 0
    assert await stores.mail.read(marks) == {blob.id: None}
    # Let go again, it has its whole day again.
    await stores.mail.write(release, 1)
    assert await swept(stores, contents) == 0
    contents.clock.advance(_DAY)
    assert await swept(stores, contents) == 1


async def test_a_rope_holds_its_parts_and_its_parts_outlive_it_a_day(
    stores: Stores, contents: Contents
) -> None:
    own = await contents.keep(stores.mail, b"own ")
    body = await contents.keep(stores.mail, noise(100_000))
    rope = await contents.rope(
        stores.mail, Slice(own.id, 0, 4), Slice(body.id, 0, 100_000), whole=b"own " + noise(100_000)
    )
    await stores.mail.write(refer, rope.id, 1)
    for _ in range(3):
        contents.clock.advance(2 * _DAY)
        assert await swept(stores, contents) == 0
    await stores.mail.write(release, 1)
    await swept(stores, contents)
    contents.clock.advance(_DAY)
    assert await swept(stores, contents) == 1
    assert sorted(await stores.mail.read(marks)) == [own.id, body.id]
    await swept(stores, contents)
    contents.clock.advance(_DAY)
    assert await swept(stores, contents) == 2
    assert contents.files() == []


async def test_it_goes_in_pages(
    stores: Stores, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "PAGE", 3)
    made = [await contents.keep(stores.mail, b"%d" % n) for n in range(11)]
    await stores.mail.write(refer, made[4].id, 1)
    await swept(stores, contents)
    assert sum(mark is not None for mark in (await stores.mail.read(marks)).values()) == 10
    contents.clock.advance(_DAY)
    assert await swept(stores, contents) == 10
    assert list(await stores.mail.read(marks)) == [made[4].id]


async def test_compressed_files_go_with_their_blobs(stores: Stores, contents: Contents) -> None:
    await contents.keep(stores.mail, text(300_000))
    contents.clock.advance(2 * _DAY)
    await recompress(stores.mail, contents.blobs, contents.now(), 0)
    assert [name.endswith(".z") for name in contents.files()] == [True]
    await swept(stores, contents)
    contents.clock.advance(_DAY)
    assert await swept(stores, contents) == 1
    assert contents.files() == []


# --- strays -------------------------------------------------------------------------------


async def test_files_without_a_row_go_after_a_day(stores: Stores, contents: Contents) -> None:
    kept = await contents.keep(stores.mail, noise(100_000))
    await stores.mail.write(refer, kept.id, 1)
    await contents.blobs.make(noise(100_000, 1))  # its unit failed
    spool = contents.blobs.spool()
    spool.write(noise(SPOOL_LIMIT + 1))  # its process was killed
    foreign = contents.file(kept).parent / "README"
    foreign.write_text("not ours")
    assert await clear_strays(stores.mail, contents.blobs, contents.now()) == 0
    assert len(contents.files()) == 4
    contents.clock.advance(_DAY + 60)
    await contents.blobs.make(noise(100_000, 2))  # young: its unit may be on its way
    assert await clear_strays(stores.mail, contents.blobs, contents.now()) == 2
    assert contents.file(kept).exists()
    assert foreign.exists()
    assert len(contents.files()) == 3
    spool.drop()


async def test_a_raw_file_beside_the_compressed_one_that_counts_goes(
    stores: Stores, contents: Contents
) -> None:
    """Recompression was killed after its unit, or the file came back with a crash."""
    blob = await contents.keep(stores.mail, text(300_000))
    await stores.mail.write(refer, blob.id, 1)
    contents.clock.advance(2 * _DAY)
    raw = contents.file(blob)
    packed = contents.file(blob, compressed=True)
    packed.write_bytes(b"recompression is under way")
    assert await clear_strays(stores.mail, contents.blobs, contents.now()) == 0
    assert raw.exists()
    assert packed.exists()
    await recompress(stores.mail, contents.blobs, contents.now(), 0)
    raw.write_bytes(text(300_000))
    assert await clear_strays(stores.mail, contents.blobs, contents.now()) == 1
    assert contents.files() == [packed.name]
    assert await stores.mail.read(contents.blobs.read, blob.id) == text(300_000)


def test_a_start_clears_what_was_under_way(contents: Contents) -> None:
    spool = contents.blobs.spool()
    spool.write(noise(SPOOL_LIMIT + 1))
    folder = contents.folder / "a7"
    folder.mkdir(parents=True)
    whole = folder / external(BLOB, contents.ids.new())
    whole.write_bytes(b"whole")
    (folder / ".new-1f-0.tmp").write_bytes(b"half")
    assert clear_unfinished(contents.blobs) == 2
    assert contents.files() == [whole.name]


# --- beside others ------------------------------------------------------------------------


@pytest.mark.postgres
def test_a_reuse_under_way_saves_its_blob(postgres_url: str, contents: Contents) -> None:
    """The sweeper waits for the row that the reuse changed, and then looks again."""
    migrate("postgres", postgres_url)
    one = postgres.connect(postgres_url, "mail", durable=False)
    two = postgres.connect(postgres_url, "mail", durable=False)
    first = PostgresTx(one.cursor(binary=True))
    second = PostgresTx(two.cursor(binary=True))
    blob = _marked(first, contents)
    contents.clock.advance(2 * _DAY)
    removed: list[object] = []
    with one.transaction():
        reuse(first, blob)
        refer(first, blob, 1)

        def remove() -> None:
            try:
                with two.transaction():
                    removed.extend(sweeper.remove(second, SWEEP, contents.now()))
            except Exception as error:
                removed.append(error)

        thread = threading.Thread(target=remove)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it does not wait for the row"
    thread.join(10)
    assert removed == []
    assert marks(first) == {blob: None}
    one.close()
    two.close()


def _marked(tx: Tx, contents: Contents) -> int:
    new = NewBlob(contents.ids.new(), bytes(32), 1, Place.ROW, b"a")
    insert(tx, new, contents.now())
    sweeper.mark(tx, SWEEP, 0, contents.now())
    return new.id
