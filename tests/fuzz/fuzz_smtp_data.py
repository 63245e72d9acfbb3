"""Hostile messages: the end of DATA is where RFC 5321 says, and what we send is one message."""

from __future__ import annotations

from postroom.wire.smtp import (
    BareLineEnd,
    ChunkEnd,
    DataChunk,
    DataEnd,
    DotStuffer,
    Event,
    LineEnds,
    Receiver,
)

SEEDS: list[bytes] = [
    b"Subject: a\r\n\r\ntext\r\n.\r\nQUIT\r\n",
    b".\r\n",
    b"..\r\n...\r\n.a\r\n.\r\n",
    b"a\n.\nMAIL FROM:<evil@a.example>\r\n.\r\n",
    b"a\r.\r\nb\r\n.\nc\n.\r\nd\r\r\n.\r\n",
    b"a\r\n.\rb\r\n.\0\r\n\0.\r\n.\r\n",
    b"x" * 998 + b"\r\n" + b"y" * 999 + b"\r\n.\r\n",
    b"\r\n." * 50 + b"\r\n.\r\n",
]

TOKENS: list[bytes] = [
    *(b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n."),
    *(b"\r\n..", b".", b"\r\r\n", b"\n\r", b"\0", b"x" * 997, b"x" * 998, b"x" * 999),
]


def one_input(data: bytes) -> None:
    """Read the octets as DATA and as BDAT, whole and in pieces, beside a naive reader."""
    step = len(data) % 37 + 1
    pieces = [data[n : n + step] for n in range(0, len(data), step)]
    _data(data, [data])
    _data(data, pieces)
    _chunk(data, pieces)
    _stuff(data, pieces)


def _data(data: bytes, pieces: list[bytes]) -> None:
    receiver = Receiver()
    receiver.expect_data()
    message, end = _pull(receiver, pieces)
    raw, found, after = (b"\r\n" + data).partition(b"\r\n.\r\n")
    if not found:
        assert end is None
        return
    lines = (raw + b"\r\n")[2:].split(b"\r\n")
    expected = b"\r\n".join(line.removeprefix(b".") for line in lines)
    assert message == expected
    assert end == DataEnd(*_facts(expected))
    assert receiver.buffered == len(after)


def _chunk(data: bytes, pieces: list[bytes]) -> None:
    receiver = Receiver()
    half = len(data) // 2
    receiver.expect_chunk(half, False)
    first, end = _pull(receiver, pieces)
    assert isinstance(end, ChunkEnd)
    receiver.expect_chunk(len(data) - half, True)
    second, end = _pull(receiver, [])
    assert first + second == data
    assert end == ChunkEnd(True, *_facts(data))
    assert receiver.empty


def _stuff(data: bytes, pieces: list[bytes]) -> None:
    bare_cr, bare_lf = _facts(data)[:2]
    stuffer = DotStuffer()
    try:
        wire = b"".join(map(stuffer.feed, pieces)) + stuffer.finish()
    except BareLineEnd:
        assert bare_cr or bare_lf
        return
    assert not bare_cr
    assert not bare_lf
    assert (b"\r\n" + wire).count(b"\r\n.\r\n") == 1
    receiver = Receiver()
    receiver.expect_data()
    message, end = _pull(receiver, [wire])
    assert message == (data if not data or data.endswith(b"\r\n") else data + b"\r\n")
    assert isinstance(end, DataEnd)
    assert receiver.empty


def _pull(receiver: Receiver, pieces: list[bytes]) -> tuple[bytes, Event | None]:
    """The message and its end; what follows the end stays in the receiver."""
    chunks: list[bytes] = []
    end: Event | None = None
    for piece in [*pieces, b""]:
        receiver.feed(piece)
        while end is None and (event := receiver.next()) is not None:
            if isinstance(event, DataChunk):
                chunks.append(event.data)
            else:
                end = event
    return b"".join(chunks), end


def _facts(message: bytes) -> tuple[bool, bool, bool, int, int]:
    outside = message.replace(b"\r\n", b"")
    longest = max(
        (len(line) + 1 for line in message.split(b"\n")[:-1] if len(line) >= 1000), default=0
    )
    tail = len(message) - (message.rfind(b"\n") + 1)
    lines = LineEnds()
    lines.feed(message)
    lines.close()
    facts = (
        b"\r" in outside,
        b"\n" in outside,
        0 in message,
        max(longest, tail if tail > 1000 else 0),
        len(message),
    )
    assert facts == (lines.bare_cr, lines.bare_lf, lines.nul, lines.longest_line, lines.size)
    return facts
