"""BIMI: the logo that an author's domain publishes, for mail that it stands behind for certain.

draft-brand-indicators-for-message-identification. Nothing is fetched here: neither the logo nor the
certificate that may say whose it is. `discover` finds the record, once `unfit` says that the policy
of the domain is strict enough for it to count.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from postroom.core.errors import DnsFailed, MailError, Malformed
from postroom.formats.address import BadAddress, canonical_domain
from postroom.formats.compose import printable
from postroom.net.dns import Kind, canonical_name
from postroom.net.url import parse_url
from postroom.trust.dkim import tags
from postroom.trust.dmarc import Record, Request, Walks
from postroom.trust.lookups import Lookup

DEFAULT: Final = "default"
LONGEST: Final = 4_096
"""Octets of a record; a longer one is none."""
LOCATION_LONGEST: Final = 800
"""Characters of a location, so that it stands on one line of a header."""
SELECTOR_LONGEST: Final = 1_000
"""Octets of a BIMI-Selector field."""
DEADLINE: Final = 3.0
"""Seconds for all of it: a logo is worth no long wait."""
_FILE: Final = re.compile(r"[^/]*\.([A-Za-z0-9]{1,8})\Z")
_PCT: Final = re.compile(r";[ \t]*+pct[ \t]*+=[ \t]*+([^; \t]*+)", re.IGNORECASE)
_IS_BIMI: Final = re.compile(rb"[ \t]*+v[ \t]*+=[ \t]*+BIMI1[ \t]*+(?:;|\Z)").match


class BimiCode(StrEnum):
    """The results, in the words of the draft's `bimi` method."""

    PASS = "pass"  # noqa: S105 - not a password
    NONE = "none"  # nobody published a record
    FAIL = "fail"  # there is one, and it is wrong
    TEMPERROR = "temperror"  # DNS did not answer
    DECLINED = "declined"  # the domain says that it has no logo
    SKIPPED = "skipped"  # the message does not deserve one


@dataclass(frozen=True, slots=True)
class Assertion:
    """A record: where the logo lies, and its certificate. Both empty: the domain declines."""

    location: str  # https
    evidence: str  # https, or empty


@dataclass(frozen=True, slots=True)
class BimiResult:
    """What was found. `why` is one plain sentence without its dot."""

    code: BimiCode
    why: str
    domain: str = ""  # where the record is, or was looked for first
    selector: str = ""
    location: str = ""
    evidence: str = ""


# --- what is read ------------------------------------------------------------------------------


def read(text: bytes) -> Assertion:
    """A record that says it is one; raises Malformed with what is wrong."""
    if len(text) > LONGEST:
        raise Malformed("it is too long")
    try:
        told = tags.read(text)
    except tags.BadTags as error:
        raise Malformed("it is no list of tags") from error
    if "l" not in told:
        raise Malformed("it has no l=")
    location, evidence = told["l"], told.get("a", "")
    if not location and not evidence:
        return Assertion("", "")
    if not location:
        raise Malformed("it names a certificate and no logo")
    _check(location, "l=")
    file = _FILE.search(location.partition("?")[0].partition("#")[0])
    if file is not None and file[1].lower() not in ("svg", "svgz"):
        raise Malformed("its l= leads to no SVG")
    if evidence:
        _check(evidence, "a=")
    return Assertion(location, evidence)


def _check(location: str, tag: str) -> None:
    """Raises Malformed for anything but an https URL of a named host, without names in it."""
    wrong = f"its {tag} is no https URL"
    if len(location) > LOCATION_LONGEST:
        raise Malformed(f"its {tag} is too long")
    if "," in location or ";" in location:
        raise Malformed(wrong)  # each would be read as the end of it by some
    try:
        url = parse_url(location)
    except MailError as error:
        raise Malformed(wrong, detail=error.detail) from error
    if url.scheme != "https" or url.ip is not None or "." not in url.host:
        raise Malformed(wrong)


def selector(value: bytes) -> str:
    """Which record a BIMI-Selector field asks for; empty for a field that is void."""
    if len(value) > SELECTOR_LONGEST or not _IS_BIMI(value):
        return ""
    try:
        told = tags.read(value)
        name = canonical_domain(told.get("s", ""))
    except (tags.BadTags, BadAddress):
        return ""
    return "" if name.startswith("[") else name


