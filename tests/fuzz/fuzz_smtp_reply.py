"""Hostile servers: one reading of their replies whatever the chopping, or BadReply."""

from __future__ import annotations

from postroom.wire.smtp import BadReply, Reply, ReplyReader, ehlo_keywords

SEEDS: list[bytes] = [
    b"220 mx.a.example ESMTP\r\n",
    b"250-mx.a.example\r\n250-SIZE 50000000\r\n250-AUTH=LOGIN PLAIN\r\n250 SMTPUTF8\r\n",
    b"250 2.1.0 ok\r\n550-5.7.1 no\r\n550 5.7.1 never\r\n354 go\r\n",
    b"250\r\n250-\r\n250\r\n",
    b"250-a\n450 b\n",
    b"550 zo\xc3\xab \xff \x1b[1m\0\r\n",
    b"250 " + b"x" * 4100 + b"\r\n",
    b"250-x\r\n" * 101,
    b"SSH-2.0-x\r\n",
]

TOKENS: list[bytes] = [
    *(b"250 ", b"250-", b"250", b"354 ", b"421-", b"550 5.7.1 ", b"550-4.7.1 ", b"2.1.0 "),
    *(b"AUTH=PLAIN", b"SIZE 1", b"\r\n250 ok\r\n", b"\n250 ok\n", b"\r\r\n", b"x" * 600, b"-"),
]


def one_input(data: bytes) -> None:
    """Read whole and in pieces; what was read can be said again, and is then read alike."""
    whole = _replies([data])
    step = len(data) % 29 + 1
    assert _replies([data[n : n + step] for n in range(0, len(data), step)]) == whole
    for reply in whole[0]:
        ehlo_keywords(reply)
        for utf8 in (False, True):
            again, failed = _replies([reply.render(utf8=utf8)])
            if sum(len(line) // 100 + 1 for line in reply.lines) <= 100:  # wrapped, it still fits
                assert not failed
                assert again[0].code == reply.code


def _replies(pieces: list[bytes]) -> tuple[list[Reply], bool]:
    reader = ReplyReader()
    replies: list[Reply] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (reply := reader.next()) is not None:
                replies.append(reply)
    except BadReply:
        return replies, True
    return replies, False
