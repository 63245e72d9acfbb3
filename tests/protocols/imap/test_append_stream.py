"""protocols.imap.commands.append: what happens to the line ends of a message that streams in."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.protocols.imap.commands.append import LineEnds

contents = st.text("\r\n\r\n\r\nab", max_size=60).map(str.encode) | st.binary(max_size=60)


def repaired(whole: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", b"\r\n", whole)


def streamed(chunks: list[bytes]) -> bytes:
    ends = LineEnds()
    return b"".join([ends.feed(chunk) for chunk in chunks]) + ends.flush()


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[lo:hi] for lo, hi in itertools.pairwise(marks)]


@settings(max_examples=500)
@given(contents, st.lists(st.integers(0, 100), max_size=8))
@example(b"a\r\r\nb", [2])
@example(b"\r\n\r\n", [1, 3])
@example(b"a\r", [])
def test_every_line_ends_in_crlf_wherever_the_stream_was_cut(
    whole: bytes, places: list[int]
) -> None:
    assert streamed(cut(whole, places)) == repaired(whole)


@given(contents)
def test_octet_by_octet_is_the_same(whole: bytes) -> None:
    assert streamed([whole[n : n + 1] for n in range(len(whole))]) == repaired(whole)


@given(contents.map(repaired), st.lists(st.integers(0, 100), max_size=8))
def test_a_message_with_honest_line_ends_is_kept_octet_for_octet(
    whole: bytes, places: list[int]
) -> None:
    assert streamed(cut(whole, places)) == whole


@pytest.mark.parametrize("unit", [b"\r", b"\n", b"\r\n", b"\n\r", b"\r\r\n"])
def test_repair_is_linear_in_the_message(unit: bytes) -> None:
    whole = unit * (8_000_000 // len(unit))
    started = time.thread_time()
    made = streamed([whole[at : at + 50_000] for at in range(0, len(whole), 50_000)])
    assert time.thread_time() - started < 4
    assert made.count(b"\r\n") * 2 == len(made)
