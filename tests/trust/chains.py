"""Chains to check: how one is read and verified in a test."""

from __future__ import annotations

from postroom.formats import headers
from postroom.trust import arc
from postroom.trust.dkim import BodyHasher, look_up
from tests.trust.zones import Dns

NOW = 1_500_000_000


async def verify(content: bytes, dns: Dns, now: int = NOW) -> arc.ArcResult:
    found = headers.scan(content)
    chain = arc.read(found, now)
    body = BodyHasher(chain.parts)
    body.feed_from(content, found.end)
    body.finish()
    return await arc.verify(found, chain, body, lambda name: look_up(dns.query, name))
