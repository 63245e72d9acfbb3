"""postroom.formats.mbox: what is written is read back; dialects, sloppy files, hostile files."""

from __future__ import annotations

import io
import mailbox
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats import mbox
from postroom.formats.mbox import Dialect, detect, read, with_crlf, write

NOW = datetime(2026, 11, 2, 15, 18, 9, tzinfo=UTC)
FROM = b"From ann@a.example Mon Nov  2 15:18:09 2026\n"


class Pipe(io.RawIOBase):
    """A file that cannot seek and gives little at a time."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data = io.BytesIO(data)
        self._piece = piece

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        return self._data.read(self._piece if size < 0 else min(size, self._piece))


def contents(data: bytes, dialect: Dialect | None = None) -> list[bytes]:
    return [entry.read() for entry in read(io.BytesIO(data), dialect)]


def file_of(*messages: bytes, crlf: bool = False) -> bytes:
    return b"".join(
        b"".join(write([each], sender="ann@a.example", date=NOW, crlf=crlf)) for each in messages
    )


# --- the form ------------------------------------------------------------------------------------


def test_a_message_is_written_with_its_from_line_and_a_blank_line() -> None:
    assert file_of(b"Subject: x\r\n\r\nFrom here\r\n>From there\r\n>>x\r\n") == (
        FROM + b"Subject: x\n\n>From here\n>>From there\n>>x\n\n"
    )


def test_the_from_line_is_in_utc_and_names_nobody_for_the_null_path() -> None:
    at = datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    first = b"".join(write([b""], sender=None, date=at, crlf=True))
    assert first == b"From MAILER-DAEMON Thu Dec 31 22:30:00 2026\r\n\r\n"
    assert next(write([], sender='"a b\n"@x', date=NOW)).startswith(b'From "a_b_"@x Mon')
    with pytest.raises(ValueError, match="naive"):
        list(write([], sender="a@a", date=NOW.replace(tzinfo=None)))


def test_entries_say_where_they_are_who_sent_them_and_when() -> None:
    data = file_of(b"A: 1\n\none\n", b"A: 2\n\ntwo\n")
    entries = [(e.offset, e.sender, e.date, e.garbage, e.read()) for e in read(io.BytesIO(data))]
    assert entries == [
        (0, "ann@a.example", NOW, False, b"A: 1\n\none\n"),
        (len(data) // 2, "ann@a.example", NOW, False, b"A: 2\n\ntwo\n"),
    ]


def test_reading_starts_where_the_file_stands() -> None:
    file = io.BytesIO(b"skip " + file_of(b"A: 1\n\n"))
    file.seek(5)
    assert [(e.offset, e.read()) for e in read(file)] == [(5, b"A: 1\n\n")]


def test_an_entry_that_nobody_reads_is_passed_over() -> None:
    data = file_of(b"A: 1\n\n" + b"x\n" * 200_000, b"A: 2\n\n")
    entries = read(io.BytesIO(data))
    first = next(entries)
    next(first.chunks)
    assert next(entries).read() == b"A: 2\n\n"
    assert first.read() == b""
    assert next(entries, None) is None


@pytest.mark.parametrize(
    ("line", "sender", "date"),
    [
        (b"From ann@a.example Mon Nov  2 15:18:09 2026", "ann@a.example", NOW),
        (b"From - Mon Nov 02 15:18:09 2026", "", NOW),
        (b"From MAILER-DAEMON Mon Nov  2 15:18:09 2026", "", NOW),
        (b"From ???@??? Mon Nov 02 15:18:09 2026", "", NOW),
        (b"From <ann@a.example> Mon Nov  2 15:18:09 2026", "ann@a.example", NOW),
        (b'From "a b"@a.example Mon Nov  2 15:18:09 2026', '"a b"@a.example', NOW),
        (b"From ann Mon Nov  2 15:18:09 2026 remote from host", "ann", NOW),
        (b"From a@b Mon, 2 Nov 2026 17:18:09 +0200", "a@b", NOW),
        (b"From a@b  Mon Nov  2 15:18 2026", "a@b", NOW.replace(second=0)),
        ("From ü@ü.example Mon Nov  2 15:18:09 2026".encode(), "ü@ü.example", NOW),
        (b"From a\x1bb Mon Nov  2 15:18:09 2026", "", NOW),
        (b"From ", "", None),
        (b"From -", "", None),
        (b"From ann@a.example", "ann@a.example", None),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_from_lines_of_many_programs(
    line: bytes, sender: str, date: datetime | None, end: bytes
) -> None:
    message = end.join([b"Subject: x", b"", b"y", b""])
    (first, second) = [
        (e.sender, e.date, e.read()) for e in read(io.BytesIO((line + end + message + end) * 2))
    ]
    assert first == second == (sender, date, message)


@pytest.mark.parametrize(
    "text",
    [
        b"From here on it rains.",
        b"From here on: it rains",
        b"From 12:30 to Mon Nov",
        b"From the Mon Nov 2 paper",
        b"From " + b"x" * 2_000 + b" Mon Nov  2 15:18:09 2026",
        b"from ann@a.example Mon Nov  2 15:18:09 2026",
        b" From ann@a.example Mon Nov  2 15:18:09 2026",
    ],
)
def test_text_that_nobody_quoted_is_no_from_line(text: bytes) -> None:
    message = b"Subject: x\n\nbefore\n\n" + text + b"\nafter\n"
    assert contents(FROM + message + b"\n") == [message]


def test_a_from_line_without_a_blank_line_needs_a_field_below_it() -> None:
    assert contents(FROM + b"A: 1\n\none\n" + FROM + b"A: 2\n\n") == [b"A: 1\n\none\n", b"A: 2\n"]
    text = b"A: 1\n\nHe wrote:\n" + FROM + b"Dear Ann\n"
    assert contents(FROM + text + b"\n") == [text]


def test_empty_messages_are_messages() -> None:
    assert contents(FROM + b"\n" + FROM + b"\n") == [b"", b""]
    assert contents(FROM) == [b""]
    assert contents(FROM.rstrip()) == [b""]
    assert contents(b"") == []
    assert contents(b"\r\n\n  \n") == []


def test_what_stands_before_the_first_message_is_reported() -> None:
    data = b"\n\nnot mail\n\nat all\n\n" + FROM + b"A: 1\n\n\n"
    found = [(e.offset, e.garbage, e.read()) for e in read(io.BytesIO(data))]
    assert found == [(2, True, b"not mail\n\nat all\n"), (20, False, b"A: 1\n\n")]
    assert data[20:25] == b"From "


def test_a_file_without_any_from_line_is_one_entry() -> None:
    entry = next(read(io.BytesIO(b"Subject: x\n\nbody\n")))
    assert (entry.garbage, entry.sender, entry.date) == (True, "", None)
    assert entry.read() == b"Subject: x\n\nbody\n"


# --- dialects ------------------------------------------------------------------------------------


def test_quotes_come_off_as_the_dialect_has_it() -> None:
    data = FROM + b"A: 1\n\n>From a\n>>From b\n>> From c\n>from\n\n"
    start = b"A: 1\n\n"
    end = b">> From c\n>from\n"
    assert contents(data, Dialect.MBOXRD) == [start + b"From a\n>From b\n" + end]
    assert contents(data, Dialect.MBOXO) == [start + b"From a\n>>From b\n" + end]
    assert contents(data, Dialect.MBOXCL2) == [start + b">From a\n>>From b\n" + end]


def counted(body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return FROM + b"Content-Length: %d\nA: 1\n\n" % size + body + b"\n"


def test_a_length_takes_the_place_of_quotes() -> None:
    body = b"x\n\n" + FROM + b"A: 2\n\ny\n"
    data = counted(body) + counted(b"z\n")
    assert detect(io.BytesIO(data)) is Dialect.MBOXCL2
    assert [each.partition(b"\n\n")[2] for each in contents(data)] == [body, b"z\n"]


def test_a_length_beside_quotes() -> None:
    data = counted(b">From x\n\n") + counted(b"z\n")
    assert detect(io.BytesIO(data)) is Dialect.MBOXCL
    assert [each.partition(b"\n\n")[2] for each in contents(data)] == [b"From x\n\n", b"z\n"]


def test_lengths_that_not_all_messages_have_are_not_believed() -> None:
    """A stranger's own Content-Length must not swallow the message after his."""
    victim = FROM + b"A: 2\n\nvictim\n\n"
    third = FROM + b"A: 3\n\n\n"
    body = b"mine\n"
    forged = counted(body, len(body) + 1 + len(victim) - 1)
    data = forged + victim + third
    assert detect(io.BytesIO(data)) is Dialect.MBOXRD
    assert [each.partition(b"\n\n")[2] for each in contents(data)] == [body, b"victim\n", b""]


