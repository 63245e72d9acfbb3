"""What a client sends, as events: commands, literals, lines, whatever the chopping."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.imap import (
    BEFORE_SIGN_IN,
    GRAMMAR,
    SIGNED_IN,
    Append,
    AppendMessage,
    BadLine,
    BadSyntax,
    Budget,
    Command,
    Fetch,
    FetchAttribute,
    Line,
    LiteralChunk,
    LiteralEnd,
    LiteralStart,
    Login,
    NeedLiteral,
    Nothing,
    Receiver,
    Select,
    SequenceSet,
    parse_login,
)
from tests.wire.imap.driving import Session, events, small

# --- commands --------------------------------------------------------------------------------


def test_a_command_has_tag_name_and_arguments() -> None:
    receiver = Receiver(Budget(1000))
    receiver.feed(b"a001 login SMITH SESAME\r\n")
    command = receiver.next()
    assert isinstance(command, Command)
    assert (command.tag, command.name, command.more) == (b"a001", b"LOGIN", False)
    assert parse_login(command.args) == Login("SMITH", "SESAME")
    assert receiver.next() is None


def test_uid_is_joined_to_the_name_of_its_command() -> None:
    messages = SequenceSet.parse(b"1")
    assert events(b"a uid fetch 1 flags\r\n") == [
        (b"a", b"UID FETCH", Fetch(messages, (FetchAttribute.FLAGS,)))
    ]
    assert events(b"a UID\r\n") == [(b"a", b"UID", None)]


def test_a_pipelined_command_is_not_read_before_it_is_asked_for() -> None:
    receiver = Receiver(Budget(1000))
    receiver.feed(b"1 IDLE\r\nDONE\r\n2 NOOP\r\n")
    assert isinstance(receiver.next(), Command)
    receiver.expect_line()
    assert receiver.next() == Line(b"DONE")
    command = receiver.next()
    assert isinstance(command, Command)
    assert command.name == b"NOOP"


def test_utf8_holds_from_the_next_command_on() -> None:
    receiver = Receiver(Budget(1000))
    receiver.feed(b'1 SELECT "caf\xc3\xa9"\r\n' * 2)
    session = Session(receiver)
    first = receiver.next()
    assert isinstance(first, Command)
    with pytest.raises(BadSyntax):
        GRAMMAR[first.name](first.args)
    receiver.utf8 = True
    session.feed(b"")
    assert "café" in str(session.seen)


@pytest.mark.parametrize(
    ("line", "tag"),
    [
        (b"", None),
        (b" ", None),
        (b"a001", None),
        (b"a001 ", b"a001"),
        (b"+ NOOP", None),
        (b"a+b NOOP", None),
        (b"* OK", None),
        (b"(a NOOP", None),
        (b"a  NOOP", b"a"),
        (b"a NO\0OP", b"a"),
        (b"a NOOP\x7f", b"a"),
        (b"\xff NOOP", None),
        (b"a \xff", b"a"),
        (b"t" * 256 + b" NOOP", None),
        (b"a N" + b"O" * 40, b"a"),
    ],
)
def test_what_is_no_command_is_answered_under_its_tag_if_it_has_one(
    line: bytes, tag: bytes | None
) -> None:
    bad, noop = events(line + b"\r\nb NOOP\r\n")
    assert isinstance(bad, BadLine)
    assert (bad.tag, bad.fatal) == (tag, False)
    assert noop == (b"b", b"NOOP", Nothing())


@pytest.mark.parametrize("line", [b"a NOOP\n", b"\n", b'a LOGIN a "b\nc"\r\n', b"a X\rY\n"])
def test_a_bare_line_feed_ends_the_connection(line: bytes) -> None:
    session = Session().feed(line + b"b LOGOUT\r\n")
    [bad] = session.seen
    assert isinstance(bad, BadLine)
    assert bad.fatal
    assert bad.tag == (b"a" if line != b"\n" else None)
    session.feed(b"c NOOP\r\n")
    assert session.seen == [bad]
    assert session.receiver.budget.used == 0


def test_a_bare_carriage_return_is_refused_and_the_connection_stays() -> None:
    refused, noop = events(b"a SELECT a\rb\r\nb NOOP\r\n")
    assert refused == (b"a", b"SELECT", "There is more than the command takes")
    assert noop == (b"b", b"NOOP", Nothing())


# --- literals --------------------------------------------------------------------------------


def test_a_synchronising_literal_waits_for_permission() -> None:
    receiver = Receiver(Budget(1000))
    receiver.feed(b"A LOGIN {5}\r\n")
    assert receiver.next() == NeedLiteral(b"A", b"LOGIN", 5, True, False, False)
    receiver.accept()
    assert receiver.next() is None
    receiver.feed(b"FRED ")
    assert receiver.next() is None
    receiver.feed(b" {3+}\r\nab)\r\n")
    command = receiver.next()
    assert isinstance(command, Command)
    assert parse_login(command.args) == Login("FRED ", "ab)")


def test_a_non_synchronising_literal_asks_nothing() -> None:
    assert events(b'A LOGIN {4+}\r\nann" {3+}\r\n\r\n{\r\n') == [
        (b"A", b"LOGIN", Login('ann"', "\r\n{"))
    ]


def test_an_empty_literal_is_a_string() -> None:
    assert events(b"A LOGIN {0+}\r\n {0+}\r\n\r\n") == [(b"A", b"LOGIN", Login("", ""))]


def test_a_rejected_synchronising_literal_never_comes() -> None:
    session = Session(accept=lambda need: False)
    session.feed(b"A LOGIN {5}\r\nB NOOP\r\n")
    assert session.seen[1:] == [(b"B", b"NOOP", Nothing())]


def test_the_session_must_decide_before_it_asks_on() -> None:
    receiver = Receiver(Budget(1000))
    receiver.feed(b"A LOGIN {5}\r\n")
    receiver.next()
    with pytest.raises(RuntimeError):
        receiver.next()
    for call in (receiver.expect_line, Receiver(Budget(9)).accept, Receiver(Budget(9)).reject):
        with pytest.raises(RuntimeError):
            call()


def test_braces_that_announce_nothing_are_part_of_the_line() -> None:
    assert events(b"a SELECT x}\r\n") == [(b"a", b"SELECT", Select("x}"))]
    assert len(events(b"a SELECT {x}\r\n")) == 1
    assert len(events(b"a SELECT {}\r\n")) == 1
    assert len(events(b"a SELECT {+}\r\n")) == 1


# --- APPEND: the message is streamed ---------------------------------------------------------


def test_the_message_of_append_is_streamed() -> None:
    message = b"From: ann@a.example\r\n\r\nHello {5+}\r\n"
    session = Session().feed(b"A003 APPEND saved-messages (\\Seen) {%d}\r\n" % len(message))
    assert session.seen == [
        (b"A003", b"APPEND", Append("saved-messages", AppendMessage(("\\Seen",)))),
        NeedLiteral(b"A003", b"APPEND", len(message), True, True, False),
        LiteralStart(len(message), False),
    ]
    session.feed(message).feed(b"\r\nB NOOP\r\n")
    assert session.seen[3:] == [message, LiteralEnd(), None, (b"B", b"NOOP", Nothing())]


def test_a_mailbox_name_in_a_literal_is_collected_and_the_message_streamed() -> None:
    seen = events(b"A APPEND {5+}\r\nINBOX {3+}\r\nabc\r\n")
    assert seen[0] == (b"A", b"APPEND", Append("INBOX", AppendMessage()))
    assert seen[-3:] == [b"abc", LiteralEnd(), None]


def test_several_messages_in_one_append() -> None:
    """RFC 3502 §6.3.11."""
    seen = events(
        b"A APPEND saved {1+}\r\na (\\Flagged) {2+}\r\nbb "
        b'" 7-Feb-1994 22:43:04 -0800" {3+}\r\nccc\r\n'
    )
    assert [item for item in seen if isinstance(item, bytes)] == [b"a", b"bb", b"ccc"]
    messages = [item for item in seen if isinstance(item, AppendMessage)]
    assert messages[0].flags == ("\\Flagged",)
    assert messages[1].date is not None
    assert seen[-1] is None


def test_a_utf8_message_is_closed_after_its_literal() -> None:
    """RFC 6855 §4."""
    seen = events(b"A APPEND x UTF8 (~{3+}\r\n\xc3\xa9\n)\r\n")
    assert seen[0] == (b"A", b"APPEND", Append("x", AppendMessage(utf8=True)))
    assert seen[1] == NeedLiteral(b"A", b"APPEND", 3, False, True, True)
    assert seen[-3:] == ["\xc3\xa9\n".encode("latin-1"), LiteralEnd(), None]
    assert events(b"A APPEND x UTF8 (~{1+}\r\na\r\n")[-1] == ") is missing"


def test_a_streamed_literal_may_be_given_up_half_way() -> None:
    receiver = Receiver(Budget(1 << 20), SIGNED_IN)
    receiver.feed(b"A APPEND x {6+}\r\nabc")
    assert isinstance(receiver.next(), Command)
    assert isinstance(receiver.next(), NeedLiteral)
    receiver.accept()
    assert receiver.next() == LiteralStart(6, False)
    chunk = receiver.next()
    assert isinstance(chunk, LiteralChunk)
    assert bytes(chunk.data) == b"abc"
    receiver.reject()
    assert Session(receiver).feed(b"def {9+}\r\n1 NOOP\r\n1\r\nB NOOP\r\n").seen == [
        (b"B", b"NOOP", Nothing())
    ]


def test_a_streamed_literal_that_nobody_wants_is_dropped_with_the_rest_of_its_command() -> None:
    session = Session(accept=lambda need: False)
    session.feed(b"A APPEND x {9+}\r\n1 NOOP\r\n1 (\\Seen) {3+}\r\nabc\r\nB NOOP\r\n")
    assert session.seen[2:] == [(b"B", b"NOOP", Nothing())]


def test_arguments_that_are_wrong_drop_the_message_that_comes_anyway() -> None:
    assert events(b"A APPEND x (\\Seen {9+}\r\n1 NOOP\r\n1\r\nB NOOP\r\n") == [
        (b"A", b"APPEND", "A list of flags is missing"),
        (b"B", b"NOOP", Nothing()),
    ]


def test_a_big_message_is_handed_on_without_a_copy() -> None:
    receiver = Receiver(Budget(1 << 20), SIGNED_IN)
    receiver.feed(b"A APPEND x {300000+}\r\n")
    receiver.next()
    receiver.next()
    receiver.accept()
    receiver.next()
    assert receiver.next() is None
    block = b"x" * 150_000
    receiver.feed(block)
    chunk = receiver.next()
    assert isinstance(chunk, LiteralChunk)
    assert chunk.data.obj is block


def test_before_sign_in_nothing_is_streamed() -> None:
    session = Session(Receiver(Budget(64 << 10), BEFORE_SIGN_IN))
    session.feed(b"A APPEND x {5000}\r\nB APPEND x {10+}\r\n0123456789\r\n")
    assert session.seen == [
        BadLine(b"A", "The literal is too large", too_big=True, name=b"APPEND"),
        (b"B", b"APPEND", "A message literal is missing"),
    ]


# --- limits ----------------------------------------------------------------------------------


def test_a_literal_over_the_limit_is_refused_before_it_is_sent() -> None:
    assert events(b"A LOGIN {21}\r\nB LOGIN {20}\r\n", small())[:2] == [
        BadLine(b"A", "The literal is too large", too_big=True, name=b"LOGIN"),
        NeedLiteral(b"B", b"LOGIN", 20, True, False, False),
    ]


def test_a_refused_literal_that_comes_anyway_is_not_taken_for_commands() -> None:
    data = b"A LOGIN {26+}\r\n1 NOOP\r\n2 NOOP\r\n3 NOOP\r\n 4 {8+}\r\n5 NOOP\r\n\r\nB NOOP\r\n"
    assert events(data, small()) == [
        BadLine(b"A", "The literal is too large", too_big=True, name=b"LOGIN"),
        (b"B", b"NOOP", Nothing()),
    ]


def test_a_line_that_is_no_command_still_owns_its_literal() -> None:
    bad, noop = events(b"(( {8+}\r\n1 NOOP\r\n\r\nB NOOP\r\n", small())
    assert isinstance(bad, BadLine)
    assert noop == (b"B", b"NOOP", Nothing())


def test_literal_minus_refuses_larger_ones_that_do_not_wait() -> None:
    """RFC 7888 §5."""
    receiver = Receiver(Budget(1 << 20), replace(SIGNED_IN, nonsync=4096))
    seen = events(b"A APPEND x {4097+}\r\n" + b"x" * 4097 + b"\r\nB APPEND x {4097}\r\n", receiver)
    assert seen[0] == BadLine(b"A", "The literal is too large", too_big=True, name=b"APPEND")
    assert NeedLiteral(b"B", b"APPEND", 4097, True, True, False) in seen


def test_a_message_over_the_limit_is_refused() -> None:
    assert events(b"A APPEND x {61}\r\n", small()) == [
        BadLine(b"A", "The literal is too large", too_big=True, name=b"APPEND")
    ]
    seen = events(b"A APPEND x {1+}\r\na {61+}\r\n" + b"x" * 61 + b"\r\nB NOOP\r\n", small())
    assert seen[-2:] == [
        BadLine(b"A", "The literal is too large", too_big=True, name=b"APPEND"),
        (b"B", b"NOOP", Nothing()),
    ]


def test_a_line_over_the_limit_is_refused_and_dropped_with_its_literals() -> None:
    long = b"A SEARCH " + b"x" * 200
    assert events(long + b" {8+}\r\n1 NOOP\r\n\r\nB NOOP\r\n", small()) == [
        BadLine(b"A", "The line is too long"),
        (b"B", b"NOOP", Nothing()),
    ]


def test_the_lines_of_a_command_count_together() -> None:
    first = b"A LOGIN " + b"x" * 95 + b" {1+}"  # 108 octets of 200
    fits = first + b"\r\na" + b"x" * 92 + b"\r\nB NOOP\r\n"
    assert [type(item) for item in events(fits, small())] == [tuple, tuple]
    over = first + b"\r\na" + b"x" * 93 + b"\r\nB NOOP\r\n"
    assert events(over, small()) == [
        BadLine(b"A", "The line is too long"),
        (b"B", b"NOOP", Nothing()),
    ]


def test_what_is_refused_without_end_ends_the_connection() -> None:
    session = Session(small())
    session.feed(b"A SEARCH " + b"x" * 250)
    for _ in range(10):
        session.feed(b"x" * 100)
    assert session.seen == [
        BadLine(b"A", "The line is too long"),
        BadLine(None, "Too much was refused", fatal=True),
    ]


def test_more_than_the_budget_at_once_ends_the_connection() -> None:
    session = Session(small(budget=150))
    session.feed(b"A SEARCH " + b"x" * 100).feed(b"x" * 100).feed(b"B NOOP\r\n")
    assert session.seen == [BadLine(None, "Too much at once", fatal=True)]
    assert session.receiver.budget.used == 0


def test_a_budget_may_be_shared() -> None:
    budget = Budget(100)
    first, second = Receiver(budget), Receiver(budget)
    first.feed(b"x" * 80)
    second.feed(b"x" * 80)
    assert second.next() == BadLine(None, "Too much at once", fatal=True)
    first.close()
    assert budget.used == 0
    assert first.next() is None


# --- STARTTLS and lines ----------------------------------------------------------------------


def test_extra_bytes_after_starttls_are_seen() -> None:
    """Attack class 2: what came in the clear must not be run after the handshake."""
    for extra in (b"B LOGIN x y\r\n", b"B", b"\r\n", b"\n"):
        receiver = Receiver(Budget(1000))
        receiver.feed(b"A STARTTLS\r\n" + extra)
        assert isinstance(receiver.next(), Command)
        assert not receiver.empty
    receiver = Receiver(Budget(1000))
    receiver.feed(b"A STARTTLS\r\n")
    assert isinstance(receiver.next(), Command)
    assert receiver.empty
    receiver.feed(b"x" * 2000)  # over the budget: dropped, but it did come
    assert not receiver.empty


def test_asked_lines_come_as_they_are() -> None:
    assert events(b"A AUTHENTICATE PLAIN\r\nAGFubg BzZXNhbWU=\r\nB NOOP\r\n")[1:] == [
        Line(b"AGFubg BzZXNhbWU="),
        (b"B", b"NOOP", Nothing()),
    ]
    assert events(b"A IDLE\r\n\r\n")[1:] == [Line(b"")]
    [_, bad] = events(b"A IDLE\r\nDONE\n")
    assert bad == BadLine(None, "A line does not end with CRLF", fatal=True)


# --- any chopping ----------------------------------------------------------------------------

TALK = (
    b'1 CAPABILITY\r\n2 LOGIN {3+}\r\nann "p\\"w"\r\n\r\n3 FOO {3+}\r\nabc\r\n'
    b"4 LOGIN {25+}\r\n9 NOOP\r\n9 NOOP\r\n9 NOOP\r\n {9+}\r\n9 NOOP\r\n9\r\n5 IDLE\r\nDONE\r\n"
    b"6 APPEND {1}\r\nx (\\Seen) {30+}\r\nSubject: x\r\n\r\n{5+}\r\n1 NOOP\r\n "
    b'" 1-Feb-1994 00:00:00 +0000" ~{4}\r\n\0\r\n.\r\n7 UID FETCH 1:* (UID FLAGS)\r\n8 SEARCH '
    + b"x"
    * 220
    + b" {8+}\r\n"
    b"9 NOOP\r\n\r\n9 APPEND x {70+}\r\n" + b"9 NOOP\r\n 9" * 7 + b"\r\n10 NOOP\r\n"
)


@pytest.mark.parametrize("end", [b"11 NOOP\n12 NOOP\r\n", b"11 LOGIN {501+}\r\n12 NOOP\r\n"])
def test_every_split_gives_the_same_events(end: bytes) -> None:
    data = TALK + end
    whole = events(data, small(4000))
    fatal = whole[-1]
    assert isinstance(fatal, BadLine)
    assert fatal.fatal
    assert (b"10", b"NOOP", Nothing()) in whole
    assert not any(isinstance(item, tuple) and item[0] == b"9" for item in whole[:-3])
    for cut in range(len(data)):
        assert Session(small(4000)).feed(data[:cut]).feed(data[cut:]).seen == whole
    drip = Session(small(4000))
    for at in range(len(data)):
        drip.feed(data[at : at + 1])
    assert drip.seen == whole


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"\r\n", b" ", b"{3+}\r\n", b"{3}\r\n", b"{30+}\r\n", b"1 APPEND x ", b"{70+}\r\n",
                 b"1 LOGIN ", b"~{3+}\r\n", b"x" * 150, b"{600+}\r\n", b"2 IDLE\r\n", b"(", b"\0"]
            ),
            st.binary(max_size=6),
        ),
        max_size=30,
    ),
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
)  # fmt: skip
def test_any_chopping_of_any_input_gives_the_same_events(
    parts: list[bytes], sizes: list[int]
) -> None:
    data = b"".join(parts)
    chopped = Session(small(100_000))
    at = 0
    for n in range(len(data)):
        size = sizes[n % len(sizes)]
        chopped.feed(data[at : at + size])
        at += size
    assert chopped.seen == events(data, small(100_000))
