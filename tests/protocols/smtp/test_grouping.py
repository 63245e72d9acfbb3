"""Replies that leave together, and those that may not wait. RFC 2920 §3.2."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from postroom.net.connection import Peer
from postroom.protocols.smtp import SmtpServer
from postroom.protocols.smtp.server import HELD
from tests.mailflow.line import Line
from tests.mailflow.serving import DOMAIN, Mx, message

BOB = f"bob@{DOMAIN}"
BEGIN = f"MAIL FROM:<ann@far.example>\r\nRCPT TO:<{BOB}>\r\n".encode()
PEER = Peer(ip_address("192.0.2.1"), 1, None, 25, "smtp")


class Counted(Line):
    """Remembers each write."""

    writes: list[bytes]

    def write(self, data: bytes) -> None:
        self.__dict__.setdefault("writes", []).append(data)
        super().write(data)


async def _line(mx: Mx) -> Counted:
    await mx.account(BOB)
    house = mx.house
    server = SmtpServer(mx.intake, house.clock, house.ids, lambda: house.hostname, None)
    line = Counted(server, PEER)
    await line.say(b"EHLO x\r\n")
    line.writes.clear()
    return line


def codes(write: bytes) -> list[int]:
    return [int(each[:3]) for each in write.splitlines()]


async def test_a_group_is_one_write_and_the_end_of_data_another(mx: Mx) -> None:
    line = await _line(mx)
    await line.say(BEGIN + BEGIN[BEGIN.index(b"RCPT") :] + b"DATA\r\n")
    await line.say(message() + b".\r\n")
    assert [codes(write) for write in line.writes] == [[250, 250, 250, 354], [250]]


async def test_what_is_held_leaves_when_nothing_more_has_come(mx: Mx) -> None:
    line = await _line(mx)
    await line.say(BEGIN + b"RSET\r\nMAIL FROM")
    assert [codes(write) for write in line.writes] == [[250, 250, 250]]


@pytest.mark.parametrize(
    "command", [b"NOOP", b"VRFY x", b"EXPN x", b"HELP", b"EHLO x", b"FROB", b"QUIT", b"RSET x\0"]
)
async def test_other_replies_never_wait(mx: Mx, command: bytes) -> None:
    line = await _line(mx)
    await line.say(BEGIN + command + b"\r\n" + BEGIN)
    first = codes(line.writes[0])
    assert first[:2] == [250, 250] and len(first) >= 3
    assert len(line.writes) == (1 if command == b"QUIT" else 2)


async def test_nothing_is_held_while_a_message_is_decided(mx: Mx) -> None:
    """That may take a while, and the client's patience for each reply is its own."""
    line = await _line(mx)
    content = message()
    await line.say(BEGIN + b"BDAT %d LAST\r\n%b" % (len(content), content) + BEGIN)
    assert [codes(write) for write in line.writes] == [[250, 250], [250], [250, 250]]


async def test_no_more_than_a_little_is_held(mx: Mx) -> None:
    line = await _line(mx)
    await line.say(BEGIN + BEGIN[BEGIN.index(b"RCPT") :] * 900, 64 * 1024)
    assert sum(len(codes(write)) for write in line.writes) == 902
    assert max(map(len, line.writes)) <= HELD + 600
    assert len(line.writes) > 1


async def test_a_session_that_ends_says_all_that_it_held(mx: Mx) -> None:
    line = await _line(mx)
    await line.say(BEGIN + b"BDAT x\r\n")
    assert [code for write in line.writes for code in codes(write)] == [250, 250, 501]
    assert line.is_closing
