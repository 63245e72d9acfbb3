"""The logo of a stranger's domain: asked for when DMARC is done, and told to mail programs.

Only a message that DMARC vouches for gets one; what is not asked costs nothing. Fields that only
the receiver may write go from all that comes in. draft-brand-indicators-for-message-identification.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from postroom.core.settings import Scope, group, setting
from postroom.domain.facts import BimiFact, DkimFact, DmarcFact, SpfFact
from postroom.domain.transit import Fact, Facts, Protocol, Recipient, Transit
from postroom.formats import headers
from postroom.formats.authres import MethodResult, Property
from postroom.formats.headers import Headers
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import SmtpSettings
from postroom.trust import bimi as trust
from postroom.trust.bimi import BimiCode
from postroom.trust.dkim import signature, tags

_SHARE: Final = 0.12
"""Of the time of a message: less than a final probe has, so it says temperror by itself."""
_MOST_SIGNATURES: Final = 20
"""That are looked at for the selector."""
_PREFIX: Final = b"bimi-"
_LAST_LINE_END: Final = re.compile(rb"\n(?![ \t])")
# Preference: as implementations have it; Logo-Preference: as later drafts do.
_OURS: Final = re.compile(
    rb"^bimi-(?:location|indicator|preference|logo-preference)[ \t]*+:", re.MULTILINE
)


@group("bimi")
@dataclass(frozen=True, slots=True)
class BimiSettings:
    """Logos that domains publish for their mail (BIMI)."""

    check: bool = setting(
        False,
        "Look for the logo of the author's domain where DMARC passes under a policy of reject or "
        "quarantine, and tell mail programs where it lies, in a BIMI-Location field. The logo is "
        "not fetched, and no certificate looked at: a program that shows it tells its owner who "
        "reads the mail, and when",
        scopes=(Scope.SERVER, Scope.NODE, Scope.LISTENER),
    )


# --- the probe ------------------------------------------------------------------------------------


def known(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
    """Nothing where nobody wants to know; and what deserves no logo has nothing to ask."""
    visit, policy = transit.visit, transit.policy
    if house.checks is None or policy is None or visit.principal is not None:
        return ()
    if visit.protocol is not Protocol.SMTP or not policy.of(BimiSettings).check:
        return ()
    why = _skipped(transit.facts)
    return (BimiFact(BimiCode.SKIPPED.value, why),) if why else None


def _skipped(facts: Facts) -> str:
    """Why a message deserves no logo, whatever its domain publishes; empty: it may."""
    found, sender = facts.get(DmarcFact), facts.get(SpfFact)
    if found is None:
        return "DMARC was not checked"
    if found.result != BimiCode.PASS:
        return f"DMARC did not pass ({found.result})"
    if found.problem or len(found.addresses) != 1:
        return "it has not exactly one author"
    if not found.dkim and sender is not None and sender.mechanism.lstrip("+").lower() == "all":
        return f"the SPF record of {sender.domain} lets everybody send"
    return ""


async def bimi(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Where the logo of the author's domain lies."""
    policy, spool, parsed = transit.policy, transit.spool, transit.parsed
    found = transit.facts.get(DmarcFact)
    if house.checks is None or policy is None or spool is None or parsed is None or found is None:
        return ()
    chosen = _selector(headers.scan(spool.head(parsed.header_size)), found, transit.facts)
    seconds = min(trust.DEADLINE, _SHARE * policy.of(SmtpSettings).accept_deadline)
    told = await trust.check(house.checks.lookup, found.domain, chosen, seconds)
    code = told.code.value
    return (BimiFact(code, told.why, told.domain, told.selector, told.location, told.evidence),)


def _selector(found: Headers, dmarc: DmarcFact, facts: Facts) -> str:
    """The selector that the author's domain wants: from its own server, or signed by it."""
    values = found.all(b"bimi-selector")
    if len(values) != 1 or not (dmarc.spf or _is_signed(found, dmarc.domain, facts)):
        return ""
    return trust.selector(values[0])


def _is_signed(found: Headers, domain: str, facts: Facts) -> bool:
    """Whether a signature of the author's domain, one above or below it, holds and covers it."""
    signed = facts.get(DkimFact)
    holds = {
        (each.get("domain"), each.get("selector"), each.get("signature"))
        for each in (signed.signatures if signed is not None else ())
        if each["code"] == BimiCode.PASS and "testing" not in each
    }
    for each in found.find(b"dkim-signature")[:_MOST_SIGNATURES]:
        try:
            told = tags.read(each.raw_value(found.source))
            names = signature.names(told)
            covered = signature.signed_fields(told.get("h", ""))
        except (tags.BadTags, signature.Unusable):
            continue
        of = names.domain
        near = of == domain or of.endswith(f".{domain}") or domain.endswith(f".{of}")
        known = (of, names.selector, names.signature) in holds
        if near and known and b"bimi-selector" in covered:
            return True
    return False


# --- what the header says ---------------------------------------------------------------------


def result(transit: Transit) -> MethodResult | None:
    """For Authentication-Results; None if nobody asked."""
    found = transit.facts.get(BimiFact)
    if found is None:
        return None
    told = []
    if found.domain:
        told = [
            Property("header", "d", found.domain),
            Property("header", "selector", found.selector),
        ]
    if found.result == BimiCode.PASS:
        told.append(Property("policy", "authority", "none"))  # nobody looked at a certificate
    return MethodResult("bimi", found.result, properties=tuple(told), comment=found.why)


def field(transit: Transit) -> bytes:
    """The BIMI-Location for the copies of our own accounts; empty without a logo."""
    found = transit.facts.get(BimiFact)
    if found is None or not found.location:
        return b""
    return headers.field("BIMI-Location", f"v=BIMI1; l={found.location}")


def forged(head: bytes) -> tuple[tuple[int, int], ...]:
    """Where in a header block fields stand that only the receiver may write, in order.

    `head` is all of the header, also beyond what `headers.scan` looks at.
    """
    lower = head.lower()
    if _PREFIX not in lower:
        return ()
    found: list[tuple[int, int]] = []
    opening = _OURS.search(lower)
    while opening is not None:
        end = _LAST_LINE_END.search(lower, opening.end())
        after = end.end() if end is not None else len(lower)
        found.append((opening.start(), after))
        opening = _OURS.search(lower, after)
    return tuple(found)
