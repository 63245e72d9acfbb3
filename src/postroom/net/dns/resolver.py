"""The resolver: remembers, asks once for all who wonder, and gives up in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from random import Random, SystemRandom
from typing import Final, Literal, TypeAlias, TypeVar, overload

import structlog
from structlog.typing import FilteringBoundLogger

from postroom.core import metrics
from postroom.core.clock import Clock
from postroom.core.errors import DnsFailed, Misuse
from postroom.net.dns.cache import Cache
from postroom.net.dns.message import MOST_CHAIN, Found, Unusable
from postroom.net.dns.names import canonical_name, reverse_name
from postroom.net.dns.records import (
    Addresses,
    Answer,
    Caa,
    Kind,
    Mx,
    MxAnswer,
    Record,
    Soa,
    Srv,
    Tlsa,
)
from postroom.net.dns.servers import Server, system_servers
from postroom.net.dns.transport import ask

SILENCES: Final = 3
"""Tries in a row that a server leaves unanswered before others are asked first."""
REST: Final = 30.0
"""Seconds for which they are."""

SOURCES: Final = metrics.counter(
    "dns.questions", "questions", "Questions of this process by where the answer was", label="from"
)
FAILURES: Final = metrics.counter(
    "dns.failures", "questions", "Questions that DNS failed to answer", label="reason"
)
SECONDS: Final = metrics.histogram("dns.seconds", "seconds", "Time to learn what was not cached")

_log: FilteringBoundLogger = structlog.get_logger("postroom.net.dns")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a resolver spends. Times in seconds."""

    tries: tuple[float, ...] = (2.0, 3.0)
    """The wait for each server in the first round, in the second, and so on."""
    deadline: float = 10.0
    """For a question in all, its wait for a turn included."""
    in_flight: int = 100
    """Questions at the servers at once: more overflow the sockets and are lost."""
    waiting: int = 1000
    """Questions that wait for a turn; further ones fail at once."""
    octets: int = 32_768
    """Of one reply."""
    records: int = 256
    """Of the kind asked, in one answer."""
    entries: int = 10_000
    """Of the cache."""
    cache_octets: int = 16 * 1024 * 1024
    ttl_least: int = 0
    ttl_most: int = 86_400
    negative_most: int = 3_600
    failure: float = 5.0
    """For which a failure is remembered."""

    def __post_init__(self) -> None:
        if not self.tries or min(self.tries) <= 0 or self.deadline <= 0:
            raise Misuse("DNS needs at least one try, and time for it")
        if min(self.in_flight, self.octets, self.records) < 1 or self.waiting < 0:
            raise Misuse("DNS needs room for one question and its answer")


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failure as a value: it may be remembered and shared, an exception may not."""

    reason: str
    detail: str

    def error(self) -> DnsFailed:
        return DnsFailed(detail=self.detail, reason=self.reason)


_Key: TypeAlias = tuple[str, Kind]
_Outcome: TypeAlias = Answer[Record] | _Failure
T = TypeVar("T")


class Resolver:
    """Asks recursive servers; of one event loop, and made for all its rooms to share."""

    def __init__(
        self,
        clock: Clock,
        *,
        servers: Sequence[Server] | None = None,
        trusted: bool = False,
        limits: Limits = LIMITS,
        rng: Random | None = None,
    ) -> None:
        """`servers` None: the machine's own, read once.

        `trusted`: the servers validate DNSSEC and nobody can forge on the way to them; without
        it nothing is ever `secure`.
        """
        self.servers = tuple(servers) if servers is not None else system_servers()
        if not self.servers:
            raise Misuse("a resolver needs a server to ask")
        self.trusted = trusted
        self.limits = limits
        self._clock = clock
        self._rng = rng if rng is not None else SystemRandom()
        self._cache: Cache[_Outcome] = Cache(limits.entries, limits.cache_octets)
        self._flights: dict[_Key, asyncio.Task[_Outcome]] = {}
        self._turns = asyncio.Semaphore(limits.in_flight)
        self._silences: dict[Server, int] = {}
        self._rested: dict[Server, float] = {}  # when a silent server's rest ends
        self._closed = False

    async def close(self) -> None:
        """End what is under way; who waits for it, and who asks later, gets DnsFailed."""
        self._closed = True
        flights = tuple(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self._cache.clear()

    # --- questions ------------------------------------------------------------------------

    @overload
    async def query(self, name: str, kind: Literal[Kind.A, "A"]) -> Answer[IPv4Address]: ...
    @overload
    async def query(self, name: str, kind: Literal[Kind.AAAA, "AAAA"]) -> Answer[IPv6Address]: ...
    @overload
    async def query(self, name: str, kind: Literal[Kind.MX, "MX"]) -> Answer[Mx]: ...
    @overload
    async def query(self, name: str, kind: Literal[Kind.TXT, "TXT"]) -> Answer[bytes]: ...
    @overload
    async def query(self, name: str, kind: Literal[Kind.TLSA, "TLSA"]) -> Answer[Tlsa]: ...
    @overload
    async def query(self, name: str, kind: Literal[Kind.SRV, "SRV"]) -> Answer[Srv]: ...
    @overload
    async def query(self, name: str, kind: Literal[Kind.CAA, "CAA"]) -> Answer[Caa]: ...
    @overload
    async def query(self, name: str, kind: Literal[Kind.SOA, "SOA"]) -> Answer[Soa]: ...
    @overload
    async def query(
        self, name: str, kind: Literal[Kind.PTR, Kind.CNAME, Kind.NS, "PTR", "CNAME", "NS"]
    ) -> Answer[str]: ...
    @overload
    async def query(self, name: str, kind: Kind | str) -> Answer[Record]: ...

    async def query(self, name: str, kind: Kind | str) -> Answer[Record]:
        """Records of `kind` at `name`, or at the end of its CNAMEs.

        NXDOMAIN and NODATA are answers. Raises DnsFailed if there is none to be had, Malformed
        for what is no name (nothing is asked then), Misuse for a kind that nobody knows.
        """
        outcome = await self._outcome(canonical_name(name), _known(kind))
        if isinstance(outcome, _Failure):
            raise outcome.error()
        return outcome

    async def mx(self, domain: str) -> MxAnswer:
        """Where `domain` takes mail. RFC 5321 §5.1, RFC 7505."""
        answer = await self.query(domain, Kind.MX)
        hosts = sorted((mx for mx in answer.records if mx.host != "."), key=_preference)
        return MxAnswer(
            hosts=tuple(hosts),
            # Beside true hosts a "." is a mistake that must not stop mail: RFC 7505 §3.
            null=bool(answer.records) and not hosts,
            exists=answer.exists,
            secure=answer.secure,
            canonical=answer.canonical,
            ttl=answer.ttl,
            expires=answer.expires,
        )

    async def addresses(self, host: str) -> Addresses:
        """A and AAAA of `host`. Raises DnsFailed if one failed and the other had none."""
        found4, found6 = await asyncio.gather(
            _tried(self.query(host, Kind.A)), _tried(self.query(host, Kind.AAAA))
        )
        if isinstance(found4, DnsFailed):
            if isinstance(found6, DnsFailed) or not found6.records:
                raise found4
            return _addresses((), found6.records, (found6,), found4)
        if isinstance(found6, DnsFailed):
            if not found4.records:
                raise found6
            return _addresses(found4.records, (), (found4,), found6)
        both = (found4, found6) if found4.records else (found6, found4)
        return _addresses(found4.records, found6.records, both, None)

    async def texts(self, name: str) -> tuple[bytes, ...]:
        """The TXT records, the character-strings of each joined."""
        return (await self.query(name, Kind.TXT)).records

    async def reverse(self, ip: IPv4Address | IPv6Address) -> tuple[str, ...]:
        """The names that the owner of `ip` claims for it: anyone may claim any name."""
        return (await self.query(reverse_name(ip), Kind.PTR)).records

    async def tlsa(self, port: int, host: str) -> Answer[Tlsa]:
        """The TLSA records of a TCP service. RFC 6698 §3."""
        return await self.query(f"_{port}._tcp.{host}", Kind.TLSA)

    # --- under way ------------------------------------------------------------------------

    async def _outcome(self, name: str, kind: Kind) -> _Outcome:
        key = (name, kind)
        known = self._cache.get(key, self._clock.monotonic())
        if known is not None:
            SOURCES.add(label="cache")
            return known
        flight = self._flights.get(key)
        if flight is not None:
            SOURCES.add(label="flight")
        elif self._closed:
            return _Failure("closed", "the resolver is closed")
        elif len(self._flights) >= self.limits.in_flight + self.limits.waiting:
            FAILURES.add(label="busy")
            return _Failure("busy", f"{len(self._flights)} questions are under way")
        else:
            SOURCES.add(label="servers")
            flight = asyncio.create_task(self._fly(key), name=f"dns {kind} {name}")
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        # Whoever goes away leaves the flight to the others, and its answer to the cache.
        return await asyncio.shield(flight)

    async def _fly(self, key: _Key) -> _Outcome:
        """Learn it and remember it. Raises nothing that is DNS's fault."""
        name, kind = key
        limits = self.limits
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(limits.deadline):
                async with self._turns:
                    answer, size = await self._learn(name, kind)
        except Unusable as error:
            failure = _Failure(error.reason, f"{kind} {name}: {error.reason}: {error.detail}")
        except TimeoutError:
            failure = _Failure("deadline", f"{kind} {name}: nothing in {limits.deadline:g} s")
        except asyncio.CancelledError:
            if not self._closed:
                raise
            return _Failure("closed", "the resolver was closed")
        else:
            now = self._clock.monotonic()
            SECONDS.observe(now - began)
            if answer.expires > now:
                self._cache.put(key, answer, answer.expires, size)
            return answer
        FAILURES.add(label=failure.reason)
        _log.info("dns failed", name=name, kind=kind.value, reason=failure.detail)
        expires = self._clock.monotonic() + limits.failure
        self._cache.put(key, failure, expires, len(failure.detail))
        return failure

    async def _learn(self, name: str, kind: Kind) -> tuple[Answer[Record], int]:
        """Ask, and ask on where a reply stops at a CNAME. Raises Unusable."""
        limits = self.limits
        end, hops, size = name, 0, 0
        ttls: list[int] = []
        vouched = True
        while True:
            found = await self._ask(end, kind)
            vouched = vouched and found.vouched
            size += found.size
            hops += len(found.chain)
            if hops > MOST_CHAIN:
                raise Unusable("cname-chain", "it loops or is too long", final=True)
            ttls.append(0 if found.ttl is None else found.ttl)
            if found.chain:
                end = found.chain[-1]
            if found.complete:
                break
        most = limits.ttl_most if found.records else limits.negative_most
        ttl = min(max(min(ttls), limits.ttl_least), most)
        answer = Answer(
            records=found.records,
            exists=found.exists,
            secure=vouched and self.trusted,
            canonical=end,
            ttl=ttl,
            expires=self._clock.monotonic() + ttl,
        )
        return answer, size

    async def _ask(self, name: str, kind: Kind) -> Found:
        """Ask the servers in rounds until one answers. Raises the last Unusable."""
        limits = self.limits
        failed: Unusable | None = None
        for seconds in limits.tries:
            for server in self._by_turn():
                try:
                    found = await ask(
                        server, name, kind, self._rng, seconds, limits.octets, limits.records
                    )
                except Unusable as error:
                    self._note(server, silent=error.reason in ("timeout", "unreachable"))
                    failed = Unusable(error.reason, f"{server}: {error.detail}")
                    if error.final:
                        raise failed from error
                else:
                    self._note(server, silent=False)
                    return found
        assert failed is not None
        raise failed

    def _by_turn(self) -> list[Server]:
        """The servers in the operator's order, those that have fallen silent last."""
        if not self._rested:
            return list(self.servers)
        now = self._clock.monotonic()
        self._rested = {server: end for server, end in self._rested.items() if end > now}
        return sorted(self.servers, key=self._rested.__contains__)

    def _note(self, server: Server, *, silent: bool) -> None:
        if not silent:
            self._silences.pop(server, None)
            self._rested.pop(server, None)
            return
        number = self._silences.get(server, 0) + 1
        self._silences[server] = number
        if number >= SILENCES:
            self._rested[server] = self._clock.monotonic() + REST


async def _tried(query: Awaitable[T]) -> T | DnsFailed:
    try:
        return await query
    except DnsFailed as error:
        return error


def _known(kind: Kind | str) -> Kind:
    if isinstance(kind, Kind):
        return kind
    try:
        return Kind(kind.upper())
    except ValueError:
        raise Misuse(f"no records of kind {kind!a} may be asked for") from None


def _preference(mx: Mx) -> int:
    return mx.preference


def _addresses(
    v4: tuple[IPv4Address, ...],
    v6: tuple[IPv6Address, ...],
    answers: Sequence[Answer[IPv4Address] | Answer[IPv6Address]],
    failed: DnsFailed | None,
) -> Addresses:
    """`answers` are those that came; the first tells the canonical name."""
    return Addresses(
        v4=v4,
        v6=v6,
        exists=any(answer.exists for answer in answers),
        secure=all(answer.secure for answer in answers),
        canonical=answers[0].canonical,
        failed=failed,
        ttl=min(answer.ttl for answer in answers),
        expires=min(answer.expires for answer in answers),
    )
