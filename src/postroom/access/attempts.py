"""What signing in is about: who tries, from where, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from postroom.core.errors import Misuse
from postroom.core.settings import Role
from postroom.formats.address import Address
from postroom.net.connection import Peer


class NotOffered(Misuse):
    """A mechanism that is not among `mechanisms`. RFC 4954 §4: 504 5.5.4."""

    sentence = "This mechanism is not offered"


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """The session in which somebody wants to sign in."""

    ip: IPv4Address | IPv6Address | None  # None on a unix socket
    listener: str
    protocol: str  # SMTP, IMAP
    encrypted: bool
    binding: bytes = b""  # tls-server-end-point of our certificate; empty: cannot be bound
    certificate: bytes = b""  # DER, of an authority that we believe; empty: the client showed none

    @classmethod
    def of(cls, peer: Peer, protocol: str) -> SessionFacts:
        tls = peer.tls
        if tls is None:
            return cls(peer.ip, peer.listener, protocol, False)
        return cls(peer.ip, peer.listener, protocol, True, tls.endpoint, tls.client)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody wants to sign in."""

    mechanism: str  # PLAIN, LOGIN, SCRAM-SHA-256 …
    login: str
    password: str | bytes | None = field(repr=False)  # None: it is proved, and not said
    ip: IPv4Address | IPv6Address | None  # None on a unix socket
    listener: str
    protocol: str
    acting: str = ""  # as whom; empty: as oneself. RFC 4422 §3.4.1


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in. A session whose principal has a later epoch than this ends."""

    principal: int
    account: int
    address: Address
    role: Role
    epoch: int


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the server says next; the protocol writes it in base64."""

    data: bytes


class Reason(StrEnum):
    """How an attempt ended. Not for the peer."""

    RIGHT = "right"
    REMEMBERED = "remembered"  # right, and known without hashing
    WRONG = "wrong"
    UNKNOWN = "unknown"
    NOT_ACTIVE = "not active"  # the password was right, the account is frozen or disabled
    NO_VERIFIER = "no verifier"  # nothing is kept to judge this mechanism by
    NOT_GRANTED = "not granted"  # asked to act as somebody else
    CHANNEL = "another channel"  # the two ends do not see one TLS channel: RFC 5802 §6
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    STOPPED = "stopped"  # by a `before`
    ABANDONED = "abandoned"  # the peer cancelled, went away or lost the thread


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `after` is told."""

    reason: Reason
    identity: Identity | None = None
