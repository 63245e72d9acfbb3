"""What a client sends, as events: lines, DATA, BDAT, whatever the chopping."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.smtp import (
    BadLine,
    ChunkEnd,
    Command,
    DataChunk,
    DataEnd,
    Event,
    Fault,
    Line,
    Receiver,
)
from postroom.wire.smtp.limits import COMMAND_LINE_CAP, DISCARD_CAP

AUTH_LIMIT = 24


def react(receiver: Receiver, event: Event) -> None:
    """What a session's reply to the event makes of the octets that follow."""
    if not isinstance(event, Command):
        return
    if event.verb == b"DATA":
        receiver.expect_data()
    elif event.verb == b"AUTH":
        receiver.expect_line(AUTH_LIMIT)
    elif event.verb == b"RSET":
        receiver.forget_chunks()
    elif event.verb == b"BDAT":
        size, _, last = event.argument.partition(b" ")
        if size.isdigit() and len(size) < 6:
            receiver.expect_chunk(int(size), last == b"LAST")


def drive(pieces: Iterable[bytes], receiver: Receiver | None = None) -> list[Event]:
    """All events for the pieces, with neighbouring DataChunks joined."""
    receiver = receiver or Receiver()
    events: list[Event] = []
    for piece in pieces:
        receiver.feed(piece)
        while (event := receiver.next()) is not None:
            react(receiver, event)
            if isinstance(event, DataChunk):
                assert event.data
                if events and isinstance(events[-1], DataChunk):
                    event = DataChunk(events.pop().data + event.data)  # type: ignore[union-attr]  # as tested
            events.append(event)
    return events


def data(pieces: Iterable[bytes]) -> list[Event]:
    """As `drive`, from where the 354 was sent."""
    receiver = Receiver()
    receiver.expect_data()
    return drive(pieces, receiver)


def octets(stream: bytes) -> Iterator[bytes]:
    return (stream[n : n + 1] for n in range(len(stream)))


def splits(stream: bytes) -> Iterator[list[bytes]]:
    """Every way to part the stream in two, and all single octets."""
    for n in range(len(stream) + 1):
        yield [stream[:n], stream[n:]]
    yield list(octets(stream))


