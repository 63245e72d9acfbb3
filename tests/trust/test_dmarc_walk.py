"""The tree walk: which names are asked, whose policy applies, whose organisation it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import DnsFailed
from postroom.trust.dmarc import MOST_QUERIES, Walks, targets
from tests.trust.zones import Dns


def zone(**records: str) -> Dns:
    """Records by domain, with underscores for dots."""
    dns = Dns()
    for name, text in records.items():
        dns.add("_dmarc." + name.replace("_", "."), "TXT", text)
    return dns


def names(dns: Dns) -> list[str]:
    return [name for name, kind in dns.asked if kind == "TXT"]


# --- RFC 9989 §4.10 ----------------------------------------------------------------------------


def test_the_names_of_the_standards_own_example() -> None:
    assert targets("a.b.c.d.e.f.g.h.i.j.mail.example.com") == (
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        *("g.h.i.j.mail.example.com", "h.i.j.mail.example.com", "i.j.mail.example.com"),
        *("j.mail.example.com", "mail.example.com", "example.com", "com"),
    )


@given(st.integers(1, 60))
def test_no_walk_has_more_than_eight_names(labels: int) -> None:
    found = targets(".".join(f"l{n}" for n in range(labels)))
    assert len(found) == min(labels, MOST_QUERIES)
    assert len(set(found)) == len(found)
    assert "." not in found[-1]


@pytest.mark.parametrize(
    ("domain", "records", "organisation"),
    (
        # The three examples of RFC 9989 §4.10.2.
        (
            "a.mail.example.com",
            {"mail_example_com": "v=DMARC1;p=none", "example_com": "v=DMARC1;p=none"},
            "example.com",
        ),
        ("a.mail.example.com", {"mail_example_com": "v=DMARC1;p=none;psd=n"}, "mail.example.com"),
        ("a.mail.example.com", {"com": "v=DMARC1;p=none;psd=y"}, "example.com"),
        # Nobody says anything: each domain is its own organisation.
        ("a.mail.example.com", {}, "a.mail.example.com"),
        # The own record's psd=y does not make an organisation of what is below.
        ("co.example", {"co_example": "v=DMARC1;p=none;psd=y"}, "co.example"),
        ("a.co.example", {"co_example": "v=DMARC1;p=none;psd=y"}, "a.co.example"),
        ("b.a.co.example", {"co_example": "v=DMARC1;p=none;psd=y"}, "a.co.example"),
        # psd=n below a suffix wins, as it is met first.
        (
            "x.a.co.example",
            {"a_co_example": "v=DMARC1;psd=n", "co_example": "v=DMARC1;psd=y"},
            "a.co.example",
        ),
        # Two records are none.
        ("example.com", {"example_com": "v=DMARC1;p=none"}, "example.com"),
    ),
)
async def test_the_organisation(domain: str, records: dict[str, str], organisation: str) -> None:
    assert await Walks(zone(**records)).organisation(domain) == organisation


async def test_a_top_level_domain_that_does_not_say_what_it_is_is_a_suffix() -> None:
    dns = zone(bank="v=DMARC1;p=reject")
    walks = Walks(dns)
    assert await walks.organisation("one.bank") == "one.bank"
    assert await walks.organisation("mail.two.bank") == "two.bank"
    assert await walks.organisation("bank") == "bank"


@pytest.mark.parametrize(
    ("domain", "records", "found"),
    (
        ("a.example", {"a_example": "v=DMARC1;p=reject"}, ("a.example", False)),
        ("x.a.example", {"a_example": "v=DMARC1;p=reject"}, ("a.example", True)),
        ("x.y.a.example", {"a_example": "v=DMARC1;p=reject"}, ("a.example", True)),
        # Between author and organisation nobody's policy counts.
        (
            "x.y.a.example",
            {"y_a_example": "v=DMARC1;p=none", "a_example": "v=DMARC1;p=reject"},
            ("a.example", True),
        ),
        ("x.a.example", {"example": "v=DMARC1;p=reject;psd=y"}, ("example", True)),
        (
            "x.a.example",
            {"a_example": "v=DMARC1;p=none", "example": "v=DMARC1;p=reject;psd=y"},
            ("a.example", True),
        ),
        ("x.a.example", {}, None),
    ),
)
async def test_whose_policy_applies(
    domain: str, records: dict[str, str], found: tuple[str, bool] | None
) -> None:
    policy = await Walks(zone(**records)).policy(domain)
    assert (policy and (policy.domain, policy.below)) == found


async def test_an_own_policy_costs_one_question() -> None:
    dns = zone(a_example="v=DMARC1;p=reject")
    await Walks(dns).policy("a.example")
    assert names(dns) == ["_dmarc.a.example"]


async def test_what_was_asked_is_not_asked_again() -> None:
    dns = zone()
    walks = Walks(dns)
    for domain in ("x.a.example", "a.example", "y.a.example"):
        await walks.policy(domain)
        await walks.organisation(domain)
    assert len(names(dns)) == len(set(names(dns)))
    assert len(names(dns)) == 4  # x, y, a and example


# --- what DNS does not say -----------------------------------------------------------------------


async def test_a_failure_is_neither_a_policy_nor_none() -> None:
    dns = zone(a_example="v=DMARC1;p=reject")
    dns.fail("_dmarc.x.a.example")
    with pytest.raises(DnsFailed):
        await Walks(dns).policy("x.a.example")


async def test_a_failure_above_where_the_walk_ended_does_not_matter() -> None:
    dns = zone(a_example="v=DMARC1;p=reject;psd=n")
    dns.fail("_dmarc.example")
    policy = await Walks(dns).policy("x.a.example")
    assert policy is not None and policy.domain == "a.example"


@pytest.mark.parametrize("domain", ("a..example", "x" * 64 + ".example", "a." * 130 + "example"))
async def test_what_can_have_no_record_has_none(domain: str) -> None:
    walks = Walks(zone())
    assert await walks.record(domain) is None


async def test_a_domain_exists_unless_dns_denies_its_name() -> None:
    dns = Dns({"a.example": [("A", "192.0.2.1")], "m.example": [("MX", (10, "a.example"))]})
    walks = Walks(dns)
    assert await walks.exists("a.example")
    assert await walks.exists("m.example")  # no address, but the name is there
    assert not await walks.exists("b.example")
    assert not await walks.exists("a..example")


# --- where reports may go: RFC 9990 §4 ------------------------------------------------------------


async def test_reports_go_elsewhere_only_if_that_agrees() -> None:
    dns = zone(a_example="v=DMARC1;p=none", other_example="v=DMARC1;p=none")
    dns.add("a.example._report._dmarc.yes.example", "TXT", "v=DMARC1")
    dns.add("a.example._report._dmarc.no.example", "TXT", "v=spf1 -all")
    walks = Walks(dns)
    assert await walks.accepts_reports("a.example", "a.example")
    assert await walks.accepts_reports("a.example", "reports.a.example")
    assert await walks.accepts_reports("a.example", "yes.example")
    assert not await walks.accepts_reports("a.example", "no.example")
    assert not await walks.accepts_reports("a.example", "other.example")
    assert not await walks.accepts_reports("a.example", "b..example")


# --- properties ------------------------------------------------------------------------------

_LABEL = st.sampled_from(("a", "b", "c", "example", "test"))
_DOMAIN = st.lists(_LABEL, min_size=1, max_size=12).map(".".join)
_RECORD = st.sampled_from(
    ("v=DMARC1;p=none", "v=DMARC1;p=reject;psd=y", "v=DMARC1;psd=n;rua=mailto:a@a", "v=spf1")
)
_ZONES = st.dictionaries(_DOMAIN, _RECORD, max_size=8)


@given(_DOMAIN, _ZONES)
@settings(max_examples=150, deadline=None)
async def test_attack_25_whatever_dns_says_a_domain_costs_eight_questions(
    domain: str, records: dict[str, str]
) -> None:
    dns = Dns({f"_dmarc.{name}": [("TXT", text)] for name, text in records.items()})
    walks = Walks(dns)
    policy = await walks.policy(domain)
    organisation = await walks.organisation(domain)
    assert len(dns.asked) <= MOST_QUERIES
    assert domain == organisation or domain.endswith(f".{organisation}")
    assert policy is None or domain == policy.domain or domain.endswith(f".{policy.domain}")
