from __future__ import annotations

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt
from postroom.domain import trace
from postroom.domain.trace import Trace, address_key, message_id_key, pack
from postroom.store.sql import Statement, Tx
from postroom.store.units import Database
from tests.domain.making import DAY, NOW, Direct
from tests.stores import Stores

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def keep(store: Direct, number: int, *keys: str, at: int = 0, record: object = None) -> None:
    packed = pack({"n": number, "what": record})
    store.write(trace.keep, number, Instant(NOW + at), packed, keys)


# --- records ------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(record=st.dictionaries(st.text(max_size=8), _JSON, max_size=5))
def test_a_record_unpacks_as_it_was_packed(record: dict[str, object]) -> None:
    assert trace._unpacked(pack(record)) == record


def test_whatever_a_stranger_sent_can_be_recorded() -> None:
    """Undecodable octets show up as surrogates; they must not stop the delivery."""
    record = {"helo": "a\udcff\ud800b", "nested": [{"k\udc80": ("x\x00", 1 << 80)}]}
    assert trace._unpacked(pack(record))["helo"].startswith("a")


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x00",
        b"\x63" + zstandard.compress(b"{}"),
        b"\x01",
        b"\x01not zstd",
        b"\x01" + zstandard.compress(b"{"),
        b"\x01" + zstandard.compress(b"\xff\xfe"),
        b"\x01" + zstandard.compress(bytes(40_000_000)),
        b"\x01" + zstandard.compress(b'{"a": 1}')[:-3],
    ],
)
def test_damage_is_corrupt(packed: bytes) -> None:
    with pytest.raises(Corrupt):
        trace._unpacked(packed)


# --- finding ------------------------------------------------------------------------------


def test_a_trace_is_found_by_message_id_and_by_address(store: Direct) -> None:
    keys = (message_id_key("<one@x>"), address_key("Ann@A.test"))
    keep(store, 1, *keys, *keys, record=["x"])
    keep(store, 2, address_key("ann@a.test"))
    assert store.read(trace.get, 1) == {"n": 1, "what": ["x"]}
    assert store.read(trace.get, 3) is None
    for asked in ("<one@x>", "one@x", " <one@x> "):
        assert [i for i, _ in store.read(trace.find, message_id_key(asked))] == [1]
    assert [i for i, _ in store.read(trace.find, address_key("ANN@a.test"))] == [2, 1]
    assert [i for i, _ in store.read(trace.find, address_key("ann@a.test"), 1)] == [2]
    assert store.read(trace.find, address_key("bob@a.test")) == []
    assert [i for i, _ in store.read(trace.latest)] == [2, 1]


def test_keys_of_strangers_are_kept_and_found(store: Direct) -> None:
    """NUL is no text to PostgreSQL, a lone surrogate to neither engine; an index entry ends."""
    strange = ["<a\x00b@x>", "<\udcff\ud800@x>", "<" + "\N{SNOWMAN}" * 2_000 + ">", "<>", ""]
    keys = [message_id_key(s) for s in strange] + [address_key(s) for s in strange]
    keep(store, 1, *keys)
    for key in keys:
        assert [i for i, _ in store.read(trace.find, key)] == [1]


def test_many_keys_are_cut(store: Direct) -> None:
    keep(store, 1, *(address_key(f"r{n}@a.test") for n in range(1_000)))
    row = store.read(lambda tx: tx.one(Statement("SELECT count(*) FROM trace_key")))
    assert row == (trace._KEYS,)


# --- forgetting ---------------------------------------------------------------------------


def test_old_traces_go_with_their_keys_in_pieces(store: Direct) -> None:
    for number in range(1, 8):
        keep(store, number, address_key("ann@a.test"), at=number * DAY)
    before = Instant(NOW + 6 * DAY)
    assert [store.write(trace.forget, before, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert [i for i, _ in store.read(trace.latest)] == [7, 6]
    row = store.read(lambda tx: tx.one(Statement("SELECT count(*) FROM trace_key")))
    assert row == (2,)


async def test_refusals_have_their_own_store(stores: Stores) -> None:
    async def seen(db: Database) -> list[int]:
        return [i for i, _ in await db.read(trace.latest_refusals)]

    key = address_key("ann@a.test")
    refusals = [Trace(n, Instant(NOW + n), {"n": n}, (key, key)) for n in (1, 2, 3)]
    await stores.state.write(trace.note_refusals, refusals)
    await stores.state.write(trace.note_refusals, refusals[:1])  # a note may be run again
    assert await seen(stores.state) == [3, 2, 1]
    assert await stores.state.read(trace.get_refusal, 2) == {"n": 2}
    assert await stores.state.read(trace.get_refusal, 9) is None
    assert [i for i, _ in await stores.state.read(trace.find_refusals, key)] == [3, 2, 1]
    assert await stores.state.write(trace.forget_refusals, Instant(NOW + 3), 1) == 1
    assert await stores.state.write(trace.forget_refusals, Instant(NOW + 3)) == 1
    assert await seen(stores.state) == [3]

    def keys(tx: Tx) -> int:
        row = tx.one(Statement("SELECT count(*) FROM refusal_key"))
        assert row is not None
        return int(row[0])

    assert await stores.state.read(keys) == 1
