"""Backups one after the other: what is copied, what is not, and what a dead run leaves."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from pathlib import Path

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt, InUse, Misuse, NotFound, ShuttingDown, StoreFull
from postroom.domain import trace
from postroom.domain.schema import SWEEP
from postroom.store.backup import packs as packs_module
from postroom.store.backup import taking, verify
from postroom.store.backup.repository import decode_places
from postroom.store.blobs import Blobs, NewBlob, insert
from postroom.store.files import Files, Syscalls
from postroom.store.schema import MAIL
from postroom.store.sql import Tx
from postroom.store.sweeper import DAY, sweep
from tests.store.backup.keeping import (
    Keeper,
    contents,
    damage,
    everything,
    fill,
    hold,
    in_thread,
    loading,
    opened,
    packs,
    run,
)
from tests.store.contents import noise, text


async def _restored(keeper: Keeper, folder: Path, name: str = "latest") -> dict[int, bytes]:
    """All content of a backup, restored into a folder of its own."""
    target = loading("sqlite", folder)
    try:
        report = await in_thread(keeper.restore, target, folder, name)
        assert report.problems == []
    finally:
        target.close()
    mail, state = opened("sqlite", folder)
    try:
        blobs = Blobs(str(folder / "blobs"), keeper.files, keeper.ids)
        return await mail.read_much(contents, blobs)
    finally:
        await mail.close()
        await state.close()


async def test_only_what_is_new_is_copied(keeper: Keeper, tmp_path: Path) -> None:
    for n in range(300):
        await keeper.keep(text(1_000, n))
    await keeper.keep(noise(2_500_000))
    first = await keeper.take()
    assert (first.taken.blobs_copied, first.taken.octets_copied) == (301, 2_800_000)

    again = await keeper.take()
    assert (again.taken.blobs_copied, again.taken.chunks_copied) == (0, 0)
    assert (again.content.blobs, again.content.octets) == (301, 2_800_000)
    assert again.taken.stored < 20_000

    for n in range(5):
        await keeper.keep(text(2_000, 1_000 + n))
    third = await keeper.take()
    assert (third.taken.blobs_copied, third.taken.octets_copied) == (5, 10_000)
    assert third.content.blobs == 306

    full = await keeper.take(full=True)
    assert full.taken.blobs_copied == 306
    assert len(await _restored(keeper, tmp_path / "first", first.name)) == 301
    assert len(await _restored(keeper, tmp_path / "third", third.name)) == 306
    assert verify(keeper.repository).problems == []


async def test_a_changed_row_costs_its_chunk(keeper: Keeper) -> None:
    rng = random.Random(3)
    await keeper.stores.mail.write_much(fill, MAIL, rng, 600, 1)
    first = await keeper.take()
    await keeper.stores.mail.write(run, "UPDATE trace SET at = 1 WHERE id = 17")
    second = await keeper.take()
    assert second.taken.chunks == first.taken.chunks
    assert second.taken.chunks_copied == 1


async def test_content_that_the_sweeper_took_meanwhile_is_no_problem(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went between the snapshot and its copying, and nothing had referred to it."""
    mail, blobs = keeper.stores.mail, keeper.blobs
    orphan = await keeper.keep(b"nobody's")
    file = await keeper.keep(noise(90_000))
    used = await keeper.keep(b"somebody's")
    await mail.write(hold, used.id, 5)
    await sweep(mail, blobs, SWEEP, keeper.clock.now())
    keeper.clock.advance(DAY / 1000 + 60)
    copy_tables = taking._Run._copy_tables

    def then_swept(self: taking._Run, tx: Tx, source: taking.Source) -> taking._Copied:
        copied = copy_tables(self, tx, source)
        if source.name == "mail":
            future = asyncio.run_coroutine_threadsafe(
                sweep(mail, blobs, SWEEP, keeper.clock.now()), loop
            )
            assert future.result(10) == 2
        return copied

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(taking._Run, "_copy_tables", then_swept)
    manifest = await keeper.take()
    assert manifest.problems == ()
    found = await _restored(keeper, tmp_path / "new")
    assert found == {used.id: b"somebody's"}
    assert {orphan.id, file.id}.isdisjoint(found)


