"""check_host(): limits, identities, deadlines, and what the result says of itself."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats.address import parse_mailbox
from postroom.net.dns import Answer, Kind, Record
from postroom.trust.spf import Client, Identity, Result, check_helo, check_host, check_mail_from
from tests.trust.zones import Dns

IP = ip_address("192.0.2.1")
CLIENT = Client(IP, "mail.b.example", "mx.receiver.example", 1_700_000_000)
ANN = parse_mailbox("ann@a.example")


def spf(*texts: str, **others: str) -> Dns:
    dns = Dns()
    for text in texts:
        dns.add("a.example", "TXT", text)
    for name, text in others.items():
        dns.add(f"{name}.example", "TXT", text)
    return dns


async def test_the_result_says_what_decided_and_why() -> None:
    found = await check_mail_from(spf("v=spf1 ip4:192.0.2.0/24 -all"), CLIENT, ANN)
    assert (found.result, found.domain, found.identity) == (
        Result.PASS,
        "a.example",
        Identity.MAIL_FROM,
    )
    assert found.mechanism == "ip4:192.0.2.0/24"
    assert found.why == "ip4:192.0.2.0/24 of a.example matched"
    assert not found.personal


async def test_the_null_sender_is_postmaster_of_the_helo_name() -> None:
    dns = Dns({"mail.b.example": [("TXT", "v=spf1 -all exp=x.example")]})
    dns.add("x.example", "TXT", "%{s} and %{o}")
    found = await check_mail_from(dns, CLIENT, None)
    assert found.identity is Identity.MAIL_FROM
    assert found.explanation == "postmaster@mail.b.example and mail.b.example"


async def test_helo_is_checked_by_itself() -> None:
    dns = Dns({"mail.b.example": [("TXT", "v=spf1 a -all"), ("A", "192.0.2.1")]})
    found = await check_helo(dns, CLIENT)
    assert (found.result, found.identity, found.lookups) == (Result.PASS, Identity.HELO, 1)


@pytest.mark.parametrize(
    "helo",
    (
        *("", "localhost", "[192.0.2.1]", "[IPv6:2001:db8::1]", "192.0.2.1", "a..example"),
        *("x" * 64, "a." * 200 + "example", "\x00.", ".", "..", "." * 1000),
    ),
)
async def test_what_is_no_domain_is_none_and_asks_nobody(helo: str) -> None:
    dns = Dns()
    found = await check_helo(dns, Client(IP, helo))
    assert found.result is Result.NONE
    assert not dns.asked
    assert found.domain.isprintable()


async def test_an_ipv4_client_over_ipv6_is_one_of_ipv4() -> None:
    mapped = Client(ip_address("::ffff:192.0.2.1"), "x")
    assert (await check_mail_from(spf("v=spf1 ip4:192.0.2.1 -all"), mapped, ANN)).result == "pass"


# --- limits ----------------------------------------------------------------------------------


async def test_ten_terms_may_ask_and_an_eleventh_spoils_all() -> None:
    for number, result in ((10, "neutral"), (11, "permerror")):
        dns = spf("v=spf1" + " a:y.example" * number)
        dns.add("y.example", "A", "203.0.113.1")
        found = await check_mail_from(dns, CLIENT, ANN)
        assert found.result == result
        assert len(dns.asked) == 11
        assert found.lookups == 10


async def test_two_terms_may_find_nothing() -> None:
    for number, result in ((2, "neutral"), (3, "permerror")):
        found = await check_mail_from(spf("v=spf1" + " a:y.example" * number), CLIENT, ANN)
        assert found.result == result


async def test_hosts_of_an_mx_that_lack_an_address_are_one_term_that_found_something() -> None:
    dns = spf("v=spf1 mx -all")
    for number in range(5):
        dns.add("a.example", "MX", (number, f"mx{number}.example"))
    assert (await check_mail_from(dns, CLIENT, ANN)).result == "fail"


async def test_names_of_an_mx_and_of_a_ptr_are_bounded() -> None:
    dns = spf("v=spf1 ptr:p.example mx -all")
    for number in range(40):
        dns.add("1.2.0.192.in-addr.arpa", "PTR", f"h{number}.elsewhere.example")
        dns.add("a.example", "MX", (number, f"mx{number}.example"))
    found = await check_mail_from(dns, CLIENT, ANN)
    assert found.result == "permerror"
    assert found.why == "a.example has more than 10 mail exchangers"
    assert len(dns.asked) == 1 + 1 + 10 + 1


@pytest.mark.parametrize("way", ["include:%s", "redirect=%s"])
async def test_circles_end(way: str) -> None:
    dns = spf("v=spf1 " + way % "b.example", b="v=spf1 " + way % "a.example")
    found = await check_mail_from(dns, CLIENT, ANN)
    assert found.result == "permerror"
    assert len(dns.asked) == 11


async def test_a_tree_of_includes_ends() -> None:
    dns = Dns()
    for name in ("a", "b", "c"):
        dns.add(f"{name}.example", "TXT", "v=spf1 include:b.example include:c.example ?all")
    assert (await check_mail_from(dns, CLIENT, ANN)).result == "permerror"
    assert len(dns.asked) <= 11


# --- DNS that fails ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "record"),
    [
        ("a.example", "TXT", "v=spf1 -all"),
        ("y.example", "A", "v=spf1 a:y.example -all"),
        ("y.example", "MX", "v=spf1 mx:y.example -all"),
        ("y.example", "TXT", "v=spf1 include:y.example -all"),
        ("y.example", "TXT", "v=spf1 redirect=y.example"),
        ("y.example", "A", "v=spf1 exists:y.example -all"),
    ],
)
async def test_what_cannot_be_learnt_is_a_temperror(name: str, kind: str, record: str) -> None:
    dns = spf(record)
    dns.fail(name, kind)
    found = await check_mail_from(dns, CLIENT, ANN)
    assert found.result is Result.TEMPERROR
    assert "timeout" in found.why


async def test_what_was_decided_before_dns_failed_holds() -> None:
    dns = spf("v=spf1 ip4:192.0.2.1 a:y.example -all")
    dns.fail("y.example")
    assert (await check_mail_from(dns, CLIENT, ANN)).result == "pass"


async def test_a_ptr_that_cannot_be_learnt_matches_nothing() -> None:
    dns = spf("v=spf1 ptr -all")
    dns.fail("1.2.0.192.in-addr.arpa")
    assert (await check_mail_from(dns, CLIENT, ANN)).result == "fail"


class Slow(Dns):
    """Answers after a while, one kind at one name alone if that is given."""

    def __init__(self, seconds: float, name: str = "") -> None:
        super().__init__()
        self.seconds = seconds
        self.name = name

    async def query(self, name: str, kind: Kind) -> Answer[Record]:
        if self.name in ("", name):
            await asyncio.sleep(self.seconds)
        return await super().query(name, kind)


async def test_the_deadline_is_of_the_whole_check() -> None:
    dns = Slow(0.05)
    dns.add("a.example", "TXT", "v=spf1" + " a:y.example" * 10 + " -all")
    dns.add("y.example", "A", "203.0.113.1")
    begun = time.monotonic()
    found = await check_mail_from(dns, CLIENT, ANN, seconds=0.2)
    assert 0.19 < time.monotonic() - begun < 0.4
    assert found.result is Result.TEMPERROR
    assert found.why == "not done within 0.2 s"


async def test_a_fail_does_not_wait_for_its_explanation_beyond_the_deadline() -> None:
    dns = Slow(30, "x.example")
    dns.add("a.example", "TXT", "v=spf1 -all exp=x.example")
    dns.add("x.example", "TXT", "too late")
    found = await check_mail_from(dns, CLIENT, ANN, seconds=0.1)
    assert (found.result, found.explanation) == (Result.FAIL, "")


# --- macros ------------------------------------------------------------------------------------


async def test_a_local_part_beyond_ascii_matches_no_macro() -> None:
    """RFC 8616 §4."""
    dns = spf("v=spf1 exists:%{l}.y.example include:%{s}.y.example a:y.example -all")
    dns.add("y.example", "A", "192.0.2.1")
    sender = parse_mailbox("jäger@a.example")
    found = await check_mail_from(dns, CLIENT, sender)
    assert found.result == "pass"
    assert found.mechanism == "a:y.example"


@pytest.mark.parametrize("letter", ["s", "l", "h"])
async def test_what_looked_at_the_person_is_marked_so(letter: str) -> None:
    found = await check_mail_from(spf(f"v=spf1 exists:%{{{letter}}}.y.example -all"), CLIENT, ANN)
    assert found.personal


async def test_strangers_octets_become_one_name_and_nothing_else() -> None:
    dns = spf("v=spf1 exists:%{l}.y.example -all")
    sender = parse_mailbox('"a\\\\b c\\"d(.)"@a.example')
    await check_mail_from(dns, CLIENT, sender)
    assert dns.asked[-1] == ('a\\\\b\\032c"d(.).y.example', "A")


async def test_explanations_are_short_and_printable() -> None:
    dns = spf("v=spf1 -all exp=x.example")
    dns.add("x.example", "TXT", "%{l} " * 300)
    found = await check_mail_from(dns, CLIENT, ANN)
    assert len(found.explanation) == 500
    helo = Client(IP, "bad\x00\r\nhelo.example")
    dns = spf("v=spf1 -all exp=y.example")
    dns.add("y.example", "TXT", "you said %{h}")
    assert (await check_mail_from(dns, helo, ANN)).explanation == "you said bad???helo.example"


# --- properties --------------------------------------------------------------------------------

_TERMS = """
    a mx ptr -all ?all +all ip4:192.0.2.0/25 ip6:2001:db8::/32 a/8//8 include:b.example
    include:c.example redirect=b.example redirect=c.example exists:%{i}.b.example exists:%{h}
    a:%{p} exp=b.example mx:c.example bad:x ~a:c.example/24 include:%{d2} include:a.example x=y
    a:%{l1r-}.%{v}.example redirect=%{l}.b.example include:%{s}
