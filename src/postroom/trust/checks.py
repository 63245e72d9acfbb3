"""The checks of one worker: what was found is remembered for as long as DNS lets it.

Most mail comes from few senders. What a policy says about a domain and an address holds for the
next message too, unless a macro of the record looked at the sender's local part or the HELO name.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from postroom.core.clock import Clock
from postroom.core.errors import DnsFailed
from postroom.formats.address import Address
from postroom.formats.headers import Headers
from postroom.net.dns import Answer, Kind, Record
from postroom.net.dns.cache import Cache
from postroom.trust import dkim, reverse
from postroom.trust.dkim import BadKey, BodyHasher, DkimResult, Key, Read
from postroom.trust.dmarc import DmarcResult, Identifier, Policy, Walks, evaluate_by
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
MOST_KEYS: Final = 5_000
MOST_OCTETS: Final = 16 * 1024 * 1024
"""Of what is remembered."""
_COST: Final = 512  # octets of one result besides its longest texts
_KEY_COST: Final = 2_048  # octets of one key, with what the library makes of it

Ip: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class _Applies:
    """The DMARC policy that applies to a domain, if one does."""

    policy: Policy | None


class Checks:
    """Of one event loop. The `known_*` say at once what is known, without asking anybody."""

    def __init__(self, lookup: Lookup, clock: Clock) -> None:
        self._lookup = lookup
        self._clock = clock
        self._known: Cache[SpfResult | Reverse | _Applies] = Cache(MOST_ENTRIES, MOST_OCTETS)
        self._keys: Cache[Key | BadKey] = Cache(MOST_KEYS, MOST_OCTETS)

    @property
    def lookup(self) -> Lookup:
        """For checks that remember nothing themselves, as the resolver does."""
        return self._lookup

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

    # --- DKIM -----------------------------------------------------------------------------

    async def dkim(
        self,
        found: Headers,
        read: Sequence[Read],
        body: BodyHasher,
        seconds: float = dkim.DEADLINE,
    ) -> tuple[DkimResult, ...]:
        """What the signatures of a message are worth, in `seconds` at most: see `dkim.verify`."""
        return await dkim.verify(found, read, body, self.dkim_key, seconds)

    async def dkim_key(self, name: str) -> Key | BadKey:
        """The key at a name of DNS, or what is wrong with it. Raises DnsFailed."""
        known = self._keys.get(name, self._clock.monotonic())
        if known is not None:
            return known
        watched = _Watched(self._lookup)
        found = await dkim.look_up(watched.query, name)
        if self._clock.monotonic() < watched.expires < math.inf:
            self._keys.put(name, found, watched.expires, _KEY_COST)
        return found

    async def dkim_key_now(self, name: str) -> Key | BadKey:
        """The same as DNS says now, as far as the resolver does not remember. Raises DnsFailed."""
        return await dkim.look_up(self._lookup.query, name)

    # --- DMARC ------------------------------------------------------------------------------

    def knows_policy(self, domain: str) -> bool:
        """Whether it is known which DMARC policy applies to a domain."""
        return self._policy(domain) is not None

    def _policy(self, domain: str) -> _Applies | None:
        found = self._known.get(("dmarc", domain), self._clock.monotonic())
        return found if isinstance(found, _Applies) else None

    async def ask_policy(self, domain: str, seconds: float) -> None:
        """Ask for the DMARC policy of a domain, so that it is known when it matters.

        Takes `seconds` at most, and never raises.
        """
        watched = _Watched(self._lookup)
        walks = Walks(watched)
        try:
            async with asyncio.timeout(seconds):
                await walks.policy(domain)
        except (DnsFailed, TimeoutError):
            return  # the check itself will tell
        finally:
            walks.close()
        self._keep_policies(watched, walks)

    async def dmarc(
        self, domains: Sequence[str], identifiers: Sequence[Identifier], seconds: float
    ) -> tuple[DmarcResult, ...]:
        """A check for each author domain, in `seconds` at most: see `dmarc.evaluate`."""
        watched = _Watched(self._lookup)
        walks = Walks(watched)
        for domain in domains:
            known = self._policy(domain)
            if known is not None:
                walks.knows(domain, known.policy)
        results = await evaluate_by(walks, domains, identifiers, seconds)
        self._keep_policies(watched, walks)
        return results

    def _keep_policies(self, watched: _Watched, walks: Walks) -> None:
        for domain, policy in walks.found().items():
            size = len(domain) + (len(policy.record.text) if policy is not None else 0)
            self._keep(watched, ("dmarc", domain), _Applies(policy), size)

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

    def _keep(
        self, watched: _Watched, key: object, found: SpfResult | Reverse | _Applies, size: int
    ) -> None:
        if self._clock.monotonic() < watched.expires < math.inf:
            self._known.put(key, found, watched.expires, size + _COST)


class _Watched:
    """A lookup that knows until when all that it said holds; what failed holds for nothing."""

    __slots__ = ("_least", "_lookup", "_open")

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._least = math.inf
        self._open = 0  # questions under way, and those that failed

    @property
    def expires(self) -> float:
        """A moment on the monotonic clock; infinity if nothing was asked."""
        return 0.0 if self._open else self._least

    async def query(self, name: str, kind: Kind) -> Answer[Record]:
        self._open += 1
        answer = await self._lookup.query(name, kind)
        self._open -= 1
        self._least = min(self._least, answer.expires)
        return answer
