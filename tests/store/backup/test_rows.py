"""Tables in chunks: what changes, changes its own chunk and no other."""

from __future__ import annotations

import threading

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Float, Integer, MetaData, Table

from postroom.core.errors import Corrupt, ShuttingDown
from postroom.store.backup import rows
from postroom.store.backup.rows import Chunk, Form, chunks, decode, forms
from postroom.store.schema import BYTES, INT, MAIL, STATE, TEXT, column, narrow, wide
from postroom.store.sql import Statement, Tx
from tests.stores import Stores

INSERT = Statement("INSERT INTO version (what, number) VALUES (:what, :number)")
REFUSAL = Statement("INSERT INTO refusal (id, at, record) VALUES (:id, 0, :record)")


def _form(name: str) -> Form:
    return next(form for form in (*forms(MAIL), *forms(STATE)) if form.name == name)


def _all(tx: Tx, form: Form) -> list[Chunk]:
    return list(chunks(tx, form, threading.Event()))


def _fill(tx: Tx, ids: range) -> None:
    tx.many(REFUSAL, [{"id": n, "record": b"x" * (n % 50)} for n in ids])


def test_every_table_has_a_form() -> None:
    for metadata in (MAIL, STATE):
        named = [form.name for form in forms(metadata)]
        assert set(named) == {table.name for table in metadata.sorted_tables}
        for table in metadata.sorted_tables:
            for key in table.foreign_keys:
                assert named.index(key.column.table.name) <= named.index(table.name)


def test_what_cannot_be_copied_is_told_at_import() -> None:
    metadata = MetaData()
    narrow("left_out", metadata, column("id", INT, primary_key=True), info={"backup": False})
    assert forms(metadata) == ()
    for table in (
        lambda m: wide("t", m, column("a", INT)),
        lambda m: wide("t", m, column("a", BYTES, primary_key=True)),
        lambda m: wide("t", m, column("a", INT, primary_key=True), column("b", Float())),
        lambda m: Table("t", m, Column("a", Integer(), primary_key=True)),
    ):
        metadata = MetaData()
        table(metadata)
        with pytest.raises(TypeError):
            forms(metadata)
    assert TEXT is not None


async def test_chunks_hold_every_row_once_in_order(stores: Stores) -> None:
    form = _form("refusal")
    await stores.state.write_much(_fill, range(1, 3_000))
    got = await stores.state.read_much(_all, form)
    found = [row for chunk in got for row in decode(form.columns, chunk.lines)]
    assert [row[0] for row in found] == list(range(1, 3_000))
    assert all(row[2] == b"x" * (row[0] % 50) for row in found)
    assert sum(chunk.rows for chunk in got) == 2_999
    assert 4 < len(got) < 40
    for chunk in got:
        lines = decode(form.columns, chunk.lines)
        assert (chunk.first, chunk.last) == ((lines[0][0],), (lines[-1][0],))


async def test_a_row_changes_its_own_chunk_alone(stores: Stores) -> None:
    form = _form("refusal")
    await stores.state.write_much(_fill, range(1, 5_000))
    before = {chunk.lines for chunk in await stores.state.read_much(_all, form)}
    changes = (
        "UPDATE refusal SET at = 5 WHERE id = 2500",
        "DELETE FROM refusal WHERE id = 700",
        "INSERT INTO refusal (id, at, record) VALUES (1000000, 1, '')",
    )
    for change in changes:
        await stores.state.write(lambda tx, c=change: tx.run(Statement(c)))  # type: ignore[misc]  # bound
        after = {chunk.lines for chunk in await stores.state.read_much(_all, form)}
        assert len(before - after) <= 2, change
        assert len(after - before) <= 2, change
        before = after


async def test_long_rows_are_read_and_kept_in_small_chunks(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "CHUNK_OCTETS", 40_000)
    monkeypatch.setattr(rows, "PAGE_OCTETS", 30_000)
    form = _form("refusal")

    def fill(tx: Tx) -> None:
        tx.many(REFUSAL, [{"id": n, "record": bytes(9_000)} for n in range(1, 90)])

    await stores.state.write_much(fill)
    got = await stores.state.read_much(_all, form)
    assert sum(chunk.rows for chunk in got) == 89
    assert max(len(chunk.lines) for chunk in got) < 40_000 + 60_000


async def test_keys_of_texts_are_walked_in_the_engines_order(stores: Stores) -> None:
    form = _form("version")
    names = [f"{letter}{n}" for n in range(900) for letter in ("a", "B", "\u00e9", "_")]

    def fill(tx: Tx) -> None:
        tx.many(INSERT, [{"what": name, "number": 1} for name in names])

    await stores.mail.write_much(fill)
    got = await stores.mail.read_much(_all, form)
    found = [row[0] for chunk in got for row in decode(form.columns, chunk.lines)]
    assert sorted(found) == sorted(names)


async def test_it_stops_when_it_is_told(stores: Stores) -> None:
    await stores.state.write_much(_fill, range(1, 100))
    stopping = threading.Event()
    stopping.set()

    def look(tx: Tx) -> list[Chunk]:
        return list(chunks(tx, _form("refusal"), stopping))

    with pytest.raises(ShuttingDown):
        await stores.state.read_much(look)


_ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1)),
        st.one_of(st.none(), st.text()),
        st.one_of(st.none(), st.binary()),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(wanted=_ROWS)
def test_values_come_back_as_they_went_in(
    wanted: list[tuple[int | None, str | None, bytes | None]],
) -> None:
    columns = (("a", "int"), ("b", "text"), ("c", "bytes"))
    lines = b"\n".join(orjson.dumps(row, default=rows._cell) for row in wanted)
    assert [tuple(row) for row in decode(columns, lines)] == wanted


@pytest.mark.parametrize(
    "lines",
    [
        b"{",
        b"1",
        b'"abc"',
        b"[1]",
        b"[1,2,3]",
        b"[1,2,null]",
        b"[true,null,null]",
        b"[1.5,null,null]",
        b'["1","a","="]',
        b'[1,"a","%"]',
        b'[1,"b",["c"]]',
    ],
)
def test_what_are_no_rows_is_damage(lines: bytes) -> None:
    columns = (("a", "int"), ("b", "text"), ("c", "bytes"))
    with pytest.raises(Corrupt):
        decode(columns, lines)
