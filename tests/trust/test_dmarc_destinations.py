"""Who is told about a domain's mail: RFC 9989 §4.7 `rua`, RFC 9990 §4."""

from __future__ import annotations

import asyncio

import pytest

from postroom.core.errors import DnsFailed
from postroom.net.dns import Answer, Kind, Record
from postroom.trust.dmarc.destinations import MOST, Destination, destinations
from tests.trust.zones import Dns


def asking(rua: str) -> Dns:
    return Dns({"_dmarc.a.example": [("TXT", f"v=DMARC1; p=none; rua={rua}")]})


async def test_an_address_of_its_own_organisation_is_told() -> None:
    dns = asking("mailto:d@a.example,mailto:d@reports.a.example")
    found = await destinations(dns, "a.example")
    assert found.destinations == (Destination("d@a.example"), Destination("d@reports.a.example"))
    assert found.record is not None and found.record.p == "none"
    assert not [name for name, _ in dns.asked if "_report" in name]


async def test_an_address_elsewhere_is_told_only_if_that_domain_agrees() -> None:
    dns = asking("mailto:d@yes.example,mailto:d@no.example")
    dns.add("a.example._report._dmarc.yes.example", "TXT", "v=DMARC1;")
    found = await destinations(dns, "a.example")
    yes, no = found.destinations
    assert yes == Destination("d@yes.example")
    assert no.why == "no.example does not say that it takes reports about a.example"
    assert not no.unanswered


async def test_another_domain_may_name_an_address_of_its_own_instead() -> None:
    dns = asking("mailto:d@yes.example!1k,mailto:e@yes.example")
    agreed = "v=DMARC1; rua=mailto:in@yes.example!2k,mailto:x@victim.example"
    dns.add("a.example._report._dmarc.yes.example", "TXT", agreed)
    found = await destinations(dns, "a.example")
    assert found.destinations == (Destination("in@yes.example"),)


async def test_where_another_domain_names_somebody_elsewhere_nobody_is_told() -> None:
    """RFC 9990 §4: neither the address that was asked for nor the one that stands in its place."""
    dns = asking("mailto:d@yes.example!1k,mailto:e@a.example")
    agreed = "v=DMARC1; rua=mailto:x@victim.example"
    dns.add("a.example._report._dmarc.yes.example", "TXT", agreed)
    found = await destinations(dns, "a.example")
    why = "yes.example names addresses of another domain instead"
    assert found.destinations == (
        Destination("d@yes.example", why=why),
        Destination("e@a.example"),
    )


async def test_another_domain_that_names_no_address_takes_those_that_were_asked_for() -> None:
    dns = asking("mailto:d@yes.example")
    agreed = "v=DMARC1; rua=https://yes.example/in"
    dns.add("a.example._report._dmarc.yes.example", "TXT", agreed)
    assert (await destinations(dns, "a.example")).destinations == (Destination("d@yes.example"),)


async def test_sizes_that_addresses_were_once_given_say_nothing() -> None:
    """RFC 9989 §4.8."""
    dns = asking("mailto:a@a.example!10m,mailto:b@a.example!500,mailto:c@a.example!2K")
    found = await destinations(dns, "a.example")
    assert [each.address for each in found.destinations] == [f"{n}@a.example" for n in "abc"]


@pytest.mark.parametrize(
    ("uri", "why"),
    (
        ("https://a.example/in", "only mailto: is served"),
        ("mailto:d@[192.0.2.1]", "an address literal accepts no reports of others"),
    ),
)
async def test_what_is_no_mailbox_of_a_domain_is_not_told(uri: str, why: str) -> None:
    (found,) = (await destinations(asking(uri), "a.example")).destinations
    assert found.why == why


async def test_who_asks_no_more_is_told_nothing() -> None:
    assert (await destinations(Dns(), "a.example")).record is None
    dns = Dns({"_dmarc.a.example": [("TXT", "v=DMARC1; p=none")]})
    found = await destinations(dns, "a.example")
    assert found.record is not None and not found.destinations


async def test_an_address_whose_domain_does_not_answer_may_be_told_later() -> None:
    dns = asking("mailto:d@a.example,mailto:d@slow.example")
    dns.fail("a.example._report._dmarc.slow.example")
    own, other = (await destinations(dns, "a.example")).destinations
    assert not own.why
    assert other.unanswered and "slow.example" in other.why


async def test_without_its_record_nothing_is_known() -> None:
    dns = Dns()
    dns.fail("_dmarc.a.example")
    with pytest.raises(DnsFailed):
        await destinations(dns, "a.example")


async def test_a_dns_that_says_nothing_takes_but_its_time() -> None:
    class Mute:
        async def query(self, name: str, kind: Kind) -> Answer[Record]:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

    with pytest.raises(DnsFailed) as failed:
        await destinations(Mute(), "a.example", 0.01)
    assert failed.value.reason == "deadline"


async def test_attack_25_the_number_of_addresses_is_bounded() -> None:
    many = ",".join(f"mailto:d@r{n}.example" for n in range(10))
    dns = asking(many)
    for n in range(10):
        rua = ",".join(f"mailto:d{m}@r{n}.example" for m in range(10))
        dns.add(f"a.example._report._dmarc.r{n}.example", "TXT", f"v=DMARC1; rua={rua}")
    assert len((await destinations(dns, "a.example")).destinations) == MOST


# --- failure reports ----------------------------------------------------------------------------


async def test_who_wants_failures_is_told_of_these_alone() -> None:
    dns = asking(
        "mailto:d@a.example; ruf=mailto:f@a.example,mailto:g@yes.example,mailto:n@no.example"
    )
    dns.add("a.example._report._dmarc.yes.example", "TXT", "v=DMARC1; rua=mailto:d@yes.example")
    found = await destinations(dns, "a.example", failures=True)
    assert found.destinations == (
        Destination("f@a.example"),
        Destination("g@yes.example"),
        Destination(
            "n@no.example", why="no.example does not say that it takes reports about a.example"
        ),
    )


async def test_another_domain_may_name_an_address_for_failures_instead() -> None:
    dns = asking("mailto:d@a.example; ruf=mailto:g@yes.example")
    dns.add("a.example._report._dmarc.yes.example", "TXT", "v=DMARC1; ruf=mailto:in@yes.example")
    found = await destinations(dns, "a.example", failures=True)
    assert found.destinations == (Destination("in@yes.example"),)


async def test_a_public_suffix_gets_no_failure_reports() -> None:
    """RFC 9991 §2: it would read of mail of everybody below it."""
    dns = asking("mailto:d@a.example; psd=y; ruf=mailto:f@a.example")
    assert (await destinations(dns, "a.example", failures=True)).destinations == ()
