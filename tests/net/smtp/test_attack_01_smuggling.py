"""Attack class 1, outbound: what leaves is one message, to strict readers and to naive ones."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Status
from postroom.net.smtp import Fate, Phase
from postroom.testing.mx import RemoteMx

from .sending import SENDER, Octets, Script, channel_to, fates, play, rcpts, ready

SECOND = b"MAIL FROM:<eve@a.example>\r\nRCPT TO:<victim@b.example>\r\nDATA\r\nevil\r\n.\r\n"

ENDS = [
    *(b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n"),
    *(b"\r\r\n.\r\n", b"\n\r\n.\r\n", b"\r\n\n.\r\n", b"\r\n.\r\r\n", b"\0\r\n.\n", b"\r\n.\0\n"),
]
"""What some server has once taken for the end of a message."""

_NAIVE = re.compile(rb"(?:\r\n|\n|\r)\.(?:\r\n|\n|\r)")


def ends_seen_by_a_naive_reader(octets: bytes) -> int:
    """How many messages end for a reader that takes any mixture of CR and LF for a line end."""
    return len(_NAIVE.findall(octets))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("offers", [(), ("PIPELINING",), ("CHUNKING",), ("PIPELINING", "CHUNKING")])
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_a_false_end_never_leaves(end: bytes, offers: tuple[str, ...], step: int) -> None:
    content = Octets(b"Subject: x\r\n\r\nhello" + end + SECOND, step=step)
    session = ready(*offers)
    written = bytearray()

    def server(octets: bytes) -> bytes:
        written.extend(octets)
        told = b"250 ok\r\n" * (octets.count(b"MAIL") + octets.count(b"RCPT"))
        return told + b"354 go\r\n" * octets.count(b"DATA")

    result = play(session.transact(SENDER, rcpts("ann"), content), server)
    (outcome,) = result.outcomes
    assert (outcome.fate, outcome.phase) == (Fate.PERMANENT, Phase.CONTENT)
    assert outcome.answer.status == Status(5, 6, 0)
    assert not outcome.in_doubt
    assert session.over
    assert ends_seen_by_a_naive_reader(bytes(written)) == 0
    assert b"victim" not in written


@given(
    pieces=st.lists(
        st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"MAIL FROM:<>", b"\0"]),
        max_size=30,
    ),
    step=st.integers(1, 7),
    offers=st.sampled_from([(), ("CHUNKING",)]),
)
@settings(max_examples=150, deadline=None)
def test_strict_and_naive_readers_count_one_message_or_none(
    pieces: list[bytes], step: int, offers: tuple[str, ...]
) -> None:
    """What is taken has the same lines to both, and its dots are there again."""
    octets = b"x\r\n" + b"".join(pieces)
    server = Script([b"250 ok\r\n", b"250 ok\r\n"] + [b"354 go\r\n"] * (not offers))
    play(ready(*offers).transact(SENDER, rcpts("ann"), Octets(octets, step=step)), server)
    content = b"".join(server.said[2 if offers else 3 :])
    bare = re.search(rb"\r(?!\n)|(?<!\r)\n", octets) is not None
    if bare:
        assert b"\r\n.\r\n" not in content
        if offers:
            assert not content
        return
    if offers:
        assert content == b"BDAT %d LAST\r\n%b" % (len(octets), octets)
        return
    assert ends_seen_by_a_naive_reader(content) == 1
    assert content.endswith(b"\r\n.\r\n")
    lines = content.removesuffix(b".\r\n").split(b"\r\n")[:-1]
    unstuffed = [line.removeprefix(b".") for line in lines]
    assert all(line != b"." for line in lines)
    assert b"\r\n".join(unstuffed) in (octets, octets.removesuffix(b"\r\n"))


@pytest.mark.parametrize("without", [(), ("CHUNKING", "BINARYMIME")])
async def test_a_host_gets_one_message_or_none(without: tuple[str, ...]) -> None:
    """Over a socket, for all endings: none is taken, and an honest one after it is."""
    async with RemoteMx("127.0.0.2", without=without) as mx:
        for end in ENDS:
            async with channel_to(mx) as channel:
                result = await channel.send(SENDER, rcpts("ann"), Octets(b"a" + end + SECOND))
                assert fates(result) == {"ann@b.example": Fate.PERMANENT}
                assert not channel.is_usable
        assert mx.messages == []
        async with channel_to(mx) as channel:
            dotty = b".\r\n..\r\n.x\r\n\r\n.\r\n" + SECOND
            result = await channel.send(SENDER, rcpts("ann"), Octets(dotty))
            assert fates(result) == {"ann@b.example": Fate.DELIVERED}
        assert [message.content for message in mx.messages] == [dotty]
        assert mx.complaints == []