@pytest.mark.parametrize("length", [0, 3, 10**9, 10**14, 10**30])
def test_a_length_that_leads_nowhere_is_passed_over(length: int) -> None:
    data = counted(b"one two\n", length) + counted(b"three\n")
    found = contents(data, Dialect.MBOXCL2)
    assert [each.partition(b"\n\n")[2] for each in found] == [b"one two\n", b"three\n"]


def test_detecting_leaves_the_file_where_it_was() -> None:
    file = io.BytesIO(b"123" + counted(b"z\n"))
    file.seek(3)
    assert detect(file) is Dialect.MBOXCL
    assert file.tell() == 3
    assert detect(io.BytesIO(b"")) is Dialect.MBOXRD
    assert detect(io.BytesIO(b"garbage")) is Dialect.MBOXRD
    assert detect(io.BytesIO(file_of(b"A: 1\n\n"))) is Dialect.MBOXRD


def test_a_long_counted_message_is_read_whole() -> None:
    body = b"line\n" * 100_000
    found = contents(counted(body) * 3)
    assert [each.partition(b"\n\n")[2] for each in found] == [body] * 3


# --- round trips ---------------------------------------------------------------------------------

LINES = st.lists(
    st.sampled_from(
        [
            *(b"", b"From ", b">From x", b">" * 200 + b"From y", b"a", FROM.rstrip(), b"A: 1"),
            *(b"\r", b"From - x", b">>", b"x" * 5_000, b"From"),
        ]
    ),
    max_size=12,
)
MESSAGES = st.builds(lambda lines: b"A: 1\n\n" + b"".join(each + b"\n" for each in lines), LINES)


