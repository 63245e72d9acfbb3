"""Hostile command lines: one reading whatever the chopping, and nothing raised but MailError."""

from __future__ import annotations

from postroom.core.errors import MailError
from postroom.wire.smtp import (
    BadLine,
    Command,
    Event,
    Line,
    Receiver,
    auth_command,
    bdat_command,
    mail_command,
    parse_auth,
    parse_auth_line,
    parse_bdat,
    parse_hello,
    parse_mail,
    parse_query,
    parse_rcpt,
    rcpt_command,
)

SEEDS: list[bytes] = [
    b"EHLO mx.a.example\r\nMAIL FROM:<ann@a.example> SIZE=1000 BODY=8BITMIME\r\n"
    b"RCPT TO:<bob@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+2Bx@b.example\r\nQUIT\r\n",
    b"HELO [192.0.2.1]\r\nLHLO [IPv6:2001:db8::1]\r\n",
    b"MAIL FROM:<> AUTH=<> RET=HDRS ENVID=QQ+20x REQUIRETLS MT-PRIORITY=-3 BY=120;RT\r\n",
    b'MAIL FROM: <"a b"@[192.0.2.1]> HOLDUNTIL=2026-11-22T15:18:00+01:00\r\n',
    b"MAIL FROM:<> HOLDUNTIL=0026-11-22T15:18:00+01:00\r\n"
    b"MAIL FROM:<> HOLDUNTIL=9999-12-31T23:59:59-01:00\r\n",
    "MAIL FROM:<zoë@ünï.example> SMTPUTF8 AUTH=zo+C3+AB@b.example\r\n".encode(),
    "RCPT TO:<zoë@b.example> ORCPT=utf-8;zo\\x{EB}@b.example\r\nVRFY zoë SMTPUTF8\r\n".encode(),
    b"RCPT TO:<@a.example,@b.example:ann@c.example>\r\nRCPT TO:<Postmaster>\r\n",
    b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\nAUTH LOGIN\r\nYW5u\r\n*\r\n",
    b"BDAT 86 LAST\r\nBDAT 0\r\n",
    b"NOOP\nQUIT\r\n",
    b"NOOP\rQUIT\r\n\0\r\n",
    b"x" * 4100 + b"\r\nNOOP\r\n",
    b"x" * 70_000,
]

TOKENS: list[bytes] = [
    *(b"MAIL FROM:<", b"RCPT TO:<", b"EHLO ", b"AUTH ", b"BDAT ", b"VRFY ", b"<>", b"@a.example>"),
    *(b" SIZE=", b" BODY=", b"BINARYMIME", b" SMTPUTF8", b" AUTH=", b" RET=", b" ENVID=", b" BY="),
    *(b" NOTIFY=", b"NEVER", b" ORCPT=", b"rfc822;", b"utf-8;", b"\\x{", b"\\x{10FFFF}", b"+2B"),
    *(b" REQUIRETLS", b" HOLDFOR=", b" HOLDUNTIL=", b"T23:59:60Z", b" MT-PRIORITY=", b";RT"),
    *(b"[IPv6:", b"LAST", b"\r\n", b"\rQUIT\r\n", b"\nQUIT\r\n"),
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
    return events


def _parse(argument: bytes) -> None:
    try:
        mail = parse_mail(argument)
    except MailError:
        pass
    else:
        assert parse_mail(_argument(mail_command(mail))) == mail
    for utf8 in (False, True):
        try:
            rcpt = parse_rcpt(argument, utf8=utf8)
        except MailError:
            continue
        assert parse_rcpt(_argument(rcpt_command(rcpt, utf8=utf8)), utf8=utf8) == rcpt
    try:
        bdat = parse_bdat(argument)
    except MailError:
        pass
    else:
        assert parse_bdat(_argument(bdat_command(bdat))) == bdat
    try:
        auth = parse_auth(argument)
    except MailError:
        pass
    else:
        assert parse_auth(_argument(auth_command(auth))) == auth
    try:
        hello = parse_hello(argument)
    except MailError:
        pass
    else:
        assert hello.name.isascii() and hello.name.isprintable() and " " not in hello.name
    try:
        query = parse_query(argument)
    except MailError:
        pass
    else:
        assert query.text.isprintable()


def _parse_line(line: bytes) -> None:
    try:
        parse_auth_line(line)
    except MailError:
        return


def _argument(line: bytes) -> bytes:
    (event,) = _events([line + b"QUIT\r\n"])[:1]
    assert isinstance(event, Command)
    return event.argument