async def test_damaged_content_is_told_and_stops_nothing(keeper: Keeper, tmp_path: Path) -> None:
    sound = await keeper.keep(noise(100_000, 1))
    lost = await keeper.keep(noise(100_000, 2))
    flipped = await keeper.keep(noise(100_000, 3))
    row = await keeper.keep(b"a small one")
    Path(keeper.blobs.path(lost.id, lost.sha256, compressed=False)).unlink()
    damage(Path(keeper.blobs.path(flipped.id, flipped.sha256, compressed=False)), 5_000)
    await keeper.stores.mail.write(run, "UPDATE blob SET data = NULL WHERE id = :i", i=row.id)
    for _ in range(2):  # it is looked for again each time
        manifest = await keeper.take()
        assert len(manifest.problems) == 3
    assert len([p for p in verify(keeper.repository).problems if "when it was made" in p]) == 6

    target = loading("sqlite", tmp_path / "new")
    report = await in_thread(keeper.restore, target, tmp_path / "new")
    target.close()
    assert len(report.problems) == 3
    mail, state = opened("sqlite", tmp_path / "new")
    try:
        blobs = Blobs(str(tmp_path / "new" / "blobs"), keeper.files, keeper.ids)
        assert await mail.read(blobs.read, sound.id) == noise(100_000, 1)
        # What there was of it is there.
        assert len(await mail.read(blobs.read, flipped.id)) == 100_000
        for gone in (lost.id, row.id):
            with pytest.raises(Corrupt):
                await mail.read(blobs.read, gone)
    finally:
        await mail.close()
        await state.close()


async def test_content_that_was_damaged_since_is_still_in_the_backup(
    keeper: Keeper, tmp_path: Path
) -> None:
    file = await keeper.keep(noise(100_000))
    await keeper.take()
    damage(Path(keeper.blobs.path(file.id, file.sha256, compressed=False)), 5_000)
    assert (await keeper.take()).problems == ()
    assert await _restored(keeper, tmp_path / "new") == {file.id: noise(100_000)}


class _Dying(Syscalls):
    """A disk under the repository that is full after so many octets."""

    def __init__(self, root: str, octets: int) -> None:
        self._root = root
        self.left = octets

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(self._root):
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, "no space left")
        return super().write(fd, data)


@pytest.mark.parametrize("octets", [0, 500, 100_000, 900_000, 1_800_000])
async def test_a_run_that_dies_leaves_what_was_there(
    keeper: Keeper, tmp_path: Path, octets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs_module, "PACK", 200_000)
    monkeypatch.setattr(packs_module, "FRAME", 64_000)
    before = {}
    for n in range(3):
        blob = await keeper.keep(noise(100_000, n))
        before[blob.id] = noise(100_000, n)
    first = await keeper.take()
    after = dict(before)
    for n in range(20):
        blob = await keeper.keep(noise(100_000, 50 + n))
        after[blob.id] = noise(100_000, 50 + n)
    with pytest.raises(StoreFull):
        await keeper.take(files=Files(_Dying(keeper.repository.root, octets)))
    assert keeper.repository.names() == [first.name]
    assert await _restored(keeper, tmp_path / "first") == before

    second = await keeper.take()
    assert not list((Path(keeper.repository.root) / "new").iterdir())
    # What the dead run had brought to its end is taken over.
    assert second.taken.blobs_copied <= 20 - (octets - 400_000) // 100_000
    assert await _restored(keeper, tmp_path / "second") == after
    assert verify(keeper.repository).problems == []


