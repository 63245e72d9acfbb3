"""Hostile POP3 clients: one reading whatever the chopping, and nothing raised but MailError."""

from __future__ import annotations

from postroom.core.errors import MailError
from postroom.wire.pop3 import (
    BadLine,
    Command,
    Event,
    Line,
    Receiver,
    auth_command,
    command,
    parse_auth,
    parse_auth_line,
    parse_nothing,
    parse_number,
    parse_optional_number,
    parse_password,
    parse_top,
    parse_user,
)
from postroom.wire.pop3.limits import COMMAND_LINE_CAP

SEEDS: list[bytes] = [
    b"USER ann@a.example\r\nPASS two words \r\nSTAT\r\nLIST\r\nUIDL 2\r\nQUIT\r\n",
    b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\nAUTH LOGIN\r\nYW5u\r\n*\r\nAUTH\r\n",
    b"RETR 1\r\nTOP 1 0\r\ntop 99 10 \r\nDELE 4294967296\r\nRSET\r\nNOOP\r\n",
    b"STLS\r\nCAPA\r\nUTF8\r\nAPOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n",
    "USER zoë\r\nPASS Grüße\r\n".encode(),
    b"NOOP\nQUIT\r\n",
    b"NOOP\rQUIT\r\n\0\r\n",
    b"x" * 4100 + b"\r\nNOOP\r\n",
    b"x" * 70_000,
]

TOKENS: list[bytes] = [
    *(b"USER ", b"PASS ", b"AUTH ", b"PLAIN", b"SCRAM-SHA-256-PLUS ", b"YW5u", b"=", b"*\r\n"),
    *(b"RETR ", b"TOP ", b"DELE ", b"LIST", b"UIDL", b"4294967296", b"-1", b"\r\n", b"\n", b"\r"),
]


def one_input(data: bytes) -> None:
    """Read the lines whole and in pieces; parse each as any command; say again what was said."""
    whole = _events([data])
    step = len(data) % 61 + 1
    assert _events([data[n : n + step] for n in range(0, len(data), step)]) == whole
    for event in whole:
        if isinstance(event, Command):
            _parse(event.argument)
        elif isinstance(event, Line):
            _parse_line(event.data)


def _events(pieces: list[bytes]) -> list[Event]:
    receiver = Receiver()
    events: list[Event] = []
    for piece in pieces:
        receiver.feed(piece)
        while (event := receiver.next()) is not None:
            assert isinstance(event, Command | Line | BadLine)
            events.append(event)
            if isinstance(event, Command) and event.verb == b"AUTH":
                receiver.expect_line(1000)
        assert receiver.buffered < max(COMMAND_LINE_CAP, len(piece)) + 1
    return events


def _parse(argument: bytes) -> None:
    for parse in (parse_nothing, parse_number, parse_optional_number, parse_top, parse_user):
        try:
            parse(argument)
        except MailError:
            continue
    try:
        password = parse_password(argument)
    except MailError:
        pass
    else:
        assert _argument(command("PASS", password)) == password
    try:
        auth = parse_auth(argument)
    except MailError:
        return
    if auth is not None:
        assert parse_auth(_argument(auth_command(auth))) == auth


def _parse_line(line: bytes) -> None:
    try:
        parse_auth_line(line)
    except MailError:
        return


def _argument(line: bytes) -> bytes:
    (event,) = _events([line + b"QUIT\r\n"])[:1]
    assert isinstance(event, Command)
    return event.argument
