"""ARC of what a stranger brings: what is told of a chain, and whether it makes up for DMARC.

The chain is checked with the signatures, over one pass of the body: see `mailflow.dkim`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from postroom.domain.facts import ArcFact, DmarcFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Facts, Transit
from postroom.formats import authres
from postroom.formats.authres import MethodResult, Property
from postroom.formats.compose import printable
from postroom.formats.headers import Headers
from postroom.mailflow.arc_settings import ArcSettings
from postroom.mailflow.exempt import exempt
from postroom.trust.arc import ArcCode, ArcResult, ArcSet, Chain

NAMES: Final = (b"arc-seal", b"arc-message-signature", b"arc-authentication-results")
"""The fields of a chain."""
_TOLD: Final = 2_000
"""Characters of a chain that a report tells: those of fifty long names would be more."""
_KEYS: Final = "._domainkey."  # between selector and domain: RFC 6376 §3.6.2.1
_METHODS: Final = ("dmarc", "spf", "dkim", "arc")
_ACTION: Final = re.compile(rb"[ \t\r\n]action=[A-Za-z.]++")
"""Microsoft says `dmarc=pass action=none`, for which RFC 8601 §2.2 has no place."""


def sealed(found: Headers) -> bool:
    """Whether a message has any field of a chain."""
    return any(found.find(name) for name in NAMES)


def fact(found: Headers, chain: Chain, result: ArcResult) -> ArcFact:
    """What the trace keeps of a chain, and rules ask. A chain that fails has said nothing."""
    holds = result.code is ArcCode.PASS
    return ArcFact(
        result.code.value,
        result.reason,
        tuple([_entry(found, each, holds) for each in chain.sets]),
        result.oldest_pass,
    )


def _entry(found: Headers, each: ArcSet, holds: bool) -> dict[str, str]:
    told = {"domain": each.seal.domain, "selector": each.seal.query.partition(_KEYS)[0]}
    if holds:
        told |= _said(each.results.raw_value(found.source))
    return told


def _said(value: bytes) -> dict[str, str]:
    """What an ARC-Authentication-Results says of each method, the first time. RFC 8617 §4.1.1."""
    read = authres.parse(_ACTION.sub(b"", value.partition(b";")[2][: authres.VALUE_MAX]))
    told: dict[str, str] = {}
    for each in read.results if read is not None else ():
        if each.method in _METHODS:
            told.setdefault(each.method, each.result)
        for at in each.properties:
            if (each.method, at.kind, at.name) == ("dmarc", "header", "from"):
                told.setdefault("author", at.value.lower().removesuffix("."))
            elif (at.kind, at.name) == ("smtp", "remote-ip"):
                told.setdefault("remote", at.value)
    return told


# --- what is believed ---------------------------------------------------------------------------


class Vouched(NamedTuple):
    """That a chain makes up for a failure of DMARC: in words, and as a report has it."""

    why: str
    told: str


def vouched(found: DmarcFact, facts: Facts, policy: Policy) -> Vouched | None:
    """Whether those who are believed found that the author's domain stood behind the message.

    From the newest seal back, for as long as the sealers are trusted: who is not may have put a
    message of his own under what came before him. What the oldest of these found counts, as it
    is nearest to the author. RFC 8617 §7.2, §9.
    """
    chain, trusted = facts.get(ArcFact), policy.of(ArcSettings).trusted
    if chain is None or not trusted or chain.result != ArcCode.PASS or found.problem:
        return None
    listed = exempt(trusted)
    said: Mapping[str, str] | None = None
    for each in reversed(chain.sets):
        if not listed.above(each["domain"]):
            break
        if "dmarc" in each:
            said = each
    if said is None or said["dmarc"] != "pass":
        return None
    if set(found.domains) != {found.domain} or said.get("author") != found.domain:
        return None
    why = f"{said['domain']}, which is trusted, found that DMARC passed, and the chain since holds"
    return Vouched(why, _reported(chain.sets))


def _reported(sets: Sequence[Mapping[str, str]]) -> str:
    """The comment of an aggregate report. RFC 8617 §7.2.2."""
    told = ["arc=pass"]
    for n in range(len(sets), 0, -1):
        each = sets[n - 1]
        told += [f"as[{n}].d={each['domain']}", f"as[{n}].s={each['selector']}"]
    remote = sets[0].get("remote")
    return printable(" ".join([*told, f"remote-ip[1]={remote}"] if remote else told), _TOLD)


# --- what the header says -----------------------------------------------------------------------


def result(transit: Transit) -> MethodResult | None:
    """For Authentication-Results. RFC 8617 §6, §10.2; None for a message without a chain."""
    found = transit.facts.get(ArcFact)
    if found is None:
        return None
    told = []
    if found.oldest_pass is not None:
        told.append(Property("header", "oldest-pass", str(found.oldest_pass)))
    if transit.visit.peer.ip is not None:
        told.append(Property("smtp", "remote-ip", str(transit.visit.peer.ip)))
    return MethodResult("arc", found.result, properties=tuple(told), comment=found.why)