@given(st.lists(MESSAGES, max_size=5), st.booleans(), st.integers(1, 7_000), st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back(
    messages: list[bytes], crlf: bool, piece: int, seeks: bool
) -> None:
    end = b"\r\n" if crlf else b"\n"
    wanted = [each.replace(b"\r\n", b"\n").replace(b"\n", end) for each in messages]
    pieces: list[bytes] = []
    for each in messages:
        cut = [each[at : at + piece] for at in range(0, len(each), piece)]
        pieces += write(cut, sender="ann@a.example", date=NOW, crlf=crlf)
    data = b"".join(pieces)
    file = io.BytesIO(data) if seeks else cast("BinaryIO", Pipe(data, piece))
    found = [(e.offset, e.sender, e.date, e.read()) for e in read(file, Dialect.MBOXRD)]
    assert [each[3] for each in found] == wanted
    for offset, sender, date, _ in found:
        assert data.startswith(FROM.rstrip(), offset)
        assert (sender, date) == ("ann@a.example", NOW)


@given(st.lists(MESSAGES, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_the_standard_library_finds_the_same_messages(
    tmp_path_factory: pytest.TempPathFactory, messages: list[bytes]
) -> None:
    messages = [each.replace(b"\r\n", b"\n").replace(b"\r", b"") for each in messages]
    path: Path = tmp_path_factory.mktemp("mbox") / "mbox"
    path.write_bytes(file_of(*messages))
    theirs = mailbox.mbox(path, create=False)
    quoted = [mbox._QUOTED.sub(b"\n", theirs.get_bytes(key)) for key, _ in theirs.items()]
    assert quoted == messages == contents(path.read_bytes())


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b""]), max_size=30))
def test_line_ends_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert b"".join(with_crlf(pieces)) == whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@given(st.binary(max_size=300), st.sampled_from(list(Dialect)))
@settings(max_examples=200, deadline=None)
def test_any_octets_are_read_without_loss_of_lines(data: bytes, dialect: Dialect) -> None:
    data = data.replace(b"\x01", b"\nFrom a@b Mon Nov  2 15:18:09 2026\nA: 1\n").replace(b">", b"")
    size = sum(len(e.read()) + (0 if e.garbage else 5) for e in read(io.BytesIO(data), dialect))
    assert size <= len(data)
    assert size >= len(data.strip()) - 60 * (data.count(b"From ") + 1)


# --- hostile files -------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """So many octets of one block, made as they are read."""

    def __init__(self, start: bytes, block: bytes, size: int) -> None:
        self._start = start
        self._block = block
        self._left = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        if self._start:
            start, self._start = self._start, b""
            return start
        size = min(size, self._left)
        self._left -= size
        return (self._block * (size // len(self._block) + 1))[:size]


def test_a_message_of_any_size_costs_little_memory() -> None:
    size = 20 << 20
    file = cast("BinaryIO", Endless(FROM + b"A: 1\n\n", b"x" * 70 + b"\n>From y\n", size))
    tracemalloc.start()
    try:
        total = sum(len(chunk) for entry in read(file) for chunk in entry.chunks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total > size * 0.95
    assert peak < 1 << 20


HOSTILE = {
    "from lines without a date": b"From x\n",
    "from lines after blank lines": b"\nFrom -\nx\n",
    "messages": b"\nFrom - Mon Nov  2 15:18:09 2026\nA: 1\n",
    "one line": b">",
    "marks": b"\n" + b">" * 250,
    "marks and from": b"\n" + b">" * 300 + b"From ",
    "line ends": b"\n",
    "line ends with CR": b"\r\n",
    "half from lines": b"\nFrom - Mon Nov 2 1:11",
    "names without a colon": b"From - Mon Nov  2 15:18:09 2026\n" + b"x" * 3_000 + b"\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_as_the_file_does(name: str) -> None:
    def taken(size: int) -> float:
        file = cast("BinaryIO", Endless(FROM, HOSTILE[name], size))
        start = time.thread_time()
        drain(read(file))
        return time.thread_time() - start

    assert taken(2 << 20) < 0.05 + 3e-6 * (2 << 20)


def drain(entries: Iterator[mbox.Entry]) -> None:
    for entry in entries:
        for _ in entry.chunks:
            pass


def test_counted_messages_are_read_in_linear_time() -> None:
    data = counted(b"x\n") * 10_000
    start = time.thread_time()
    drain(read(io.BytesIO(data)))
    assert time.thread_time() - start < 0.05 + 20e-6 * len(data)
