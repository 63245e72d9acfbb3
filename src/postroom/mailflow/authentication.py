"""Who vouches for a message that a stranger brings: the probes, and what the header says of them.

They are begun at MAIL and run while the peer sends; the end of DATA waits for them. Who signed
in is vouched for, and what a program of this machine brings was checked where it came in.
"""

from __future__ import annotations

import asyncio
from typing import Final

from postroom.domain.facts import IprevFact, SpfFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Fact, Protocol, Recipient, Transit
from postroom.formats.authres import AuthenticationResults, MethodResult, Property, compose
from postroom.mailflow import arc, bimi, dkim, dmarc, vbr
from postroom.mailflow.exempt import exempt
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import SmtpSettings, SpfSettings
from postroom.trust.checks import Checks
from postroom.trust.reverse import Iprev, Reverse
from postroom.trust.spf import (
    Client,
    Identity,
    Result,
    SpfResult,
    received_spf,
)

_SHARE: Final = 0.95
"""Of a probe's time: a check that ends by itself says temperror, one that is cut off nothing."""


async def spf(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """SPF of the reverse-path and of the HELO name. RFC 7208 §2.3, §2.4."""
    asked = _asked(house, transit)
    if asked is None:
        return ()
    checks, client, policy = asked
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SHARE * policy.of(SmtpSettings).accept_deadline
    # The reverse-path comes first: a HELO name that takes its time must not take that one's.
    sender = await checks.mail_from(client, transit.reverse_path, deadline - loop.time())
    if transit.reverse_path is None:
        return (_fact(sender, sender),)
    helo = await checks.helo(client, max(0.0, deadline - loop.time()))
    return (_fact(sender, helo),)


def spf_known(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
    """What `spf` would find, if that is known."""
    asked = _asked(house, transit)
    if asked is None:
        return ()
    checks, client, _ = asked
    sender = checks.known_mail_from(client, transit.reverse_path)
    helo = sender if transit.reverse_path is None else checks.known_helo(client)
    return (_fact(sender, helo),) if sender is not None and helo is not None else None


def _fact(sender: SpfResult, helo: SpfResult) -> SpfFact:
    return SpfFact(
        sender.result.value,
        sender.domain,
        sender.mechanism,
        sender.why,
        sender.explanation,
        sender.lookups,
        helo.result.value,
        helo.domain,
        helo.why,
    )


async def iprev(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """The peer's own name. RFC 8601 §3."""
    asked = _asked(house, transit)
    return (_named(await asked[0].reverse(asked[1].ip)),) if asked is not None else ()


def iprev_known(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
    """What `iprev` would find, if that is known."""
    asked = _asked(house, transit)
    if asked is None:
        return ()
    found = asked[0].known_reverse(asked[1].ip)
    return (_named(found),) if found is not None else None


def _named(found: Reverse) -> IprevFact:
    return IprevFact(found.result.value, found.names[0] if found.names else "")


def _asked(house: MailHouse, transit: Transit) -> tuple[Checks, Client, Policy] | None:
    """The checks, and about whom, if this message is to be checked."""
    visit, policy = transit.visit, transit.policy
    ip = visit.peer.ip
    if house.checks is None or ip is None or policy is None:
        return None
    if visit.protocol is not Protocol.SMTP or visit.principal is not None:
        return None
    settings = policy.of(SpfSettings)
    domain = transit.reverse_path.domain if transit.reverse_path is not None else visit.helo
    if not settings.check or (settings.exempt and exempt(settings.exempt).holds(ip, domain)):
        return None
    client = Client(ip, visit.helo, house.hostname, transit.started // 1000)
    return house.checks, client, policy


# --- what the header says -------------------------------------------------------------------


def peer_name(transit: Transit) -> str | None:
    """The peer's own name for the Received field."""
    found = transit.facts.get(IprevFact)
    return found.host or None if found is not None else None


def fields(transit: Transit, hostname: str) -> bytes:
    """What stands above the Received field: RFC 8601 §4, RFC 7208 §9.1. Nothing if nobody asked."""
    sender, address = transit.facts.get(SpfFact), transit.facts.get(IprevFact)
    results: list[MethodResult] = []
    if sender is not None:
        results += _spf_results(sender, transit)
    if address is not None:
        results.append(_iprev_result(address, transit))
    results += dkim.results(transit)
    author = dmarc.result(transit)
    if author is not None:
        results.append(author)
    chain = arc.result(transit)
    if chain is not None:
        results.append(chain)
    certified = vbr.result(transit)
    if certified is not None:
        results.append(certified)
    logo = bimi.result(transit)
    if logo is not None:
        results.append(logo)
    if not results:
        return b""
    made = compose(AuthenticationResults(hostname, tuple(results)), utf8=transit.utf8)
    if sender is None or transit.policy is None:
        return made
    return made + _received_spf(sender, transit, hostname)


def _spf_results(found: SpfFact, transit: Transit) -> list[MethodResult]:
    """RFC 8601 §2.7.2. With `<>` the HELO name is all that there is."""
    visit, sender = transit.visit, transit.reverse_path
    of_helo = (Property("smtp", "helo", visit.helo),)
    if sender is None:
        return [MethodResult("spf", found.result, properties=of_helo, comment=found.why)]
    of_sender = (Property("smtp", "mailfrom", str(sender)),)
    results = [MethodResult("spf", found.result, properties=of_sender, comment=found.why)]
    if found.helo != Result.NONE:
        results.append(MethodResult("spf", found.helo, properties=of_helo, comment=found.helo_why))
    return results


def _iprev_result(found: IprevFact, transit: Transit) -> MethodResult:
    """RFC 8601 §2.7.3."""
    address = (Property("policy", "iprev", str(transit.visit.peer.ip)),)
    shown = found.host if found.result == Iprev.PASS else ""
    return MethodResult("iprev", found.result, properties=address, comment=shown)


def _received_spf(found: SpfFact, transit: Transit, hostname: str) -> bytes:
    visit, policy = transit.visit, transit.policy
    if policy is None or visit.peer.ip is None or not policy.of(SpfSettings).received_spf:
        return b""
    null = transit.reverse_path is None
    identity = Identity.HELO if null else Identity.MAIL_FROM
    result = SpfResult(Result(found.result), found.domain, identity, found.mechanism)
    client = Client(visit.peer.ip, visit.helo, hostname)
    return received_spf(result, client, transit.reverse_path, utf8=transit.utf8)
