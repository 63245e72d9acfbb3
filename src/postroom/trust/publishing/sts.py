"""MTA-STS of a domain: its record, the policy behind it, and whether both fit its exchangers.

Somebody else may serve the policy, so it is fetched as any sender would. RFC 8461.
"""

from __future__ import annotations

from typing import Final

from postroom.core.errors import (
    CertificateRefused,
    DnsFailed,
    MailError,
    Malformed,
    NotAllowed,
    TooLarge,
)
from postroom.formats.compose import printable
from postroom.net.dns import Kind, Mx
from postroom.net.fetch import Fetcher, Response
from postroom.trust import mta_sts
from postroom.trust.lookups import Lookup
from postroom.trust.mta_sts import Mode, Policy
from postroom.trust.publishing import asking
from postroom.trust.publishing.facts import DomainFacts
from postroom.trust.publishing.finding import Finding, advice, error, warning

LEAST_AGE: Final = 86_400
"""Seconds: a policy that is forgotten sooner protects nobody who writes once a week."""
_KIND: Final = "policy"
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_CERTIFICATE: Final = {
    "certificate-expired": "has expired",
    "certificate-host-mismatch": "is for another name",
    "certificate-not-trusted": "is from nobody whom others trust",
}
"""By the words of RFC 8460 §4.3."""


async def check_sts(
    lookup: Lookup, facts: DomainFacts, fetcher: Fetcher | None = None, *, sound: bool = True
) -> list[Finding]:
    """What is wrong; without a `fetcher` the policy is not looked at. `sound`: the MX records are
    in order; else they were told, and are not compared.

    Raises DnsFailed. RFC 8461 §3.
    """
    domain = facts.name
    owner, host = f"_mta-sts.{domain}", f"mta-sts.{domain}"
    held = await asking.texts(lookup, owner)
    if not held:
        return await _without_record(lookup, domain, fetcher)
    if mta_sts.record_id(held) is None:
        said = (
            f"The MTA-STS record of {domain} cannot be understood, so others do not fetch "
            "the policy."
        )
        return [warning("sts-syntax", owner, "TXT", said, 'Write "v=STSv1; id=20260101T000000".')]
    if not await asking.addresses(lookup, host):
        said = (
            f"{domain} announces an MTA-STS policy, but {host} has no address, so nobody can "
            "fetch it."
        )
        remedy = f"Let {host} serve the policy, or take {owner} out."
        return [warning("sts-no-host", owner, "TXT", said, remedy)]
    if fetcher is None:
        return []
    found = await _fetched(fetcher, domain)
    if isinstance(found, Finding):
        return [found]
    return await _judged(lookup, domain, found, sound)


async def _without_record(lookup: Lookup, domain: str, fetcher: Fetcher | None) -> list[Finding]:
    """A policy that nobody is told of. What else may be at that name is nobody's business."""
    owner, host = f"_mta-sts.{domain}", f"mta-sts.{domain}"
    if fetcher is None or not await asking.addresses(lookup, host):
        return []
    found = await _fetched(fetcher, domain)
    if isinstance(found, Finding) or found.mode is Mode.NONE:
        return []
    said = (
        f"{host} serves an MTA-STS policy, but {domain} has no MTA-STS record, so nobody looks for "
        "it."
    )
    remedy = f'Publish {owner} TXT "v=STSv1; id=20260101T000000".'
    return [warning("sts-no-record", owner, "TXT", said, remedy)]


# --- the policy ---------------------------------------------------------------------------------


async def _fetched(fetcher: Fetcher, domain: str) -> Policy | Finding:
    """The policy, or why nobody gets it."""
    try:
        answer = await mta_sts.fetch(fetcher, domain)
    except MailError as failed:
        return _failed(domain, failed)
    wrong = _wrong_answer(domain, answer)
    if wrong is not None:
        return wrong
    try:
        return mta_sts.parse(answer.body)
    except Malformed as malformed:
        said = f"The MTA-STS policy of {domain} is wrong ({malformed}), so nobody heeds it."
        return warning("sts-policy", f"mta-sts.{domain}", _KIND, said)


