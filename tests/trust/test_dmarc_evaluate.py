"""Alignment and the check itself: who may vouch for whom, and what a stranger cannot spoil."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.net.dns import Answer, Kind, Record
from postroom.trust.dmarc import (
    UNCHECKED,
    DmarcCode,
    DmarcResult,
    Identifier,
    Request,
    Walks,
    evaluate,
    strictest,
)
from tests.trust.zones import Dns

BANK = "bank.example"
REJECT = "v=DMARC1;p=reject;rua=mailto:d@bank.example"


def zone(record: str = REJECT, **records: str) -> Dns:
    dns = Dns({f"_dmarc.{BANK}": [("TXT", record)]})
    for name, text in records.items():
        dns.add("_dmarc." + name.replace("_", "."), "TXT", text)
    return dns


async def check(dns: Dns, *identifiers: Identifier, domain: str = BANK) -> DmarcResult:
    (found,) = await evaluate(dns, [domain], identifiers)
    return found


def spf(domain: str, result: str = "pass") -> Identifier:
    return Identifier("spf", domain, result)


def dkim(domain: str, result: str = "pass") -> Identifier:
    return Identifier("dkim", domain, result, "s1")


# --- pass and fail -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifiers", "code"),
    (
        ((spf(BANK),), "pass"),
        ((dkim(BANK),), "pass"),
        ((dkim("BANK.example."),), "pass"),
        ((spf("mail.bank.example"),), "pass"),
        ((dkim("a.b.bank.example"),), "pass"),
        ((spf("evil.example"), dkim(BANK)), "pass"),
        ((dkim("evil.example"), dkim(BANK, "fail"), dkim(BANK)), "pass"),
        ((), "fail"),
        ((spf("evil.example"),), "fail"),
        ((dkim("evil.example"), spf("evil.example")), "fail"),
        ((spf(BANK, "fail"), dkim(BANK, "permerror")), "fail"),
        ((spf(BANK, "softfail"), spf(BANK, "neutral"), dkim(BANK, "policy")), "fail"),
        # Of another name, though it ends in the same letters, or lies above.
        ((spf("notbank.example"), dkim("xbank.example")), "fail"),
        ((spf("example"), dkim("")), "fail"),
        ((dkim(BANK, "temperror"),), "temperror"),
        ((spf("x.bank.example", "temperror"),), "temperror"),
        ((spf("evil.example", "temperror"),), "fail"),
        ((dkim(BANK, "temperror"), spf(BANK)), "pass"),
        ((dkim(BANK, UNCHECKED),), "permerror"),
        ((dkim(BANK, UNCHECKED), spf(BANK, "temperror")), "temperror"),
        ((spf(BANK, "temperror"), dkim(BANK, UNCHECKED)), "temperror"),
        ((dkim("evil.example", UNCHECKED),), "fail"),
    ),
)
async def test_who_vouches(identifiers: tuple[Identifier, ...], code: str) -> None:
    found = await check(zone(), *identifiers)
    assert found.code == code
    assert found.policy_domain == BANK
    assert found.reports


async def test_the_result_says_who_vouched() -> None:
    found = await check(zone(), spf("mail.bank.example"), dkim("evil.example"))
    assert (found.spf, found.dkim) == (True, False)
    assert found.why == "SPF of mail.bank.example vouches for bank.example"
    both = await check(zone(), spf(BANK), dkim(BANK))
    assert (both.spf, both.dkim) == (True, True)


async def test_a_fail_says_what_the_domain_wishes() -> None:
    found = await check(zone(REJECT + ";t=y"))
    assert found.why == (
        "neither SPF nor DKIM vouches for bank.example; "
        "bank.example publishes p=reject, but is testing"
    )
    assert (found.published, found.policy) == (Request.REJECT, Request.QUARANTINE)


@pytest.mark.parametrize(
    ("tag", "published", "policy"),
    (("p", "reject", "quarantine"), ("p", "quarantine", "none"), ("p", "none", "none")),
)
async def test_test_mode_asks_for_one_level_less(tag: str, published: str, policy: str) -> None:
    found = await check(zone(f"v=DMARC1;p={published};t=y"))
    assert (found.tag, found.published, found.policy) == (tag, published, policy)


async def test_strict_alignment_wants_the_same_name() -> None:
    dns = zone("v=DMARC1;p=reject;adkim=s;aspf=s")
    assert (await check(dns, spf("m.bank.example"), dkim("m.bank.example"))).code == "fail"
    assert (await check(dns, dkim(BANK))).code == "pass"
    only_spf = zone("v=DMARC1;p=reject;aspf=s")
    assert (await check(only_spf, spf("m.bank.example"))).code == "fail"
    assert (await check(only_spf, dkim("m.bank.example"))).code == "pass"


async def test_subdomains_get_what_is_meant_for_them() -> None:
    dns = zone("v=DMARC1;p=reject;sp=quarantine;np=none")
    dns.add("there.bank.example", "A", "192.0.2.1")
    there = await check(dns, domain="there.bank.example")
    nowhere = await check(dns, domain="nowhere.bank.example")
    assert (there.tag, there.policy) == ("sp", "quarantine")
    assert (nowhere.tag, nowhere.policy) == ("np", "none")
    # Without np= nobody asks whether the name exists.
    plain = zone()
    assert (await check(plain, domain="nowhere.bank.example")).tag == "p"
    assert all(kind == "TXT" for _, kind in plain.asked)


async def test_a_sibling_and_the_organisation_vouch_for_a_subdomain() -> None:
    for domain in (BANK, "other.bank.example", "x.sub.bank.example"):
        found = await check(zone(), dkim(domain), domain="sub.bank.example")
        assert found.code == "pass", domain


async def test_a_department_of_its_own_is_another_organisation() -> None:
    dns = zone(own_bank_example="v=DMARC1;p=reject;psd=n")
    assert (await check(dns, dkim("own.bank.example"))).code == "fail"
    assert (await check(dns, dkim(BANK), domain="own.bank.example")).code == "fail"
    assert (await check(dns, dkim("x.own.bank.example"), domain="own.bank.example")).code == "pass"


@pytest.mark.parametrize("domain", ("nobody.example", "[192.0.2.1]", "xn--bcher-kva.example"))
async def test_without_a_policy_nothing_is_said(domain: str) -> None:
    found = await check(Dns(), spf(domain), domain=domain)
    assert (found.code, found.policy) == ("none", "none")


async def test_a_record_that_asks_for_nothing_is_no_policy() -> None:
    assert (await check(zone("v=DMARC1;p=what"))).code == "none"


# --- several authors: RFC 9989 §11.5 ------------------------------------------------------------


async def test_attack_04_an_author_of_ones_own_does_not_vouch_for_another_one() -> None:
    dns = zone(evil_example="v=DMARC1;p=none")
    found = await evaluate(dns, ["evil.example", BANK], [dkim("evil.example")])
    assert [each.code for each in found] == ["pass", "fail"]
    decides = strictest(found)
    assert decides is not None and (decides.domain, decides.policy) == (BANK, "reject")


async def test_attack_04_an_author_whose_dns_is_dead_does_not_hide_another_one() -> None:
    dns = zone()
    dns.fail("_dmarc.evil.example")
    decides = strictest(await evaluate(dns, ["evil.example", BANK], []))
    assert decides is not None and (decides.code, decides.domain) == ("fail", BANK)


async def test_several_authors_pass_only_together() -> None:
    found = await evaluate(zone(), [BANK, "nobody.example"], [dkim(BANK)])
    decides = strictest(found)
    assert decides is not None and decides.code is DmarcCode.NONE
    assert strictest([]) is None


# --- what a stranger's DNS cannot spoil ----------------------------------------------------------


async def test_attack_25_dead_servers_of_a_strangers_signature_make_no_temperror() -> None:
    dns = zone()
    dns.fail("_dmarc.evil.example")
    dns.fail("_dmarc.sub.evil.example")
    found = await check(dns, dkim("evil.example"), spf("sub.evil.example"))
    assert found.code is DmarcCode.FAIL
    assert not any("evil" in name for name, _ in dns.asked)


async def test_attack_25_no_number_of_signatures_asks_without_end() -> None:
    dns = zone()
    many = [dkim(f"a{n}.evil{n}.example") for n in range(1000)]
    many += [dkim(f"a{n}.bank.example", "temperror") for n in range(1000)]
    await check(dns, *many)
    assert len(dns.asked) <= 10


async def test_what_dns_does_not_say_is_never_a_pass_or_a_fail() -> None:
    dns = zone()
    dns.fail(f"_dmarc.{BANK}")
    found = await check(dns, dkim(BANK), spf(BANK))
    assert found.code is DmarcCode.TEMPERROR
    assert found.policy is Request.NONE
    dns = zone()
    dns.fail("_dmarc.x.bank.example")
    assert (await check(dns, dkim("x.bank.example"))).code is DmarcCode.TEMPERROR
    assert (await check(dns, dkim("x.bank.example"), dkim(BANK))).code is DmarcCode.PASS


async def test_a_check_ends_in_time() -> None:
    class Silent(Dns):
        async def query(self, name: str, kind: Kind) -> Answer[Record]:
            await asyncio.sleep(30)
            return await super().query(name, kind)

    begun = time.monotonic()
    (found,) = await evaluate(Silent(), [BANK], [dkim(BANK)], seconds=0.05)
    assert found.code is DmarcCode.TEMPERROR
    assert time.monotonic() - begun < 5


# --- properties ------------------------------------------------------------------------------

_LABEL = st.sampled_from(("a", "b", "bank", "evil", "example"))
_DOMAIN = st.lists(_LABEL, min_size=1, max_size=5).map(".".join)
_RECORDS = st.sampled_from(
    ("v=DMARC1;p=reject", "v=DMARC1;p=none;psd=y", "v=DMARC1;p=reject;psd=n", "v=DMARC1;p=x")
)


@given(_DOMAIN, _DOMAIN, st.dictionaries(_DOMAIN, _RECORDS, max_size=6), st.booleans())
@settings(max_examples=200, deadline=None)
async def test_nobody_of_another_organisation_is_ever_aligned(
    author: str, signer: str, records: dict[str, str], by_spf: bool
) -> None:
    dns = Dns({f"_dmarc.{name}": [("TXT", text)] for name, text in records.items()})
    found = await check(dns, spf(signer) if by_spf else dkim(signer), domain=author)
    walks = Walks(dns)
    same = await walks.organisation(author) == await walks.organisation(signer)
    if found.code is DmarcCode.PASS:
        assert same
    elif found.code is DmarcCode.FAIL:
        assert not same
