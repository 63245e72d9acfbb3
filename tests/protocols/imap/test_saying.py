"""What a session says goes out together, and never later than it has to."""

from __future__ import annotations

from typing import cast

import pytest

from postroom.core.errors import ConnectionLost
from postroom.net.connection import Connection
from postroom.protocols.imap.saying import GATHERED, HELD, Saying


class Peer:
    """In the place of a connection: what it was given, write by write."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.got.append(bytes(data))

    async def drain(self) -> None:
        return

    def abort(self) -> None:
        self.aborted = True


def saying() -> tuple[Saying, Peer]:
    said, peer = Saying(), Peer()
    said.connection = cast(Connection, peer)
    return said, peer


def test_the_lines_of_an_answer_are_one_write() -> None:
    said, peer = saying()
    said.write(b"* 1 EXISTS\r\n")
    said.write(b"a OK done\r\n")
    assert peer.got == []
    said.flush()
    said.flush()
    assert peer.got == [b"* 1 EXISTS\r\na OK done\r\n"]


def test_much_does_not_wait() -> None:
    said, peer = saying()
    said.write(b"x")
    said.write(bytes(GATHERED))
    assert [len(each) for each in peer.got] == [GATHERED + 1]
    large = bytes(3 * GATHERED)
    said.write(large)
    assert peer.got[1] == large
    said.flush()
    assert len(peer.got) == 2


async def test_who_works_on_lets_a_line_wait_for_the_next_ones_but_not_for_long() -> None:
    now, peer = 100.0, Peer()
    said = Saying(lambda: now)
    said.connection = cast(Connection, peer)
    await said.drain()
    said.write(b"a")
    now += HELD / 2
    await said.drain()
    said.write(b"b")
    assert peer.got == []
    now += HELD
    await said.drain()
    assert peer.got == [b"ab"]
    now += 1
    said.write(b"c")
    await said.drain()
    assert peer.got == [b"ab"]
    said.flush()
    assert peer.got == [b"ab", b"c"]


async def test_who_is_gone_is_told_nothing_and_who_speaks_hears_of_it() -> None:
    said, peer = saying()
    said.write(b"a")
    said.flush()
    said.write(b"b")
    said.lose()
    with pytest.raises(ConnectionLost):
        await said.drain()
    said.write(b"c")
    said.flush()
    assert peer.got == [b"a"]


def test_nothing_that_was_said_before_is_compressed() -> None:
    said, peer = saying()
    said.write(b"a OK from here on\r\n")
    said.compress()
    assert peer.got == [b"a OK from here on\r\n"]
    said.write(b"b OK\r\n")
    said.flush()
    assert b"b OK" not in peer.got[-1]
    assert len(peer.got) == 2
    said.abort()
    assert peer.aborted
