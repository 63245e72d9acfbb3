"""From a next hop to the hosts that are tried, in order. RFC 5321 §5, RFC 7505."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, zip_longest
from typing import Final, TypeAlias

from postroom.core.errors import MailError, Status
from postroom.mailflow.routing import SMTP_PORT, NextHop, Way
from postroom.net.dns import DnsFailed, Mx, Resolver
from postroom.net.egress import Egress

Ip: TypeAlias = IPv4Address | IPv6Address

HOSTS: Final = 10
"""Hosts of one domain that are tried in a round: RFC 5321 §5.1 wants two at least."""
ADDRESSES: Final = 6
"""Addresses of one host that are tried in a round."""


class NoSuchDomain(MailError):
    """The domain of the recipient does not exist. RFC 3463 §3.2."""

    status = Status(5, 1, 2)
    sentence = "The recipient's domain does not exist"


class TakesNoMail(MailError):
    """The domain says that it takes no mail. RFC 7505 §4.2."""

    status = Status(5, 1, 10)
    sentence = "The recipient's domain takes no mail"


class NoHost(MailError):
    """There is no host to which this mail could go. RFC 3463 §3.5: unable to route."""

    status = Status(5, 4, 4)
    sentence = "No server takes mail for the recipient's domain"


class ClosedNetwork(NoHost):
    """The host is where no mail is brought, whatever DNS says: `net.egress`."""


class MailLoop(MailError):
    """The best host for this mail is this one, and it does not know the domain. RFC 5321 §5.1."""

    status = Status(5, 4, 6)
    sentence = "Mail for the recipient's domain leads back to this server"


@dataclass(frozen=True, slots=True)
class Host:
    """A host to try; `literal` if the next hop is an address itself."""

    name: str
    port: int
    literal: Ip | None = None


@dataclass(frozen=True, slots=True)
class Finder:
    """What finding hosts needs. `port` is that of SMTP at others; `own` the names of ours."""

    resolver: Resolver
    egress: Egress
    port: int = SMTP_PORT
    own: Callable[[], Sequence[str]] = tuple
    random: random.Random = random.SystemRandom()

    async def hosts(self, next_hop: NextHop) -> list[Host]:
        """The hosts behind a next hop, the best first.

        Raises NoSuchDomain, TakesNoMail, MailLoop, or DnsFailed if that cannot be told now. Of a
        host that an administrator named no mail exchangers are asked: MailLoop alone.
        """
        if next_hop.way is Way.HOST:
            port = next_hop.port or self.port
            if port == self.port and next_hop.name in self._own():
                raise MailLoop(detail=f"{next_hop.name} is this server itself")
            return [Host(next_hop.name, port, _literal(next_hop.name))]
        domain = next_hop.name
        literal = _literal(domain)
        if literal is not None:
            return [Host(domain, self.port, literal)]
        found = await self.resolver.mx(domain)
        if found.null:
            raise TakesNoMail
        if not found.exists:
            raise NoSuchDomain
        if not found.hosts:
            return [Host(domain, self.port)]  # the implicit MX
        best = self._before_us(found.hosts)
        return [Host(each.host, self.port) for each in self._shuffled(best)[:HOSTS]]

    def _before_us(self, exchangers: Sequence[Mx]) -> list[Mx]:
        """Only what is preferred to ourselves, or mail would go in circles. RFC 5321 §5.1."""
        own = self._own()
        ours = [each.preference for each in exchangers if each.host.lower().rstrip(".") in own]
        if not ours:
            return list(exchangers)
        left = [each for each in exchangers if each.preference < min(ours)]
        if not left:
            raise MailLoop
        return left

    def _own(self) -> set[str]:
        return {name.lower().rstrip(".") for name in self.own()}

    def _shuffled(self, exchangers: list[Mx]) -> list[Mx]:
        """By preference; equal ones in any order, to spread the load."""
        return sorted(exchangers, key=lambda each: (each.preference, self.random.random()))

    async def addresses(self, host: Host, *, ipv6: bool) -> list[Ip]:
        """The addresses of a host that may be tried, in order.

        Raises NoHost if it has none, ClosedNetwork if none is open to mail, or DnsFailed if that
        cannot be told now.
        """
        if host.literal is not None:
            found: list[Ip] = [host.literal]
        else:
            answer = await self.resolver.addresses(host.name)
            v6 = answer.v6 if ipv6 else ()
            # One of each family in turn: where one does not work, the other is tried soon.
            pairs = chain.from_iterable(zip_longest(v6, answer.v4))
            found = [ip for ip in pairs if ip is not None]
            if not found and answer.failed is not None:
                raise answer.failed
            if not answer.exists:
                raise NoHost(detail=f"{host.name} does not exist in DNS")
            if answer.v6 and not found:
                raise NoHost(detail=f"{host.name} has no IPv4 address, and relay.ipv6 is off")
        if not found:
            raise NoHost(detail=f"{host.name} has no address in DNS")
        allowed = [ip for ip in found if self.egress.permits_mail(ip)]
        if not allowed:
            raise ClosedNetwork(detail=f"{host.name} is at {found[0]}, where no mail is brought")
        return allowed[:ADDRESSES]


def _literal(name: str) -> Ip | None:
    if not name.startswith("["):
        return None
    inner = name[1:-1]
    return ipaddress.ip_address(inner[5:] if inner.lower().startswith("ipv6:") else inner)


def is_temporary(error: MailError) -> bool:
    """Whether another try may end better."""
    return isinstance(error, DnsFailed) or not error.status.permanent
