"""The peer's own names. RFC 8601 §3."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from postroom.trust.reverse import Iprev, is_below, look_up
from tests.trust.zones import Dns

IP = ip_address("192.0.2.1")
POINTER = "1.2.0.192.in-addr.arpa"


@pytest.mark.parametrize(
    ("names", "addresses", "result", "own"),
    [
        (["h.example"], {"h.example": "192.0.2.1"}, Iprev.PASS, ("h.example",)),
        (["h.example"], {"h.example": "192.0.2.2"}, Iprev.FAIL, ()),
        (["h.example"], {}, Iprev.FAIL, ()),
        (["x.example", "H.example"], {"h.example": "192.0.2.1"}, Iprev.PASS, ("h.example",)),
        ([], {}, Iprev.PERMERROR, ()),
    ],
)
async def test_a_name_is_its_own_if_it_leads_back(
    names: list[str], addresses: dict[str, str], result: Iprev, own: tuple[str, ...]
) -> None:
    dns = Dns()
    for name in names:
        dns.add(POINTER, "PTR", name)
    for name, address in addresses.items():
        dns.add(name, "A", address)
    found = await look_up(dns, IP)
    assert (found.result, found.names, found.claimed) == (result, own, len(names))
    assert await look_up(dns, ip_address("::ffff:192.0.2.1")) == found


async def test_ipv6_is_looked_for_in_its_own_zone_and_without_its_scope() -> None:
    ip = ip_address("fe80::1")
    dns = Dns({ip.reverse_pointer: [("PTR", "h.example")], "h.example": [("AAAA", "fe80::1")]})
    assert (await look_up(dns, ip_address("fe80::1%eth0"))).result is Iprev.PASS


async def test_what_cannot_be_learnt_is_temporary() -> None:
    dns = Dns({POINTER: [("PTR", "h.example")]})
    dns.fail("h.example")
    assert (await look_up(dns, IP)).result is Iprev.TEMPERROR
    dns.fail(POINTER)
    assert (await look_up(dns, IP)).result is Iprev.TEMPERROR


async def test_ten_names_are_looked_at() -> None:
    dns = Dns()
    for number in range(30):
        dns.add(POINTER, "PTR", f"h{number}.example")
    dns.add("h20.example", "A", "192.0.2.1")
    found = await look_up(dns, IP)
    assert (found.result, found.claimed) == (Iprev.FAIL, 30)
    assert len(dns.asked) == 11


@pytest.mark.parametrize(
    ("name", "domain", "below"),
    [
        ("a.example", "a.example", True),
        ("x.a.example", "a.example", True),
        ("xa.example", "a.example", False),
        ("example", "a.example", False),
        ("x\\.a.example", "a.example", False),  # one label: x.a
        ("x\\\\.a.example", "a.example", True),  # two labels: x\ and a
    ],
)
def test_names_are_compared_by_label(name: str, domain: str, below: bool) -> None:
    assert is_below(name, domain) is below
