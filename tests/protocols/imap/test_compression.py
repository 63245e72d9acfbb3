"""postroom.protocols.imap.compression: the two streams of COMPRESS. Pure."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.protocols.imap.compression import STEP, Compression, DamagedStream

PIECES = st.lists(st.binary(max_size=300).map(lambda each: each * 20), max_size=12)


def all_of(compression: Compression) -> bytes:
    found = b""
    while more := compression.step():
        assert len(more) <= STEP
        found += more
    return found


@given(PIECES, st.lists(st.sampled_from(["flush", "rest", "on"]), min_size=12, max_size=12))
def test_what_is_written_is_read(pieces: list[bytes], then: list[str]) -> None:
    ours = Compression()
    theirs = zlib.decompressobj(-zlib.MAX_WBITS)
    read = said = b""
    for piece, next_ in zip(pieces, then, strict=False):
        said += piece
        out = ours.seal(piece)
        if next_ == "flush":
            out += ours.flush()
        elif next_ == "rest":
            out += ours.rest()
            assert not ours.is_warm
        read += theirs.decompress(out)
        if next_ != "on":
            assert read == said
    assert read + theirs.decompress(ours.flush()) == said


@given(PIECES, st.integers(1, 50))
def test_what_comes_in_any_slices_is_read(pieces: list[bytes], size: int) -> None:
    theirs = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    ours = Compression()
    for piece in pieces:
        sent = theirs.compress(piece) + theirs.flush(zlib.Z_SYNC_FLUSH)
        found = b""
        for at in range(0, len(sent), size):
            ours.feed(sent[at : at + size])
            found += all_of(ours)
        assert found == piece
    assert ours.held == 0


@pytest.mark.parametrize("octets", [STEP - 1, STEP, STEP + 1, 3 * STEP])
def test_the_last_of_a_step_is_not_left_behind(octets: int) -> None:
    theirs = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    ours = Compression()
    ours.feed(theirs.compress(b"a" * octets) + theirs.flush(zlib.Z_SYNC_FLUSH))
    assert all_of(ours) == b"a" * octets


def test_nothing_is_said_for_nothing() -> None:
    ours = Compression()
    assert (ours.flush(), ours.rest(), ours.step(), ours.is_warm) == (b"", b"", b"", False)
    ours.seal(b"hello")
    assert ours.flush()
    assert ours.flush() == b""


def test_few_octets_that_stand_for_many_are_taken_a_step_at_a_time() -> None:
    """Attack class 7."""
    bomb = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    sent = bomb.compress(b"\0" * (32 << 20)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    assert len(sent) < 40_000
    ours = Compression()
    ours.feed(sent)
    steps = 0
    while more := ours.step():
        assert len(more) <= STEP
        assert ours.held <= len(sent)
        steps += 1
    assert steps == (32 << 20) // STEP


def test_what_is_no_stream() -> None:
    ours = Compression()
    ours.feed(b"a NOOP\r\n" * 10)
    with pytest.raises(DamagedStream):
        all_of(ours)


def test_a_stream_that_ends() -> None:
    theirs = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    ours = Compression()
    ours.feed(theirs.compress(b"a NOOP\r\n") + theirs.flush() + b"b NOOP\r\n")
    with pytest.raises(DamagedStream):
        all_of(ours)
