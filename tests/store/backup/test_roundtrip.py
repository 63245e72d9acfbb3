"""What goes into a backup comes out of it, from and into either engine."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from postroom.core.errors import AlreadyExists, Misuse
from postroom.store.backup import Extra, PostgresLoading, SqliteLoading
from postroom.store.blobs import Blobs, Slice
from postroom.store.migrate import NewerSchema
from postroom.store.recompress import YOUNG, recompress
from postroom.store.schema import MAIL, STATE
from tests.store.backup.keeping import (
    Keeper,
    contents,
    everything,
    fill,
    in_thread,
    loading,
    opened,
    run,
)
from tests.store.contents import noise, text
from tests.stores import Stores

ENGINES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture
def url(request: pytest.FixtureRequest, into: str) -> str:
    """A fresh database, if one is restored into."""
    return str(request.getfixturevalue("postgres_url")) if into == "postgres" else ""


async def furnish(keeper: Keeper, seed: int = 1, count: int = 40) -> dict[int, bytes]:
    """Content of every form, and rows in every table."""
    small = await keeper.keep(b"small")
    await keeper.keep(b"")
    await keeper.keep(noise(60_000, seed))
    large = await keeper.keep(text(3_000_000, seed))
    file = await keeper.keep(noise(200_000, seed + 1))
    whole = b"small" + text(3_000_000, seed)[10:20] + noise(200_000, seed + 1)
    parts = (Slice(small.id, 0, 5), Slice(large.id, 10, 10), Slice(file.id, 0, 200_000))
    await keeper.rope(*parts, whole=whole)
    for n in range(40):
        await keeper.keep(text(700 + n, seed + n))
    rng = random.Random(seed)
    await keeper.stores.mail.write_much(fill, MAIL, rng, count, seed * 1_000)
    await keeper.stores.state.write_much(fill, STATE, rng, count, seed * 1_000)
    return await keeper.stores.mail.read_much(contents, keeper.blobs)


@pytest.mark.parametrize("into", ENGINES)
async def test_every_row_and_every_content_comes_back(
    keeper: Keeper, tmp_path: Path, into: str, url: str
) -> None:
    there = await furnish(keeper)
    before = await everything(keeper.stores.mail, keeper.stores.state)
    assert all(before.values()), "a table without rows proves nothing"
    manifest = await keeper.take()
    assert manifest.problems == ()
    assert (manifest.content.blobs, manifest.taken.rows) == (45, sum(map(len, before.values())))

    new = tmp_path / "new"
    target = loading(into, new, url)
    try:
        report = await in_thread(keeper.restore, target, new)
    finally:
        target.close()
    assert report.problems == []
    assert report.rows == manifest.taken.rows
    assert report.octets == manifest.content.octets
    mail, state = opened(into, new, url)
    try:
        assert await everything(mail, state) == before
        blobs = Blobs(str(new / "blobs"), keeper.files, keeper.ids)
        assert await mail.read_much(contents, blobs) == there
        assert await mail.damage() == []
        leases = {
            t.name for t in MAIL.sorted_tables if {"lease", "holder"} <= set(t.columns.keys())
        }
        assert leases >= {"job", "destination"}
        for name in leases:
            assert await mail.write(run, f"UPDATE {name} SET due = 0 WHERE lease <> 0") == 0
    finally:
        await mail.close()
        await state.close()


@pytest.mark.postgres
async def test_from_one_engine_to_the_other_and_back(
    keeper: Keeper, tmp_path: Path, postgres_url: str
) -> None:
    """Twice through a backup, over the other engine, and nothing is lost."""
    there = await furnish(keeper)
    before = await everything(keeper.stores.mail, keeper.stores.state)
    await keeper.take()
    home = keeper.stores.engine
    way = ["sqlite", "sqlite"] if home == "postgres" else ["postgres", "sqlite"]
    for number, engine in enumerate(way):
        folder = tmp_path / str(number)
        target = loading(engine, folder, postgres_url)
        await in_thread(keeper.restore, target, folder)
        target.close()
        mail, state = opened(engine, folder, postgres_url)
        try:
            keeper = Keeper(Stores(engine, mail, state), folder, keeper.clock)
            assert await everything(mail, state) == before
            assert await mail.read_much(contents, keeper.blobs) == there
            await keeper.take()
        finally:
            await mail.close()
            await state.close()


async def test_compressed_content_is_kept_as_content(keeper: Keeper, tmp_path: Path) -> None:
    row = await keeper.keep(text(30_000))
    file = await keeper.keep(text(400_000, 3))
    keeper.clock.advance(2 * YOUNG / 1000)
    assert await recompress(keeper.stores.mail, keeper.blobs, keeper.clock.now(), 0)
    manifest = await keeper.take()
    assert (manifest.content.octets, manifest.problems) == (430_000, ())
    new = tmp_path / "new"
    target = loading("sqlite", new)
    await in_thread(keeper.restore, target, new)
    target.close()
    mail, state = opened("sqlite", new)
    try:
        blobs = Blobs(str(new / "blobs"), keeper.files, keeper.ids)
        found = await mail.read_much(contents, blobs)
        assert found == {row.id: text(30_000), file.id: text(400_000, 3)}
    finally:
        await mail.close()
        await state.close()


async def test_files_beside_the_stores_come_back_where_there_are_none(
    keeper: Keeper, tmp_path: Path
) -> None:
    tls = tmp_path / "tls"
    tls.mkdir()
    (tls / "default.pem").write_bytes(b"chain and key")
    (tls / "other.pem").write_bytes(b"other")
    (tls / ".hidden").write_bytes(b"")
    (tls / "below").mkdir()
    keeper.extras.append(Extra("tls", str(tls)))
    await keeper.take()
    new = tmp_path / "new"
    there = new / "tls"
    there.mkdir(parents=True)
    (there / "other.pem").write_bytes(b"the administrator's")
    target = loading("sqlite", new)
    report = await in_thread(keeper.restore, target, new, folders={"tls": str(there)})
    target.close()
    assert report.files == 1
    assert (there / "default.pem").read_bytes() == b"chain and key"
    assert (there / "default.pem").stat().st_mode & 0o777 == 0o600
    assert (there / "other.pem").read_bytes() == b"the administrator's"
    assert sorted(p.name for p in there.iterdir()) == ["default.pem", "other.pem"]


async def test_everything_of_a_backup_is_its_owners_alone(keeper: Keeper, tmp_path: Path) -> None:
    await furnish(keeper)
    await keeper.take()
    root = Path(keeper.repository.root)
    for path in (root, *root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    new = tmp_path / "new"
    target = loading("sqlite", new)
    await in_thread(keeper.restore, target, new)
    target.close()
    for path in new.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_store_that_is_there_is_never_restored_over(keeper: Keeper, tmp_path: Path) -> None:
    await keeper.take()
    new = tmp_path / "new"
    for expected in (None, AlreadyExists):
        target = loading("sqlite", new)
        try:
            if expected is None:
                await in_thread(keeper.restore, target, new)
            else:
                with pytest.raises(expected):
                    await in_thread(keeper.restore, target, new)
        finally:
            target.close()


@pytest.mark.postgres
async def test_a_database_that_holds_a_store_is_left_alone(
    keeper: Keeper, tmp_path: Path, postgres_tables: str
) -> None:
    await keeper.take()
    target = PostgresLoading(postgres_tables)
    with pytest.raises(AlreadyExists):
        await in_thread(keeper.restore, target, tmp_path / "new")
    target.close()


async def test_what_is_interrupted_is_no_store_and_can_be_begun_again(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnish(keeper)
    await keeper.take()
    new = tmp_path / "new"
    target = loading("sqlite", new)
    assert isinstance(target, SqliteLoading)

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(target, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keeper.restore(target, new)
    target.close()
    assert not (new / "mail.db").exists()
    again = loading("sqlite", new)
    assert keeper.restore(again, new).problems == []
    again.close()
    assert (new / "mail.db").exists()
    assert not list(new.glob("*.restoring*"))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("UPDATE schema_step SET number = 99", NewerSchema),
        ("UPDATE schema_step SET number = 1", None),
    ],
)
async def test_a_newer_release_s_backup_is_refused(
    keeper: Keeper, tmp_path: Path, change: str, error: type[Exception] | None
) -> None:
    await keeper.stores.mail.write(run, change)
    try:
        await keeper.take()
    finally:
        await keeper.stores.mail.write(run, "UPDATE schema_step SET number = 1")
    target = loading("sqlite", tmp_path / "new")
    try:
        if error is None:
            keeper.restore(target, tmp_path / "new")
        else:
            with pytest.raises(error):
                keeper.restore(target, tmp_path / "new")
    finally:
        target.close()


async def test_a_table_that_the_release_does_not_have_is_refused(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is empty: then there is nothing that could not be kept."""
    await keeper.take()
    for rows in (0, 1):
        folder = tmp_path / str(rows)
        target = loading("sqlite", folder)
        monkeypatch.setattr(target, "columns", lambda store, table: {"id": True, "other": True})
        try:
            if not rows:
                keeper.restore(target, folder)
                await keeper.keep(b"x")
                await keeper.take()
                continue
            with pytest.raises(Misuse, match=r"does not fit this release: mail\.blob"):
                keeper.restore(target, folder)
        finally:
            target.close()
