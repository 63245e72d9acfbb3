"""Hostile POP3 servers: one reading of what they say whatever the chopping, or BadResponse."""

from __future__ import annotations

from postroom.wire.pop3 import (
    BadResponse,
    Chunk,
    End,
    Reply,
    Response,
    ResponseReader,
    capabilities,
    parse_reply,
)

SEEDS: list[bytes] = [
    b"+OK POP3 ready <1896.697170952@a.example>\r\n",
    b"+OK 2 messages\r\n1 120\r\n2 200\r\n.\r\n-ERR [IN-USE] no\r\n",
    b"+OK\r\nSubject: x\r\n\r\n..\r\n.. \r\n.\r\n+OK\r\n",
    b"+OK Capability list follows\r\nTOP\r\nSASL PLAIN\r\nEXPIRE 60\r\n.\r\n",
    b"+ YW5u\r\n+ \r\n+\r\n-ERR [SYS/TEMP] later\r\n",
    b"+OK\r\na\n.\nb\r\n.\n\r\n.\r\n",
    b"-ERR [not a code] \xff\x1b[1m\0\r\n",
    b"+ok lower\r\n",
    b"+" + b"x" * 17_000,
    b"SSH-2.0-x\r\n",
]

TOKENS: list[bytes] = [
    *(b"+OK", b"-ERR ", b"[AUTH] ", b"[SYS/PERM] ", b"+ ", b"\r\n", b"\n", b"\r", b"\r\n.\r\n"),
    *(b"..", b"\n.\n", b"x" * 600, b"YWI=", b"1 120\r\n"),
]  # fmt: skip


def one_input(data: bytes) -> None:
    """Read whole and in pieces; a reply that was read can be said again, and is then alike."""
    whole = _heard([data])
    step = len(data) % 29 + 1
    assert _heard([data[n : n + step] for n in range(0, len(data), step)]) == whole
    for each in whole[0]:
        if isinstance(each, Reply):
            again = parse_reply(each.render()[:-2])
            assert again is not None
            assert again.ok is each.ok
        elif isinstance(each, Chunk):
            capabilities(each.data.split(b"\r\n"))


def _heard(pieces: list[bytes]) -> tuple[list[Response], bool]:
    reader = ResponseReader()
    found: list[Response] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (each := reader.next()) is not None:
                if isinstance(each, Chunk) and found and isinstance(found[-1], Chunk):
                    found[-1] = Chunk(found[-1].data + each.data)  # how it is cut says nothing
                else:
                    found.append(each)
                if isinstance(each, Reply) and each.ok:
                    reader.expect_lines()
                elif isinstance(each, End):
                    assert not reader.empty or reader.buffered == 0
    except BadResponse:
        return found, True
    return found, False
