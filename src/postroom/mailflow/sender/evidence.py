"""What a line of `sender.rules` is asked about: the facts of a message, or what an administrator
says of one that might come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

from postroom.core.errors import Malformed
from postroom.domain.facts import (
    ArcFact,
    DkimFact,
    DmarcFact,
    FromFact,
    IprevFact,
    PeerFact,
    ReplayFact,
    SenderFact,
    SpfFact,
    VbrFact,
)
from postroom.domain.policy import Policy
from postroom.domain.transit import Fact, Facts
from postroom.mailflow.arc_settings import ArcSettings
from postroom.mailflow.replay_settings import ReplaySettings
from postroom.mailflow.sender.language import (
    NOBODY,
    RESULTS,
    UNKNOWN,
    Condition,
    at_least,
    parse_condition,
)
from postroom.trust.arc import ArcCode
from postroom.trust.dkim import DkimCode
from postroom.trust.dmarc import DmarcCode, Request
from postroom.trust.reverse import Iprev
from postroom.trust.spf import Result
from postroom.trust.vbr import VbrCode

_BEST: Final = (
    DkimCode.PASS,
    DkimCode.TEMPERROR,
    DkimCode.POLICY,
    DkimCode.NEUTRAL,
    DkimCode.PERMERROR,
    DkimCode.FAIL,
)
"""Results of signatures, the best first: the one that failed says nothing against one that holds
(RFC 6376 §6.1), and one that DNS kept from being judged may hold."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that conditions ask. None is what nobody knows."""

    results: Mapping[str, str]  # by the names of language.RESULTS; what is missing is unknown
    peer: IPv4Address | IPv6Address | None = None
    host: str | None = None  # the peer's own name; empty: it has none that leads back to it
    sender: str = ""  # in lower case; empty for <>
    authors: tuple[str, ...] | None = None  # addresses in lower case, or domains
    signers: tuple[tuple[str, str], ...] | None = None  # d= and i= of signatures that hold
    spf_path: str = ""  # the domain for which SPF passed
    late: frozenset[str] = frozenset()  # checks that did not end in time
    unclear: bool = False  # it is not certain who wrote it
    copies: int | None = None  # times that this signed message came within an hour


def gathered(facts: Facts, policy: Policy) -> Evidence:
    """What the checks found."""
    spf, peer = facts.get(SpfFact), facts.get(PeerFact)
    iprev, sender = facts.get(IprevFact), facts.get(SenderFact)
    dmarc, dkim = facts.get(DmarcFact), facts.get(DkimFact)
    screened = facts.get(FromFact)
    results = {
        "spf": spf.result if spf is not None else UNKNOWN,
        "helo": spf.helo if spf is not None else UNKNOWN,
        "iprev": iprev.result if iprev is not None else UNKNOWN,
        "dkim": _best(dkim) if dkim is not None else UNKNOWN,
        "dmarc": dmarc.result if dmarc is not None else UNKNOWN,
        "wish": _wish(dmarc) if dmarc is not None else UNKNOWN,
        "arc": _chain(facts, policy),
        "vbr": _vouched(facts),
        "from": screened.result if screened is not None else UNKNOWN,
    }
    return Evidence(
        results,
        peer=ip_address(peer.ip) if peer is not None and peer.ip else None,
        host=_host(iprev),
        sender=sender.address.lower() if sender is not None else "",
        authors=dmarc.addresses if dmarc is not None else None,
        signers=_signers(dkim) if dkim is not None else None,
        spf_path=spf.domain if spf is not None and spf.result == Result.PASS else "",
        late=frozenset(facts.late),
        unclear=dmarc is not None and bool(dmarc.problem),
        copies=_copies(facts, policy),
    )


def _best(found: DkimFact) -> str:
    """What the signatures say together. One whose key is but tested counts as none: RFC 6376
    §3.6.1 `t`."""
    codes = {each["code"] for each in found.signatures if "testing" not in each}
    return next((code.value for code in _BEST if code.value in codes), DkimCode.NONE.value)


def _signers(found: DkimFact) -> tuple[tuple[str, str], ...]:
    return tuple(
        [
            (each["domain"], each.get("identity", ""))
            for each in found.signatures
            if each["code"] == DkimCode.PASS and "testing" not in each and "domain" in each
        ]
    )


