"""A message under way, and the values that probes, rules and delivery exchange about it.

`Visit` is one peer's connection, `Transit` one message of it. A probe adds facts; a rule reads
facts and policy and gives a verdict; a verdict may carry edits; delivery follows the plan.
RFC 5598 names the roles, RFC 5321 §2.3.1 the envelope.
"""

from __future__ import annotations

from asyncio import Future
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, ClassVar, Final, TypeVar
from typing import Protocol as Interface

from postroom.core.clock import Instant
from postroom.core.errors import MailError, Status
from postroom.domain.policy import Policy
from postroom.formats import headers
from postroom.formats.address import Address
from postroom.formats.headers import HEADER_MAX, Headers
from postroom.formats.parsed import Parsed
from postroom.net.connection import Peer
from postroom.store.blobs import Spool


class Protocol(StrEnum):
    """How a message came in; the `with` clause of Received. RFC 3848, RFC 6531 §4.3."""

    SMTP = "SMTP"
    LMTP = "LMTP"
    SUBMISSION = "SUBMISSION"
    JMAP = "JMAP"
    COMPOSED = "COMPOSED"  # by ourselves: notices, reports, answers


class Action(StrEnum):
    """What is to happen, mildest first. ACCEPT ends the search for a recipient's verdict, and
    MARK but carries edits."""

    ACCEPT = "accept"
    MARK = "mark"
    JUNK = "junk"
    QUARANTINE = "quarantine"
    DROP = "drop"
    DEFER = "defer"
    REFUSE = "refuse"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule decided, and why. A value: nothing happens until somebody acts on it."""

    rule: str  # the rule's name, as `postroom trace` shows it
    action: Action
    status: Status
    sentence: str  # for the peer: short, and never more than it may know
    why: str = ""  # for the trace: one plain sentence
    code: int = 0  # the SMTP reply code; 0 lets the class of `status` choose
    setting: str = ""  # the setting that caused it, if one did
    edits: tuple[Edit, ...] = ()

    @property
    def passes(self) -> bool:
        """True if the message goes on, if perhaps to another mailbox."""
        return self.action in _PASSES

    @property
    def reply_code(self) -> int:
        """The SMTP reply code. RFC 5321 §4.2."""
        return self.code or {2: 250, 4: 451, 5: 550}[self.status.klass]


_PASSES: Final = frozenset(
    {Action.ACCEPT, Action.MARK, Action.JUNK, Action.QUARANTINE, Action.DROP}
)


def refuse(rule: str, error: MailError | type[MailError], why: str = "", **more: Any) -> Verdict:
    """A verdict from an error type: deferred or refused as its status says."""
    action = Action.REFUSE if error.status.permanent else Action.DEFER
    sentence = str(error) if isinstance(error, MailError) else error.sentence
    return Verdict(rule, action, error.status, sentence, why, **more)


# --- edits ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddField:
    """Put a header field at the top. Made by formats.headers.field, so it is one field."""

    field: bytes


@dataclass(frozen=True, slots=True)
class FileInto:
    """Deliver into the mailbox with this special use instead of INBOX. RFC 6154."""

    role: str


@dataclass(frozen=True, slots=True)
class SetFlags:
    """Deliver with these flags set."""

    flags: tuple[str, ...]


Edit = AddField | FileInto | SetFlags


# --- who is there -----------------------------------------------------------------------------


@dataclass(slots=True)
class Visit:
    """One connection of a peer, from connect to quit."""

    session: str  # the id in log and trace
    peer: Peer  # replaced by one with TLS facts after STARTTLS
    protocol: Protocol
    started: Instant
    helo: str = ""
    extended: bool = False  # EHLO or LHLO was used
    principal: int | None = None
    login: str = ""
    epoch: int = 0  # the principal's, when it signed in
    refused: int = 0  # recipients refused so far: what an address harvester drives up
    bad_commands: int = 0
    messages: int = 0


# --- facts ------------------------------------------------------------------------------------


class Fact:
    """A typed answer of a probe. Subclasses are frozen dataclasses with a `name`."""

    name: ClassVar[str]

    def record(self) -> dict[str, Any]:
        """The fact as JSON-ready values, for the trace: fields are numbers, texts, tuples."""
        kind = type(self)
        read = _READERS.get(kind)
        if read is None:
            names = [each.name for each in fields(kind)]  # type: ignore[arg-type]  # subclasses are dataclasses
            read = _READERS[kind] = (names, attrgetter(*names))
        values = read[1](self)
        return dict(zip(read[0], values if len(read[0]) > 1 else (values,), strict=True))


_READERS: Final[dict[type[Fact], tuple[list[str], attrgetter[Any]]]] = {}


F = TypeVar("F", bound=Fact)


class Facts:
    """The facts gathered so far; a missing one is unknown, which no rule may take for good.

    A recipient's facts stand above its message's: what is not found there is looked for here.
    """

    __slots__ = ("_above", "_held", "late")

    def __init__(self, above: Facts | None = None) -> None:
        self._above = above
        self._held: dict[type[Fact], Fact] = {}
        self.late: list[str] = []  # probes that yielded `unknown` at their deadline

    def put(self, *facts: Fact) -> None:
        for fact in facts:
            self._held[type(fact)] = fact

    def get(self, kind: type[F]) -> F | None:
        """The fact of that type, or None: unknown."""
        found = self._held.get(kind)
        if isinstance(found, kind):
            return found
        return self._above.get(kind) if self._above is not None else None

    def record(self) -> dict[str, Any]:
        """The facts by name, for the trace; those above are recorded above."""
        held: dict[str, Any] = {fact.name: fact.record() for fact in self._held.values()}
        if self.late:
            held["unknown"] = list(self.late)
        return held


# --- the message --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a recipient address of ours leads: an account, and the mailbox tag if any."""

    account: int
    address: Address  # the account's own address
    through: tuple[str, ...] = ()  # the aliases on the way, outermost first
    detail: str | None = None  # the subaddress: RFC 5233
    folder: int = 0  # the mailbox whose own address it is; 0: it is the account's
    anybody: bool = False  # strangers may post to that mailbox, too
    path: str = ""  # of that mailbox, once somebody looked


