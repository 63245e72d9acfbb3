"""Attack class 8: literals and lists, against memory and time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest

from postroom.wire.imap import (
    BEFORE_SIGN_IN,
    SIGNED_IN,
    BadLine,
    Budget,
    LiteralChunk,
    Nothing,
    Receiver,
)
from tests.wire.imap.driving import Session


def peak(pieces: Iterable[bytes], receiver: Receiver) -> tuple[int, list[object]]:
    """The most memory, in octets, that the receiver's work took at any time, and the events."""
    session = Session(receiver)
    tracemalloc.start()
    try:
        for piece in pieces:
            session.feed(piece)
            assert receiver.buffered <= receiver.budget.limit
        _, high = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return high, session.seen


BUDGET = 64 << 10
CAP = 4 * BUDGET  # of memory: what is held, a copy of it on its way, Python's own


def before_sign_in() -> Receiver:
    return Receiver(Budget(BUDGET), BEFORE_SIGN_IN)


def test_attack_08_many_literals_are_bounded_in_total() -> None:
    pieces = [b"A LOGIN "] + [b"{4000+}\r\n", b"x" * 4000, b" "] * 200
    high, seen = peak(pieces, before_sign_in())
    assert high < CAP
    assert seen[0] in (
        BadLine(b"A", "The literal is too large", too_big=True, name=b"LOGIN"),
        BadLine(None, "Too much at once", fatal=True),
    )


def test_attack_08_empty_literals_are_not_free() -> None:
    high, seen = peak([b"A LOGIN "] + [b"{0+}\r\n "] * 5_000, before_sign_in())
    assert high < CAP
    assert isinstance(seen[0], BadLine)


def test_attack_08_a_giant_announcement_is_refused_and_nothing_is_reserved() -> None:
    high, seen = peak([b"A LOGIN {99999999999}\r\n", b"B NOOP\r\n"], before_sign_in())
    assert high < CAP
    assert seen == [
        BadLine(b"A", "The literal is too large", too_big=True, name=b"LOGIN"),
        (b"B", b"NOOP", Nothing()),
    ]


@pytest.mark.parametrize(
    "announced", [b"4294967296+", b"99999999999+", b"9" * 30 + b"+", b"0" * 70 + b"9" * 20 + b"+"]
)
@pytest.mark.parametrize("start", [b"A LOGIN ", b"A APPEND x ", b"A LOGIN x" + b"x" * 17_000])
def test_attack_08_a_giant_literal_that_does_not_wait_ends_the_connection(
    announced: bytes, start: bytes
) -> None:
    pieces = [start + b"{" + announced + b"}\r\n"] + [b"B NOOP\r\n" * 100] * 20
    high, seen = peak(pieces, before_sign_in())
    assert high < CAP
    last = seen[-1]
    assert isinstance(last, BadLine)
    assert last.fatal
    assert all(isinstance(item, BadLine) for item in seen)


def test_attack_08_a_refused_literal_is_dropped_and_not_kept() -> None:
    pieces = [b"A LOGIN {200000+}\r\n"] + [b"x" * 1000] * 200 + [b"\r\nB NOOP\r\n"]
    high, seen = peak(pieces, before_sign_in())
    assert high < CAP // 4
    assert seen[1:] == [(b"B", b"NOOP", Nothing())]


def test_attack_08_a_million_parentheses() -> None:
    pieces = [b"A SEARCH "] + [b"(" * 1000] * 1000 + [b"\r\n"]
    high, seen = peak(pieces, before_sign_in())
    assert high < CAP
    assert seen == [
        BadLine(b"A", "The line is too long"),
        BadLine(None, "Too much was refused", fatal=True),
    ]
    receiver = Receiver(Budget(1 << 20), SIGNED_IN)
    high, seen = peak([b"A SEARCH " + b"(" * 65_000 + b"\r\n"], receiver)
    assert high < 1 << 20
    assert seen == [(b"A", b"SEARCH", "The search is nested too deeply")]


def test_attack_08_a_slow_drip_is_bounded_and_linear() -> None:
    receiver = before_sign_in()
    high, seen = peak((b"x" for _ in range(30_000)), receiver)
    assert high < CAP
    assert seen == [BadLine(None, "The line is too long")]
    assert receiver.buffered == 0


def test_attack_08_pipelined_commands_wait_within_the_budget() -> None:
    receiver = before_sign_in()
    for _ in range(1000):
        receiver.feed(b"A NOOP\r\n" * 100)
        assert receiver.buffered <= BUDGET
    assert receiver.next() == BadLine(None, "Too much at once", fatal=True)


def test_attack_08_a_streamed_message_is_never_held_whole() -> None:
    receiver = Receiver(Budget(512 << 10), SIGNED_IN)
    block = b"x" * (64 << 10)
    session = Session(receiver)
    session.feed(b"A APPEND x {52428800+}\r\n")
    total = 0
    tracemalloc.start()
    try:
        for _ in range(800):
            receiver.feed(block)
            while (event := receiver.next()) is not None:
                assert receiver.buffered <= len(block)
                total += len(event.data) if isinstance(event, LiteralChunk) else 0
            del event
        _, high = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert high < 64 << 10
    assert total == 50 << 20
    assert session.feed(b"\r\n").seen[-1] is None
