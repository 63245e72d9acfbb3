"""Line ends, tops and dots, whatever the cuts; and that they cost what they are."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.pop3 import Crlf, Stuffer, Top, Unstuffer

PIECES = st.lists(
    st.sampled_from([b"\r\n", b".", b"\n", b"\r", b"a", b"", b"\r\n\r\n", b"..", b"xyz"]),
    max_size=24,
)
STEPS = st.integers(1, 9)


def cut(data: bytes, step: int) -> list[bytes]:
    return [data[n : n + step] for n in range(0, len(data), step)]


def crlf(pieces: list[bytes]) -> list[bytes]:
    lines = Crlf()
    return [*(lines.feed(piece) for piece in pieces), lines.finish()]


def sent(pieces: list[bytes]) -> bytes:
    stuffer = Stuffer()
    return b"".join([*(stuffer.feed(piece) for piece in crlf(pieces)), stuffer.finish()])


def read(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    reader = Unstuffer()
    text = []
    for n, piece in enumerate(pieces):
        more, rest = reader.feed(piece)
        text.append(more)
        if rest is not None:
            return b"".join(text), rest + b"".join(pieces[n + 1 :])
    return b"".join(text), None


def lines_of(data: bytes) -> list[bytes]:
    """As a person would do it: every kind of line end is one."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


@settings(max_examples=300)
@given(PIECES, STEPS, STEPS)
def test_what_is_sent_is_what_is_read(pieces: list[bytes], step: int, other: int) -> None:
    data = b"".join(pieces)
    wire = sent(cut(data, step))
    wanted = b"\r\n".join(lines_of(data))
    if wanted and not wanted.endswith(b"\r\n"):
        wanted += b"\r\n"
    assert read(cut(wire + b"+OK next\r\n", other)) == (wanted, b"+OK next\r\n")
    # No reader of any kind of line end sees the end too early.
    assert wire.count(b"\n") == wire.count(b"\r") == wire.count(b"\r\n")
    assert [n for n, line in enumerate(wire.split(b"\r\n")) if line == b"."] == [
        wire.count(b"\r\n") - 1
    ]


@settings(max_examples=300)
@given(PIECES, STEPS, st.integers(0, 8))
def test_top_is_the_header_and_so_many_lines(pieces: list[bytes], step: int, count: int) -> None:
    data = b"".join(crlf([b"".join(pieces)]))
    top = Top(count)
    got = b"".join(top.feed(piece) for piece in crlf(cut(data, step)))
    if data.startswith(b"\r\n"):
        head, body = b"\r\n", data[2:]
    else:
        before, gap, body = data.partition(b"\r\n\r\n")
        head = before + gap
        if not gap:
            body = b""
    kept = body.split(b"\n")[:count]
    wanted = b"\n".join(kept) + (b"\n" if body.count(b"\n") >= count > 0 else b"")
    assert got == head + wanted


def test_top_is_done_when_nothing_more_can_pass() -> None:
    top = Top(1)
    passed = [(top.feed(piece), top.done) for piece in (b"A: b\r\n\r\n1", b"\r\n2\r\n", b"3\r\n")]
    assert passed == [(b"A: b\r\n\r\n1", False), (b"\r\n", True), (b"", True)]


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.b\r\n", b"a\r\n..b\r\n.\r\n"),
        (b"a\n.\n", b"a\r\n..\r\n.\r\n"),
        (b"a\r.\r", b"a\r\n..\r\n.\r\n"),
    ],
)
def test_dots(data: bytes, wire: bytes) -> None:
    """RFC 1939 §3."""
    for step in range(1, 5):
        assert sent(cut(data, step)) == wire


def test_the_work_is_linear() -> None:
    for unit in (b".\r\n", b"\r\n", b"\n", b"\r", b"x" * 70 + b"\r\n"):
        took = []
        for size in (1 << 20, 1 << 22):
            data = unit * (size // len(unit))
            began = time.thread_time()
            wire = sent(cut(data, 131_072))
            text, rest = read(cut(wire, 65_536))
            took.append(time.thread_time() - began)
            assert rest == b""
            assert len(text) >= len(data)
        assert took[1] < 12 * max(took[0], 0.002)
