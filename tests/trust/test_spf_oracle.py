"""Our checks beside those of pyspf, over worlds that Hypothesis makes up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import DnsFailed
from postroom.net.dns import Kind, Mx, Record
from postroom.trust.spf import Client, Identity, check_host
from tests.trust.zones import Dns, dns_name

pyspf = pytest.importorskip("spf", reason="pyspf is not installed")

NAMES = ("a.example", "b.example", "c.example", "mail.a.example")
_TERMS = """
    a mx ptr -all ?all ~all +all ip4:192.0.2.0/25 -ip4:192.0.2.200 ip6:2001:db8::/32 a/24//48 a//0
    include:b.example ?include:c.example redirect=b.example redirect=c.example -a:mail.a.example
    exists:%{i}.b.example exists:%{h} ~a:c.example/24 mx:b.example/28 -mx:c.example ptr:a.example
    a:mail.%{d} a:%{o} exists:%{l1r-}.%{d2} moo=cow all:x ip4:192.0.2.1/33 a:b exp=b.example
    ip4:192.0.2.1 ip6:::/0 A:B.EXAMPLE +MX
"""
# An unknown modifier that comes twice is a permerror to pyspf; RFC 7208 §6 has it ignored.
RECORDS = (
    st.lists(st.sampled_from(_TERMS.split()), max_size=5)
    .filter(lambda terms: terms.count("moo=cow") < 2)
    .map(lambda terms: " ".join(["v=spf1", *terms]))
)
ADDRESSES = ("192.0.2.1", "192.0.2.200", "203.0.113.9", "2001:db8::1", "2001:db9::1")


@st.composite
def worlds(draw: st.DrawFn) -> Dns:
    """Four names of which each may have records, and addresses with names."""
    dns = Dns()
    for name in NAMES:
        for text in draw(st.lists(RECORDS, max_size=2)) if draw(st.booleans()) else ["x"]:
            dns.add(name, "TXT", text)
        for ip in draw(st.lists(st.sampled_from(ADDRESSES), max_size=3, unique=True)):
            dns.add(name, "AAAA" if ":" in ip else "A", ip)
        for n, host in enumerate(draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))):
            dns.add(name, "MX", (n, host))
    for ip in ADDRESSES:
        for host in draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True)):
            dns.add(ip_address(ip).reverse_pointer, "PTR", host)
    return dns


def theirs(dns: Dns, ip: str, sender: str, helo: str) -> str:
    """What pyspf says, over the same records."""

    def look_up(name: str, kind: str, *rest: object) -> Iterator[tuple[tuple[str, str], Any]]:
        try:
            answer = asyncio.run(dns.query(dns_name(name), Kind(kind)))
        except DnsFailed as error:
            raise pyspf.TempError("DNS") from error
        for found in answer.records:
            yield (name, kind), _shown(found)

    before, pyspf.DNSLookup = pyspf.DNSLookup, look_up
    try:
        # It counts each name of an mx without an address as a void lookup; the RFC counts terms.
        before_void, pyspf.MAX_VOID_LOOKUPS = pyspf.MAX_VOID_LOOKUPS, 1000
        try:
            return str(pyspf.query(ip, sender, helo, strict=True).check()[0])
        finally:
            pyspf.MAX_VOID_LOOKUPS = before_void
    finally:
        pyspf.DNSLookup = before


def _shown(found: Record) -> Any:
    if isinstance(found, Mx):
        return found.preference, found.host
    return (found,) if isinstance(found, bytes) else str(found)


@settings(max_examples=300, deadline=None)
@given(
    worlds(), st.sampled_from(ADDRESSES), st.sampled_from(("ann", "a-b")), st.sampled_from(NAMES)
)
def test_we_say_what_pyspf_says(dns: Dns, ip: str, local: str, helo: str) -> None:
    checking = check_host(dns, Client(ip_address(ip), helo), NAMES[0], local, Identity.MAIL_FROM)
    ours = asyncio.run(checking)
    if "for what is not there" in ours.why:
        return  # our limit of void lookups, which is off for them
    assert ours.result == theirs(dns, ip, f"{local}@{NAMES[0]}", helo), (ours, dns.held)
