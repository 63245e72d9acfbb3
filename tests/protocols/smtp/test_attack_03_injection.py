"""Attack class 3: whatever a peer says, a header of ours is the fields that we meant."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from postroom.core.errors import MailError
from postroom.core.ids import Ids
from postroom.core.settings import SERVER, Role
from postroom.domain import queue
from postroom.domain.directory import people
from postroom.domain.directory.people import NewAccount
from postroom.domain.mailboxes import folders, reading
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.policy import Assignment, Policies, change
from postroom.formats import dsn, headers
from postroom.formats.address import parse_mailbox
from postroom.formats.compose import MessageId
from postroom.mailflow.composed import ComposedQueue
from postroom.mailflow.house import MailHouse
from postroom.mailflow.intake import Intake
from postroom.net.connection import Peer
from postroom.protocols.smtp import SmtpServer
from postroom.protocols.smtp.verbs import LMTP
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.store.sql import Tx
from postroom.testing.clock import ManualClock
from postroom.wire.smtp import encode_xtext
from tests.mailflow.line import Line, complaints
from tests.stores import open_mail

CONTENT = b"From: <ann@example.test>\r\nSubject: x\r\n\r\nHi\r\n"
PEER = Peer(ip_address("192.0.2.1"), 1, None, 25, "smtp")


class Desk:
    """One house for all plays of a test, and a session that is made anew for each."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._runner = asyncio.Runner()
        self._runner.run(self._open(Path(self._folder.name)))

    async def _open(self, folder: Path) -> None:
        self._mail, self._state = open_mail("sqlite", str(folder))
        clock = ManualClock()
        ids = Ids(clock)
        blobs = Blobs(str(folder / "blobs"), Files(), ids)
        self.house = MailHouse(self._mail, self._state, blobs, clock, ids, Policies())
        self.intake = Intake(self.house)
        self.ann = await self._mail.write(_fill, self.house)
        self._server = SmtpServer(self.intake, clock, ids, lambda: self.house.hostname, None, LMTP)

    def close(self) -> None:
        self.intake.refusals.flush()
        self._runner.run(self._mail.close())
        self._runner.run(self._state.close())
        self._runner.close()
        self._folder.cleanup()

    def bring(self, helo: bytes, mail: bytes, rcpt: bytes) -> bool:
        """One message with these words in its envelope; whether it was taken."""
        return self._runner.run(self._bring(helo, mail, rcpt))

    async def _bring(self, helo: bytes, mail: bytes, rcpt: bytes) -> bool:
        line = Line(self._server, PEER)
        await line.say(b"LHLO %b\r\n" % helo)
        if line.replies()[-1].code != 250:
            await line.say(b"LHLO x.example\r\n")
        await line.say(b"MAIL FROM:%b\r\nRCPT TO:%b\r\n" % (mail, rcpt))
        if not all(reply.positive for reply in line.replies()) or line.is_closing:
            await line.end()
            return False
        await line.say(b"BDAT %d LAST\r\n%b" % (len(CONTENT), CONTENT))
        taken = [reply.code for reply in line.replies()] == [250]
        await line.end()
        return taken

    def inbox(self) -> list[bytes]:
        """What lies in Ann's INBOX, after what we composed has arrived."""
        return self._runner.run(self._inbox())

    async def _inbox(self) -> list[bytes]:
        await ComposedQueue(self.house, self.intake, 1).round()
        return await self._mail.read_much(self._contents)

    def _contents(self, tx: Tx) -> list[bytes]:
        box = folders.by_role(tx, self.ann, "inbox")
        assert box is not None
        rows = reading.brief(tx, box.id, Pick(1, 1 << 31))
        return [self.house.blobs.read(tx, row.blob) for row in rows]

    def waiting(self) -> list[queue.Recipient]:
        return self._runner.run(self._mail.read(queue.waiting, 1000))


def _fill(tx: Tx, house: MailHouse) -> int:
    ids, now = house.ids, house.clock.now()
    new = iter(ids.new, 0)
    people.create_domain(tx, ids.new(), "example.test", now)
    made = people.create_account(
        tx, NewAccount(parse_mailbox("ann@example.test"), "", Role.USER, None), new, now
    )
    folders.create_first(tx, made.id, new, now, made.id)
    change(tx, [Assignment(SERVER, "smtp.max_refused", 0)], ids.new(), now, 0, "test")
    return made.id


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


