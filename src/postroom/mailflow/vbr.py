"""Who vouches for the sender of a stranger's message, and the field that names who vouches for us.

The probe begins when SPF and DKIM are done, and asks nobody whom an administrator did not name.
RFC 5518, RFC 6212.
"""

from __future__ import annotations

from typing import Final

from postroom.domain.facts import DkimFact, SpfFact, VbrFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Fact, Facts, Protocol, Recipient, Transit
from postroom.formats import headers
from postroom.formats.authres import MethodResult, Property
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import SmtpSettings
from postroom.mailflow.signing import above, author_domain, ours
from postroom.mailflow.vbr_settings import VbrSettings
from postroom.trust import vbr as trust
from postroom.trust.vbr import VbrCode

FIELD: Final = "VBR-Info"
_NAME: Final = b"vbr-info"
_LIST: Final = "list"  # no report is a list's mail, for which alone some vouch
_RETURNS: Final = frozenset({"dsn", "delay"})
"""Causes of what reports of delivery compose."""
_SHARE: Final = 0.2
"""Of the time of a message: less than a closing probe has, so it says temperror by itself."""


def known(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
    """There is nothing to ask where nobody is believed, or nobody was named."""
    visit, policy = transit.visit, transit.policy
    if house.checks is None or policy is None or visit.principal is not None:
        return ()
    if visit.protocol is not Protocol.SMTP or not policy.of(VbrSettings).certifiers:
        return ()
    spool, parsed = transit.spool, transit.parsed
    if spool is None or parsed is None:
        return ()
    return None if _NAME in spool.head(parsed.header_size).lower() else ()


async def vbr(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Whether somebody whom we believe vouches for the message. RFC 5518 §3."""
    policy, spool, parsed = transit.policy, transit.spool, transit.parsed
    if house.checks is None or policy is None or spool is None or parsed is None:
        return ()
    values = headers.scan(spool.head(parsed.header_size)).all(_NAME)
    if not values:
        return ()
    seconds = min(trust.DEADLINE, _SHARE * policy.of(SmtpSettings).accept_deadline)
    believed = policy.of(VbrSettings).certifiers
    authentic = _authentic(transit.facts)
    found = await trust.check(house.checks.lookup, values, authentic, believed, seconds)
    return (VbrFact(found.code.value, found.domain, found.certifier, found.kinds, found.why),)


def _authentic(facts: Facts) -> frozenset[str]:
    """The domains that SPF and DKIM vouch for: RFC 5518 §7. A key under test vouches for none."""
    sender, signed = facts.get(SpfFact), facts.get(DkimFact)
    found = {sender.domain} if sender is not None and sender.result == VbrCode.PASS else set()
    for each in signed.signatures if signed is not None else ():
        if each["code"] == VbrCode.PASS and "domain" in each and "testing" not in each:
            found.add(each["domain"])
    return frozenset(found)


def over_dmarc(facts: Facts, policy: Policy) -> str:
    """Why a message that fails DMARC is taken nevertheless; empty: it is not for this."""
    found = facts.get(VbrFact)
    if found is None or found.result != VbrCode.PASS or not policy.of(VbrSettings).over_dmarc:
        return ""
    return found.why


# --- what the header says -----------------------------------------------------------------------


def result(transit: Transit) -> MethodResult | None:
    """For Authentication-Results. RFC 6212 §3; None if nobody asked."""
    found = transit.facts.get(VbrFact)
    if found is None:
        return None
    told = [Property("header", "md", found.domain)] if found.domain else []
    if found.certifier:
        told.append(Property("header", "mv", found.certifier))
    return MethodResult("vbr", found.result, properties=tuple(told), comment=found.why)


def field(house: MailHouse, transit: Transit) -> bytes:
    """The VBR-Info for a message that one of ours sends, or that we composed, made before it is
    signed.

    Empty where nobody vouches for its author's domain, and where it has such a field already.
    """
    spool, parsed, composed = transit.spool, transit.parsed, _composed(transit)
    if not composed and transit.visit.principal is None:
        return b""
    if spool is None or parsed is None:
        return b""
    found = headers.scan(spool.head(parsed.header_size))
    author = author_domain(found)
    if not author or author.startswith("[") or found.find(_NAME):
        return b""
    # It has to name the domain that signs: RFC 5518 §7.
    for domain in above(author) if composed else [author]:
        chain = house.chain(transit.visit.peer.listener, domain)
        settings = house.policies.latest(chain).of(VbrSettings)
        if settings.info and not (composed and settings.kind == _LIST):
            told = f"md={domain}; mc={settings.kind}; mv={':'.join(settings.info)}"
            return headers.field(FIELD, told)
    return b""


def _composed(transit: Transit) -> bool:
    """Whether we composed and sign it. What returns is another's content, which nobody vouches
    for."""
    policy = transit.policy
    if transit.visit.protocol is not Protocol.COMPOSED or policy is None:
        return False
    return transit.cause not in _RETURNS and ours(transit, policy)