# --- whether it counts ---------------------------------------------------------------------------


async def unfit(walks: Walks, domain: str) -> tuple[str, str]:
    """Why the DMARC policies of an author's domain are too weak; empty: they are not. Then its
    Organizational Domain. Raises DnsFailed.
    """
    organisation = await walks.organisation(domain)
    found = await walks.policy(domain)
    if found is None:
        return f"{printable(domain)} has no DMARC policy", organisation
    held = {found.domain: found.record}
    if organisation != found.domain and (above := await walks.record(organisation)) is not None:
        held[organisation] = above
    for name, record in held.items():
        weak = _weak(record)
        if weak:
            return f"the DMARC policy of {printable(name)} says {weak}", organisation
    return "", organisation


def _weak(record: Record) -> str:
    """Which of a policy's wishes keeps its domain from having a logo."""
    if record.p is Request.NONE:
        return "p=none"
    if record.sp is Request.NONE:
        return "sp=none"
    if record.testing:
        return "t=y"
    share = _PCT.search(record.text)
    # It means nothing any more (RFC 9989), but whoever wrote it wanted less than all of it.
    return f"pct={share[1][:10]}" if share is not None and share[1] != "100" else ""


# --- where it is ---------------------------------------------------------------------------------


async def discover(lookup: Lookup, domain: str, chosen: str, organisation: str) -> BimiResult:
    """The record for mail of this author's domain; raises DnsFailed.

    Its own under the selector, else the default one of its organisation.
    """
    places = dict.fromkeys(((chosen or DEFAULT, domain), (DEFAULT, organisation)))
    for name, at in places:
        texts = await _records(lookup, name, at)
        if texts:
            return _result(texts, name, at)
    shown = printable(domain)
    return BimiResult(BimiCode.NONE, f"{shown} publishes no logo", domain, chosen or DEFAULT)


async def _records(lookup: Lookup, selected: str, domain: str) -> list[bytes]:
    try:
        name = canonical_name(f"{selected}._bimi.{domain}")
    except Malformed:
        return []  # there can be no such name
    answer = await lookup.query(name, Kind.TXT)
    return [each for each in answer.records if isinstance(each, bytes) and _IS_BIMI(each)]


def _result(texts: list[bytes], name: str, at: str) -> BimiResult:
    shown = printable(f"{name}._bimi.{at}")
    if len(texts) > 1:
        why = f"{shown} has {len(texts)} records, so none counts"
        return BimiResult(BimiCode.FAIL, why, at, name)
    try:
        found = read(texts[0])
    except Malformed as error:
        why = f"the record at {shown} is wrong: {error}"
        return BimiResult(BimiCode.FAIL, why, at, name)
    if not found.location:
        why = f"{shown} says that there is no logo"
        return BimiResult(BimiCode.DECLINED, why, at, name)
    why = f"{shown} names a logo"
    return BimiResult(BimiCode.PASS, why, at, name, found.location, found.evidence)


async def check(lookup: Lookup, domain: str, chosen: str, seconds: float = DEADLINE) -> BimiResult:
    """The logo for a message that passed DMARC for the author's domain. Never raises.

    `chosen` is the selector that its sender wants, empty for none. Takes `seconds` at most.
    """
    walks = Walks(lookup)
    asked = chosen or DEFAULT
    try:
        async with asyncio.timeout(seconds):
            weak, organisation = await unfit(walks, domain)
            if weak:
                return BimiResult(BimiCode.SKIPPED, weak, domain, asked)
            return await discover(lookup, domain, chosen, organisation)
    except TimeoutError:
        why = f"DNS did not tell the logo of {printable(domain)} within {seconds:g} s"
        return BimiResult(BimiCode.TEMPERROR, why, domain, asked)
    except DnsFailed as error:
        told = printable(error.detail or str(error))
        why = f"the logo of {printable(domain)} is not known: {told}"
        return BimiResult(BimiCode.TEMPERROR, why, domain, asked)
    finally:
        walks.close()