"""
TERMS = st.sampled_from(_TERMS.split())
RECORDS = st.lists(TERMS, max_size=6).map(lambda terms: " ".join(["v=spf1", *terms]))
ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.200", "2001:db8::1", "::ffff:192.0.2.1"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(RECORDS, min_size=3, max_size=3),
    ADDRESSES,
    st.text(max_size=30),
    st.text(max_size=30),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=2),
)
async def test_every_check_ends_within_its_bounds(
    records: list[str], ip: str, local: str, helo: str, failing: list[str]
) -> None:
    dns = Dns()
    for name, text in zip(("a", "b", "c"), records, strict=True):
        dns.add(f"{name}.example", "TXT", text)
        dns.add(f"{name}.example", "A", "192.0.2.1")
        dns.add(f"{name}.example", "MX", (0, f"{name}.example"))
    for name in failing:
        dns.fail(f"{name}.example")
    found = await check_host(dns, Client(ip_address(ip), helo), "a.example", local, Identity.HELO)
    # One record, ten terms of which each may ask for ten names, the client's names, a reason.
    assert len(dns.asked) <= 1 + 10 * 11 + 11 + 1
    assert found.lookups <= 10
    assert found.why.isprintable() and found.mechanism.isprintable()
    assert found.explanation == "" or found.result is Result.FAIL
    again = await check_host(dns, Client(ip_address(ip), helo), "a.example", local, Identity.HELO)
    assert again == found