def chop(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    turn = itertools.cycle(sizes or [1])
    while stream:
        n = next(turn)
        pieces.append(stream[:n])
        stream = stream[n:]
    return pieces


def reference(stream: bytes) -> tuple[bytes, DataEnd, bytes] | None:
    """DATA as the RFC words it, without regard to speed: message, end, what follows."""
    raw, end, after = (b"\r\n" + stream).partition(b"\r\n.\r\n")
    if not end:
        return None
    raw += b"\r\n"  # the first CRLF of the five octets belongs to the message
    lines = raw.removeprefix(b"\r\n").split(b"\r\n")
    message = b"\r\n".join(line.removeprefix(b".") for line in lines)
    padded = b"x" + message + b"x"
    middle = range(1, len(padded) - 1)
    bare_cr = any(padded[n] == 13 and padded[n + 1] != 10 for n in middle)
    bare_lf = any(padded[n] == 10 and padded[n - 1] != 13 for n in middle)
    lengths = [len(line) + 1 for line in message.split(b"\n")[:-1]]
    longest = max((n for n in lengths if n > 1000), default=0)
    facts = DataEnd(bare_cr, bare_lf, 0 in message, longest, len(message))
    return message, facts, after


# --- command lines ------------------------------------------------------------------------


def test_dialogue_of_rfc_5321_appendix_d_1() -> None:
    stream = (
        b"EHLO bar.com\r\nMAIL FROM:<Smith@bar.com>\r\nRCPT TO:<Jones@foo.com>\r\n"
        b"RCPT TO:<Green@foo.com>\r\nRCPT TO:<Brown@foo.com>\r\nDATA\r\n"
        b"Blah blah blah...\r\n...etc. etc. etc.\r\n.\r\nQUIT\r\n"
    )
    expected = [
        Command(b"EHLO", b"bar.com"),
        Command(b"MAIL", b"FROM:<Smith@bar.com>"),
        Command(b"RCPT", b"TO:<Jones@foo.com>"),
        Command(b"RCPT", b"TO:<Green@foo.com>"),
        Command(b"RCPT", b"TO:<Brown@foo.com>"),
        Command(b"DATA", b""),
        DataChunk(b"Blah blah blah...\r\n..etc. etc. etc.\r\n"),
        DataEnd(False, False, False, 0, 37),
        Command(b"QUIT", b""),
    ]
    for pieces in splits(stream):
        assert drive(pieces) == expected


def test_verbs_are_upper_case_and_outer_spaces_gone() -> None:
    assert drive([b"mail  from:<a@b> \r\n"]) == [Command(b"MAIL", b"from:<a@b>")]


def test_an_empty_line_is_a_command_without_verb() -> None:
    assert drive([b"\r\n"]) == [Command(b"", b"")]


def test_octets_beyond_ascii_pass_for_smtputf8() -> None:
    line = "RCPT TO:<zoë@ünï.example>\r\n".encode()
    assert drive([line]) == [Command(b"RCPT", "TO:<zoë@ünï.example>".encode())]


def test_a_pipelined_command_is_not_read_before_it_is_pulled() -> None:
    receiver = Receiver()
    receiver.feed(b"DATA\r\nQUIT\r\n.\r\nQUIT\r\n")
    assert receiver.next() == Command(b"DATA", b"")
    receiver.expect_data()
    assert receiver.next() == DataChunk(b"QUIT\r\n")
    assert receiver.next() == DataEnd(False, False, False, 0, 6)
    assert receiver.next() == Command(b"QUIT", b"")
    assert receiver.next() is None


def test_a_refused_data_leaves_the_text_to_be_read_as_commands() -> None:
    receiver = Receiver()
    receiver.feed(b"DATA\r\nhello\r\n")
    assert receiver.next() == Command(b"DATA", b"")
    assert receiver.next() == Command(b"HELLO", b"")


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"QUIT\n", Fault.BARE_LF),
        (b"NOOP a\nQUIT\r\n", Fault.BARE_LF),
        (b"\n", Fault.BARE_LF),
        (b"NOOP\rQUIT\r\n", Fault.BARE_CR),
        (b"NOOP\r\r\n", Fault.BARE_CR),
        (b"\rNOOP\r\n", Fault.BARE_CR),
    ],
)
def test_a_bare_line_end_closes_the_receiver(stream: bytes, reason: Fault) -> None:
    for pieces in splits(stream):
        receiver = Receiver()
        assert drive([*pieces, b"MAIL FROM:<evil@b.example>\r\n"], receiver) == [
            BadLine(reason, fatal=True)
        ]
        assert receiver.buffered == 0
        assert receiver.empty


@pytest.mark.parametrize("octet", [c for c in (*range(32), 127) if c not in (10, 13)])
def test_control_characters_are_refused_and_the_next_line_read(octet: int) -> None:
    stream = b"NOOP a%cb\r\nQUIT\r\n" % octet
    assert drive([stream]) == [BadLine(Fault.CONTROL, fatal=False), Command(b"QUIT", b"")]


def test_the_longest_command_line_passes_and_one_octet_more_does_not() -> None:
    longest = b"NOOP " + b"x" * (COMMAND_LINE_CAP - 7) + b"\r\n"
    assert len(longest) == COMMAND_LINE_CAP
    assert drive([longest]) == [Command(b"NOOP", b"x" * (COMMAND_LINE_CAP - 7))]
    assert drive([b"x" + longest, b"QUIT\r\n"]) == [
        BadLine(Fault.TOO_LONG, fatal=False),
        Command(b"QUIT", b""),
    ]


@pytest.mark.parametrize("size", [1, 7, 4095, 4096, 4097, 50_000])
def test_an_overlong_line_is_reported_once_whatever_the_chopping(size: int) -> None:
    stream = b"NOOP " + b"x" * 40_000 + b"\r\nQUIT\r\n"
    assert drive(chop(stream, [size])) == [
        BadLine(Fault.TOO_LONG, fatal=False),
        Command(b"QUIT", b""),
    ]


