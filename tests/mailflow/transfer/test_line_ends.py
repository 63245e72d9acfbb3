"""Line ends on their way in and out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.mailflow.transfer.line_ends import ToCrlf, ToLf

OCTETS = st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"bc"]), max_size=40).map(b"".join)


def through(ends: ToCrlf | ToLf, pieces: list[bytes]) -> bytes:
    return b"".join([*map(ends.feed, pieces), ends.flush()])


def cut(data: bytes, at: list[int]) -> list[bytes]:
    bounds = [0, *sorted(min(n, len(data)) for n in at), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb", b"a\r\nb"),
        (b"a\rb", b"a\r\nb"),
        (b"a\r", b"a\r\n"),
        (b"A: 1\r\r\nB: 2\r\r\n", b"A: 1\r\nB: 2\r\n"),
        (b"a\r\n\nb", b"a\r\n\r\nb"),
        (b"", b""),
    ],
)
def test_every_line_ends_in_crlf(given_: bytes, wanted: bytes) -> None:
    assert through(ToCrlf(), [given_]) == wanted


@given(OCTETS, st.lists(st.integers(0, 80), max_size=6))
def test_the_cuts_of_the_stream_change_nothing(data: bytes, at: list[int]) -> None:
    assert through(ToCrlf(), cut(data, at)) == through(ToCrlf(), [data])
    assert through(ToLf(), cut(data, at)) == data.replace(b"\r\n", b"\n")


@given(OCTETS, st.lists(st.integers(0, 80), max_size=6))
def test_nothing_bare_is_left_and_what_is_whole_stays(data: bytes, at: list[int]) -> None:
    made = through(ToCrlf(), cut(data, at))
    rest = made.replace(b"\r\n", b"")
    assert b"\r" not in rest
    assert b"\n" not in rest
    assert through(ToCrlf(), [made]) == made


def test_a_sea_of_carriage_returns_is_walked_once() -> None:
    made = through(ToCrlf(), [b"\r" * 1_000_000] * 4)
    assert made == b"\r\n" * 4_000_000
