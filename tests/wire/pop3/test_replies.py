"""What a server says: within its limits, and nothing that begins a line of its own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.pop3 import (
    BadResponse,
    Challenge,
    Chunk,
    End,
    Reply,
    Response,
    ResponseReader,
    capabilities,
    challenge,
    listing,
    parse_reply,
)
from postroom.wire.pop3.limits import RESPONSE_LINE_CAP


def heard(*pieces: bytes, lines_after: int = -1) -> list[Response]:
    """The responses; lines follow the reply of that number."""
    reader = ResponseReader()
    found: list[Response] = []
    replies = 0
    for piece in pieces:
        reader.feed(piece)
        while (each := reader.next()) is not None:
            if isinstance(each, Chunk) and found and isinstance(found[-1], Chunk):
                found[-1] = Chunk(found[-1].data + each.data)  # how it is cut says nothing
            else:
                found.append(each)
            if isinstance(each, Reply):
                replies += 1
                if replies - 1 == lines_after:
                    reader.expect_lines()
    return found


def test_replies_as_they_are_said() -> None:
    assert Reply(True).render() == b"+OK\r\n"
    assert Reply(True, "2 320").render() == b"+OK 2 320\r\n"
    assert Reply(False, "No", "SYS/TEMP").render() == b"-ERR [SYS/TEMP] No\r\n"


@settings(max_examples=200)
@given(st.booleans(), st.text(max_size=600), st.sampled_from(["", "AUTH", "IN-USE", "SYS/PERM"]))
def test_no_text_makes_a_second_line(ok: bool, text: str, code: str) -> None:
    said = Reply(ok, text, code).render()
    assert said.endswith(b"\r\n")
    assert len(said) <= 512
    body = said[:-2]
    assert body.isascii()
    assert body.decode().isprintable()
    (reply,) = heard(said)
    assert isinstance(reply, Reply)
    assert reply.ok is ok


def test_replies_as_they_are_read() -> None:
    assert parse_reply(b"+OK") == Reply(True)
    assert parse_reply(b"+ok hello <1@x>") == Reply(True, "hello <1@x>")
    assert parse_reply(b"-ERR [in-use] busy") == Reply(False, "busy", "IN-USE")
    assert parse_reply(b"-ERR [SYS/TEMP/X]") == Reply(False, "", "SYS/TEMP/X")
    assert parse_reply(b"-ERR [not a code] x") == Reply(False, "[not a code] x")
    assert parse_reply(b"+OK [a] b") == Reply(True, "[a] b")
    for bad in (b"", b"OK", b"+OKAY", b"* OK", b"220 x", b"-ERROR"):
        assert parse_reply(bad) is None


def test_a_challenge_is_base64() -> None:
    assert heard(challenge(b"YWI=") + b"+ \r\n+\r\n+OK\r\n") == [
        Challenge(b"ab"),
        Challenge(b""),
        Challenge(b""),
        Reply(True),
    ]
    with pytest.raises(BadResponse):
        heard(b"+ not base64\r\n")


def test_lines_and_what_follows_them() -> None:
    said = b"+OK 2 lines\r\na\r\n..b\r\n.\r\n-ERR x\r\n"
    wanted = [Reply(True, "2 lines"), Chunk(b"a\r\n.b\r\n"), End(), Reply(False, "x")]
    for step in range(1, len(said) + 1):
        pieces = [said[n : n + step] for n in range(0, len(said), step)]
        assert heard(*pieces, lines_after=0) == wanted
    assert heard(b"+OK\r\n.\r\n+OK\r\n", lines_after=0) == [Reply(True), End(), Reply(True)]


def test_only_a_lone_dot_between_crlfs_ends_the_lines() -> None:
    """Attack class 1, as a client: what a hostile message holds is text."""
    inside = b"a\n.\nb\r.\rc\n.\r\nd\r\n.\ne\r\n.\r f"
    got = heard(b"+OK\r\n" + inside + b"\r\n.\r\n", lines_after=0)
    assert got == [Reply(True), Chunk(b"a\n.\nb\r.\rc\n.\r\nd\r\n\ne\r\n\r f\r\n"), End()]


def test_empty_after_stls() -> None:
    """Attack class 2, the client's side: what came before TLS would be believed after it."""
    reader = ResponseReader()
    reader.feed(b"+OK Begin TLS now\r\n")
    assert reader.next() == Reply(True, "Begin TLS now")
    assert reader.empty
    reader.feed(b"+OK Begin TLS now\r\n+OK forged\r\n")
    assert reader.next() == Reply(True, "Begin TLS now")
    assert not reader.empty


@pytest.mark.parametrize("said", [b"SSH-2.0-x\r\n", b"\r\n", b"* OK\r\n", b"x" * 20_000])
def test_what_is_no_pop3_ends_it(said: bytes) -> None:
    reader = ResponseReader()
    reader.feed(said)
    for _ in range(2):
        with pytest.raises(BadResponse):
            reader.next()
    assert reader.buffered == 0
    assert len(said) < RESPONSE_LINE_CAP or said == b"x" * 20_000


def test_listings_end_with_a_dot_and_hold_none_alone() -> None:
    assert listing([]) == b".\r\n"
    assert listing(["TOP", ".x", "a\r\nb", "é"]) == b"TOP\r\n..x\r\na??b\r\n?\r\n.\r\n"


def test_capabilities() -> None:
    found = capabilities([b"TOP", b"sasl PLAIN LOGIN", b"EXPIRE NEVER", b"", b"TOP again", b"\xff"])
    assert found["SASL"] == ("PLAIN", "LOGIN")
    assert found["TOP"] == ()
    assert found["EXPIRE"] == ("NEVER",)