def test_an_overlong_line_is_not_kept() -> None:
    receiver = Receiver()
    for _ in range(DISCARD_CAP // 4096 - 1):
        receiver.feed(b"x" * 4096)
        assert receiver.next() is None
        assert receiver.buffered < COMMAND_LINE_CAP
        assert not receiver.empty


@pytest.mark.parametrize("size", [3, 65_536, 65_537, 100_000])
def test_a_line_without_end_closes_the_receiver(size: int) -> None:
    stream = b"x" * (DISCARD_CAP - 1) + b"\r\nQUIT\r\n"
    assert drive(chop(stream, [size])) == [BadLine(Fault.TOO_LONG, fatal=True)]
    assert drive(chop(stream[1:], [size])) == [
        BadLine(Fault.TOO_LONG, fatal=False),
        Command(b"QUIT", b""),
    ]


@pytest.mark.parametrize("size", [1, 5000, 5001, 9000])
def test_an_overlong_line_that_ends_with_a_bare_lf_closes(size: int) -> None:
    stream = b"x" * 5000 + b"\nQUIT\r\n"
    assert drive(chop(stream, [size])) == [BadLine(Fault.BARE_LF, fatal=True)]


def test_attack_02_octets_behind_starttls_are_seen() -> None:
    receiver = Receiver()
    receiver.feed(b"STARTTLS\r\nMAIL FROM:<evil@a.example>\r\n")
    assert receiver.next() == Command(b"STARTTLS", b"")
    assert not receiver.empty
    for piece in (b"M", b"\r", b"\n"):
        receiver = Receiver()
        receiver.feed(b"STARTTLS\r\n" + piece)
        assert receiver.next() == Command(b"STARTTLS", b"")
        assert not receiver.empty


def test_an_idle_receiver_is_empty_and_holds_nothing() -> None:
    receiver = Receiver()
    receiver.feed(b"STARTTLS\r\n")
    assert receiver.buffered == 10
    assert receiver.next() == Command(b"STARTTLS", b"")
    assert receiver.empty
    assert receiver.buffered == 0


def test_octets_pulled_by_nobody_are_counted_as_buffered() -> None:
    receiver = Receiver()
    for _ in range(1000):
        receiver.feed(b"x")
    assert receiver.buffered == 1000
    assert receiver.next() is None
    assert receiver.buffered == 1000


# --- lines of an exchange --------------------------------------------------------------------


def test_a_line_of_an_exchange_is_no_command() -> None:
    for pieces in splits(b"AUTH LOGIN\r\nquit now\r\nQUIT\r\n"):
        assert drive(pieces) == [
            Command(b"AUTH", b"LOGIN"),
            Line(b"quit now"),
            Command(b"QUIT", b""),
        ]


def test_a_line_of_an_exchange_has_its_own_limit() -> None:
    longest = b"x" * (AUTH_LIMIT - 2)
    assert drive([b"AUTH\r\n", longest + b"\r\nQUIT\r\n"])[1:] == [
        Line(longest),
        Command(b"QUIT", b""),
    ]
    for pieces in splits(b"AUTH\r\nx" + longest + b"\r\nNOOP a long argument, longer than it\r\n"):
        assert drive(pieces)[1:] == [
            BadLine(Fault.TOO_LONG, fatal=False),
            Command(b"NOOP", b"a long argument, longer than it"),
        ]


def test_control_characters_in_an_exchange_end_it() -> None:
    assert drive([b"AUTH\r\na\0b\r\nQUIT\r\n"])[1:] == [
        BadLine(Fault.CONTROL, fatal=False),
        Command(b"QUIT", b""),
    ]


def test_a_limit_may_be_beyond_a_command_line() -> None:
    receiver = Receiver()
    receiver.expect_line(12_288)
    receiver.feed(b"x" * 12_286 + b"\r\n")
    assert receiver.next() == Line(b"x" * 12_286)


def test_modes_are_entered_from_commands_only() -> None:
    receiver = Receiver()
    receiver.expect_data()
    with pytest.raises(RuntimeError):
        receiver.expect_chunk(1, True)
    with pytest.raises(RuntimeError):
        receiver.expect_line(100)
    with pytest.raises(ValueError, match="size"):
        Receiver().expect_chunk(-1, True)
    with pytest.raises(ValueError, match="CRLF"):
        Receiver().expect_line(1)


# --- DATA -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n.\r\n", b"..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\r\n..\r\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
        (b"a\r\n..b\r\n\r\n.\r\n", b"a\r\n.b\r\n\r\n"),
    ],
)
def test_dots_are_unstuffed_and_the_end_found_at_every_split(stream: bytes, message: bytes) -> None:
    chunk: list[Event] = [DataChunk(message)] if message else []
    end = DataEnd(False, False, False, 0, len(message))
    for pieces in splits(stream + b"QUIT\r\n"):
        assert data(pieces) == [*chunk, end, Command(b"QUIT", b"")]


