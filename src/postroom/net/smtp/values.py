"""What a caller gives to the client, and what it is told. The envelope itself is in the words
of wire: `Mail` and `Rcpt`, with everything that is wanted; what a server does not offer is left
out on the line.
"""

from __future__ import annotations

import enum
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol, TypeAlias

from postroom.core.errors import MailError, Misuse, Status
from postroom.net.smtp.offers import NOTHING, Offers
from postroom.net.tls import TlsFacts
from postroom.wire.smtp import Rcpt, Reply, limits

TEXT_CAP: Final = 1_024  # characters of a reply that are kept

PROTOCOL_STATUS: Final = Status(4, 5, 0)  # RFC 3463 §3.6: other protocol status


class Phase(enum.Enum):
    """Where in the conversation something happened."""

    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "hello"  # EHLO, HELO or LHLO
    STARTTLS = "starttls"
    TLS = "tls"  # the handshake and what was asked of the certificate
    AUTH = "auth"
    OFFER = "offer"  # nothing was sent: what the server offers does not allow it
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # the command, up to its 354
    CONTENT = "content"  # the message going out
    END = "end"  # the reply to the message
    RESET = "reset"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each wait may last, in seconds. RFC 5321 §4.5.3.2."""

    connect: float = 30
    tls: float = 60  # a handshake
    greeting: float = limits.GREETING_TIMEOUT
    hello: float = limits.GREETING_TIMEOUT  # RFC 5321 names none; STARTTLS, AUTH and RSET too
    mail: float = limits.MAIL_TIMEOUT
    rcpt: float = limits.RCPT_TIMEOUT
    data: float = limits.DATA_TIMEOUT
    block: float = limits.BLOCK_TIMEOUT  # for each write to go out
    end: float = limits.END_TIMEOUT
    quit: float = 5  # nothing depends on it any more

    def of(self, phase: Phase) -> float:
        """How long a reply in that phase is waited for."""
        match phase:
            case Phase.GREETING:
                return self.greeting
            case Phase.MAIL:
                return self.mail
            case Phase.RCPT:
                return self.rcpt
            case Phase.DATA:
                return self.data
            case Phase.CONTENT:
                return self.block
            case Phase.END:
                return self.end
            case Phase.QUIT:
                return self.quit
            case _:
                return self.hello


TIMEOUTS: Final = Timeouts()


# --- where to ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """A host, as whoever asked DNS or the settings has chosen it."""

    host: str  # its name, for traces and notices
    ip: IPv4Address | IPv6Address
    port: int = 25
    source: IPv4Address | IPv6Address | None = None
    lmtp: bool = False  # RFC 2033; never on port 25


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """An LMTP server behind a local socket."""

    host: str
    path: str


class TlsMode(enum.Enum):
    """How much protection is wanted."""

    NONE = "none"
    MAY = "may"  # encrypted if it can be had, by whomever. RFC 7435
    MUST = "must"  # encrypted, by whomever
    VERIFY = "verify"  # encrypted, and the certificate is trusted and names the host


@dataclass(frozen=True, slots=True)
class TlsWish:
    """What is asked of the connection. Contexts are `net.tls.client_context`'s.

    `name` is sent as SNI, and with VERIFY is what the certificate must be for. `check` is given
    the chain (DER, the server's own first) after any handshake, and raises TlsFailed if it does
    not like it: so DANE is judged (RFC 7672), with MUST. `implicit`: TLS from the first octet
    on (RFC 8314 §3.3). Raises Misuse for what contradicts itself.
    """

    mode: TlsMode
    context: ssl.SSLContext | None = None
    name: str | None = None
    check: Callable[[Sequence[bytes]], None] | None = None
    implicit: bool = False

    def __post_init__(self) -> None:
        if (self.context is None) != (self.mode is TlsMode.NONE):
            raise Misuse("TLS needs a context, and a context TLS")
        if self.context is None:
            if self.implicit or self.check is not None:
                raise Misuse("What is asked of TLS needs TLS")
        elif self.mode is TlsMode.VERIFY and (
            self.name is None
            or self.context.verify_mode is not ssl.CERT_REQUIRED
            or not self.context.check_hostname
        ):
            raise Misuse("Verifying needs a name and a context that verifies")
        elif self.mode is TlsMode.MAY and self.check is not None:
            raise Misuse("A check needs TLS that must be")


NO_TLS: Final = TlsWish(TlsMode.NONE)


# --- what to send --------------------------------------------------------------------------


class Content(Protocol):
    """A message as it shall arrive: lines ended by CRLF, dots not stuffed."""

    @property
    def size(self) -> int:
        """Octets; exactly what `slices` gives."""
        ...

    @property
    def eight_bit(self) -> bool:
        """It holds octets beyond ASCII: 8BITMIME is needed. RFC 6152 §3."""
        ...

    @property
    def binary(self) -> bool:
        """It holds what are no lines, such as a bare LF or a NUL: BINARYMIME. RFC 3030 §3."""
        ...

    def slices(self) -> Iterator[bytes]:
        """The octets from the start, at each call anew. Called on the loop: it must not block
        for long. What it raises as MailError makes the attempt fail for now."""
        ...


class NeedsDowngrade(enum.Enum):
    """What the server cannot take, so that the caller may give the message in another form."""

    EIGHT_BIT = "eight bit"  # make it seven-bit. RFC 6152 §3
    BINARY = "binary"  # make it lines; eight bits may stay. RFC 3030 §3


# --- what came of it -----------------------------------------------------------------------


class Fate(enum.Enum):
    """What became of a recipient, as far as this host is concerned."""

    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class Answer:
    """Why: a server's reply, or what we found ourselves (`code` is None)."""

    code: int | None
    status: Status  # RFC 3463; without detail (x.0.0) where the server gave none
    text: str  # hostile, but without control characters, and at most 1,024 long

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}" if self.code else self.text