EVIL = [
    *(
        "\r\nBcc: x@y",
        "\nX: y",
        "\rX: y",
        "\0",
        "\x0b",
        "\u0085X: y",
        "\u2028X: y",
        "a b",
        '"',
        "\\",
    ),
    *("(", ")", "<", ">", ",", ";", ":", "@", "=?utf-8?q?=0AX:?=", "%0d%0a", "+0D+0A", "é", "\x7f"),
]
TEXT = st.lists(st.one_of(st.sampled_from(EVIL), st.text(max_size=5)), max_size=4).map("".join)
NAMES = ["Return-Path", "Received", "From", "Subject"]


ONE_DESK = [HealthCheck.function_scoped_fixture]  # all examples of a test share it


def fields_of(content: bytes) -> list[str]:
    assert b"\r" not in content.replace(b"\r\n", b"") and b"\n" not in content.replace(b"\r\n", b"")
    found = headers.scan(content)
    return [each.name.decode() for each in found.fields]


def octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@given(helo=TEXT, local=TEXT, quoted=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=ONE_DESK)
def test_attack_03_names_and_paths_stay_within_their_fields(
    desk: Desk, helo: str, local: str, quoted: bool
) -> None:
    """The HELO name in Received, the reverse-path in Return-Path, the forward-path in Received."""
    sender = f'"{local}"' if quoted else local
    before = len(desk.inbox())
    with complaints() as found:
        taken = 0 + desk.bring(
            octets(helo),
            b"<%b@far.example> SMTPUTF8" % octets(sender),
            b"<ann+%b@example.test>" % octets(local),
        )
        taken += desk.bring(
            octets(helo), b"<%b@far.example>" % octets(sender), b"<ann@example.test>"
        )
    stored = desk.inbox()[before:]
    event(f"taken {taken}")
    assert len(stored) == taken
    for content in stored:
        assert fields_of(content) == NAMES
        assert content.endswith(CONTENT)
    assert not found


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)


def _told(text: str) -> list[str]:
    """The words of a text as a report has them: it may be folded, and what begins an encoded word
    is broken, so that no reader decodes what somebody made up."""
    return text.replace("=?", "= ?").split()


@given(
    envid=st.one_of(PRINTABLE.map(str.encode), PRINTABLE.map(str.encode), st.binary(max_size=40)),
    orcpt=st.one_of(PRINTABLE, PRINTABLE, TEXT),
    plain=st.booleans(),
)
@settings(max_examples=100, deadline=None, suppress_health_check=ONE_DESK)
def test_attack_03_envid_and_orcpt_stay_within_their_fields_of_a_report(
    desk: Desk, envid: bytes, orcpt: str, plain: bool
) -> None:
    """A report of delivery goes back to Ann herself: what she said of her message is in it."""
    said = envid if plain else encode_xtext(envid)
    named = octets(orcpt) if plain else encode_xtext(octets(orcpt))
    before = len(desk.inbox())
    taken = desk.bring(
        b"x.example",
        b"<ann@example.test> ENVID=%b" % said,
        b"<ann@example.test> NOTIFY=SUCCESS ORCPT=rfc822;%b" % named,
    )
    stored = desk.inbox()[before:]
    event(f"taken {taken}")
    assert len(stored) == 2 * taken
    for content in stored:
        fields_of(content)
    if taken:
        assert fields_of(stored[0]) == NAMES
        assert {"Bcc", "X"}.isdisjoint(fields_of(stored[1]))
        report = dsn.parse(stored[1])
        assert report is not None
        assert (report.original_envelope_id or "").split() == _told(envid.decode())
        (status,) = report.recipients
        assert status.original_recipient is not None
        assert status.original_recipient.value.split() == _told(orcpt)
        assert status.final_recipient.value == "ann@example.test"
    assert not desk.waiting()


@given(host=TEXT)
@settings(max_examples=60, deadline=None)
def test_attack_03_a_host_name_that_is_none_makes_no_message_id(host: str) -> None:
    """The name is a setting: what it cannot be is said, and never written."""
    try:
        made = str(MessageId("r1", host))
    except MailError:
        return
    assert made.isascii() and made.isprintable() and not set(made[1:-1]) & set('<> ()\\",;:')
    assert len(headers.scan(headers.field("Message-ID", made) + b"\r\n").fields) == 1