BREAKS = (b"", b"\r", b"\n", b"\r\n", b"\0", b"\r\0\n", b"\r\r\n", b"\n\r", b"\r\n\r", b"\n\n")
VARIANTS = [
    before + dot + after
    for before in BREAKS
    for dot in (b".", b"..", b"\0.", b".\0")
    for after in BREAKS
]
NOT_THE_END = [v for v in VARIANTS if b"\r\n.\r\n" not in v]
PROBE = b"MAIL FROM:<evil@a.example>\r\nRCPT TO:<ann@b.example>\r\nDATA\r\nforged\r\n"


@pytest.mark.parametrize("variant", NOT_THE_END, ids=repr)
def test_attack_01_only_crlf_dot_crlf_ends_data(variant: bytes) -> None:
    """Text around the variant stays text, is flagged, and the true end is found."""
    stream = b"Subject: a\r\n\r\ntext" + variant + PROBE + b".\r\n"
    expected = reference(stream)
    assert expected is not None
    message, end, _ = expected
    assert message.endswith(b"forged\r\n")
    outer = variant.replace(b"\r\n", b"")
    assert (end.bare_cr, end.bare_lf) == (b"\r" in outer, b"\n" in outer)
    at = stream.index(variant + PROBE)
    cuts = range(at, at + len(variant) + 1)
    choppings = [[stream], *([stream[:n], stream[n:]] for n in cuts)]
    choppings += [[stream[:m], stream[m:n], stream[n:]] for m in cuts for n in cuts if m < n]
    choppings.append(list(octets(stream)))
    for pieces in choppings:
        assert data([*pieces, b"QUIT\r\n"]) == [DataChunk(message), end, Command(b"QUIT", b"")]


@pytest.mark.parametrize(
    "variant",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r.\n"],
    ids=repr,
)
def test_attack_01_the_known_smuggling_ends_are_flagged(variant: bytes) -> None:
    events = data([b"text" + variant + PROBE + b".\r\n"])
    assert [type(event) for event in events] == [DataChunk, DataEnd]
    end = events[-1]
    assert isinstance(end, DataEnd)
    assert end.bare_cr or end.bare_lf


def test_attack_01_a_true_end_behind_a_bare_cr_is_an_end_and_flagged() -> None:
    for pieces in splits(b"text\r\r\n.\r\nQUIT\r\n"):
        assert data(pieces) == [
            DataChunk(b"text\r\r\n"),
            DataEnd(True, False, False, 0, 7),
            Command(b"QUIT", b""),
        ]


@pytest.mark.parametrize(
    "variant", [v for v in NOT_THE_END if b"\r\n.\r\n" not in b"\r\n" + v], ids=repr
)
def test_attack_01_the_start_of_data_is_a_line_start_like_any_other(variant: bytes) -> None:
    stream = variant + PROBE + b".\r\nQUIT\r\n"
    expected = reference(stream)
    assert expected is not None
    for pieces in splits(stream):
        assert data(pieces) == [DataChunk(expected[0]), expected[1], Command(b"QUIT", b"")]


