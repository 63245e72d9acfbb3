"""Any content in the store: what a client reads is its lines, and the end is the end."""

from __future__ import annotations

from postroom.wire.pop3 import Crlf, Stuffer, Top, Unstuffer

SEEDS: list[bytes] = [
    b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n",
    b"a\n.\n+OK forged\r\n.\r\n",
    b"a\r.\r\r\n.\r.\n",
    b"\r\n\r\n.",
    b".\r",
    b"Subject: only a header",
    b"x" * 5000,
    b"",
]

TOKENS: list[bytes] = [
    b"\r\n",
    b"\n",
    b"\r",
    b".",
    b"..",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r\n\r\n",
    b"a",
]


def one_input(data: bytes) -> None:
    """However it is cut, one wire; and read back, however that is cut, the same lines."""
    step = len(data) % 13 + 1
    wire = _sent([data])
    assert _sent([data[n : n + step] for n in range(0, len(data), step)]) == wire
    assert wire.count(b"\n") == wire.count(b"\r") == wire.count(b"\r\n")
    assert wire.find(b"\r\n.\r\n") in (-1, len(wire) - 5)
    step = len(data) % 7 + 1
    reader, text = Unstuffer(), b""
    for n in range(0, len(wire), step):
        more, rest = reader.feed(wire[n : n + step])
        text += more
        assert (rest is not None) == (n + step >= len(wire))
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    assert text.removesuffix(b"\r\n") == b"\r\n".join(lines).removesuffix(b"\r\n")
    for count in (0, 1, 3):
        assert text.startswith(_top(data, count))


def _sent(pieces: list[bytes]) -> bytes:
    crlf, stuffer = Crlf(), Stuffer()
    wire = [stuffer.feed(crlf.feed(piece)) for piece in pieces]
    return b"".join([*wire, stuffer.feed(crlf.finish()), stuffer.finish()])


def _top(data: bytes, count: int) -> bytes:
    crlf, top = Crlf(), Top(count)
    return top.feed(crlf.feed(data)) + top.feed(crlf.finish())