def answer_of(reply: Reply) -> Answer:
    """A reply as it is kept."""
    status = reply.status or Status(reply.code // 100, 0, 0)
    if reply.intermediate:  # it has no class of its own, and came where it means nothing
        status = PROTOCOL_STATUS
    return Answer(reply.code, status, reply.text[:TEXT_CAP])


def finding(error: MailError) -> Answer:
    """What we found ourselves."""
    detail = f": {error.detail}" if error.detail else ""
    return Answer(None, error.status, f"{error}{detail}"[:TEXT_CAP])


def fate_of(reply: Reply) -> Fate:
    """By the first digit, as RFC 5321 §4.3.2 wants it; what means nothing is temporary."""
    if reply.positive:
        return Fate.DELIVERED
    return Fate.PERMANENT if reply.permanent else Fate.TEMPORARY


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient.

    `in_doubt`: the content went out whole and the reply was lost, so the server may have it:
    to try again may deliver twice, not to may lose it. RFC 1047
    """

    recipient: Rcpt
    fate: Fate
    answer: Answer
    phase: Phase
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one transaction.

    Every recipient is in `outcomes` or in `untried`: the latter were too many for the server
    (RFC 9422, RFC 5321 §4.5.3.1.10) and are to be sent at once in a transaction of their own;
    there is always at least one outcome, so this ends.

    `stale`: the connection had served before, and failed before anything was said to this
    MAIL. Such an attempt says nothing about the host: try again on a fresh connection.
    """

    host: str
    outcomes: tuple[Outcome, ...]
    untried: tuple[Rcpt, ...] = ()
    stale: bool = False
    dsn: bool = False  # DSN was offered; if not, we owe "relayed" where asked. RFC 3461 §5.2.2
    chunked: bool = False  # the content went by BDAT
    octets: int = 0  # of the content, handed to the line
    times: Mapping[Phase, float] = field(default_factory=dict)  # seconds


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a connection, for the trace."""

    host: str
    ip: IPv4Address | IPv6Address | None = None  # None behind a local socket
    port: int = 0
    banner: str = ""
    offers: Offers = NOTHING  # the last ones: those under TLS, if there is TLS
    tls: TlsFacts | None = None
    verified: bool = False  # by a CA, or by the wish's own check
    signed_in: str = ""  # the mechanism
    times: Mapping[Phase, float] = field(default_factory=dict)  # seconds


class OpenFailed(MailError):
    """A host could not be used. `answer` tells its status; `fate` is this host's alone.

    PERMANENT is a greeting or EHLO of 5yz (RFC 5321 §3.1, RFC 7504): the next MX may do
    better, and only if none does has the message failed. `plain_may_help`: TLS was tried where
    it need not be and failed, so a connection without it may do. `reason` is the error that lay
    beneath, if no reply did.
    """

    status = Status(4, 4, 0)  # RFC 3463 §3.5: other network or routing status
    sentence = "The host could not be used"

    def __init__(
        self,
        answer: Answer,
        phase: Phase,
        fate: Fate = Fate.TEMPORARY,
        *,
        reason: MailError | None = None,
        plain_may_help: bool = False,
    ) -> None:
        super().__init__(detail=f"{phase.value}: {answer}")
        self.answer = answer
        self.phase = phase
        self.fate = fate
        self.reason = reason
        self.plain_may_help = plain_may_help
        self.facts: Facts | None = None  # as far as they are known; the channel fills it in


Downgrade: TypeAlias = Callable[[NeedsDowngrade], Awaitable[Content | None]]
"""Gives the message in the form that is needed, or None if it has none."""