async def test_a_cancelled_run_lets_go(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    await keeper.keep(b"one")
    reached, go_on = threading.Event(), threading.Event()
    pack = taking._Run._pack

    def held(self: taking._Run, *args: object) -> object:
        reached.set()
        assert go_on.wait(10)
        return pack(self, *args)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(taking._Run, "_pack", held)
    task = asyncio.create_task(keeper.take())
    assert await asyncio.to_thread(reached.wait, 10)
    with pytest.raises(InUse):
        await keeper.take()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    assert keeper.repository.names() == []
    assert (await keeper.take()).content.blobs == 1


async def test_a_run_that_is_told_to_stop_does_not_begin_another_step(keeper: Keeper) -> None:
    with keeper.repository.writing():
        stopped = taking._Run(keeper.repository, keeper.blobs, keeper.clock, False)
        stopped.stopping.set()
        with pytest.raises(ShuttingDown):
            await stopped._step(stopped.drop)


async def test_other_folders_are_not_written_to(keeper: Keeper) -> None:
    root = Path(keeper.repository.root)
    root.mkdir(parents=True)
    (root / "letters.txt").write_text("mine")
    with pytest.raises(Misuse):
        await keeper.take()
    assert [path.name for path in root.iterdir()] == ["letters.txt"]
    (root / "letters.txt").unlink()
    (root / "lost+found").mkdir()
    await keeper.take()
    assert len(keeper.repository.names()) == 1


async def test_another_stores_ids_are_not_taken_for_ours(keeper: Keeper, tmp_path: Path) -> None:
    one = await keeper.keep(b"one")
    await keeper.take()
    other = b"another"
    digest = (await keeper.blobs.make(other)).sha256
    await keeper.stores.mail.write(
        run,
        "UPDATE blob SET data = :data, sha256 = :sha, size = 7, stored = 7 WHERE id = :id",
        data=other,
        sha=digest,
        id=one.id,
    )
    assert (await keeper.take()).taken.blobs_copied == 1
    assert await _restored(keeper, tmp_path / "new") == {one.id: other}


# --- while mail flows -----------------------------------------------------------------------------


async def test_what_was_committed_before_is_there_and_each_unit_is_whole(
    keeper: Keeper, tmp_path: Path
) -> None:
    """Writers go on all the time: two rows of one unit are both in a backup, or neither."""
    mail = keeper.stores.mail
    done: list[int] = []
    stop = asyncio.Event()

    async def write(first: int) -> None:
        number = first
        while not stop.is_set():
            number += 10
            blob = await keeper.blobs.make(b"%d" % number * 40_000 if number % 7 == 0 else b"x")

            await mail.write(accept, blob, number, keeper.clock.now())
            done.append(number)

    writers = [asyncio.create_task(write(n)) for n in range(5)]
    names = []
    try:
        for n in range(4):
            while len(done) < 30 * (n + 1):
                await asyncio.sleep(0.005)
                for writer in writers:
                    if writer.done():
                        writer.result()  # it raised
            promised = list(done)
            manifest = await keeper.take()
            assert manifest.problems == ()
            names.append((manifest.name, promised))
    finally:
        stop.set()
        await asyncio.gather(*writers)
    assert len(done) > len(names[-1][1]), "nothing was written meanwhile"
    for n, (name, promised) in enumerate(names):
        folder = tmp_path / str(n)
        target = loading("sqlite", folder)
        assert (await in_thread(keeper.restore, target, folder, name)).problems == []
        target.close()
        restored, state = opened("sqlite", folder)
        try:
            rows = await everything(restored, state)
            queued = {row[0] for row in rows["queue_message"]}
            traced = {row[0] for row in rows["trace"]}
            assert set(promised) <= queued
            assert queued == traced
            assert await restored.damage() == []
            blobs = Blobs(str(folder / "blobs"), keeper.files, keeper.ids)
            assert len(await restored.read_much(contents, blobs)) == len(queued)
        finally:
            await restored.close()
            await state.close()


def accept(tx: Tx, blob: NewBlob, number: int, now: Instant) -> None:
    """An envelope and its trace, with the content: one unit."""
    insert(tx, blob, now)
    hold(tx, blob.id, number)
    trace.keep(tx, number, now, b"record", ())


# --- forgetting -----------------------------------------------------------------------------------


async def test_forgetting_removes_what_nothing_refers_to(keeper: Keeper, tmp_path: Path) -> None:
    first = await keeper.keep(noise(50_000, 1))
    await keeper.take()
    second = await keeper.keep(noise(50_000, 2))
    kept = await keeper.take()
    with keeper.repository.writing():
        gone, _ = keeper.repository.forget(1)
    assert len(gone) == 1
    assert keeper.repository.names() == [kept.name]
    found = {first.id: noise(50_000, 1), second.id: noise(50_000, 2)}
    assert await _restored(keeper, tmp_path / "kept") == found
    before = packs(keeper)
    await keeper.take(full=True)
    with keeper.repository.writing():
        gone, freed = keeper.repository.forget(1)
    assert gone == [kept.name]
    assert freed > 100_000
    assert not set(before) & set(packs(keeper))
    assert await _restored(keeper, tmp_path / "full") == found
    with keeper.repository.writing():
        assert keeper.repository.forget(1) == ([], 0)
    assert verify(keeper.repository).problems == []


# --- damage ---------------------------------------------------------------------------------------


async def test_every_kind_of_damage_is_found(keeper: Keeper, tmp_path: Path) -> None:
    await keeper.stores.mail.write_much(fill, MAIL, random.Random(1), 50, 1)
    for n in range(20):
        await keeper.keep(text(3_000, n))
    manifest = await keeper.take()
    assert verify(keeper.repository).problems == []
    root = Path(keeper.repository.root)
    files = [root / "backups" / f"{manifest.name}.json", *packs(keeper)]
    for path in files:
        size = path.stat().st_size
        for at in (3, size // 3, size // 2, size - 30):
            damage(path, at)
            fresh = Keeper(keeper.stores, keeper.work, keeper.clock)
            assert verify(fresh.repository).problems, (path.name, at)
            damage(path, at)
        whole = path.read_bytes()
        path.write_bytes(whole[: size // 2])
        assert verify(Keeper(keeper.stores, keeper.work, keeper.clock).repository).problems
        path.write_bytes(whole)
    packs(keeper)[0].unlink()
    assert verify(Keeper(keeper.stores, keeper.work, keeper.clock).repository).problems


async def test_damaged_content_is_left_out_and_damaged_tables_stop_a_restore(
    keeper: Keeper, tmp_path: Path
) -> None:
    blob = await keeper.keep(noise(3_000_000, 1))
    other = await keeper.keep(b"other")
    manifest = await keeper.take()
    repository = keeper.repository
    places = repository.entries(manifest.content.places)
    kept = {k.blob: k.ref for k in decode_places(repository.packs.read(places[0].ref))}
    ref = kept[blob.id]
    assert ref is not None
    pack = packs(keeper)[ref.pack - 1]
    ends = repository.packs.index(ref.pack).ends
    damage(pack, ends[ref.frame] + 5_000)
    target = loading("sqlite", tmp_path / "one")
    report = await in_thread(keeper.restore, target, tmp_path / "one")
    target.close()
    assert len(report.problems) == 1
    assert report.blobs == 1
    mail, state = opened("sqlite", tmp_path / "one")
    try:
        blobs = Blobs(str(tmp_path / "one" / "blobs"), keeper.files, keeper.ids)
        assert await mail.read(blobs.read, other.id) == b"other"
        with pytest.raises(Corrupt):
            await mail.read(blobs.read, blob.id)
    finally:
        await mail.close()
        await state.close()
    damage(pack, ends[ref.frame] + 5_000)
    chunks = repository.entries(manifest.blobs().chunks)[0].ref
    damage(packs(keeper)[chunks.pack - 1], 50)
    target = loading("sqlite", tmp_path / "two")
    with pytest.raises(Corrupt):
        await in_thread(keeper.restore, target, tmp_path / "two")
    target.close()
    assert not (tmp_path / "two" / "mail.db").exists()


async def test_a_backup_that_is_not_there_is_said_so(keeper: Keeper) -> None:
    with pytest.raises(NotFound), keeper.repository.reading():
        pass
    await keeper.take()
    with keeper.repository.reading():
        with pytest.raises(NotFound):
            keeper.repository.choose("../../etc/passwd")
        assert keeper.repository.choose().name == keeper.repository.names()[0]