def _failed(domain: str, failed: MailError) -> Finding:
    host = f"mta-sts.{domain}"
    match failed:
        case CertificateRefused():
            how = _CERTIFICATE.get(failed.result, "is not good")
            said = (
                f"The certificate of {host} {how}, so nobody takes the MTA-STS policy from there."
            )
            remedy = f"Give {host} a certificate for that name from a public authority."
            return warning("sts-certificate", host, _KIND, said, remedy)
        case NotAllowed():
            said = (
                f"{host} leads to an address of private networks, so nobody outside gets the "
                f"MTA-STS policy of {domain}."
            )
            return warning("sts-private", host, "A", said)
        case TooLarge():
            said = f"The MTA-STS policy of {domain} is larger than 64 KiB, so nobody takes it."
            return warning("sts-too-large", host, _KIND, said)
        case Malformed():
            said = (
                f"{host} does not answer as a web server does, so nobody gets the MTA-STS policy "
                f"of {domain}."
            )
            return warning("sts-answer", host, _KIND, said)
    why = printable(str(failed), 80).rstrip(".")
    said = (
        f"{host} cannot be reached over https from here ({why}), "
        f"so others may not get the MTA-STS policy of {domain} either."
    )
    return warning("sts-unreachable", host, _KIND, said, f"See whether {host} answers on port 443.")


def _wrong_answer(domain: str, answer: Response) -> Finding | None:
    host, url = f"mta-sts.{domain}", mta_sts.where(domain)
    if answer.status in _REDIRECTS:
        said = (
            f"{host} answers with a redirect, which no sender follows, so nobody gets the MTA-STS "
            f"policy of {domain}."
        )
        return warning("sts-redirect", host, _KIND, said, f"Serve it at {url} itself.")
    if answer.status != _OK:
        said = (
            f"{domain} announces an MTA-STS policy, but {host} has none (it answers "
            f"{answer.status}), so nobody heeds it."
        )
        remedy = f"Serve it at {url}, or take _mta-sts.{domain} out."
        return warning("sts-no-policy", host, _KIND, said, remedy)
    kind = (answer.first("content-type") or "").partition(";")[0].strip(" \t").lower()
    if kind != "text/plain":
        shown = printable(kind, 60) or "of no type"
        said = f"The MTA-STS policy of {domain} is {shown} and not text/plain, so many ignore it."
        return warning("sts-type", host, _KIND, said)
    return None


async def _judged(lookup: Lookup, domain: str, policy: Policy, sound: bool) -> list[Finding]:
    host = f"mta-sts.{domain}"
    if policy.mode is Mode.NONE:
        said = (
            f"The MTA-STS policy of {domain} asks for nothing (mode: none), so TLS may be cut off."
        )
        remedy = f"Once nobody has the old policy any more, take _mta-sts.{domain} out."
        return [advice("sts-none", host, _KIND, said, remedy)]
    found = await _exchangers(lookup, domain, policy) if sound else []
    if policy.mode is Mode.TESTING:
        said = (
            f"The MTA-STS policy of {domain} is a test (mode: testing), so mail is still sent "
            "where TLS fails."
        )
        remedy = "Once the reports show no failures, write mode: enforce and a new id."
        found.append(advice("sts-testing", host, _KIND, said, remedy))
    if policy.max_age < LEAST_AGE:
        said = (
            f"The MTA-STS policy of {domain} is forgotten after {policy.max_age} seconds "
            "(max_age), so it does not protect who writes seldom."
        )
        found.append(warning("sts-max-age", host, _KIND, said, "Write a week (604800) or more."))
    return found


async def _exchangers(lookup: Lookup, domain: str, policy: Policy) -> list[Finding]:
    """Whether the policy names those that DNS does."""
    host = f"mta-sts.{domain}"
    try:
        held = await asking.ask(lookup, domain, Kind.MX, Mx)
    except DnsFailed:
        return []  # that was told of the MX records themselves
    missing = sorted({mx.host for mx in held if mx.host != "." and not policy.names(mx.host)})
    if not missing:
        return []
    names = printable(missing[0], 100)
    remedy = f"Add mx: {names} to the policy, and then give _mta-sts.{domain} a new id."
    if policy.mode is Mode.TESTING:
        said = (
            f"The MTA-STS policy of {domain} does not name its MX {names}, so once it is enforced "
            "no mail goes there."
        )
        return [warning("sts-mx", host, _KIND, said, remedy)]
    said = (
        f"The MTA-STS policy of {domain} does not name its MX {names}, so senders that heed it "
        "bring no mail there."
    )
    return [error("sts-mx", host, _KIND, said, remedy)]
