"""The facts that today's probes gather. Each new probe adds its own beside these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from postroom.domain.transit import Fact


@dataclass(frozen=True, slots=True)
class PeerFact(Fact):
    """Who is connected, and how."""

    name: ClassVar[str] = "peer"
    ip: str
    listener: str
    encrypted: bool
    helo: str
    extended: bool
    signed_in: bool
    login: str


@dataclass(frozen=True, slots=True)
class SenderFact(Fact):
    """The reverse-path and what MAIL declared."""

    name: ClassVar[str] = "sender"
    address: str  # empty for <>
    local_domain: bool  # its domain is ours
    declared_size: int


@dataclass(frozen=True, slots=True)
class RecipientFact(Fact):
    """Where a forward-path leads."""

    name: ClassVar[str] = "recipient"
    address: str
    local_domain: bool
    destinations: int
    problem: str


@dataclass(frozen=True, slots=True)
class RoomFact(Fact):
    """How full the accounts behind a recipient are; the fullest counts."""

    name: ClassVar[str] = "room"
    full: int  # accounts that have no room for the declared size
    of: int
    setting: str = ""  # the quota that the first full one has reached


@dataclass(frozen=True, slots=True)
class CrowdFact(Fact):
    """How many recipients this transaction and this connection have seen."""

    name: ClassVar[str] = "crowd"
    accepted: int
    accounts: int  # that the accepted ones lead to, some perhaps more than once
    refused: int  # in the whole connection


@dataclass(frozen=True, slots=True)
class ContentFact(Fact):
    """What was seen while the content streamed in, and what its header says of its way."""

    name: ClassVar[str] = "content"
    size: int
    bare_cr: bool
    bare_lf: bool
    nul: bool
    longest_line: int
    hops: int  # Received fields: RFC 5321 §6.3
    complex: str  # the cap that its structure exceeds, if it does
