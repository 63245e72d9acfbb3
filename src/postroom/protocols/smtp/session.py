"""The session's state, and how one command of the table is carried out. RFC 5321 §4.1.4."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from postroom.access import Authenticator, Conversation
from postroom.core.errors import MailError, Malformed
from postroom.domain.transit import Action, Protocol, Transit, Visit
from postroom.mailflow.intake import Intake
from postroom.protocols.smtp import replies
from postroom.wire.smtp import Command as Line
from postroom.wire.smtp import Reply

BAD_COMMANDS: Final = 20
"""Commands that fail by order or syntax, after which the session ends. RFC 5321 §4.3.2."""

IDLE_COMMANDS: Final = 100
"""Commands that lead nowhere: beyond this without a message in between they only hold a place."""


class State(Enum):
    """Where the session stands."""

    CONNECTED = "connected"
    GREETED = "greeted"
    MAIL = "mail"  # a sender is known
    RCPT = "rcpt"  # and at least one recipient
    DATA = "data"  # content is coming in
    CHUNKS = "chunks"  # some of the content is here, by BDAT


ANY: Final = frozenset(State) - {State.DATA}
GREETED: Final = frozenset({State.GREETED})
IN_MAIL: Final = frozenset({State.MAIL, State.RCPT})


@dataclass(frozen=True, slots=True)
class Service:
    """What a kind of door offers; the table of verbs is in `verbs`."""

    protocol: Protocol
    name: str  # in the greeting
    verbs: Mapping[bytes, Verb]
    signs_in: bool = False
    answers_each: bool = False  # a reply for each recipient ends a message: RFC 2033 §4.2
    no_recipients: Reply = replies.NO_RECIPIENTS


@dataclass(frozen=True, slots=True)
class Chunk:
    """BDAT was said: so many octets follow, and are let go of if they are refused."""

    size: int
    last: bool
    refusal: Reply | None = None


class Session:
    """One connection's protocol state; knows no socket."""

    __slots__ = (
        "authenticator",
        "bad",
        "chunk",
        "chunks_failed",
        "closing",
        "conversation",
        "failed_sign_ins",
        "hostname",
        "idle_commands",
        "intake",
        "offers_starttls",
        "service",
        "start_tls",
        "state",
        "transit",
        "visit",
    )

    def __init__(
        self,
        visit: Visit,
        intake: Intake,
        hostname: str,
        service: Service,
        authenticator: Authenticator | None,
        *,
        offers_starttls: bool,
    ) -> None:
        self.visit = visit
        self.service = service
        self.authenticator = authenticator
        self.intake = intake
        self.hostname = hostname
        self.offers_starttls = offers_starttls
        self.state = State.CONNECTED
        self.transit: Transit | None = None
        self.bad = 0
        self.idle_commands = 0
        self.start_tls = False  # the reply is on its way: upgrade next
        self.closing = False  # the reply is the last one
        self.chunk: Chunk | None = None  # of BDAT, until its octets are here
        self.chunks_failed = False  # of a message that the peer may still be sending
        self.conversation: Conversation | None = None  # of AUTH, until it is over
        self.failed_sign_ins = 0

    def greeting(self) -> Reply:
        """What is said first. RFC 5321 §4.2: the host name leads."""
        return Reply(220, None, (f"{self.hostname} {self.service.name} Postroom",))

    async def command(self, line: Line) -> Reply | None:
        """Carry out one command of the service's table; None: its reply comes later."""
        verb = self.service.verbs.get(line.verb)
        if verb is None:
            return self._bad(replies.UNKNOWN)
        if self.state not in verb.when:
            greeted = self.state is not State.CONNECTED
            return self._bad(verb.otherwise if greeted else replies.GREET_FIRST)
        try:
            reply = await verb.run(self, line.argument)
        except MailError as error:
            reply = replies.of_error(error)
            return self._bad(reply) if isinstance(error, Malformed) else reply
        if reply is None:
            return None
        if reply.code < _FAILED and verb.then is not None:
            self.state = verb.then
        return self.watch(reply, line.verb)

    def bad_line(self, reply: Reply) -> Reply:
        """A line that is no command."""
        return self._bad(reply)

    def reset(self) -> None:
        """Forget the message under way. RFC 5321 §4.1.1.5."""
        if self.transit is not None:
            self.transit.drop()
            self.transit = None
        self.chunk = None
        self.chunks_failed = False
        if self.state is not State.CONNECTED:
            self.state = State.GREETED

    def restart(self) -> None:
        """After TLS: nothing that was said before counts. RFC 3207 §4.2."""
        self.reset()
        self.state = State.CONNECTED
        self.visit.helo = ""
        self.visit.extended = False
        self.abandon()
        self.start_tls = False
        self.idle_commands = 0

    def abandon(self) -> None:
        """A sign-in that is under way leads nowhere."""
        if self.conversation is not None:
            self.conversation.abandon()
            self.conversation = None

    def apply(self, action: Action) -> None:
        """A verdict may end the session."""
        if action is Action.CLOSE:
            self.closing = True

    def watch(self, reply: Reply, verb: bytes) -> Reply:
        """Count a command that led nowhere; the reply to say, which may be the last one."""
        if reply.intermediate:
            if verb == b"DATA":  # a 334 is nothing yet: a peer may ask and cancel for ever
                self.idle_commands = 0
        elif verb not in _TRANSACTION or (reply.code >= _FAILED and verb != b"RCPT"):
            # Refused recipients are counted by policy, and make up most of honest mail to lists.
            self.idle_commands += 1
            if self.idle_commands > IDLE_COMMANDS and not self.closing:
                self.closing = True
                self.start_tls = False
                return replies.TOO_MANY_ERRORS
        return reply

    def _bad(self, reply: Reply) -> Reply:
        self.bad += 1
        self.visit.bad_commands += 1
        if self.bad < BAD_COMMANDS:
            return reply
        self.closing = True
        return replies.TOO_MANY_ERRORS


_FAILED: Final = 400
_TRANSACTION: Final = frozenset({b"MAIL", b"RCPT", b"DATA", b"BDAT"})

Run = Callable[[Session, bytes], Awaitable[Reply | None]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table."""

    run: Run
    when: frozenset[State]
    then: State | None = None  # None: the command itself sees to the state
    otherwise: Reply = replies.NOT_NOW
