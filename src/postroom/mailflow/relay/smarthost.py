"""How a smart host is spoken to: whether over TLS, believed by which certificate, signed in as
whom. RFC 6409 §4.3, RFC 8314 §3.3, RFC 4954.

A password is for the host beside which it was set, or for one that was set farther away: a domain
with a host of its own does not tell that one the password of the server's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.errors import SecretUnreadable
from postroom.core.settings import NEAREST_FIRST, Effective
from postroom.domain.policy.secrets import secret_of
from postroom.mailflow.house import MailHouse
from postroom.mailflow.nexthop import NextHop, Way, parse_host
from postroom.mailflow.settings import RelaySettings
from postroom.net.smtp import Credentials
from postroom.store.sql import Tx

HOST: Final = "relay.smart_host"
USER: Final = "relay.smart_host_user"
PASSWORD: Final = "relay.smart_host_password"  # noqa: S105 - a setting's name
TLS: Final = "relay.smart_host_tls"
SUBMISSIONS: Final = 465
"""Where TLS comes first. RFC 8314 §7.3."""


@dataclass(frozen=True, slots=True)
class SmartHost:
    """What is asked of the connection. Without `tls`: what is asked of any."""

    tls: bool
    implicit: bool
    verify: bool
    credentials: Credentials | None


async def smart_host(house: MailHouse, hop: NextHop) -> SmartHost | None:
    """How the smart host behind a next hop is spoken to; None if it is no smart host, or is the
    sender's no more.

    Raises SecretUnreadable where the password cannot be had.
    """
    if hop.way is not Way.HOST:
        return None

    def look(tx: Tx) -> Effective[RelaySettings]:
        policy = house.policies.current(tx, house.chain("", hop.sender))
        return policy.effective(RelaySettings)

    found = await house.mail.read(look)
    named = found.values.smart_host
    now = parse_host(named) if named else None
    if now is None or (now.name, now.port) != (hop.name, hop.port):
        # Who signs in elsewhere by now does not say so to this one; the queue moves its mail.
        return None
    credentials = _credentials(house, found)
    wanted = found.values.smart_host_tls
    implicit = wanted == "implicit" or (wanted == "auto" and hop.port == SUBMISSIONS)
    tls = implicit or wanted == "starttls" or credentials is not None
    return SmartHost(tls, implicit, found.values.smart_host_verify, credentials)


def _credentials(house: MailHouse, found: Effective[RelaySettings]) -> Credentials | None:
    user, sealed = found.values.smart_host_user, found.values.smart_host_password
    near = _distance(found, HOST)
    if not user or _distance(found, USER) > near:
        return None
    if not sealed or _distance(found, PASSWORD) > near:
        raise SecretUnreadable(f"{USER} is set, and {PASSWORD} is not")
    password = house.secrets.open(sealed, secret_of(found.origins[PASSWORD], PASSWORD))
    return Credentials(user, password)


def _distance(found: Effective[RelaySettings], name: str) -> int:
    """How far away a value was set: 0 is the nearest scope."""
    place = found.origins.get(name)
    return len(NEAREST_FIRST) if place is None else NEAREST_FIRST.index(place.scope)
