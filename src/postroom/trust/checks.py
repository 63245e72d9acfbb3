"""The checks of one worker: what was found is remembered for as long as DNS lets it.

Most mail comes from few senders. What a policy says about a domain and an address holds for the
next message too, unless a macro of the record looked at the sender's local part or the HELO name.
"""

from __future__ import annotations

import math
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from postroom.core.clock import Clock
from postroom.formats.address import Address
from postroom.net.dns import Answer, Kind, Record
from postroom.net.dns.cache import Cache
from postroom.trust import reverse
from postroom.trust.lookups import Lookup
from postroom.trust.reverse import Reverse
from postroom.trust.spf import (
    DEADLINE,
    Client,
    Identity,
    Result,
    SpfResult,
    check_helo,
    check_mail_from,
)

MOST_ENTRIES: Final = 20_000
MOST_OCTETS: Final = 16 * 1024 * 1024
"""Of what is remembered."""
_COST: Final = 512  # octets of one result besides its longest texts

Ip: TypeAlias = IPv4Address | IPv6Address


class Checks:
    """Of one event loop. The `known_*` say at once what is known, without asking anybody."""

    def __init__(self, lookup: Lookup, clock: Clock) -> None:
        self._lookup = lookup
        self._clock = clock
        self._known: Cache[SpfResult | Reverse] = Cache(MOST_ENTRIES, MOST_OCTETS)

    # --- SPF ------------------------------------------------------------------------------

    def known_mail_from(self, client: Client, reverse_path: Address | None) -> SpfResult | None:
        """What `mail_from` would say, if that is known."""
        domain = client.helo if reverse_path is None else reverse_path.domain
        return self._spf(client, domain, Identity.MAIL_FROM)

    def known_helo(self, client: Client) -> SpfResult | None:
        """What `helo` would say, if that is known."""
        return self._spf(client, client.helo, Identity.HELO)

    def _spf(self, client: Client, domain: str, identity: Identity) -> SpfResult | None:
        found = self._known.get((client.ip, domain), self._clock.monotonic())
        if not isinstance(found, SpfResult):
            return None
        return found if found.identity is identity else replace(found, identity=identity)

    async def mail_from(
        self, client: Client, reverse_path: Address | None, seconds: float = DEADLINE
    ) -> SpfResult:
        """Whether the client may use this reverse-path, in `seconds` at most."""
        known = self.known_mail_from(client, reverse_path)
        if known is not None:
            return known
        watched = _Watched(self._lookup)
        found = await check_mail_from(watched, client, reverse_path, seconds)
        domain = client.helo if reverse_path is None else reverse_path.domain
        return self._kept(watched, client, domain, found)

    async def helo(self, client: Client, seconds: float = DEADLINE) -> SpfResult:
        """Whether the client may call itself what it does, in `seconds` at most."""
        known = self.known_helo(client)
        if known is not None:
            return known
        watched = _Watched(self._lookup)
        found = await check_helo(watched, client, seconds)
        return self._kept(watched, client, client.helo, found)

    def _kept(self, watched: _Watched, client: Client, domain: str, found: SpfResult) -> SpfResult:
        if not found.personal and found.result is not Result.TEMPERROR:
            size = len(found.why) + len(found.explanation) + len(domain)
            self._keep(watched, (client.ip, domain), found, size)
        return found

    # --- the peer's name --------------------------------------------------------------------

    def known_reverse(self, ip: Ip) -> Reverse | None:
        """What `reverse` would say, if that is known."""
        found = self._known.get(ip, self._clock.monotonic())
        return found if isinstance(found, Reverse) else None

    async def reverse(self, ip: Ip) -> Reverse:
        """The names of an address."""
        known = self.known_reverse(ip)
        if known is not None:
            return known
        watched = _Watched(self._lookup)
        found = await reverse.look_up(watched, ip)
        self._keep(watched, ip, found, sum(map(len, found.names)))
        return found

    def _keep(self, watched: _Watched, key: object, found: SpfResult | Reverse, size: int) -> None:
        if self._clock.monotonic() < watched.expires < math.inf:
            self._known.put(key, found, watched.expires, size + _COST)


class _Watched:
    """A lookup that knows until when all that it said holds; what failed holds for nothing."""

    __slots__ = ("_lookup", "expires")

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self.expires = math.inf

    async def query(self, name: str, kind: Kind) -> Answer[Record]:
        known, self.expires = self.expires, 0.0  # in case of an error, or the end of patience
        answer = await self._lookup.query(name, kind)
        self.expires = min(known, answer.expires)
        return answer
