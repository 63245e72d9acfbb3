"""Whether what SPF and DKIM found vouches for the author's domain. RFC 9989 §4.4, §5.3.

A stranger chooses the domains of his own signatures and of his reverse-path, and what their DNS
says. None of that may keep the author's domain from being protected: a domain that cannot be of
the author's organisation is never asked for, so its dead servers make no temperror.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from postroom.core.errors import DnsFailed
from postroom.formats.compose import printable
from postroom.trust.dmarc.discover import Policy, Walks, is_below
from postroom.trust.dmarc.result import UNCHECKED, DmarcCode, DmarcResult, Identifier, Request
from postroom.trust.lookups import Lookup

MOST_IDENTIFIERS: Final = 20
"""That are looked at: more than any check of signatures gives."""
DEADLINE: Final = 10.0
"""Seconds for all of it."""
_MAY_VOUCH: Final = frozenset(("pass", "temperror", UNCHECKED))


async def evaluate(
    lookup: Lookup,
    domains: Sequence[str],
    identifiers: Sequence[Identifier],
    seconds: float = DEADLINE,
) -> tuple[DmarcResult, ...]:
    """One check for each author domain, in their order. Takes `seconds`, and never raises."""
    return await evaluate_by(Walks(lookup), domains, identifiers, seconds)


async def evaluate_by(
    walks: Walks,
    domains: Sequence[str],
    identifiers: Sequence[Identifier],
    seconds: float = DEADLINE,
) -> tuple[DmarcResult, ...]:
    """The same by the walks of this message, which are closed after it."""
    checks = [_in_time(walks, domain, identifiers, seconds) for domain in domains]
    try:
        if len(checks) == 1:  # nearly always: no task of its own for it
            return (await checks[0],)
        return tuple(await asyncio.gather(*checks))
    finally:
        walks.close()


def strictest(results: Sequence[DmarcResult]) -> DmarcResult | None:
    """The check that decides for a message: of those that fail, the strictest. RFC 9989 §11.5.

    One author domain that passes vouches for no other one.
    """
    return max(results, key=_weight, default=None)


def _weight(found: DmarcResult) -> int:
    if found.code is DmarcCode.FAIL and found.policy is not Request.NONE:
        return 20 + _STRICTNESS[found.policy]
    return _WEIGHTS[found.code]


_STRICTNESS: Final = {each: n for n, each in enumerate(Request)}
_WEIGHTS: Final = {
    DmarcCode.TEMPERROR: 5,
    DmarcCode.FAIL: 4,
    DmarcCode.PERMERROR: 3,
    DmarcCode.NONE: 2,
    DmarcCode.PASS: 1,
}


async def _in_time(
    walks: Walks, domain: str, identifiers: Sequence[Identifier], seconds: float
) -> DmarcResult:
    try:
        async with asyncio.timeout(seconds):
            return await _evaluate(walks, domain, identifiers)
    except TimeoutError:
        why = f"the policy of {printable(domain)} was not found within {seconds:g} s"
        return DmarcResult(DmarcCode.TEMPERROR, domain, why)
    except DnsFailed as error:
        why = f"the policy of {printable(domain)} is not known: {printable(_told(error))}"
        return DmarcResult(DmarcCode.TEMPERROR, domain, why)


def _told(error: DnsFailed) -> str:
    return error.detail or str(error)


async def _evaluate(walks: Walks, domain: str, identifiers: Sequence[Identifier]) -> DmarcResult:
    shown = printable(domain)
    if domain.startswith("["):
        return DmarcResult(DmarcCode.NONE, domain, f"{shown} is an address, which has no policy")
    policy = await walks.policy(domain)
    if policy is None:
        return DmarcResult(DmarcCode.NONE, domain, f"{shown} has no DMARC policy")
    if not policy.record.usable:
        why = f"the DMARC record of {printable(policy.domain)} asks for nothing"
        return DmarcResult(DmarcCode.NONE, domain, why, policy.domain, record=policy.record.text)
    wants_np = policy.below and policy.record.np is not None
    exists = not wants_np or await walks.exists(domain)
    tag, published = policy.record.request(below=policy.below, exists=exists)
    aligned = await _Alignment(walks, domain, policy).of(identifiers)
    code, why = aligned.judgement()
    if code is DmarcCode.FAIL:
        why = f"{why}; {_wish(policy, tag, published)}"
    return DmarcResult(
        code,
        domain,
        why,
        policy.domain,
        tag,
        published,
        testing=policy.record.testing,
        record=policy.record.text,
        identity=aligned.identity,
        spf=aligned.spf,
        dkim=aligned.dkim,
        reports=bool(policy.record.rua),
    )


def _wish(policy: Policy, tag: str, published: Request) -> str:
    test = ", but is testing" if policy.record.testing else ""
    return f"{printable(policy.domain)} publishes {tag}={published}{test}"


class _Alignment:
    """The identifiers of one message, held against one author domain. RFC 9989 §4.4."""

    def __init__(self, walks: Walks, domain: str, policy: Policy) -> None:
        self._walks = walks
        self._domain = domain
        self._record = policy.record
        self._failed: DnsFailed | None = None
        self._unsure: Identifier | None = None  # aligned, but its method did not say
        self.identity = ""
        self.spf = False
        self.dkim = False

    async def of(self, identifiers: Sequence[Identifier]) -> _Alignment:
        """Look at all of them: a report tells of each method."""
        for each in identifiers[:MOST_IDENTIFIERS]:
            if each.result not in _MAY_VOUCH:
                continue
            try:
                aligned = await self._aligned(each)
            except DnsFailed as error:
                self._failed = error
                continue
            if aligned and each.result == "pass":
                self.identity = self.identity or f"{each.method} {printable(each.domain)}"
                self.spf = self.spf or each.method == "spf"
                self.dkim = self.dkim or each.method == "dkim"
            elif aligned and (self._unsure is None or each.result != UNCHECKED):
                self._unsure = each
        return self

    async def _aligned(self, found: Identifier) -> bool:
        domain = found.domain.lower().removesuffix(".")
        if domain == self._domain:
            return True
        strict = self._record.strict_spf if found.method == "spf" else self._record.strict_dkim
        if strict or not domain:
            return False
        organisation = await self._walks.organisation(self._domain)
        # Who is of that organisation is it or lies below it: nobody else need be asked.
        if domain != organisation and not is_below(domain, organisation):
            return False
        return await self._walks.organisation(domain) == organisation

    def judgement(self) -> tuple[DmarcCode, str]:
        """RFC 9989 §5.3.5; what DNS did not say makes neither pass nor fail (§5.3.6)."""
        shown = printable(self._domain)
        if self.identity:
            method, _, domain = self.identity.partition(" ")
            return DmarcCode.PASS, f"{method.upper()} of {domain} vouches for {shown}"
        if self._unsure is not None:
            unsure = f"{self._unsure.method.upper()} of {printable(self._unsure.domain)}"
            if self._unsure.result == UNCHECKED:
                return DmarcCode.PERMERROR, f"{unsure} may vouch for {shown}, but was not checked"
            return DmarcCode.TEMPERROR, f"{unsure} may vouch for {shown}, but had a temporary error"
        if self._failed is not None:
            why = f"the organisation of {shown} is not known: {printable(_told(self._failed))}"
            return DmarcCode.TEMPERROR, why
        return DmarcCode.FAIL, f"neither SPF nor DKIM vouches for {shown}"
