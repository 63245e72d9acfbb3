"""What a domain says about its mail, and who hears where TLS fails: DMARC, TLS-RPT."""

from __future__ import annotations

import re
from typing import Final

from postroom.core.errors import DnsFailed
from postroom.trust.dmarc import Record, Request, Walks, mailbox, select
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import asking
from postroom.trust.publishing.facts import DomainFacts
from postroom.trust.publishing.finding import Finding, advice, error, warning
from postroom.trust.publishing.record import quoted
from postroom.trust.publishing.records import dmarc_text

_STRENGTH: Final = {Request.NONE: 0, Request.QUARANTINE: 1, Request.REJECT: 2}
_TLSRPT: Final = re.compile(rb"v=TLSRPTv1[ \t]*;[ \t]*rua=(?:mailto:|https://)[!-:<-~]").match


# --- DMARC: RFC 9989 ----------------------------------------------------------------------------


async def check_dmarc(lookup: Lookup, facts: DomainFacts) -> list[Finding]:
    """Raises DnsFailed."""
    domain, owner = facts.name, f"_dmarc.{facts.name}"
    held = await asking.texts(lookup, owner)
    read = select(held)
    walks = Walks(lookup)
    try:
        if read is None:
            return [await _without(lookup, walks, facts, held)]
        return await _judge(walks, domain, owner, read)
    finally:
        walks.close()


def _publish(facts: DomainFacts) -> str:
    return f"Publish _dmarc.{facts.name} TXT {quoted(dmarc_text(facts))}."


async def _without(
    lookup: Lookup, walks: Walks, facts: DomainFacts, held: tuple[bytes, ...]
) -> Finding:
    """Why there is no record that counts at the domain itself."""
    domain, owner = facts.name, f"_dmarc.{facts.name}"
    meant = [text for text in held if text.strip().lower().startswith(b"v=dmarc")]
    right = sum(select((text,)) is not None for text in meant)
    if right > 1:
        said = f"{domain} has {right} DMARC records, so none of them counts."
        return error("dmarc-several", owner, "TXT", said, "Leave one of them.")
    if held:
        said = (
            f"The record at {owner} does not begin with v=DMARC1 as it has to, so DMARC does not "
            "protect the domain."
        )
        return error("dmarc-version", owner, "TXT", said, _publish(facts))
    for place in (domain, f"{owner}.{domain}"):
        if select(await asking.texts(lookup, place)) is not None:
            said = (
                f"The DMARC record of {domain} is published at {place} and not at {owner}, so "
                "nobody finds it."
            )
            return error("dmarc-misplaced", place, "TXT", said, f"Move it to {owner}.")
    above = await walks.policy(domain)
    if above is not None:
        tag, request = above.record.request(below=True, exists=True)
        said = (
            f"{domain} has no DMARC record of its own, so that of {above.domain} applies "
            f"({tag}={request.value})."
        )
        return advice("dmarc-inherited", owner, "TXT", said)
    said = (
        f"{domain} has no DMARC record, so forged mail in its name is not refused, and large "
        "providers distrust what it sends."
    )
    return error("dmarc-missing", owner, "TXT", said, _publish(facts))


