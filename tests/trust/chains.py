"""Chains to check: how one is read and verified in a test."""

from __future__ import annotations

from functools import cache

from postroom.formats import headers
from postroom.trust import arc
from postroom.trust.arc.seal import seal
from postroom.trust.dkim import BodyHasher, look_up
from postroom.trust.dkim.sign import OVERSIGNED, hash_body, load, make_key, record
from tests.trust.zones import Dns

NOW = 1_500_000_000


async def verify(content: bytes, dns: Dns, now: int = NOW) -> arc.ArcResult:
    found = headers.scan(content)
    chain = arc.read(found, now)
    body = BodyHasher(chain.parts)
    body.feed_from(content, found.end)
    body.finish()
    return await arc.verify(found, chain, body, lambda name: look_up(dns.query, name))


@cache
def private() -> bytes:
    return make_key("rsa")


def key_record() -> str:
    """What DNS is to say at s._domainkey of each domain that seals here."""
    return record("rsa", private())


def sealed(content: bytes, domain: str, said: str, cv: str = "none", now: int = NOW) -> bytes:
    """The message as this domain sends it on; `said` is what it found, `cv` of the chain."""
    found = headers.scan(content)
    key = load(domain, "s", "rsa", private())
    body = hash_body([content[found.end :]])
    chain, results = arc.read(found, now), f"mx.{domain}; {said}"
    made = seal(found, chain, arc.ArcCode(cv), body, key, results, OVERSIGNED, now)
    return made + content
