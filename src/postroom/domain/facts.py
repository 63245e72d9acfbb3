"""The facts that today's probes gather. Each new probe adds its own beside these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from postroom.domain.transit import Fact, Protocol


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
    protocol: str = "SMTP"

    @property
    def trusted(self) -> bool:
        """Whether we answer for who it is: somebody signed in, or ourselves."""
        return self.signed_in or self.protocol == Protocol.COMPOSED


@dataclass(frozen=True, slots=True)
class SenderFact(Fact):
    """The reverse-path and what MAIL declared."""

    name: ClassVar[str] = "sender"
    address: str  # empty for <>
    local_domain: bool  # its domain is ours
    declared_size: int


@dataclass(frozen=True, slots=True)
class SenderRightsFact(Fact):
    """Whether who signed in may use the reverse-path, and is still welcome: the account may be
    frozen or its password changed since. Absent for strangers."""

    name: ClassVar[str] = "sender_rights"
    own: bool
    welcome: bool = True


@dataclass(frozen=True, slots=True)
class AuthorFact(Fact):
    """Who the header says wrote and sent it (RFC 5322 §3.6.2), and which of these addresses
    who signed in may not use. Absent for strangers."""

    name: ClassVar[str] = "author"
    addresses: tuple[str, ...]
    foreign: tuple[str, ...]
    from_fields: int
    whole: bool = True  # the header was looked at to its end


@dataclass(frozen=True, slots=True)
class RecipientFact(Fact):
    """Where a forward-path leads."""

    name: ClassVar[str] = "recipient"
    address: str
    local_domain: bool
    destinations: int
    problem: str
    outside: int = 0  # addresses elsewhere to which it leads


@dataclass(frozen=True, slots=True)
class FromFact(Fact):
    """What in the From field of a stranger's message misleads its readers; absent where it is not
    certain who wrote it, which is judged elsewhere."""

    name: ClassVar[str] = "from"
    result: str  # none, mismatch, lookalike, impersonation
    shown: str  # what a reader may take it for
    real: str  # the author's address
    why: str
    exempt: bool = False


@dataclass(frozen=True, slots=True)
class BatvFact(Fact):
    """What the tag of a recipient is worth; absent if it has none, and its domain tags nothing."""

    name: ClassVar[str] = "batv"
    result: str  # right, expired, forged, untagged
    signs: bool  # the domain tags what it sends


@dataclass(frozen=True, slots=True)
class PostingFact(Fact):
    """The recipient is, among others, the address of a folder; absent for all others."""

    name: ClassVar[str] = "posting"
    folders: tuple[str, ...]  # their paths
    anybody: bool  # may post to all of them
    forbidden: tuple[str, ...]  # those to which this sender may not


@dataclass(frozen=True, slots=True)
class ApartFact(Fact):
    """The recipient's domain judges doubtful mail otherwise than that of the recipients before;
    absent where it does not."""

    name: ClassVar[str] = "apart"
    domain: str
    before: str


@dataclass(frozen=True, slots=True)
class ReportsFact(Fact):
    """The recipient is where others send DMARC reports; absent for all others."""

    name: ClassVar[str] = "reports"
    address: str
    spent: str  # why no more are taken today; empty: they are
    setting: str = ""  # that says so


@dataclass(frozen=True, slots=True)
class BringsFact(Fact):
    """A recipient is where others send reports, and leads nowhere else; else absent."""

    name: ClassVar[str] = "brings"
    reports: bool = True


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


@dataclass(frozen=True, slots=True)
class SpfFact(Fact):
    """Whether the sender's domain lets the peer send in its name, and the peer's own name too.

    RFC 7208; results are those of its §2.6. Absent for who signed in, and where it is not asked.
    """

    name: ClassVar[str] = "spf"
    result: str  # for the reverse-path, or for the HELO name if that is <>
    domain: str
    mechanism: str  # that decided
    why: str
    explanation: str  # the domain's own words about a fail
    lookups: int  # terms that asked DNS
    helo: str  # the result for the HELO name
    helo_domain: str
    helo_why: str


@dataclass(frozen=True, slots=True)
class IprevFact(Fact):
    """Whether the peer's address has a name that leads back to it. RFC 8601 §3."""

    name: ClassVar[str] = "iprev"
    result: str  # pass, fail, temperror, permerror: RFC 8601 §2.7.3
    host: str  # its own name; empty unless it passes


