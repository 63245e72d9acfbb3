from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.core.errors import Corrupt, NotFound, StoreFailed, StoreFull
from postroom.store.blobs import (
    ROW_LIMIT,
    SPOOL_LIMIT,
    Form,
    NewBlob,
    Place,
    Slice,
    facts,
    insert,
    reuse,
)
from postroom.store.files import Files
from postroom.store.recompress import recompress
from postroom.store.sql import Statement, Tx
from postroom.testing.faults import Fault, Faults
from tests.store.contents import Contents, marks, noise, text
from tests.stores import Stores

DAMAGE = Statement("UPDATE blob SET data = :data WHERE id = :id")


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    return Contents(tmp_path)


async def forms(stores: Stores, contents: Contents) -> dict[str, tuple[NewBlob, bytes]]:
    """One blob of each form there is, with what it holds."""
    made: dict[str, tuple[NewBlob, bytes]] = {}
    for name, data in (
        ("empty", b""),
        ("row, compressed", text(50_000)),
        ("row that does not compress", noise(40_000)),
        ("file, compressed", text(600_000)),
        ("file that does not compress", noise(300_000)),
    ):
        made[name] = (await contents.keep(stores.mail, data), data)
    contents.clock.advance(2 * 86_400)
    after: int | None = 0
    while after is not None:
        after = await recompress(stores.mail, contents.blobs, contents.now(), after)
    for name, data in (("row", text(5_000, 1)), ("file", text(200_000, 1))):
        made[name] = (await contents.keep(stores.mail, data), data)
    parts = [
        ("row", 0, 5_000),
        ("file, compressed", 130_000, 300_000),
        ("row, compressed", 7, 1),
        ("file", 100_000, 100_000),
        ("row that does not compress", 39_999, 1),
    ]
    whole = b"".join(made[name][1][start : start + length] for name, start, length in parts)
    slices = [Slice(made[name][0].id, start, length) for name, start, length in parts]
    made["rope"] = (await contents.rope(stores.mail, *slices, whole=whole), whole)
    return made


