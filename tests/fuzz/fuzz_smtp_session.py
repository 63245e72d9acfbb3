"""Hostile sessions with the whole of SMTP, submission and LMTP, from octets to the store.

Whatever is said: no exception, replies that can be read, one for each command, and little memory.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from postroom.access import Authenticator, make_secret
from postroom.access.hashing import Hashing
from postroom.core.ids import Ids
from postroom.core.settings import SERVER, Role
from postroom.domain.directory import people
from postroom.domain.directory.people import NewAccount
from postroom.domain.mailboxes import folders
from postroom.domain.policy import Assignment, Policies, change
from postroom.domain.schema import MAIL_STEPS, STATE_STEPS
from postroom.formats.address import parse_mailbox
from postroom.mailflow.house import MailHouse
from postroom.mailflow.intake import Intake
from postroom.net.connection import Peer
from postroom.protocols.smtp import SmtpServer
from postroom.protocols.smtp.server import HIGH_WATER
from postroom.protocols.smtp.session import State
from postroom.protocols.smtp.verbs import LMTP, MX, SUBMISSION
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.store.migrate import migrate_sqlite
from postroom.store.sql import Tx
from postroom.store.sqlite import SqliteDatabase
from postroom.testing.clock import ManualClock
from postroom.wire.smtp import Receiver
from tests.mailflow.doors import CHEAP, PASSWORD
from tests.mailflow.line import TLS, Line, complaints
from tests.mailflow.serving import server_context

_PLAIN = b"AUTH PLAIN AGFubgBjb3JyZWN0IGhvcnNlIGJhdHRlcnkgc3RhcGxl\r\n"
_BEGIN = b"MAIL FROM:<x@far.example>\r\nRCPT TO:<ann@example.test>\r\n"
_OWN = b"MAIL FROM:<ann@example.test>\r\nRCPT TO:<ann@example.test>\r\n"
_MESSAGE = b"From: <ann@example.test>\r\nBcc: x@y.example\r\nSubject: x\r\n\r\nHi\r\n"
_CHUNK = b"BDAT %d\r\n%b" % (len(_MESSAGE), _MESSAGE)
_LAST = b"BDAT %d LAST\r\n%b" % (len(_MESSAGE), _MESSAGE)

# The first octet chooses the door: see `_DOORS`.
SEEDS: list[bytes] = [
    b"\0EHLO x\r\n" + _BEGIN + b"DATA\r\n" + _MESSAGE + b".\r\n" + _BEGIN + _CHUNK + _LAST,
    b"\0HELO x\r\n" + _BEGIN + b"RSET\r\nNOOP\r\nVRFY ann\r\nEXPN x\r\nHELP\r\nQUIT\r\n",
    b"\1EHLO x\r\nSTARTTLS\r\n",
    b"\2EHLO x\r\n" + _PLAIN + _OWN + b"DATA\r\n" + _MESSAGE + b".\r\nQUIT\r\n",
    b"\2EHLO x\r\nAUTH LOGIN\r\nYW5u\r\nWFhY\r\nAUTH SCRAM-SHA-256\r\nbiwsbj1hbm4scj1h\r\n*\r\n",
    b"\2EHLO x\r\n" + _PLAIN + _OWN + b"RCPT TO:<x@far.example> NOTIFY=DELAY\r\n" + _LAST,
    b"\3LHLO x\r\n" + _BEGIN + b"RCPT TO:<bob@example.test>\r\n" + _CHUNK + _LAST,
    b"\3LHLO x\r\n" + _BEGIN.replace(b">\r\n", b"> BODY=BINARYMIME\r\n", 1) + _LAST,
    b"\0BDAT 5 LAST\r\nQUIT\rBDAT 99999999999999999999\r\n" + _MESSAGE,
]
TOKENS: list[bytes] = [
    *(_PLAIN, _BEGIN, _OWN, _CHUNK, _LAST, b"DATA\r\n", b"BDAT 0\r\n", b"BDAT 1\r\n", b" LAST\r\n"),
    *(b"EHLO x\r\n", b"LHLO x\r\n", b"STARTTLS\r\n", b"RSET\r\n", b"*\r\n", b"AUTH PLAIN\r\n"),
    *(b" BODY=BINARYMIME", b" SMTPUTF8", b" SIZE=99999999999", b" NOTIFY=SUCCESS", b"QUIT\r\n"),
    *(b"<Postmaster>", b"<no@example.test>", b"<x@far.example>", b"<>", b"\r\n.\r\n", b"\n.\n"),
    *(b"Content-Type: multipart/mixed; boundary=b\r\n", b"--b\r\n", b"\xc3\xa4@example.test"),
]
LONGEST = 32 << 10
_DOORS = (MX, MX, SUBMISSION, LMTP)


class _Here(ThreadPoolExecutor):
    """Does at once what others do in a thread: a fuzzer leaves none behind."""

    def submit(self, work: Callable[..., Any], /, *given: Any, **more: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*given, **more))
        except Exception as error:
            done.set_exception(error)
        return done


@dataclass(slots=True)
class _House:
    """One house for all inputs; its loop runs while one is at work."""

    runner: asyncio.Runner
    house: MailHouse
    intake: Intake
    authenticator: Authenticator

    def server(self, door: int) -> SmtpServer:
        service = _DOORS[door]
        house = self.house
        authenticator = self.authenticator if service is SUBMISSION else None
        tls = None if service is LMTP else server_context
        return SmtpServer(
            self.intake, house.clock, house.ids, lambda: house.hostname, tls, service, authenticator
        )


@lru_cache(maxsize=1)
def _house() -> _House:
    folder = tempfile.TemporaryDirectory(prefix="postroom-fuzz-")
    atexit.register(folder.cleanup)
    runner = asyncio.Runner()

    async def make() -> _House:
        place = folder.name
        migrate_sqlite(os.path.join(place, "mail.db"), MAIL_STEPS)
        migrate_sqlite(os.path.join(place, "state.db"), STATE_STEPS)
        mail = SqliteDatabase(os.path.join(place, "mail.db"), durable=False)
        state = SqliteDatabase(os.path.join(place, "state.db"), durable=False)
        clock = ManualClock()
        ids = Ids(clock)
        blobs = Blobs(os.path.join(place, "blobs"), Files(), ids)
        house = MailHouse(mail, state, blobs, clock, ids, Policies())
        asyncio.get_running_loop().set_default_executor(_Here())
        hashing = Hashing()
        hashing._pool = _Here()
        authenticator = Authenticator(
            mail, clock, house.policies, ids, default_domain=lambda: "example.test", hashing=hashing
        )
        await mail.write(_fill, house)
        return _House(runner, house, Intake(house), authenticator)

    return runner.run(make())


def _fill(tx: Tx, house: MailHouse) -> None:
    ids, now = house.ids, house.clock.now()
    new = iter(ids.new, 0)
    people.create_domain(tx, ids.new(), "example.test", now)
    for name in ("ann", "bob"):
        who = NewAccount(
            parse_mailbox(f"{name}@example.test"), "", Role.USER, make_secret(PASSWORD, CHEAP)
        )
        account = people.create_account(tx, who, new, now)
        folders.create_first(tx, account.id, new, now, account.id)
    settings = {
        "access.hash_memory": CHEAP.memory,
        "access.hash_passes": CHEAP.passes,
        "smtp.max_size": 64 * 1024,
    }
    assigned = [Assignment(SERVER, name, value) for name, value in settings.items()]
    change(tx, assigned, ids.new(), now, 0, "fuzzing")


def one_input(data: bytes) -> None:
    """One session of these octets, in pieces, to its end."""
    made = _house()
    door = (data[0] if data else 0) % len(_DOORS)
    peer = Peer(ip_address("127.0.0.1"), 1, None, 25, "smtp", TLS if door in (1, 2) else None)
    if _DOORS[door] is LMTP:
        peer = replace(peer, ip=None)
    with complaints() as found:
        made.runner.run(_session(made.server(door), peer, data[1:]))
    assert not found


async def _session(server: SmtpServer, peer: Peer, octets: bytes) -> None:
    line = Line(server, peer)
    step = len(octets) % 1_013 + 1 if len(octets) < 4_096 else 7_919
    await line.say(octets, step)
    replies = line.replies()
    assert replies[0].code == 220
    # Each reply answers something of at least an octet or a line; RCPT's may be the longest.
    assert line.written < 2_000 + 600 * (octets.count(b"\n") + 1)
    assert line.most_buffered <= HIGH_WATER + 16_384
    session = line.handler._session
    if not line.is_closing and session.state not in (State.DATA,) and _listens(line):
        await line.say(b"NOOP\r\n")
        assert [reply.code for reply in line.replies()] in ([250], [421])
    await line.end()
    assert session.transit is None and session.conversation is None


def _listens(line: Line) -> bool:
    """Nothing is under way: the next octet begins a command."""
    receiver: Receiver = line.handler._receiver
    return receiver.empty and receiver._mode.name == "COMMAND"
