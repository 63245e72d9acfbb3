from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from functools import cache

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Corrupt
from postroom.store import frames

_SIZES = (1, 1_000, frames.FRAME - 1, frames.FRAME, frames.FRAME + 1, 3 * frames.FRAME + 5_000)


@cache
def content(size: int) -> bytes:
    """Text that compresses, unlike at every place."""
    choose = random.Random(size)
    words = [b"%x " % choose.getrandbits(16) * 4 for _ in range(500)]
    made = b"".join(choose.choice(words) for _ in range(size // 8 + 1))
    return made[:size]


def pieces(data: bytes) -> Iterator[bytes]:
    return (data[n : n + frames.FRAME] for n in range(0, len(data), frames.FRAME))


@cache
def packed(size: int) -> tuple[bytes, bytes]:
    found = frames.pack(pieces(content(size)))
    assert found is not None
    return found


def read(table: bytes, stored: bytes, size: int, start: int, length: int) -> bytes:
    return frames.read(table, lambda at, n: stored[at : at + n], size, start, length)


@settings(max_examples=150, deadline=None)
@given(
    size=st.sampled_from(_SIZES[1:]),
    start=st.integers(0, 4 * frames.FRAME),
    length=st.integers(0, 4 * frames.FRAME),
)
def test_any_range_is_the_slice_of_the_content(size: int, start: int, length: int) -> None:
    table, stored = packed(size)
    assert read(table, stored, size, start, length) == content(size)[start : start + length]


def test_a_range_costs_its_frames_alone() -> None:
    size = _SIZES[-1]
    table, stored = packed(size)
    asked = []

    def reader(at: int, length: int) -> bytes:
        asked.append(length)
        return stored[at : at + length]

    frames.read(table, reader, size, frames.FRAME + 10, 20)
    assert len(asked) == 1
    assert asked[0] < len(stored) // 2


def test_what_does_not_compress_stays_raw() -> None:
    assert frames.pack(pieces(random.Random(1).randbytes(300_000))) is None
    assert frames.pack(iter(())) is None


def test_what_would_not_fit_its_table_stays_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_MOST_STORED", 100)
    assert frames.pack(pieces(content(_SIZES[-1]))) is None


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_is_corrupt_or_changes_nothing(data: st.DataObject) -> None:
    """Never another exception; wrong octets only where the hash alone can tell."""
    size = _SIZES[-1]
    table, stored = packed(size)
    if data.draw(st.booleans(), label="in the table"):
        damaged = bytearray(table)
        damaged[data.draw(st.integers(0, len(table) - 1))] ^= data.draw(st.integers(1, 255))
        table = bytes(damaged)
    else:
        damaged = bytearray(stored)
        damaged[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
        stored = bytes(damaged)
    try:
        got = read(table, stored, size, 0, size)
    except Corrupt:
        return
    assert len(got) == size


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 8])
def test_a_table_of_another_length_is_corrupt(cut: int) -> None:
    size = _SIZES[-1]
    table, stored = packed(size)
    for bad in (table[:-cut], table + bytes(cut), b""):
        with pytest.raises(Corrupt):
            read(bad, stored, size, 0, size)


def test_a_table_that_goes_back_is_corrupt() -> None:
    size = _SIZES[-1]
    _, stored = packed(size)
    for ends in ((100, 50, 200, 300), (0, 0, 0, 0), (5, 5, 5, 5)):
        with pytest.raises(Corrupt):
            read(struct.pack("<4I", *ends), stored, size, 0, size)


def test_stored_octets_that_are_missing_are_corrupt() -> None:
    size = _SIZES[-1]
    table, stored = packed(size)
    for kept in (0, 1, len(stored) // 2, len(stored) - 1):
        with pytest.raises(Corrupt):
            read(table, stored[:kept], size, 0, size)


def test_a_frame_that_would_expand_beyond_its_bound_is_not_expanded() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    with pytest.raises(Corrupt):
        read(struct.pack("<I", len(bomb)), bomb, 1_000, 0, 1_000)


def test_a_file_of_frames_can_be_read_without_its_row() -> None:
    size = _SIZES[-1]
    table, stored = packed(size)
    file = stored + frames.trailer(table)
    assert frames.table_of(len(file), size, lambda at, n: file[at : at + n]) == table
    # By any zstd tool too: it passes over the trailer.
    whole = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(file)
    assert whole == content(size)
