"""Guessing made slow: tallies of wrong passwords, in the memory of one worker.

A tally belongs to an account *and* an address, so that whoever guesses from elsewhere locks
nobody out; and one to an address for all accounts, against spraying. Tallies leak: after the
window nothing is left of them. The same wrong password counts once: a forgotten phone that
keeps trying the old one is no attack. A loopback address is counted and never refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, Generic, TypeAlias, TypeVar

from postroom.core.clock import Clock

Ip: TypeAlias = IPv4Address | IPv6Address | None
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST: Final = 50_000
"""Entries of a table; the one that was touched longest ago goes first."""
WRONG_KEPT: Final = 16
"""Different wrong passwords that a tally tells apart."""
_LOOPBACK6: Final = ip_network("::1/128")


class Table(OrderedDict[K, V], Generic[K, V]):
    """A bounded dict that forgets what was touched longest ago."""

    def put(self, key: K, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > MOST:
            self.popitem(last=False)


def network(ip: Ip) -> str:
    """What counts as one address: an IPv6 host owns its whole /64."""
    if ip is None:
        return "local"
    if isinstance(ip, IPv6Address):
        mapped = ip.ipv4_mapped
        if mapped is not None:
            return str(mapped)
        if ip not in _LOOPBACK6:
            return str(ip_network((int(ip) >> 64 << 64, 64)))
    return str(ip)


def is_loopback(ip: Ip) -> bool:
    """Also a peer on a unix socket."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.is_loopback
    return ip is None or ip.is_loopback


class _Tally:
    """Wrong passwords that leak away, and which ones they were."""

    __slots__ = ("at", "held", "wrong")

    def __init__(self, at: float) -> None:
        self.held = 0.0
        self.at = at
        self.wrong: OrderedDict[bytes, None] = OrderedDict()

    def leak(self, now: float, limit: int, window: float) -> float:
        """What is left. A full tally is empty after the window."""
        self.held = max(0.0, self.held - (now - self.at) * limit / window)
        self.at = now
        return self.held

    def is_full(self, now: float, limit: int, window: float) -> bool:
        return bool(limit) and self.leak(now, limit, window) > limit - 1


class Throttle:
    """One for each worker. Limits come with each question: they are settings."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pairs: Table[tuple[str, str], _Tally] = Table()
        self._networks: Table[str, _Tally] = Table()
        self._familiar: Table[tuple[str, str], None] = Table()

    def refuses(
        self, login: str, ip: Ip, *, of_account: int, of_address: int, window: float
    ) -> bool:
        """Whether an attempt goes unheard. Costs no hash and no read of the store."""
        if is_loopback(ip):
            return False
        now = self._clock.monotonic()
        at = network(ip)
        pair = self._pairs.get((login, at))
        if pair is not None and pair.is_full(now, of_account, window):
            return True
        whole = self._networks.get(at)
        return whole is not None and whole.is_full(now, of_address, window)

    def was_wrong(self, login: str, ip: Ip, digest: bytes) -> bool:
        """This very password was wrong from there lately: there is nothing to verify."""
        pair = self._pairs.get((login, network(ip)))
        return pair is not None and digest in pair.wrong

    def failed(
        self, login: str, ip: Ip, digest: bytes, *, of_account: int, of_address: int, window: float
    ) -> None:
        """Count a wrong password. `digest` tells passwords apart and is of no other use."""
        now = self._clock.monotonic()
        at = network(ip)
        pair = self._pairs.get((login, at)) or _Tally(now)
        self._pairs.put((login, at), pair)
        if digest in pair.wrong:
            return
        pair.wrong[digest] = None
        if len(pair.wrong) > WRONG_KEPT:
            pair.wrong.popitem(last=False)
        pair.leak(now, of_account, window)
        pair.held = min(pair.held + 1, float(of_account or 1))
        whole = self._networks.get(at) or _Tally(now)
        self._networks.put(at, whole)
        whole.leak(now, of_address, window)
        whole.held = min(whole.held + 1, float(of_address or 1))

    def succeeded(self, login: str, ip: Ip) -> None:
        """The right password: what was counted for this account and address is forgotten."""
        key = (login, network(ip))
        self._pairs.pop(key, None)
        self._familiar.put(key, None)

    def is_familiar(self, login: str, ip: Ip) -> bool:
        """Somebody signed in to this account from there, in this worker's memory."""
        return (login, network(ip)) in self._familiar
