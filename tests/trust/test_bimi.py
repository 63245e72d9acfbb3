"""Records of logos read and found, and policies that are too weak for one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.net.dns import Answer, Kind, Record
from postroom.testing.scaling import grows_linearly
from postroom.trust import bimi
from postroom.trust.bimi import Assertion, BimiResult, check, read, selector
from tests.trust.zones import Dns

LOGO = "https://a.example/logo.svg"
RECORD = f"v=BIMI1; l={LOGO}; a="
REJECT = "v=DMARC1; p=reject"
SUB = "news.a.example"


def world(domain: str = "a.example", policy: str = REJECT) -> Dns:
    return Dns({f"_dmarc.{domain}": [("TXT", policy)]})


async def found_by(dns: Dns, domain: str = "a.example", chosen: str = "") -> BimiResult:
    return await check(dns, domain, chosen, 0.3)


def named(dns: Dns) -> list[str]:
    return [name for name, _ in dns.asked if "._bimi." in name]


# --- the record ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "location", "evidence"),
    (
        (RECORD, LOGO, ""),
        (f"v=BIMI1;l={LOGO}", LOGO, ""),
        (
            f"v=BIMI1; a=https://a.example/c.pem; l={LOGO}; x=y;",
            LOGO,
            "https://a.example/c.pem",
        ),
        ("v=BIMI1; l=https://b.example/x?y=z", "https://b.example/x?y=z", ""),
        ("v=BIMI1; l=; a=;", "", ""),
        ("v=BIMI1; l=", "", ""),
    ),
)
def test_a_record_names_a_logo_or_declines(text: str, location: str, evidence: str) -> None:
    assert read(text.encode()) == Assertion(location, evidence)


@pytest.mark.parametrize(
    "text",
    (
        "v=BIMI1",
        "v=BIMI1; a=https://a.example/c.pem",
        "v=BIMI1; l=; a=https://a.example/c.pem",
        "v=BIMI1; l=http://a.example/logo.svg",
        "v=BIMI1; l=HTTP://a.example/logo.svg",
        "v=BIMI1; l=//a.example/logo.svg",
        "v=BIMI1; l=a.example/logo.svg",
        "v=BIMI1; l=file:///etc/passwd",
        "v=BIMI1; l=javascript:alert(1)",
        "v=BIMI1; l=data:image/svg+xml,x",
        "v=BIMI1; l=https://192.0.2.1/logo.svg",
        "v=BIMI1; l=https://[2001:db8::1]/logo.svg",
        "v=BIMI1; l=https://2130706433/logo.svg",
        "v=BIMI1; l=https://localhost/logo.svg",
        "v=BIMI1; l=https://me:secret@a.example/logo.svg",
        "v=BIMI1; l=https://a.example:25/logo.svg",
        "v=BIMI1; l=https://a.example\\@b.example/logo.svg",
        "v=BIMI1; l=https://a.example/lo go.svg",
        "v=BIMI1; l=https://a.example/logo.png",
        "v=BIMI1; l=https://a.example/logo.PHP?x=.svg",
        f"v=BIMI1; l={LOGO},https://b.example/logo.svg",
        f"v=BIMI1; l={LOGO}; a=http://a.example/c.pem",
        f"v=BIMI1; l={LOGO}; l={LOGO}",
        f"v=BIMI1; l={LOGO}; nonsense",
        "v=BIMI1; l=https://a.example/" + "x" * 1_000,
        "v=BIMI1; l=" + "x" * 65_000,
        f"v=BIMI1; l={LOGO}\r\nBcc: all",
        "v=BIMI1; l=https://\xff.example/logo.svg",
    ),
)
def test_what_names_no_https_logo_is_wrong(text: str) -> None:
    with pytest.raises(Malformed):
        read(text.encode("latin-1"))


@given(st.binary(max_size=200))
def test_any_octets_are_a_record_or_malformed(text: bytes) -> None:
    try:
        found = read(b"v=BIMI1; l=" + text)
    except Malformed:
        return
    assert not found.location or found.location.lower().startswith("https://")
    assert found.location.isascii() and found.location.isprintable()


@given(st.binary(max_size=100))
def test_any_octets_are_a_selector_or_void(value: bytes) -> None:
    assert selector(b"v=BIMI1; s=" + value).isascii()


@pytest.mark.parametrize(
    ("value", "name"),
    (
        (b"v=BIMI1; s=brand", "brand"),
        (b" v = BIMI1 ;s = Summer.Brand; ", "summer.brand"),
        (b"s=brand", ""),
        (b"s=brand; v=BIMI1", ""),
        (b"v=BIMI2; s=brand", ""),
        (b"v=bimi1; s=brand", ""),
        (b"v=BIMI1", ""),
        (b"v=BIMI1; s=", ""),
        (b"v=BIMI1; s=a..b", ""),
        (b"v=BIMI1; s=[192.0.2.1]", ""),
        (b"v=BIMI1; s=" + b"x" * 2_000, ""),
    ),
)
def test_a_selector_is_read_or_void(value: bytes, name: str) -> None:
    assert selector(value) == name


def test_reading_takes_time_in_proportion() -> None:
    def attempt(text: bytes) -> None:
        for _ in range(50):
            with suppress(Malformed):
                read(text)

    small, large = (b"v=BIMI1; l=https://a.example/" + b"a./" * n + b"png" for n in (130, 1_300))
    assert grows_linearly(attempt, small, large, 10)


# --- where it is --------------------------------------------------------------------------------


async def test_the_record_of_the_author_counts() -> None:
    dns = world()
    dns.add("default._bimi.a.example", "TXT", RECORD)
    found = await found_by(dns)
    assert (found.code, found.domain, found.selector) == ("pass", "a.example", "default")
    assert (found.location, found.evidence) == (LOGO, "")


@pytest.mark.parametrize(
    ("at", "chosen", "asked"),
    (
        (f"brand._bimi.{SUB}", "brand", 1),
        (f"default._bimi.{SUB}", "", 1),
        ("default._bimi.a.example", "", 2),
        ("default._bimi.a.example", "brand", 2),
    ),
)
async def test_a_domain_without_one_has_the_default_of_its_organisation(
    at: str, chosen: str, asked: int
) -> None:
    dns = world()
    dns.add(at, "TXT", RECORD)
    dns.add("brand._bimi.a.example", "TXT", "v=BIMI1; l=https://wrong.example/x.svg")
    found = await found_by(dns, SUB, chosen)
    assert (found.code, f"{found.selector}._bimi.{found.domain}") == ("pass", at)
    assert found.location == LOGO and len(named(dns)) == asked


@pytest.mark.parametrize(
    ("texts", "code"),
    (
        ((), "none"),
        (("v=spf1 -all",), "none"),
        (("v=bimi1; l=x", "v=BIMI10; l=x", "x" * 60_000), "none"),
        (("v=spf1 -all", RECORD), "pass"),
        ((RECORD, RECORD + ";"), "fail"),
        (("v=BIMI1; l=http://a.example/x.svg",), "fail"),
        (("v=BIMI1; l=; a=",), "declined"),
    ),
)
async def test_what_the_records_of_a_name_are_worth(texts: tuple[str, ...], code: str) -> None:
    dns = world()
    for text in texts:
        dns.add("default._bimi.a.example", "TXT", text)
    found = await found_by(dns)
    assert found.code == code
    assert bool(found.location) is (code == "pass")


async def test_a_domain_below_declines_for_itself() -> None:
    dns = world()
    dns.add("default._bimi.a.example", "TXT", RECORD)
    dns.add(f"default._bimi.{SUB}", "TXT", "v=BIMI1; l=; a=;")
    assert (await found_by(dns, SUB)).code == "declined"


@pytest.mark.parametrize("name", ("default._bimi.a.example", "_dmarc.a.example"))
async def test_dns_that_fails_is_a_temporary_error(name: str) -> None:
    dns = world()
    dns.fail(name)
    found = await found_by(dns)
    assert found.code == "temperror"
    assert found.why.startswith("the logo of a.example is not known: ")


async def test_who_does_not_answer_takes_no_longer_than_allowed() -> None:
    class Slow(Dns):
        async def query(self, name: str, kind: Kind) -> Answer[Record]:
            await asyncio.sleep(60)
            return await super().query(name, kind)

    async with asyncio.timeout(5):
        found = await found_by(Slow())
    assert found.code == "temperror" and "within 0.3 s" in found.why


async def test_a_selector_that_makes_the_name_too_long_is_passed_over() -> None:
    dns = world()
    dns.add("default._bimi.a.example", "TXT", RECORD)
    found = await found_by(dns, "a.example", ".".join(["x" * 60] * 4))
    assert (found.code, found.selector) == ("pass", "default")


# --- who deserves one ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "weak"),
    (
        ("v=DMARC1; p=reject", ""),
        ("v=DMARC1; p=quarantine", ""),
        ("v=DMARC1; p=quarantine; pct=100", ""),
        ("v=DMARC1; p=reject; sp=quarantine; adkim=s", ""),
        ("v=DMARC1; p=none", "p=none"),
        ("v=DMARC1; p=reject; sp=none", "sp=none"),
        ("v=DMARC1; p=reject; t=y", "t=y"),
        ("v=DMARC1; p=quarantine; pct=99", "pct=99"),
        ("v=DMARC1; p=reject; PCT = 0", "pct=0"),
    ),
)
async def test_only_a_policy_that_is_enforced_deserves_a_logo(policy: str, weak: str) -> None:
    dns = world(policy=policy)
    dns.add("default._bimi.a.example", "TXT", RECORD)
    found = await found_by(dns)
    assert found.code == ("skipped" if weak else "pass")
    if weak:
        assert found.why == f"the DMARC policy of a.example says {weak}" and not named(dns)


async def test_a_weak_policy_of_the_organisation_counts_as_well() -> None:
    dns = world(policy="v=DMARC1; p=none")
    dns.add(f"_dmarc.{SUB}", "TXT", REJECT)
    dns.add(f"default._bimi.{SUB}", "TXT", RECORD)
    found = await found_by(dns, SUB)
    assert (found.code, found.why) == ("skipped", "the DMARC policy of a.example says p=none")


async def test_without_any_policy_there_is_no_logo() -> None:
    dns = Dns({"default._bimi.a.example": [("TXT", RECORD)]})
    found = await found_by(dns)
    assert (found.code, found.why) == ("skipped", "a.example has no DMARC policy")


def test_a_location_fits_a_line() -> None:
    assert bimi.LOCATION_LONGEST < 900