def test_lines_beyond_1000_octets_are_reported() -> None:
    for pad in (0, 1, 500):
        head = b"h" * pad + b"\r\n"
        fits = head + b"x" * 998 + b"\r\n"
        assert data([fits + b".\r\n"])[-1] == DataEnd(False, False, False, 0, len(fits))
        beyond = fits + b"y" * 1001 + b"\r\n" + fits
        for size in (1, 999, 1000, 1001, 5000):
            assert data(chop(beyond + b".\r\n", [size]))[-1] == DataEnd(
                False, False, False, 1003, len(beyond)
            )


def test_a_doubled_dot_does_not_count_for_the_line_length() -> None:
    line = b".." + b"x" * 997 + b"\r\n"
    assert data([line + b".\r\n"])[-1] == DataEnd(False, False, False, 0, 1000)


def test_nul_is_reported() -> None:
    for pieces in splits(b"a\0b\r\n.\r\n"):
        assert data(pieces)[-1] == DataEnd(False, False, True, 0, 5)


def test_the_facts_of_one_message_do_not_stain_the_next() -> None:
    stream = b"DATA\r\na\n\r\0\r\n" + b"x" * 2000 + b"\r\n.\r\nDATA\r\nok\r\n.\r\n"
    events = drive([stream])
    assert events[2] == DataEnd(True, True, True, 2002, 2008)
    assert events[-1] == DataEnd(False, False, False, 0, 4)


def test_a_chunk_without_dots_is_given_out_without_a_copy() -> None:
    receiver = Receiver()
    receiver.expect_data()
    piece = b"some text\r\n" * 1000
    receiver.feed(piece)
    event = receiver.next()
    assert isinstance(event, DataChunk)
    assert event.data is piece


