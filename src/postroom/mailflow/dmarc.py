"""DMARC of what a stranger brings: the probe, and what is done about what it found.

It begins when SPF and DKIM are done, as it judges what they say. What is done is a function of
facts and settings, so that rule, header field and trace never differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from postroom.domain.facts import DkimFact, DmarcFact, PeerFact, SenderPolicyFact, SpfFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Fact, Facts, Protocol, Recipient, Transit
from postroom.formats.authres import MethodResult, Property
from postroom.mailflow import arc, vbr
from postroom.mailflow.exempt import exempt
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import DmarcSettings, SmtpSettings
from postroom.trust import dmarc as trust
from postroom.trust.dmarc import (
    UNCHECKED,
    Authors,
    Disposition,
    DmarcCode,
    DmarcResult,
    Identifier,
    Request,
    Wanted,
)

_SHARE: Final = 0.2
"""Of the time of a message: less than a closing probe has, so it says temperror by itself."""


async def ahead(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Ask for the policy of the sender's domain, which mostly is the author's, while the peer
    sends: when the author is known, the resolver has the answer.
    """
    sender, policy = transit.reverse_path, transit.policy
    if house.checks is not None and sender is not None and policy is not None:
        await house.checks.ask_policy(sender.domain, _seconds(policy))
    return ()


def _seconds(policy: Policy) -> float:
    return min(trust.DEADLINE, _SHARE * policy.of(SmtpSettings).accept_deadline)


def ahead_known(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
    """Nothing has to be asked ahead if nothing is asked, or all is known."""
    sender = transit.reverse_path
    if house.checks is None or sender is None or sender.domain.startswith("["):
        return ()
    if not _wanted(house, transit) or house.checks.knows_policy(sender.domain):
        return ()
    return None


def _wanted(house: MailHouse, transit: Transit) -> bool:
    """Whether this message is to be checked."""
    visit, policy = transit.visit, transit.policy
    if house.checks is None or policy is None or visit.peer.ip is None:
        return False
    stranger = visit.protocol is Protocol.SMTP and visit.principal is None
    return stranger and policy.of(DmarcSettings).verify


async def dmarc(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Whether the author's domain stands behind the message. RFC 9989 §5.3."""
    policy, found = transit.policy, transit.header()
    if house.checks is None or policy is None or found is None or transit.parsed is None:
        return ()
    if not _wanted(house, transit):
        return ()
    authors = trust.authors_of(found)
    identifiers = _identifiers(transit, authors.domains)
    checked = await house.checks.dmarc(authors.domains, identifiers, _seconds(policy))
    return (_fact(authors, trust.strictest(checked)),)


def _identifiers(transit: Transit, domains: Sequence[str]) -> list[Identifier]:
    """What vouches for the author, or might have. With `<>`, SPF's domain is that of HELO:
    RFC 7208 §2.4. What was not checked, or not in time, might have vouched for everybody.
    """
    facts = transit.facts
    sender, signed = facts.get(SpfFact), facts.get(DkimFact)
    if sender is not None:
        found = [Identifier("spf", sender.domain, sender.result)]
    else:
        path = transit.reverse_path
        domain = path.domain if path is not None else transit.visit.helo
        found = [Identifier("spf", domain, _absent("spf", facts))]
    if signed is None:
        return found + [Identifier("dkim", each, _absent("dkim", facts)) for each in domains]
    for each in signed.signatures:
        # A key that is but tested vouches for nothing: RFC 6376 §3.6.1 `t`.
        if "domain" in each and "testing" not in each:
            selector = each.get("selector", "")
            found.append(Identifier("dkim", each["domain"], each["code"], selector))
    return found


def _absent(probe: str, facts: Facts) -> str:
    return "temperror" if probe in facts.late else UNCHECKED


def _fact(authors: Authors, decides: DmarcResult | None) -> DmarcFact:
    if decides is None:
        code = DmarcCode.NONE if authors.missing else DmarcCode.PERMERROR
        why = "nobody is named as its author" if authors.missing else authors.problem
        return DmarcFact(code.value, "", why, problem=authors.problem)
    code = decides.code
    if authors.problem and code is not DmarcCode.FAIL:
        code = DmarcCode.PERMERROR  # it may be somebody else's in the eyes of its reader
    return DmarcFact(
        code.value,
        decides.domain,
        decides.why if code is decides.code else authors.problem,
        decides.policy_domain,
        decides.tag,
        decides.published.value,
        decides.policy.value,
        decides.record,
        decides.spf,
        decides.dkim,
        decides.reports,
        authors.problem,
        authors.domains,
        authors.addresses,
    )


# --- what is done about it --------------------------------------------------------------------


def disposition(facts: Facts, policy: Policy) -> Disposition:
    """What the settings make of the domain's wish. RFC 9989 §5.4."""
    found = facts.get(DmarcFact)
    if found is None:
        return Disposition()
    settings = policy.of(DmarcSettings)
    chain = arc.vouched(found, facts, policy)
    ruled = facts.get(SenderPolicyFact)
    if ruled is None or not ruled.instead:
        ruled = SenderPolicyFact()
    wanted = Wanted(
        settings.on_reject,
        settings.on_quarantine,
        settings.on_temperror,
        exemption(found, facts, settings),
        chain.why if chain is not None else "",
        chain.told if chain is not None else "",
        ruled.action,
        ruled.setting,
        f"{ruled.by} ({ruled.text}) says so" if ruled.action else "",
        vbr.over_dmarc(facts, policy) if not found.problem else "",
    )
    code, expected = DmarcCode(found.result), Request(found.policy)
    return trust.dispose(code, expected, Request(found.published), wanted)


def exemption(found: DmarcFact, facts: Facts, settings: DmarcSettings) -> str:
    """The entry that exempts this message, in words; empty if none does.

    All of its authors have to be exempt: of one alone, anybody could add the address.
    """
    if not settings.exempt:
        return ""
    listed, peer = exempt(settings.exempt), facts.get(PeerFact)
    if peer is not None and peer.ip and listed.holds_peer(ip_address(peer.ip)):
        return peer.ip
    entries = [
        address if address in listed.names else listed.above(address.rpartition("@")[2])
        for address in found.addresses
    ]
    return entries[0] if entries and all(entries) and not found.problem else ""


# --- what the header says -----------------------------------------------------------------------


def result(transit: Transit) -> MethodResult | None:
    """For Authentication-Results. RFC 8601 §2.7, RFC 9989 §9; None if nobody asked."""
    found = transit.facts.get(DmarcFact)
    if found is None or transit.judged_by is None:
        return None
    author = (Property("header", "from", found.domain),) if found.domain else ()
    said = found.why
    if found.tag:
        done = disposition(transit.facts, transit.judged_by)
        said = f"p={found.published} dis={done.reported.value}"
    return MethodResult("dmarc", found.result, properties=author, comment=said)
