"""DKIM keys of a domain, as published and as held. RFC 6376 §3.6."""

from __future__ import annotations

from random import Random, SystemRandom
from typing import Final

from postroom.formats.compose import printable
from postroom.trust.dkim import BadKey, tags
from postroom.trust.dkim import key as in_dns
from postroom.trust.dkim.signature import key_name
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import asking
from postroom.trust.publishing.facts import DomainFacts, KeyFact
from postroom.trust.publishing.finding import Finding, advice, error, warning

_FOLLOWS: Final = {
    "made": "so it does not sign yet",
    "published": "so mail that it will sign fails DKIM",
    "active": "so all that it signs fails DKIM",
    "retired": "so mail that it signed and that is still under way fails DKIM",
}


async def check_keys(
    lookup: Lookup, facts: DomainFacts, rng: Random | None = None
) -> list[Finding]:
    """At most one finding for each key. Raises DnsFailed."""
    if not facts.keys:
        said = (
            f"{facts.name} has no signing key, so nothing that it sends carries a DKIM signature."
        )
        make = f"`postroom dkim key create {facts.name}` makes keys."
        return [warning("dkim-none", facts.name, "TXT", said, make)]
    probe = f"{(rng or SystemRandom()).getrandbits(64):016x}"
    found = [await _check(lookup, facts.name, key, probe) for key in facts.keys]
    return [each for each in found if each is not None]


async def _check(lookup: Lookup, domain: str, key: KeyFact, probe: str) -> Finding | None:
    name = key_name(domain, key.selector)
    remedy = f"Publish it as `postroom dkim key records {domain}` shows."
    follows = _FOLLOWS[key.state]

    def wrong(code: str, said: str) -> Finding:
        then = "so others treat what it signs as unsigned" if code == "dkim-testing" else follows
        sentence = f"The DKIM key {key.selector} of {domain} {said}, {then}."
        make = {"made": advice, "retired": warning}.get(key.state, error)
        return make(code, name, "TXT", sentence, remedy)

    held = await asking.texts(lookup, name)
    if not held:
        target = await asking.alias(lookup, name)
        if target:
            return wrong("dkim-cname", f"is an alias of {target}, which has no record")
        return wrong("dkim-missing", "is not in DNS")
    if len(held) > 1:
        return wrong("dkim-several", f"has {len(held)} records where one may be")
    if not _looks_like_key(held[0]) and held == await asking.texts(lookup, key_name(domain, probe)):
        return wrong("dkim-wildcard", "is hidden behind a wildcard record")
    different = _different(held[0], key.record.encode("ascii"))
    return wrong(*different) if different is not None else None


def _looks_like_key(text: bytes) -> bool:
    return b"DKIM1" in text or b"p=" in text


def _different(published: bytes, ours: bytes) -> tuple[str, str] | None:
    """The class of fault and the words for it. `ours` is in order."""
    try:
        found = tags.read(published)
        material = tags.base64_of(found["p"]) if "p" in found else None
    except tags.BadTags as bad:
        if _cut(published, ours):
            return "dkim-truncated", "was cut off in DNS"
        return "dkim-unreadable", f"cannot be read in DNS ({bad})"
    wanted = tags.read(ours)
    if material is None:
        cut = _cut(published, ours)
        return ("dkim-truncated", "was cut off in DNS") if cut else _UNREADABLE
    if not material:
        return "dkim-revoked", "is revoked in DNS (its p= is empty)"
    for tag, fitting, code, said in _RESTRICTIONS:
        if tag in found and fitting.isdisjoint(tags.listed(found[tag])):
            return code, said.format(printable(found[tag], 40))
    expected = tags.base64_of(wanted["p"])
    if material != expected:
        if expected.startswith(material):
            return "dkim-truncated", "was cut off in DNS"
        return "dkim-other", "is another one in DNS than the one that signs here"
    if found.get("k", "rsa") != wanted.get("k", "rsa"):
        return "dkim-kind", f"is said in DNS to be of the kind {found.get('k', 'rsa')}"
    try:
        read = in_dns.read(published)
    except BadKey as bad:
        return "dkim-unreadable", f"cannot be used as it is in DNS ({bad})"
    if read.testing:
        return "dkim-testing", "is marked in DNS as being tried out (t=y)"
    return None


_UNREADABLE: Final = ("dkim-unreadable", "cannot be read in DNS (it has no p=)")
_RESTRICTIONS: Final = (
    (
        "h",
        frozenset({"sha256"}),
        "dkim-hash",
        "is restricted in DNS to the hash {}, which we do not use",
    ),
    (
        "s",
        frozenset({"*", "email"}),
        "dkim-service",
        "is restricted in DNS to the service {}, which is not mail",
    ),
)


def _cut(published: bytes, ours: bytes) -> bool:
    return len(published) < len(ours) and ours.startswith(published.rstrip())