def _wish(found: DmarcFact) -> str:
    """What the author's domain wants done with this very message."""
    if found.result == DmarcCode.TEMPERROR:
        return UNKNOWN
    return found.policy if found.result == DmarcCode.FAIL else Request.NONE.value


def _chain(facts: Facts, policy: Policy) -> str:
    found = facts.get(ArcFact)
    if found is not None:
        return found.result
    looked = policy.of(ArcSettings).verify and "dkim" not in facts.late
    return ArcCode.NONE.value if looked else UNKNOWN


def _vouched(facts: Facts) -> str:
    found = facts.get(VbrFact)
    if found is not None:
        return found.result
    return UNKNOWN if "vbr" in facts.late else VbrCode.NONE.value


def _copies(facts: Facts, policy: Policy) -> int | None:
    found = facts.get(ReplayFact)
    if found is not None:
        return found.copies
    looked = policy.of(ReplaySettings).count and "replay" not in facts.late
    return 0 if looked and facts.get(DkimFact) is not None else None


def _host(found: IprevFact | None) -> str | None:
    """The peer's own name; whether it has one may be unknown for now."""
    if found is None or found.result == Iprev.TEMPERROR:
        return None
    return found.host


# --- what a trace tells -------------------------------------------------------------------------

_TOLD: Final[tuple[type[Fact], ...]] = (
    *(ArcFact, DkimFact, DmarcFact, FromFact, IprevFact, PeerFact, SenderFact, SpfFact, VbrFact),
    ReplayFact,
)


def recorded(told: Mapping[str, Any]) -> Facts:
    """The facts of a message that came, from the `facts` of its trace, as far as lines ask for
    them. What another release wrote in another way is unknown."""
    facts = Facts()
    facts.late += [str(each) for each in told.get("unknown", ())]
    for kind in _TOLD:
        held = told.get(kind.name)
        if not isinstance(held, Mapping):
            continue
        names = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # they are dataclasses
        values = {name: _kept(value) for name, value in held.items() if name in names}
        try:
            facts.put(kind(**values))
        except TypeError:
            continue  # it lacks what this release asks for
    return facts


def _kept(value: object) -> object:
    """A list of JSON was a tuple."""
    return tuple(value) if isinstance(value, list) else value


# --- what an administrator supposes ---------------------------------------------------------------


def supposed(words: Sequence[str]) -> Evidence:
    """A message as an administrator describes it, in the words of conditions: `spf=fail`,
    `sender=ann@example.org`, `signer=example.org`. What is not said is unknown, but for what
    follows from the rest. Raises Malformed.
    """
    said: dict[str, Condition] = {}
    for word in words:
        each = parse_condition(word)
        if each.negated or each.name in said:
            raise Malformed(f"Say once what {each.name} is, such as {each.name}={each.values[0]}")
        if len(each.values) > 1 and each.name not in _SEVERAL:
            raise Malformed(f"{each.name} is one of them, not {'|'.join(each.values)}")
        said[each.name] = each
    results = {name: said[name].values[0] for name in RESULTS if name in said}
    if "signer" in said:
        results.setdefault("dkim", DkimCode.PASS.value)
    if results.get("dmarc") not in (None, UNKNOWN, DmarcCode.FAIL, DmarcCode.TEMPERROR):
        results.setdefault("wish", Request.NONE.value)
    sender = _said(said, "sender")
    signers = tuple([(name, f"@{name}") for name in _all(said, "signer")])
    return Evidence(
        results,
        peer=_peer(said["peer"]) if "peer" in said else None,
        host=_said(said, "host") or None,
        sender="" if sender == NOBODY else sender,
        authors=_all(said, "author") if "author" in said else None,
        signers=signers if "dkim" in results else None,
        spf_path=sender.rpartition("@")[2] if results.get("spf") == Result.PASS else "",
        late=frozenset(_all(said, "late")),
        copies=at_least(said["copies"].values[0]) if "copies" in said else None,
    )


_SEVERAL: Final = ("author", "signer", "late")


def _said(said: Mapping[str, Condition], name: str) -> str:
    return said[name].values[0] if name in said else ""


def _all(said: Mapping[str, Condition], name: str) -> tuple[str, ...]:
    return said[name].values if name in said else ()


def _peer(asked: Condition) -> IPv4Address | IPv6Address:
    network = ip_network(asked.values[0])
    if network.num_addresses != 1:
        raise Malformed(f"The peer is one address, not all of {network}")
    return network.network_address
