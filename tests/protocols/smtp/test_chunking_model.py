"""CHUNKING against a model: whatever is said in whatever order, the two sides stay in step.

Attack class 1 and the lesson of CVE-2026-45185: the state machine of BDAT has a test of its own.
The model knows the rules of RFC 5321 §4.1.4 and RFC 3030 §2 and nothing of our code.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from postroom.core.errors import MailError, NoSuchRecipient, Status
from postroom.core.ids import Ids
from postroom.core.settings import SERVER, chain
from postroom.domain.policy import Policy
from postroom.domain.transit import (
    Action,
    Outcome,
    Recipient,
    Transit,
    Verdict,
    Visit,
    refuse,
)
from postroom.formats.address import Address
from postroom.mailflow.intake import RECIPIENT_OK, SENDER_OK, TAKEN, Intake, MailFrom, Streamed
from postroom.mailflow.settings import SmtpSettings
from postroom.net.connection import Peer
from postroom.protocols.smtp import SmtpServer
from postroom.protocols.smtp.session import BAD_COMMANDS, IDLE_COMMANDS
from postroom.protocols.smtp.verbs import LMTP, MX
from postroom.store.blobs import Blobs, Spool
from postroom.store.files import Files
from postroom.testing.clock import ManualClock
from postroom.wire.smtp import dot_stuff
from tests.mailflow.line import Line, complaints

LIMIT = 65_536
POLICY = Policy(chain(SERVER), {SERVER: {"smtp.max_size": LIMIT}})
NOBODY = Verdict("known", Action.REFUSE, NoSuchRecipient.status, "No such recipient", code=550)
PEER = Peer(ip_address("192.0.2.1"), 1, None, 25, "smtp")


@dataclass
class Kept:
    """What the intake was given and took."""

    content: bytes
    binary: bool


@dataclass
class Taking(Intake):
    """An intake that takes what has good line ends and fits, and remembers it."""

    blobs: Blobs
    kept: list[Kept] = field(default_factory=list)
    spools: list[Spool] = field(default_factory=list)

    def settings(self, listener: str) -> SmtpSettings:
        return POLICY.of(SmtpSettings)

    async def mail(self, visit: Visit, mail: MailFrom) -> tuple[Transit, Verdict]:
        transit = Transit(1, visit, ManualClock().now(), mail.reverse_path, binary=mail.binary)
        transit.policy = POLICY
        return transit, SENDER_OK

    async def rcpt(
        self,
        transit: Transit,
        address: Address,
        notify: tuple[str, ...] = (),
        orcpt: str | None = None,
    ) -> Verdict:
        if address.local == "nobody":
            return NOBODY
        transit.recipients.append(Recipient(address))
        return RECIPIENT_OK

    def spool(self, transit: Transit) -> Spool:
        transit.spool = self.blobs.spool()
        self.spools.append(transit.spool)
        return transit.spool

    async def data(
        self,
        transit: Transit,
        streamed: Streamed,
        failure: MailError | None = None,
        settling: object = None,
    ) -> Outcome:
        verdict = TAKEN
        if streamed.size > LIMIT:
            verdict = Verdict("size", Action.REFUSE, Status(5, 3, 4), "Too large", code=552)
        elif (streamed.bare_cr or streamed.bare_lf or streamed.nul) and not transit.binary:
            verdict = refuse("line_ends", NoSuchRecipient, code=554)
        else:
            assert transit.spool is not None and transit.spool.size == streamed.size
            self.kept.append(Kept(transit.spool.content(), transit.binary))
        transit.drop()
        return Outcome(verdict, tuple((each, verdict) for each in transit.recipients), 1)


_WORDS = [
    *(b"a", b"\r\n", b"\r\n.\r\n", b".", b"\r", b"\n", b"\0", b"QUIT\r\n", b"RSET\r\n"),
    *(b"BDAT 5 LAST\r\n", b"DATA\r\n", b"x" * 1_000 + b"\r\n", b"y" * 30_000 + b"\r\n"),
]
_LINES = [b"a\r\n", b".\r\n", b"..\r\n", b"BDAT 3\r\n", b"\r\n", b"x" * 900 + b"\r\n"]


def some(words: list[bytes]) -> st.SearchStrategy[bytes]:
    """A few of these, one behind the other."""
    return st.lists(st.integers(0, len(words) - 1), max_size=6).map(
        lambda chosen: b"".join([words[n] for n in chosen])
    )


def is_bad(content: bytes) -> bool:
    outside = content.replace(b"\r\n", b"")
    return any(octet in outside for octet in b"\r\n\0")


class Chunking(RuleBasedStateMachine):
    """One connection. What is pipelined is said when something is not."""

    lmtp = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        clock = ManualClock()
        ids = Ids(clock)
        self.intake = Taking(Blobs(self.folder.name, Files(), ids))
        service = LMTP if self.lmtp else MX
        server = SmtpServer(self.intake, clock, ids, lambda: "mail.example.test", None, service)
        self.complaints = ExitStack()
        self.found = self.complaints.enter_context(complaints())
        self.line = self._made(server)
        self.expected = [220]
        self.wire = b""
        # The model.
        self.state = "connected"
        self.content: bytes | None = None  # of the chunks so far
        self.binary = False
        self.recipients = 0
        self.failed = False  # a chunk of the message that the client is sending was refused
        self.kept: list[Kept] = []
        self.bad = self.idle = 0
        self.closed = False

    def _made(self, server: SmtpServer) -> Line:
        async def make() -> Line:
            return Line(server, PEER)

        return self.runner.run(make())

    def teardown(self) -> None:
        try:
            if not self.closed:
                self._say(b"", True)
            self.runner.run(self.line.end())
            assert not any(spool._held or spool.in_file for spool in self.intake.spools)
        finally:
            self.complaints.close()
            self.runner.close()
            self.folder.cleanup()
        assert self.found == []

    # --- saying ---------------------------------------------------------------------------------

    def _say(self, octets: bytes, now: bool, *codes: int) -> None:
        """Send octets, at once or with what comes next; each is to be answered with these."""
        if self.closed:
            return
        self.wire += octets
        self.expected += codes
        if self.expected[-1:] in ([421], [221]) or now:
            wire, self.wire = self.wire, b""
            self.runner.run(self.line.say(wire, 7_777))
            said = [reply.code for reply in self.line.replies()]
            expected, self.expected = self.expected, []
            assert said == expected, (said, expected, wire[:300])
            assert [(k.content, k.binary) for k in self.intake.kept] == [
                (k.content, k.binary) for k in self.kept
            ]

    def _answer(self, code: int, *, bad: bool = False, idle: bool = False) -> int:
        """The code, or 421 if it is one too many."""
        if bad:
            self.bad += 1
            if self.bad >= BAD_COMMANDS:
                return 421
        if idle:
            self.idle += 1
            if self.idle > IDLE_COMMANDS:
                return 421
        return code

    def _forget(self) -> None:
        self.content, self.recipients, self.failed = None, 0, False
        if self.state != "connected":
            self.state = "greeted"

    def _done(self, codes: list[int], octets: bytes, now: bool) -> None:
        self._say(octets, now, *codes)
        if codes and codes[-1] in (421, 221):
            self.closed = True

    # --- rules ----------------------------------------------------------------------------------

    @precondition(lambda self: not self.closed)
    @rule(now=st.booleans())
    def hello(self, now: bool) -> None:
        self._forget()
        self.state = "greeted"
        self._done(
            [self._answer(250, idle=True)], b"LHLO x\r\n" if self.lmtp else b"EHLO x\r\n", now
        )

    @precondition(lambda self: not self.closed)
    @rule(binary=st.booleans(), now=st.booleans())
    def mail(self, binary: bool, now: bool) -> None:
        line = b"MAIL FROM:<a@b.example>" + (b" BODY=BINARYMIME\r\n" if binary else b"\r\n")
        if self.state != "greeted":
            self._done([self._bad(503)], line, now)
            return
        self.state, self.binary, self.recipients = "mail", binary, 0
        self._done([250], line, now)

    @precondition(lambda self: not self.closed and self.state != "rcpt")
    @rule(binary=st.booleans(), reset=st.booleans(), now=st.booleans())
    def begin(self, binary: bool, reset: bool, now: bool) -> None:
        """What leads to chunks: else few plays come there."""
        if self.state == "connected" or not reset:
            self.hello(now)
        elif self.state != "greeted":
            self.rset(now)
        if not self.closed:
            self.mail(binary, now)
            self.rcpt(True, now)

    @precondition(lambda self: not self.closed)
    @rule(known=st.booleans(), now=st.booleans())
    def rcpt(self, known: bool, now: bool) -> None:
        line = b"RCPT TO:<%b@example.test>\r\n" % (b"bob" if known else b"nobody")
        if self.state not in ("mail", "rcpt"):
            self._done([self._bad(503)], line, now)
            return
        if known:
            self.state = "rcpt"
            self.recipients += 1
        self._done([250 if known else 550], line, now)

    def _bad(self, code: int) -> int:
        return self._answer(code, bad=True)

    @precondition(lambda self: not self.closed and self.state in ("rcpt", "chunks"))
    @rule(pieces=st.lists(some(_WORDS), min_size=1, max_size=3), now=st.booleans())
    def several(self, pieces: list[bytes], now: bool) -> None:
        for octets in pieces:
            if not self.closed:
                self.bdat(octets, False, now)

    @precondition(lambda self: not self.closed and self.state in ("rcpt", "chunks"))
    @rule(octets=some(_LINES), now=st.booleans())
    def whole(self, octets: bytes, now: bool) -> None:
        """A chunk that is good by itself."""
        self.bdat(octets, True, now)

    @precondition(lambda self: not self.closed)
    @rule(octets=some(_WORDS), last=st.booleans(), now=st.booleans())
    def bdat(self, octets: bytes, last: bool, now: bool) -> None:
        said = b"BDAT %d%b\r\n%b" % (len(octets), b" LAST" if last else b"", octets)
        if self.state == "rcpt":
            self.state, self.content = "chunks", b""
        if self.state == "mail":
            self._done([self._bad(503 if self.lmtp else 554)], said, now)
            return
        if self.state != "chunks":
            code = self._answer(503, idle=True) if self.failed else self._bad(503)
            self._done([code], said, now)
            return
        assert self.content is not None
        self.content += octets
        too_large = len(self.content) > LIMIT
        if not last and not too_large:
            code = 250 if octets else self._answer(250, idle=True)
            self._done([code], said, now)
            return
        each = self.recipients if self.lmtp and last else 1
        if last:
            self.idle = 0
        if too_large:
            code = 552
        elif is_bad(self.content) and not self.binary:
            code = 554
        else:
            code = 250
            self.kept.append(Kept(self.content, self.binary))
        self._forget()
        self.failed = not last
        self._done([code] * each, said, now)

    @precondition(lambda self: not self.closed)
    @rule(content=some(_LINES))
    def data(self, content: bytes) -> None:
        """DATA waits for its 354, as honest clients do."""
        if self.state != "rcpt" or self.binary:
            if self.state == "mail":
                code = self._answer(503 if self.lmtp else 554, idle=True)
            elif self.state == "rcpt":
                code = self._answer(503, idle=True)
            else:
                code = self._bad(503)
            self._done([code], b"DATA\r\n", True)
            return
        self._done([354], b"DATA\r\n", True)
        self.idle = 0
        self.kept.append(Kept(content, False))
        each = self.recipients if self.lmtp else 1
        self._forget()
        self._done([250] * each, b"".join(dot_stuff([content])), True)

    @precondition(lambda self: not self.closed)
    @rule(now=st.booleans())
    def rset(self, now: bool) -> None:
        self._forget()
        self._done([self._answer(250, idle=True)], b"RSET\r\n", now)

    @precondition(lambda self: not self.closed)
    @rule(now=st.booleans())
    def noop(self, now: bool) -> None:
        self._done([self._answer(250, idle=True)], b"NOOP\r\n", now)

    @precondition(lambda self: not self.closed and self.state == "chunks")
    @rule(line=st.sampled_from([b"BDAT x", b"BDAT", b"BDAT 1 2", b"BDAT -1"]))
    def unreadable_size(self, line: bytes) -> None:
        self._say(line + b"\r\nQUIT\r\nRSET\r\n", True, 501)
        self.closed = True
        assert self.line.is_closing

    @precondition(lambda self: self.closed)
    @rule()
    def is_over(self) -> None:
        assert self.line.is_closing
        self.runner.run(self.line.say(b"NOOP\r\n"))
        assert self.line.replies() == []


class ChunkingByLmtp(Chunking):
    lmtp = True


_SETTINGS = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("machine", [Chunking, ChunkingByLmtp])
def test_chunks_and_commands_in_any_order_agree_with_the_model(
    machine: type[RuleBasedStateMachine],
) -> None:
    run_state_machine_as_test(machine, settings=_SETTINGS)
