"""SPF of a domain: all of its record, not only the way that one client takes. RFC 7208."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import DnsFailed
from postroom.formats.compose import printable
from postroom.net.dns import Kind, Mx
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import asking
from postroom.trust.publishing.facts import DomainFacts, Ip
from postroom.trust.publishing.finding import Finding, advice, error, warning
from postroom.trust.spf import MOST_TERMS, MOST_VOID, Client, Identity, Result, check_host, record
from postroom.trust.spf.macros import Macro, Text
from postroom.trust.spf.result import BadRecord

_ASKING: Final = frozenset({"include", "a", "mx", "ptr", "exists"})
_SHOWN: Final = 60
"""Characters of a stranger's word in a sentence."""


@dataclass(slots=True)
class _Walked:
    """What all terms together cost, and the first that leads nowhere."""

    terms: int = 0
    void: list[str] = field(default_factory=list)  # terms that find nothing
    broken: tuple[str, str] | None = None  # an include or redirect, and what is wrong there


async def check_spf(
    lookup: Lookup, facts: DomainFacts, ips: Sequence[Ip], sound: bool
) -> list[Finding]:
    """`ips`: from which we send; `sound`: MX and host were found in order. Raises DnsFailed."""
    domain = facts.name
    remedy = f'Publish {domain} TXT "v=spf1 a:{facts.host.name} -all".'
    held = await asking.texts(lookup, domain)
    try:
        octets = record.select(held)
    except BadRecord:
        number = sum(text.lower().startswith(b"v=spf1") for text in held)
        said = f"{domain} has {number} SPF records, so SPF fails for all of its mail."
        return [error("spf-several", domain, "TXT", said, "Make one record of them.")]
    if octets is None:
        return [_none(domain, held, remedy)]
    try:
        read = record.read(octets)
    except BadRecord as bad:
        said = f"The SPF record of {domain} is wrong ({bad.detail}), so SPF fails for all its mail."
        return [error("spf-syntax", domain, "TXT", said, remedy)]
    walked = _Walked()
    await _walk(lookup, domain, read, walked)
    spoilt = _spoilt(domain, walked, sound)
    if spoilt is not None:
        return [spoilt]
    return [
        *_doubtful(domain, read),
        *await _without_us(lookup, facts, ips, sound or not _uses_ours(read), remedy),
    ]


def _none(domain: str, held: Sequence[bytes], remedy: str) -> Finding:
    for text in held:
        start = text.lower().lstrip(b' "')
        if start.startswith((b"v=spf", b"spf1", b"spf2.0", b"v= spf")):
            shown = text[:20].decode("latin-1")
            said = (
                f"The SPF record of {domain} begins with {shown!a} and not with 'v=spf1 ', so it "
                "counts as none and anybody may send as the domain."
            )
            return error("spf-version", domain, "TXT", said, remedy)
    said = f"{domain} has no SPF record, so others cannot tell who may send as the domain."
    return error("spf-missing", domain, "TXT", said, remedy)


# --- all terms ----------------------------------------------------------------------------------


def _plain(text: Text) -> str | None:
    """The name that a domain-spec means for every client; None: that depends on the message."""
    if any(isinstance(piece, Macro) for piece in text):
        return None
    return "".join(str(piece) for piece in text).rstrip(".").lower()


async def _walk(lookup: Lookup, domain: str, read: record.Record, walked: _Walked) -> None:
    """Count all terms, those behind a match too: another client comes that far.

    It calls itself for `include` and `redirect`, each of which is a term: MOST_TERMS deep at most.
    """
    for mechanism in read.mechanisms:
        if mechanism.kind not in _ASKING:
            continue
        walked.terms += 1
        if walked.terms > MOST_TERMS:
            return
        target = _plain(mechanism.domain) if mechanism.domain else domain
        if target is None:
            continue
        if mechanism.kind == "include":
            await _follow(lookup, mechanism.text, target, walked)
        else:
            await _count(lookup, mechanism, target, walked)
    ends = any(mechanism.kind == "all" for mechanism in read.mechanisms)
    target = _plain(read.redirect) if read.redirect and not ends else None
    if target:
        walked.terms += 1
        await _follow(lookup, f"redirect={target}", target, walked)


