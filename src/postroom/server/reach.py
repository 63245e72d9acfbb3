"""What `serve` was told about the world outside: whom to ask, where to go, whom to believe."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from postroom.access.tokens import Fetch
from postroom.core.errors import Malformed, Misuse
from postroom.mailflow.house import MailHouse
from postroom.mailflow.relay import Dialer, Finder
from postroom.mailflow.routing import SMTP_PORT
from postroom.net.dns import Resolver, Server
from postroom.net.egress import Egress
from postroom.net.fetch import Fetcher
from postroom.net.proxy import Networks
from postroom.net.tls import client_context
from postroom.net.wheel import TimerWheel

OK: Final = 200  # RFC 9110 §15.3.1


@dataclass(frozen=True, slots=True)
class Reach:
    """As the command line says it; the defaults are a server on the real internet."""

    resolver: Server | None = None  # None: the machine's own
    outbound_port: int | None = None  # in place of 25; then loopback may be delivered to
    outbound_https_port: int | None = None  # in place of 443, likewise
    egress_allow: Networks = ()
    ca_file: str | None = None
    proxy_from: Networks = ()

    @property
    def egress(self) -> Egress:
        """Where we may go."""
        trial = self.outbound_port is not None or self.outbound_https_port is not None
        return Egress(self.egress_allow, loopback=trial)

    def fetcher(self, resolver: Resolver, wheel: TimerWheel) -> Fetcher:
        """The one egress for HTTP: policies, keys and images of others are fetched with it."""
        return Fetcher(
            resolver,
            self.egress,
            wheel,
            https_port=self.outbound_https_port,
            ca_file=self.ca_file,
        )

    def documents(self, resolver: Resolver, wheel: TimerWheel) -> Fetch:
        """Fetches documents in JSON: what an identity provider says of itself."""
        fetcher = self.fetcher(resolver, wheel)

        async def fetch(url: str) -> bytes:
            answer = await fetcher.fetch(url, headers={"Accept": "application/json"}, redirects=2)
            if answer.status != OK:
                raise Malformed(detail=f"{url} answers {answer.status}")
            return answer.body

        return fetch

    def check(self) -> None:
        """Raises Misuse for a CA file that cannot be used."""
        if self.ca_file is None:
            return
        try:
            client_context(verify=True, ca_file=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Misuse(f"--ca-file {self.ca_file}: {error}") from error


def dialer(house: MailHouse, reach: Reach, wheel: TimerWheel) -> tuple[Dialer, Resolver]:
    """What brings mail to other servers, and the resolver that it asks: close that at the end."""
    servers = [reach.resolver] if reach.resolver is not None else None
    resolver = Resolver(house.clock, servers=servers)
    finder = Finder(
        resolver, reach.egress, reach.outbound_port or SMTP_PORT, own=lambda: (house.hostname,)
    )
    made = Dialer(
        finder,
        wheel,
        lambda: house.hostname,
        client_context(verify=False),
        trusted=client_context(verify=True, ca_file=reach.ca_file),
    )
    return made, resolver
