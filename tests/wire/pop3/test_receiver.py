"""The server's ear: lines whatever the chopping, and none that could be read in two ways."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.pop3 import BadLine, Command, Event, Fault, Line, Receiver
from postroom.wire.pop3.limits import COMMAND_LINE_CAP, DISCARD_CAP


def events(*pieces: bytes) -> list[Event]:
    receiver = Receiver()
    found: list[Event] = []
    for piece in pieces:
        receiver.feed(piece)
        while (event := receiver.next()) is not None:
            found.append(event)
            if event == Command(b"AUTH", b"x"):
                receiver.expect_line(100)
    return found


def test_a_verb_in_any_case_and_the_argument_as_it_was_said() -> None:
    said = b"stat\r\nPass  two words \r\nUSER Z\xc3\xbc\r\n\r\n \r\n"
    assert events(said) == [
        Command(b"STAT", b""),
        Command(b"PASS", b" two words "),
        Command(b"USER", b"Z\xc3\xbc"),
        Command(b"", b""),
        Command(b"", b""),
    ]


def test_the_line_behind_a_challenge_is_no_command() -> None:
    assert events(b"AUTH x\r\nQUIT\r\nQUIT\r\n") == [
        Command(b"AUTH", b"x"),
        Line(b"QUIT"),
        Command(b"QUIT", b""),
    ]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (b"QUIT\n", Fault.BARE_LF),
        (b"QUIT\rSTAT\r\n", Fault.BARE_CR),
        (b"\n\r\n", Fault.BARE_LF),
        (b"x" * (COMMAND_LINE_CAP + 10) + b"\n", Fault.BARE_LF),
        (b"x" * (DISCARD_CAP + 10), Fault.TOO_LONG),
    ],
)
def test_what_leaves_no_doubt_where_a_line_ends_goes_on_and_all_else_ends(
    said: bytes, fault: Fault
) -> None:
    assert events(said, b"QUIT\r\n") == [BadLine(fault, fatal=True)]


def test_a_line_that_is_too_long_or_holds_controls_is_gone_whole() -> None:
    long = b"USER " + b"x" * COMMAND_LINE_CAP + b"\r\n"
    assert events(long + b"A\0B\r\n" + b"AUTH x\r\n" + b"y" * 200 + b"\r\nNOOP\r\n") == [
        BadLine(Fault.TOO_LONG, fatal=False),
        BadLine(Fault.CONTROL, fatal=False),
        Command(b"AUTH", b"x"),
        BadLine(Fault.TOO_LONG, fatal=False),
        Command(b"NOOP", b""),
    ]


def test_the_longest_line_that_is_taken() -> None:
    name = b"x" * (COMMAND_LINE_CAP - len(b"USER \r\n"))
    assert events(b"USER " + name + b"\r\n") == [Command(b"USER", name)]
    assert events(b"USER x" + name + b"\r\n") == [BadLine(Fault.TOO_LONG, fatal=False)]


def test_empty_says_whether_anything_was_said_beyond_the_last_event() -> None:
    receiver = Receiver()
    seen = []
    for more in (b"STLS\r\n", b"x", b"y" * 5000):
        receiver.feed(more)
        before = receiver.empty
        receiver.next()
        seen.append((before, receiver.empty))
    # A part of a line, or of one that is dropped, counts.
    assert seen == [(False, True), (False, False), (False, False)]


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [b"NOOP\r\n", b"AUTH x\r\n", b"PASS a b \r\n", b"\r\n", b"\n", b"\r", b"x", b"\0",
             b"y" * 4200, b"z" * 150 + b"\r\n"]
        ),
        max_size=12,
    ),
    st.integers(1, 40),
)  # fmt: skip
def test_the_chopping_makes_no_difference(pieces: list[bytes], step: int) -> None:
    whole = b"".join(pieces)
    assert events(*(whole[n : n + step] for n in range(0, len(whole), step))) == events(whole)


def test_the_work_is_linear() -> None:
    """In the number of lines, and for a line that drips in."""
    took = []
    for count in (20_000, 80_000):
        receiver = Receiver()
        began = time.thread_time()
        receiver.feed(b"NOOP\r\n" * count)
        while receiver.next() is not None:
            pass
        took.append(time.thread_time() - began)
    assert took[1] < 12 * took[0]
    receiver = Receiver()
    began = time.thread_time()
    for _ in range(COMMAND_LINE_CAP - 1):
        receiver.feed(b"x")
        assert receiver.next() is None
    assert time.thread_time() - began < 0.5