TOKENS = st.sampled_from(
    [b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r", b"\r\n..", b"\n.", b"\0", b"a", b"text "]
    + [b"x" * n for n in (996, 997, 998, 999, 1000, 1001)]
)
STREAMS = st.lists(TOKENS, max_size=30).map(b"".join)
SIZES = st.lists(st.integers(1, 40) | st.integers(900, 2100), min_size=1, max_size=12)


@given(STREAMS, SIZES)
@settings(max_examples=400, deadline=None)
def test_data_equals_a_naive_reader(stream: bytes, sizes: list[int]) -> None:
    stream += b"\r\n.\r\n"
    expected = reference(stream)
    assert expected is not None
    message, end, after = expected
    receiver = Receiver()
    receiver.expect_data()
    got = b""
    fed = 0
    event: Event | None = None
    for piece in chop(stream, sizes):
        receiver.feed(piece)
        fed += len(piece)
        while not isinstance(event, DataEnd) and (event := receiver.next()) is not None:
            if isinstance(event, DataChunk):
                got += event.data
    assert (got, event) == (message, end)
    assert receiver.buffered == len(after)


COMMANDS = (b"DATA\r\n", b"QUIT\r\n", b"BDAT 5\r\n", b"BDAT 3 LAST\r\n", b"BDAT 0 LAST\r\n")
OTHERS = (b"AUTH\r\n", b"RSET\r\n", b"NOOP \0\r\n", b"x\n", b"a\rb\r\n", b"n" * 30 + b"\r\n")
TEXTS = (b".\r\n", b"\r\n.\r\n", b"12345", b"abc", b"\r", b"\n", b"..a\r\n", b"l" * 4100 + b"\r\n")
LINES = st.sampled_from(COMMANDS + OTHERS + TEXTS)


@given(st.lists(LINES, max_size=25).map(b"".join), SIZES)
@settings(max_examples=400, deadline=None)
def test_every_chopping_gives_the_same_events(stream: bytes, sizes: list[int]) -> None:
    assert drive(chop(stream, sizes)) == drive([stream])


@given(st.binary(max_size=300), SIZES)
@settings(max_examples=200, deadline=None)
def test_any_octets_chop_alike(stream: bytes, sizes: list[int]) -> None:
    assert drive(chop(stream, sizes)) == drive([stream])


@pytest.mark.parametrize(
    "unit",
    [b"\r\n.a", b"\r\n.\r", b"\n", b"\r", b"x", b"\r\n..", b".", b"\r\n.\n", b"\r\n"],
    ids=repr,
)
def test_hostile_data_costs_linear_time(unit: bytes) -> None:
    """Two mebibytes of the worst text in 64 KiB pieces: well under a second."""
    block = unit * (65_536 // len(unit))
    receiver = Receiver()
    receiver.expect_data()
    before = time.thread_time()
    for _ in range(32):
        receiver.feed(block)
        while receiver.next() is not None:
            pass
    assert time.thread_time() - before < 1.0
    assert data_goes_on(receiver)


def data_goes_on(receiver: Receiver) -> bool:
    receiver.feed(b"QUIT\r\n")
    return isinstance(receiver.next(), DataChunk)


def test_many_small_pieces_cost_linear_time() -> None:
    receiver = Receiver()
    before = time.thread_time()
    for _ in range(65_536):
        receiver.feed(b"x")
    receiver.expect_data()
    assert receiver.next() == DataChunk(b"x" * 65_536)
    assert time.thread_time() - before < 1.0


# --- BDAT -----------------------------------------------------------------------------------


def test_dialogue_of_rfc_3030_section_4_2() -> None:
    stream = (
        b"BDAT 86\r\n" + b"To: Susan@random.com\r\nFrom: Sam@random.com\r\n"
        b"Subject: This is a bodyless test message\r\n"
    )[: 9 + 86] + b"BDAT 0 LAST\r\nQUIT\r\n"
    for pieces in splits(stream):
        events = drive(pieces)
        assert events[0] == Command(b"BDAT", b"86")
        assert events[2] == ChunkEnd(False, False, False, False, 0, 86)
        assert events[3:] == [
            Command(b"BDAT", b"0 LAST"),
            ChunkEnd(True, False, False, False, 0, 86),
            Command(b"QUIT", b""),
        ]


def test_a_chunk_is_counted_not_scanned_for_an_end() -> None:
    body = b"a\r\n.\r\nb\r\n..c"
    stream = b"BDAT %d LAST\r\n" % len(body) + body + b"QUIT\r\n"
    for pieces in splits(stream):
        assert drive(pieces)[1:] == [
            DataChunk(body),
            ChunkEnd(True, False, False, False, 0, len(body)),
            Command(b"QUIT", b""),
        ]


def test_a_crlf_cut_between_chunks_is_whole() -> None:
    assert drive([b"BDAT 2\r\na\rBDAT 2 LAST\r\n\nb"])[2::3] == [
        ChunkEnd(False, False, False, False, 0, 2),
        ChunkEnd(True, False, False, False, 0, 4),
    ]


@pytest.mark.parametrize(
    ("first", "second", "bare_cr", "bare_lf"),
    [
        (b"a\r", b"b", True, False),
        (b"a", b"\nb", False, True),
        (b"a\n", b"\r", True, True),
        (b"a\r\n", b"b\r", True, False),
        (b"a\r", b"\r\n", True, False),
    ],
)
def test_attack_01_bare_line_ends_are_seen_across_chunks(
    first: bytes, second: bytes, bare_cr: bool, bare_lf: bool
) -> None:
    stream = b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (len(first), first, len(second), second)
    for pieces in splits(stream):
        end = drive(pieces)[-1]
        assert end == ChunkEnd(True, bare_cr, bare_lf, False, 0, len(first) + len(second))


def test_long_lines_are_measured_across_chunks() -> None:
    first, second = b"x" * 700, b"y" * 700
    stream = b"BDAT 700\r\n" + first + b"BDAT 700 LAST\r\n" + second
    assert drive([stream])[-1] == ChunkEnd(True, False, False, False, 1400, 1400)


def test_a_dropped_transaction_starts_afresh() -> None:
    events = drive([b"BDAT 1\r\n\nRSET\r\nBDAT 1 LAST\r\na"])
    assert events[2] == ChunkEnd(False, False, True, False, 0, 1)
    assert events[-1] == ChunkEnd(True, False, False, False, 0, 1)


def test_the_message_after_the_last_chunk_starts_afresh() -> None:
    events = drive([b"BDAT 1 LAST\r\n\nBDAT 1 LAST\r\na"])
    assert events[2] == ChunkEnd(True, False, True, False, 0, 1)
    assert events[-1] == ChunkEnd(True, False, False, False, 0, 1)