@dataclass(frozen=True, slots=True)
class Outside:
    """Where a recipient address leads that is not ours: another server takes it from here."""

    address: Address
    through: tuple[str, ...] = ()  # the aliases of ours on the way, outermost first


@dataclass(slots=True)
class Recipient:
    """One forward-path and what became of it."""

    address: Address
    destinations: tuple[Destination, ...] = ()
    outside: tuple[Outside, ...] = ()
    notify: tuple[str, ...] = ()  # RFC 3461 §4.1
    orcpt: str | None = None
    facts: Facts = field(default_factory=Facts)
    verdicts: list[Verdict] = field(default_factory=list)
    policy: Policy | None = None  # as it applies to the first account it leads to, once known


class Listening(Interface):
    """Who hears the content while it comes in, so that nobody has to read it again."""

    def take(self, data: bytes) -> None:
        """The next octets. Raises nothing."""
        ...

    def header(self, spool: Spool) -> Headers | None:
        """The header of that content, if it was looked at."""
        ...


@dataclass(slots=True)
class Transit:
    """One message under way: the envelope, the content, what is known and decided."""

    id: int  # also the trace's id and, in text, the queue id of Received
    visit: Visit
    started: Instant
    reverse_path: Address | None  # None is <>: never bounce (RFC 5321 §4.5.5)
    declared_size: int = 0
    utf8: bool = False
    eight_bit: bool = False
    binary: bool = False  # it came as BINARYMIME: RFC 3030 §3
    envid: str | None = None  # RFC 3461 §4.4
    ret: str | None = None  # RFC 3461 §4.3
    recipients: list[Recipient] = field(default_factory=list)
    rejected: list[tuple[Recipient, Verdict]] = field(default_factory=list)
    spool: Spool | None = None
    parsed: Parsed | None = None
    facts: Facts = field(default_factory=Facts)
    verdicts: list[Verdict] = field(default_factory=list)
    policy: Policy | None = None  # as of MAIL: one message meets one policy
    decides: Policy | None = None  # of the domain of a stranger's recipients: it judges at DATA
    amended: tuple[str, ...] = ()  # what was changed in it, in words
    cause: str = ""  # of a message that we composed: what it is, and the trace of its cause
    asking: dict[Future[tuple[Fact, ...]], str] = field(default_factory=dict)
    """Probes that were begun and go on beside the next phases, with their names."""

    listening: Listening | None = None
    _header: tuple[Spool, Headers] | None = None

    def take(self, data: bytes) -> None:
        """The next octets of the content. Raises StoreFull, StoreFailed."""
        assert self.spool is not None  # intake gave one
        self.spool.write(data)
        if self.listening is not None:
            self.listening.take(data)

    def header(self) -> Headers | None:
        """The header of the content, looked at once for all who ask; None without content.

        Its source holds the header, and perhaps more. May raise StoreFailed, of what lies in a
        file.
        """
        spool = self.spool
        if spool is None:
            return None
        heard = self.listening.header(spool) if self.listening is not None else None
        if heard is not None:
            return heard
        if self._header is None or self._header[0] is not spool:
            # Of a file no more than the scan looks at, and an octet to tell it that there is more.
            start = spool.head(HEADER_MAX + 1) if spool.in_file else spool.content()
            self._header = spool, headers.scan(start)
        return self._header[1]

    @property
    def judged_by(self) -> Policy | None:
        """The policy that rules of DATA ask."""
        return self.decides or self.policy

    def drop(self) -> None:
        """Let go of the content; a message that was not kept leaves nothing behind."""
        for probe in self.asking:
            probe.cancel()
        self.asking.clear()
        self.listening = None
        if self.spool is not None:
            self.spool.drop()
            self.spool = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of DATA: one reply for all (SMTP), one for each recipient (LMTP)."""

    verdict: Verdict
    each: tuple[tuple[Recipient, Verdict], ...]
    trace: int