async def test_any_range_of_any_form_is_the_slice_of_the_content(
    stores: Stores, contents: Contents
) -> None:
    made = await forms(stores, contents)
    known = await stores.mail.read(
        lambda tx: {name: facts(tx, blob.id) for name, (blob, _) in made.items()}
    )
    assert known["row, compressed"].frames
    assert known["file, compressed"].frames
    assert known["row that does not compress"].frames == b""
    assert known["row"].frames is None

    def look(tx: Tx) -> None:
        for name, (blob, content) in made.items():
            assert contents.blobs.read(tx, blob.id) == content, name
            assert contents.blobs.hashed(tx, known[name]) == hashlib.sha256(content).digest(), name

        @settings(
            max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(
            name=st.sampled_from(sorted(made)),
            start=st.integers(0, 700_000) | st.integers(0, 6_000),
            length=st.none() | st.integers(0, 700_000) | st.integers(0, 100),
        )
        def ranges(name: str, start: int, length: int | None) -> None:
            blob, content = made[name]
            end = None if length is None else start + length
            assert contents.blobs.read(tx, blob.id, start, length) == content[start:end]

        ranges()

    await stores.mail.read_much(look)


async def test_where_content_lies_follows_its_size(stores: Stores, contents: Contents) -> None:
    row = await contents.keep(stores.mail, noise(ROW_LIMIT))
    file = await contents.keep(stores.mail, noise(ROW_LIMIT + 1))
    assert (row.place, file.place) == (Place.ROW, Place.FILE)
    assert contents.files() == [contents.file(file).name]
    assert contents.file(file).parent.name == f"{file.sha256[0]:02x}"


async def test_what_is_not_there_is_not_found(stores: Stores, contents: Contents) -> None:
    for start, length in ((0, None), (0, 5), (3, None)):
        with pytest.raises(NotFound):
            await stores.mail.read(contents.blobs.read, 12345, start, length)


# --- damage -------------------------------------------------------------------------------


def _damage(tx: Tx, blob: int, data: bytes | None) -> None:
    tx.run(DAMAGE, id=blob, data=data)


async def test_a_short_row_is_corrupt(stores: Stores, contents: Contents) -> None:
    made = await forms(stores, contents)
    for name in ("row", "row, compressed", "row that does not compress"):
        blob, content = made[name]
        for damaged in (content[:-1], b"", None):
            await stores.mail.write(_damage, blob.id, damaged)
            for start, length in ((0, None), (len(content) - 10, 10)):
                with pytest.raises(Corrupt):
                    await stores.mail.read(contents.blobs.read, blob.id, start, length)


async def test_a_short_or_missing_file_is_corrupt(stores: Stores, contents: Contents) -> None:
    made = await forms(stores, contents)
    for name, compressed in (("file", False), ("file, compressed", True)):
        blob, content = made[name]
        path = contents.file(blob, compressed=compressed)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        for start, length in ((0, None), (len(content) - 10, 10)):
            with pytest.raises(Corrupt):
                await stores.mail.read(contents.blobs.read, blob.id, start, length)
        path.unlink()
        with pytest.raises(Corrupt):
            await stores.mail.read(contents.blobs.read, blob.id)
    with pytest.raises(Corrupt):
        await stores.mail.read(contents.blobs.read, made["rope"][0].id)


async def test_a_rope_of_ropes_is_corrupt_and_a_short_one_too(
    stores: Stores, contents: Contents
) -> None:
    own = await contents.keep(stores.mail, b"abc")
    rope = await contents.rope(stores.mail, Slice(own.id, 0, 3), whole=b"abc")
    deep = await contents.rope(stores.mail, Slice(rope.id, 0, 3), whole=b"abc")
    short = await contents.rope(stores.mail, Slice(own.id, 1, 2), whole=b"abc")
    assert await stores.mail.read(contents.blobs.read, rope.id) == b"abc"
    for bad in (deep, short):
        with pytest.raises(Corrupt):
            await stores.mail.read(contents.blobs.read, bad.id)


# --- the spool ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, ROW_LIMIT, SPOOL_LIMIT, SPOOL_LIMIT + 1, 1_000_000])
async def test_a_spool_becomes_a_message_with_its_prefix(
    stores: Stores, contents: Contents, size: int
) -> None:
    body = text(size, size)
    spool = contents.blobs.spool()
    for start in range(0, size, 10_007):
        spool.write(body[start : start + 10_007])
    assert spool.size == size
    assert spool.in_file == (size > SPOOL_LIMIT)
    assert spool.content() == body
    assert spool.sha256() == hashlib.sha256(body).digest()
    prefix = b"Received: by us\r\n"
    made = (await contents.blobs.finish(spool, [Form(prefix)])).stored
    spool.drop()
    for blob in made:
        await stores.mail.write(insert, blob, contents.now())
    whole = made[-1]
    assert whole.place is (
        Place.ROPE if size > SPOOL_LIMIT else Place.FILE if size + 17 > ROW_LIMIT else Place.ROW
    )
    assert whole.size == len(prefix) + size
    assert whole.sha256 == hashlib.sha256(prefix + body).digest()
    assert await stores.mail.read(contents.blobs.read, whole.id) == prefix + body
    assert await stores.mail.read(contents.blobs.read, whole.id, 10, 20) == (prefix + body)[10:30]
    assert len(contents.files()) == (whole.place is not Place.ROW), "the spool's own name is gone"


@pytest.mark.parametrize("size", [1_000, SPOOL_LIMIT + 1])
def test_a_dropped_spool_leaves_nothing(contents: Contents, size: int) -> None:
    spool = contents.blobs.spool()
    spool.write(noise(size))
    assert len(contents.files()) == (size > SPOOL_LIMIT)
    spool.drop()
    spool.drop()
    assert contents.files() == []


async def test_a_spool_that_was_kept_is_not_dropped_with_its_transit(contents: Contents) -> None:
    spool = contents.blobs.spool()
    spool.write(noise(SPOOL_LIMIT + 1))
    await contents.blobs.finish(spool, [Form()])
    spool.drop()
    assert len(contents.files()) == 1


def test_a_full_disk_stops_a_spool_and_leaves_nothing(tmp_path: Path) -> None:
    faults = Faults()
    contents = Contents(tmp_path, Files(faults.syscalls()))
    spool = contents.blobs.spool()
    with faults.armed(Fault("write", "full", after_bytes=300_000)), pytest.raises(StoreFull):
        for _ in range(10):
            spool.write(noise(100_000))
    with pytest.raises(StoreFailed):
        spool.content()
    spool.drop()
    assert contents.files() == []


async def test_a_file_that_cannot_be_synced_becomes_no_blob(tmp_path: Path) -> None:
    faults = Faults()
    contents = Contents(tmp_path, Files(faults.syscalls()))
    spool = contents.blobs.spool()
    spool.write(noise(SPOOL_LIMIT + 1))
    with faults.armed(Fault("sync", "io")):
        with pytest.raises(StoreFailed):
            await contents.blobs.finish(spool, [Form(b"x")])
        with pytest.raises(StoreFailed):
            await contents.blobs.make(noise(100_000))
    spool.drop()
    assert contents.files() == []


# --- reuse --------------------------------------------------------------------------------


async def test_reuse_clears_the_sweepers_mark(stores: Stores, contents: Contents) -> None:
    blob = await contents.keep(stores.mail, b"abc")
    mark = Statement("UPDATE blob SET orphan_since = 5 WHERE id = :id")
    await stores.mail.write(lambda tx: tx.run(mark, id=blob.id))
    await stores.mail.write(reuse, blob.id)
    assert await stores.mail.read(marks) == {blob.id: None}
    await stores.mail.write(reuse, blob.id)  # and is nothing where there is no mark


async def test_a_unit_that_fails_leaves_no_row(stores: Stores, contents: Contents) -> None:
    new = await contents.blobs.make(b"abc")

    def fails(tx: Tx) -> None:
        insert(tx, new, contents.now())
        raise NotFound("for this test")

    with pytest.raises(NotFound):
        await stores.mail.write(fails)
    assert await stores.mail.read(marks) == {}


@pytest.mark.parametrize("size", [3_000, ROW_LIMIT + 5, SPOOL_LIMIT + 50_000])
async def test_several_forms_of_one_content_are_each_whole(
    stores: Stores, contents: Contents, size: int
) -> None:
    """What our accounts get and what other servers do differ in their first lines."""
    body = noise(size)
    forms = [
        Form(b"Return-Path: <>\r\nReceived: x\r\n", ((10, 30), (100, 101))),
        Form(b"Received: x\r\n", ((10, 30), (100, 101))),
        Form(b"", ((0, 5), (size - 5, size))),
        Form(),
    ]
    spool = contents.blobs.spool()
    for start in range(0, size, 60_000):
        spool.write(body[start : start + 60_000])
    assert spool.head(50) == body[:50]
    finished = await contents.blobs.finish(spool, forms)
    spool.drop()
    for blob in finished.stored:
        await stores.mail.write(insert, blob, contents.now())
    cut = body[:10] + body[30:100] + body[101:]
    expected = [forms[0].prefix + cut, forms[1].prefix + cut, body[5:-5], body]
    for whole, content in zip(finished.wholes, expected, strict=True):
        assert await stores.mail.read_much(contents.blobs.read, whole.id) == content
        assert whole.sha256 == hashlib.sha256(content).digest()
        assert whole.size == len(content)
    if size > SPOOL_LIMIT:
        assert len(contents.files()) == 1, "the content lies there once"