async def _count(lookup: Lookup, mechanism: record.Mechanism, target: str, walked: _Walked) -> None:
    """Whether a term of addresses finds something."""
    held: Sequence[object] = (target,)  # ptr: that depends on the client
    try:
        if mechanism.kind in ("a", "exists"):
            held = await asking.addresses(lookup, target)
        elif mechanism.kind == "mx":
            held = await asking.ask(lookup, target, Kind.MX, Mx)
    except DnsFailed:
        walked.broken = walked.broken or (mechanism.text, _SILENT)
    if not held:
        walked.void.append(mechanism.text)


_SILENT: Final = "gets no answer from DNS"


async def _follow(lookup: Lookup, term: str, target: str, walked: _Walked) -> None:
    if walked.broken or walked.terms > MOST_TERMS:
        return
    try:
        octets = record.select(await asking.texts(lookup, target))
        if octets is None:
            walked.broken = (term, "has no SPF record")
            return
        read = record.read(octets)
    except BadRecord as bad:
        walked.broken = (term, f"has a wrong one ({printable(bad.detail, _SHOWN)})")
        return
    except DnsFailed:
        walked.broken = (term, _SILENT)
        return
    await _walk(lookup, target, read, walked)


def _spoilt(domain: str, walked: _Walked, sound: bool) -> Finding | None:
    """What makes SPF fail for all, or for some, whoever sends."""
    if walked.broken is not None:
        term, why = printable(walked.broken[0], _SHOWN), walked.broken[1]
        said = (
            f"The SPF record of {domain} says {term}, which {why}, so SPF fails for its mail as "
            "soon as that term is reached."
        )
        return error("spf-include", domain, "TXT", said, f"Take {term} out.")
    if walked.terms > MOST_TERMS:
        said = (
            f"The SPF record of {domain} takes more than the {MOST_TERMS} DNS lookups that are "
            "allowed, so SPF fails for its mail."
        )
        return error("spf-lookups", domain, "TXT", said, "Replace names by ip4: and ip6:.")
    if len(walked.void) > MOST_VOID and sound:
        terms = printable(", ".join(walked.void), 2 * _SHOWN)
        said = (
            f"{len(walked.void)} terms of the SPF record of {domain} find nothing in DNS "
            f"({terms}) where {MOST_VOID} may, so SPF fails for its mail."
        )
        return error("spf-void", domain, "TXT", said, "Take those terms out.")
    return None


# --- what it allows -----------------------------------------------------------------------------


def _doubtful(domain: str, read: record.Record) -> list[Finding]:
    found = []
    last = next((each for each in read.mechanisms if each.kind == "all"), None)
    if last is not None and last.outcome is Result.PASS:
        said = f"The SPF record of {domain} ends in +all, so anybody may send as the domain."
        found.append(error("spf-open", domain, "TXT", said, "Let it end in -all."))
    elif (last is None and not read.redirect) or (
        last is not None and last.outcome is Result.NEUTRAL
    ):
        ends = "ends in ?all" if last is not None else "has no all at its end"
        said = f"The SPF record of {domain} {ends}, so mail of forgers is not even suspect."
        found.append(warning("spf-neutral", domain, "TXT", said, "Let it end in -all."))
    if any(each.kind == "ptr" for each in read.mechanisms):
        said = (
            f"The SPF record of {domain} uses ptr, which is slow and not to be used (RFC 7208 "
            "§5.5), so some servers do not heed it."
        )
        found.append(advice("spf-ptr", domain, "TXT", said, "Name hosts by a: or ip4: instead."))
    return found


def _uses_ours(read: record.Record) -> bool:
    """Whether it depends on our MX or host name, of which something else was told."""
    return any(each.kind in ("a", "mx") for each in read.mechanisms)


async def _without_us(
    lookup: Lookup, facts: DomainFacts, ips: Sequence[Ip], told: bool, remedy: str
) -> list[Finding]:
    if not told:
        return []
    for ip in ips:
        found = await check_host(
            lookup, Client(ip, facts.host.name), facts.name, "postmaster", Identity.MAIL_FROM
        )
        if found.result is Result.TEMPERROR:
            raise DnsFailed(detail=found.why)
        if found.result is not Result.PASS:
            said = (
                f"The SPF record of {facts.name} does not allow this server's address {ip} "
                f"({found.result}), so mail from here fails SPF."
            )
            return [error("spf-without-us", facts.name, "TXT", said, remedy)]
    return []
