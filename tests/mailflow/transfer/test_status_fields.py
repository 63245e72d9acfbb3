"""Flags in the header of a message in an mbox."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.mailflow.transfer.status_fields import unwrap, wrap

MESSAGE = b"From: a@b.example\r\nSubject: x\r\n\r\nbody\r\n"


def taken(data: bytes, *, counted: bool = False, size: int = 7) -> tuple[bytes, frozenset[str]]:
    pieces = iter([data[n : n + size] for n in range(0, len(data), size)])
    inner = unwrap(pieces, counted=counted)
    return b"".join(inner.chunks), frozenset(inner.flags)


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        (b"Status: RO\n", {"\\Seen"}),
        (b"Status: O\n", set()),
        (b"X-Status: AFDT\n", {"\\Answered", "\\Flagged", "\\Deleted", "\\Draft"}),
        (b"X-Keywords: $label1 NonJunk\n \n", {"$label1", "NonJunk"}),
        (b"X-Keywords: \\Seen a,b\n", {"a", "b"}),
        (b"X-Mozilla-Status: 0001\nX-Mozilla-Status2: 00800000\n", {"\\Seen"}),
        (b"X-Mozilla-Status: 100f\n",
         {"\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "$Forwarded"}),
        (b"X-Mozilla-Status: what\n", set()),
        (b"X-Mozilla-Keys: $label1 work          \n", {"$label1", "work"}),
        (b"X-UID: 4711\nX-IMAPbase: 1 2\n", set()),
    ],
)  # fmt: skip
def test_flags_are_read_and_their_fields_go(fields: bytes, flags: set[str]) -> None:
    for data in (
        b"From: a@b.example\n" + fields + b"Subject: x\n\nbody\n",
        fields + b"From: a@b.example\nSubject: x\n\nbody\n",
    ):
        assert taken(data) == (b"From: a@b.example\nSubject: x\n\nbody\n", frozenset(flags))


def test_below_a_block_on_top_such_fields_are_the_senders_own() -> None:
    content = b"From: a@b.example\nStatus: R\nX-Status: D\nX-Mozilla-Status: 0008\n\nbody\n"
    assert taken(b"Status: O\nX-Status: F\n" + content) == (content, frozenset({"\\Flagged"}))


def test_what_a_program_left_of_a_block_is_no_block() -> None:
    # mutt takes Status away, leaves X-Keywords where it stood, and writes Status at the end.
    data = b"X-Keywords: work\nFrom: a@b.example\nStatus: RO\n\nbody\n"
    content = b"From: a@b.example\n\nbody\n"
    assert taken(data) == (content, frozenset({"work", "\\Seen"}))


def test_a_length_that_counts_the_body_goes_with_its_dialect() -> None:
    data = b"Content-Length: 5\nFrom: a@b.example\n\nbody\n"
    assert taken(data, counted=True) == (b"From: a@b.example\n\nbody\n", frozenset())
    assert taken(data)[0] == data


def test_what_a_server_keeps_for_itself_is_no_message() -> None:
    data = (
        b"From: MAILER-DAEMON\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
        b"X-IMAP: 1 2\nStatus: RO\n\nThis text is part of the format.\n"
    )
    assert unwrap(iter([data]), counted=False).internal
    assert not unwrap(iter([data.replace(b"X-IMAP", b"X-Other")]), counted=False).internal


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"", b""),
        (b"\n", b"\n"),
        (b"no header\n", b"no header\n"),
        (b"Status", b"Status"),
        (b"Status: R", b""),
        (b"A: 1", b"A: 1"),
        (b"A: 1\nStatus: R\n", b"A: 1\n"),
    ],
)
def test_what_is_hardly_a_message_passes(data: bytes, content: bytes) -> None:
    assert taken(data, size=3)[0] == content


_KEYWORD = st.from_regex(r"[A-Za-z$][A-Za-z0-9_.$-]{0,60}", fullmatch=True)
_FLAG = st.sampled_from(["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"])


@given(st.frozensets(_FLAG | _KEYWORD, max_size=60), st.integers(1, 200))
def test_what_is_put_on_top_comes_off_again(flags: frozenset[str], size: int) -> None:
    stranger = b"Status: R\r\nX-Status: D\r\nX-Keywords: evil\r\n" + MESSAGE
    for content in (MESSAGE, b"X-Other: 1\r\n" + stranger):
        made = b"".join(wrap([content], sorted(flags)))
        assert taken(made, size=size) == (content, flags)
        assert max(map(len, made.split(b"\r\n"))) < 998


def test_beyond_the_cap_of_a_header_nothing_is_looked_for() -> None:
    data = b"".join(b"X-%d: y\n" % n for n in range(40_000)) + b"Status: RO\n\nbody\n"
    assert taken(data, size=64 << 10) == (data, frozenset())