@dataclass(frozen=True, slots=True)
class DkimFact(Fact):
    """What the signatures of a message are worth: one entry for each, the uppermost first.

    RFC 8601 §2.7.1. An entry has the texts `code` (none, pass, fail, policy, neutral, temperror,
    permerror), `domain` (d=), `selector`, `identity` (i=), `algorithm`, `signature` (the first 8
    characters of b=) and `why`, and `testing` where the key says so. One that holds has `mark`,
    equal for all copies of the message, in hexadecimal, and `list` if it covers a List-Id. Of a
    message without a signature there is one entry, `none`.
    """

    name: ClassVar[str] = "dkim"
    signatures: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReplayFact(Fact):
    """How often a signed message came within the hour, this time included. Absent where no
    signature holds, and where nobody counts."""

    name: ClassVar[str] = "replay"
    copies: int
    domain: str  # that signed it; of several, the one whose signature came most often
    of_list: bool = False  # that signature covers a List-Id


@dataclass(frozen=True, slots=True)
class ArcFact(Fact):
    """Whether the chain of those who forwarded a message holds, and what they say. RFC 8617.

    One entry of `sets` for each seal, the oldest first, with the texts `domain` and `selector`.
    If the chain holds, it has what this sealer found, as far as he tells: `dmarc`, `spf`, `dkim`
    and `arc`, `author` (the domain whose DMARC it was) and `remote` (who had brought it him).
    Absent for a message without a chain.
    """

    name: ClassVar[str] = "arc"
    result: str  # pass, fail
    why: str
    sets: tuple[Mapping[str, str], ...] = ()  # none if they cannot be read
    oldest_pass: int | None = None  # 0: all signatures hold. RFC 8617 §5.2 step 5


@dataclass(frozen=True, slots=True)
class DmarcFact(Fact):
    """Whether the author's domain stands behind the message, and what it wants if not.

    RFC 9989. Of several author domains the one that decides; absent where it is not asked.
    """

    name: ClassVar[str] = "dmarc"
    result: str  # none, pass, fail, temperror, permerror
    domain: str  # the author's
    why: str
    policy_domain: str = ""  # where the policy was found
    tag: str = ""  # p, sp, np: what of the policy applies
    published: str = "none"  # what that says
    policy: str = "none"  # what the domain expects: less, while it tests
    txt: str = ""  # the record as published
    spf: bool = False  # an SPF pass is aligned
    dkim: bool = False  # a DKIM pass is aligned
    reports: bool = False  # the domain asks for aggregate reports
    problem: str = ""  # why it is not certain who wrote it
    domains: tuple[str, ...] = ()  # of all authors
    addresses: tuple[str, ...] = ()  # of all authors


@dataclass(frozen=True, slots=True)
class SenderPolicyFact(Fact):
    """What `sender.rules` and the Approved List make of what the checks found; absent where
    neither is set, and for who is not checked."""

    name: ClassVar[str] = "sender_policy"
    action: str = ""  # accept, junk, quarantine, defer, refuse, close; empty: nothing decided
    setting: str = ""  # that decided: sender.rules, sender.approved, sender.junk_score ...
    line: int = 0  # of sender.rules, from 1, if one decided
    text: str = ""  # of that line, or the entry of the list
    reason: str = ""  # an administrator's words to the peer
    instead: bool = False  # it decides in the place of what is set for DMARC
    score: int = 0  # the sum
    scored: tuple[str, ...] = ()  # the lines that gave points
    tags: tuple[str, ...] = ()  # keywords, and header fields such as `X-Doubt: yes`

    @property
    def by(self) -> str:
        """What decided, as people call it: `sender.rules line 3`."""
        return f"{self.setting} line {self.line}" if self.line else self.setting


@dataclass(frozen=True, slots=True)
class VbrFact(Fact):
    """Whether somebody whom we believe vouches for a domain that SPF or DKIM found behind the
    message. RFC 5518, RFC 6212. Absent where nobody is believed, or nobody was named."""

    name: ClassVar[str] = "vbr"
    result: str  # pass, fail, none, temperror, permerror
    domain: str  # md= of the VBR-Info
    certifier: str  # who was asked; empty: nobody
    kinds: tuple[str, ...]  # of mail that he vouches for
    why: str


@dataclass(frozen=True, slots=True)
class BimiFact(Fact):
    """The logo that the author's domain publishes, if the message deserves it. Absent where it is
    not asked for."""

    name: ClassVar[str] = "bimi"
    result: str  # pass, none, fail, temperror, declined, skipped
    why: str
    domain: str = ""  # where the record is
    selector: str = ""
    location: str = ""  # the https URL of the logo; empty unless it passes
    evidence: str = ""  # that of its certificate, which nobody looked at