async def _judge(walks: Walks, domain: str, owner: str, read: Record) -> list[Finding]:
    wrong = _wrong_tag(read)
    if wrong:
        said = (
            f"The DMARC record of {domain} is wrong ({wrong}), so it asks for nothing and forged "
            "mail passes."
        )
        return [error("dmarc-syntax", owner, "TXT", said)]
    found = []
    if read.p is Request.NONE:
        said = f"The DMARC record of {domain} asks for nothing (p=none), so forged mail passes."
        remedy = "Once the reports show that all of your mail passes, ask for p=quarantine."
        found.append(advice("dmarc-none", owner, "TXT", said, remedy))
    if read.sp is not None and _STRENGTH[read.sp] < _STRENGTH[read.p]:
        said = (
            f"The DMARC record of {domain} asks for less below it (sp={read.sp.value}) than for "
            f"itself (p={read.p.value}), so forgers use names below it."
        )
        found.append(warning("dmarc-sp", owner, "TXT", said, "Take sp= out."))
    if read.testing:
        said = f"The DMARC record of {domain} is marked as a test (t=y), so its wish is softened."
        found.append(advice("dmarc-testing", owner, "TXT", said, "Take t=y out."))
    if "pct" in _tags(read.text):
        said = (
            f"The DMARC record of {domain} has pct=, which means nothing any more (RFC 9989), so "
            "new receivers apply the policy to all mail and old ones to a part."
        )
        found.append(advice("dmarc-pct", owner, "TXT", said, "Take pct= out."))
    return [*found, *await _reports(walks, domain, owner, read)]


def _tags(text: str) -> dict[str, str]:
    pieces = (piece.partition("=") for piece in text.split(";")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in pieces}


def _wrong_tag(read: Record) -> str:
    told = _tags(read.text)
    for tag in ("p", "sp", "np"):
        value = told.get(tag)
        if value is None and tag == "p":
            return "it has no p="
        if value is not None and value.lower() not in _REQUESTS:
            return f"{tag}={value[:30]} is no wish"
    return ""


_REQUESTS: Final = frozenset(each.value for each in Request)


async def _reports(walks: Walks, domain: str, owner: str, read: Record) -> list[Finding]:
    """Whether those who are to get reports may. RFC 9990 §4."""
    if "rua" in _tags(read.text) and not read.rua:
        said = f"The rua= of the DMARC record of {domain} is no URI, so nobody gets its reports."
        return [error("dmarc-rua", owner, "TXT", said, "Write rua=mailto:you@your.domain.")]
    for uri in read.rua:
        address = mailbox(uri)
        if address is None:
            continue  # another scheme: some receivers may know it
        try:
            accepted = await walks.accepts_reports(domain, address.domain)
        except DnsFailed:
            said = (
                f"DNS does not answer whether {address.domain} takes DMARC reports about {domain}, "
                "so some are not sent."
            )
            return [warning("dmarc-rua-unanswered", owner, "TXT", said)]
        if not accepted:
            said = (
                f"{address.domain} does not say that it takes DMARC reports about {domain}, so "
                "nobody sends them there."
            )
            there = f"{domain}._report._dmarc.{address.domain}"
            remedy = f'Let it publish {there} TXT "v=DMARC1".'
            return [warning("dmarc-rua-foreign", there, "TXT", said, remedy)]
    return []


# --- TLS-RPT -------------------------------------------------------------------------------------


async def check_tls_reports(lookup: Lookup, facts: DomainFacts) -> list[Finding]:
    """Raises DnsFailed. RFC 8460 §3."""
    owner = f"_smtp._tls.{facts.name}"
    held = await asking.texts(lookup, owner)
    meant = [text for text in held if text.lower().startswith(b"v=tlsrpt")]
    if len(meant) > 1:
        said = f"{facts.name} has {len(meant)} TLS-RPT records, so none counts and no report comes."
        return [warning("tlsrpt-several", owner, "TXT", said, "Leave one of them.")]
    remedy = f'Publish {owner} TXT "v=TLSRPTv1; rua=mailto:{facts.tls_reports or "you@…"}".'
    if held and not (meant and _TLSRPT(meant[0])):
        said = f"The TLS-RPT record of {facts.name} cannot be understood, so no report comes."
        return [warning("tlsrpt-syntax", owner, "TXT", said, remedy)]
    if not held and facts.tls_reports:
        said = (
            f"{facts.name} has no TLS-RPT record, so nobody tells {facts.tls_reports} where TLS "
            "to us fails."
        )
        return [advice("tlsrpt-missing", owner, "TXT", said, remedy)]
    return []
