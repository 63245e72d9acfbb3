"""Where mail for another server goes: the next hop of an address, as policy has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from postroom.core.settings import Effective, Scope
from postroom.domain.policy import Policy
from postroom.formats.address import Address
from postroom.mailflow.nexthop import NextHop, Way, parse_host, parse_next_hop
from postroom.mailflow.settings import RelaySettings

__all__ = ["SMTP_PORT", "NextHop", "Way", "next_hop", "parse_host", "parse_next_hop", "smart_hop"]

SMTP_PORT: Final = 25

_SIGN_IN: Final = (
    "relay.smart_host_user",
    "relay.smart_host_password",
    "relay.smart_host_tls",
    "relay.smart_host_verify",
)


def next_hop(address: Address, policy: Policy) -> NextHop:
    """Where mail for an address of others goes; `policy` is its sender's."""
    return smart_hop(policy) or NextHop(Way.EXCHANGERS, address.domain)


def smart_hop(policy: Policy) -> NextHop | None:
    """The smart host of a sender's policy, if it has one."""
    found = policy.effective(RelaySettings)
    if not found.values.smart_host:
        return None
    return replace(parse_host(found.values.smart_host), sender=_apart(found))


def _apart(found: Effective[RelaySettings]) -> str:
    """The sender's domain, if it signs in at the smart host in a way of its own: then its mail
    must not share connections with that of others."""
    for name in _SIGN_IN:
        place = found.origins.get(name)
        if place is not None and place.scope is Scope.DOMAIN:
            return place.object
    return ""
