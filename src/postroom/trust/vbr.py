"""Vouch By Reference: who says that mail in the name of a domain is wanted. RFC 5518.

A sender names those who vouch for it in a VBR-Info field, which anybody can write. So nothing is
asked but of those whom an administrator believes, about a domain that SPF or DKIM vouches for.
Reading is linear and bounded; what is wrong in a field voids that field alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from postroom.core.errors import DnsFailed, Malformed
from postroom.formats.address import BadAddress, canonical_domain
from postroom.formats.compose import printable
from postroom.net.dns import Kind, canonical_name
from postroom.trust.dkim import tags
from postroom.trust.lookups import Lookup

LONGEST: Final = 4_096
"""Octets of one field; a longer one is not read."""
MOST_FIELDS: Final = 10
"""Of one message that are read, the uppermost first."""
MOST_CERTIFIERS: Final = 20
"""Of one field that are looked at."""
MOST_QUERIES: Final = 10
"""Of one message."""
MOST_RECORDS: Final = 10
"""Of one answer that are read."""
DEADLINE: Final = 5.0
"""Seconds for all of it."""
ALL: Final = "all"

_IS_KIND: Final = re.compile(r"[a-z]{1,63}").fullmatch
_IS_RECORD: Final = re.compile(rb"[a-z]++(?: ++[a-z]++)*+").fullmatch
_RECORD_LONGEST: Final = 1_024


class VbrCode(StrEnum):
    """The results of a check. RFC 6212 §3."""

    NONE = "none"  # nobody whom we believe could be asked about a domain that is vouched for
    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    TEMPERROR = "temperror"  # DNS did not answer
    PERMERROR = "permerror"  # what it answered cannot be understood


@dataclass(frozen=True, slots=True)
class Info:
    """What the sender says of himself. RFC 5518 §4.1."""

    domain: str  # md=: for whose mail somebody is to vouch; A-labels
    kind: str  # mc=: what sort of mail it says to be: all, list, transaction
    certifiers: tuple[str, ...]  # mv=: who vouches; A-labels


@dataclass(frozen=True, slots=True)
class VbrResult:
    """The answer that counts. `why` is one plain sentence without its dot."""

    code: VbrCode
    why: str
    domain: str = ""
    certifier: str = ""
    kinds: tuple[str, ...] = ()  # of mail that the certifier vouches for


def read(value: bytes) -> Info | None:
    """The value of a VBR-Info field, unfolded; None for one that is void."""
    if len(value) > LONGEST:
        return None
    try:
        told = tags.read(value)
    except tags.BadTags:
        return None
    found = {name.lower(): each for name, each in told.items()}
    kind = found.get("mc", "").lower()
    domain = _domain(found.get("md", ""))
    listed = found.get("mv", "").split(":", MOST_CERTIFIERS)[:MOST_CERTIFIERS]
    certifiers = tuple(dict.fromkeys(filter(None, map(_domain, listed))))
    if len(found) < len(told) or not domain or not certifiers or not _IS_KIND(kind):
        return None
    return Info(domain, kind, certifiers)


def _domain(text: str) -> str:
    """A name of DNS as we compare it; empty for what is none."""
    try:
        name = canonical_domain(text.strip(" \t\r\n").removesuffix("."))
    except BadAddress:
        return ""
    return "" if name.startswith("[") else name


def certified_at(domain: str, certifier: str) -> str:
    """The name that says whether a certifier vouches for a domain. RFC 5518 §5.

    Raises Malformed if there can be no such name.
    """
    return canonical_name(f"{domain}._vouch.{certifier}")


async def check(
    lookup: Lookup,
    values: Sequence[bytes],
    authentic: Collection[str],
    believed: Sequence[str],
    seconds: float = DEADLINE,
) -> VbrResult:
    """Whether somebody vouches for a message with these VBR-Info fields.

    `authentic` are the domains that SPF and DKIM vouch for, `believed` the certifiers that may be
    asked. Takes `seconds` at most, and never raises.
    """
    infos = [info for info in map(read, values[:MOST_FIELDS]) if info is not None]
    if not infos:
        return VbrResult(VbrCode.NONE, "no VBR-Info field of it can be understood")
    wanted = [info for info in infos if info.domain in authentic]
    if not wanted:
        shown = printable(infos[0].domain)
        why = f"neither SPF nor DKIM vouches for {shown}, which its VBR-Info names"
        return VbrResult(VbrCode.NONE, why, infos[0].domain)
    clear = _merged(wanted)
    if not clear:
        shown = printable(wanted[0].domain)
        why = f"its VBR-Info fields disagree on what sort of mail of {shown} it is"
        return VbrResult(VbrCode.FAIL, why, wanted[0].domain)
    asked = [(each, by) for each in clear for by in believed if by in each.certifiers]
    if not asked:
        shown = printable(clear[0].domain)
        why = f"nobody whom this server believes is named to vouch for {shown}"
        return VbrResult(VbrCode.NONE, why, clear[0].domain)
    questions = [_ask(lookup, info, by, seconds) for info, by in asked[:MOST_QUERIES]]
    results = await asyncio.gather(*questions)
    return max(results, key=lambda found: _WEIGHTS[found.code])  # the first of equals


_WEIGHTS: Final = {
    VbrCode.PASS: 4,
    VbrCode.TEMPERROR: 3,
    VbrCode.PERMERROR: 2,
    VbrCode.FAIL: 1,
    VbrCode.NONE: 0,
}


def _merged(infos: Iterable[Info]) -> list[Info]:
    """One for each domain, without those that are of two sorts at once: RFC 6212 §3 `fail`."""
    found: dict[str, Info | None] = {}
    for each in infos:
        known = found.setdefault(each.domain, each)
        if known is None or known is each:
            continue
        both = tuple(dict.fromkeys(known.certifiers + each.certifiers))
        same = known.kind == each.kind
        found[each.domain] = replace(known, certifiers=both) if same else None
    return [each for each in found.values() if each is not None]


async def _ask(lookup: Lookup, info: Info, certifier: str, seconds: float) -> VbrResult:
    domain, kind = info.domain, info.kind
    try:
        name = certified_at(domain, certifier)
        async with asyncio.timeout(seconds):
            answer = await lookup.query(name, Kind.TXT)
    except Malformed:
        why = f"{certifier} cannot be asked about {domain}: the name would be too long"
        return VbrResult(VbrCode.PERMERROR, why, domain, certifier)
    except TimeoutError:
        why = f"{certifier} did not answer about {domain} within {seconds:g} s"
        return VbrResult(VbrCode.TEMPERROR, why, domain, certifier)
    except DnsFailed as error:
        told = printable(error.detail or str(error))
        why = f"whether {certifier} vouches for {domain} is not known: {told}"
        return VbrResult(VbrCode.TEMPERROR, why, domain, certifier)
    texts = [each for each in answer.records if isinstance(each, bytes)]
    if not texts:
        why = f"{certifier} does not vouch for {domain}"
        return VbrResult(VbrCode.FAIL, why, domain, certifier)
    # RFC 5518 §5: what is not in that form is a mistake, or a wildcard's.
    right = [
        text.decode("ascii")
        for text in (each.strip(b" ") for each in texts[:MOST_RECORDS])
        if len(text) <= _RECORD_LONGEST and _IS_RECORD(text)
    ]
    if not right:
        why = f"what {certifier} says of {domain} cannot be understood"
        return VbrResult(VbrCode.PERMERROR, why, domain, certifier)
    kinds = tuple(sorted({word for text in right for word in text.split()}))
    if ALL in kinds or kind in kinds:
        why = f"{certifier} vouches for {domain}"
        return VbrResult(VbrCode.PASS, why, domain, certifier, kinds)
    why = f"{certifier} vouches for {domain}, but not for mail of the sort {kind}"
    return VbrResult(VbrCode.FAIL, why, domain, certifier, kinds)
