"""VBR-Info read, and what certifiers say of it. RFC 5518, RFC 6212."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.net.dns import Answer, Kind, Record
from postroom.testing.scaling import grows_linearly
from postroom.trust import vbr
from postroom.trust.vbr import Info, VbrCode, VbrResult, check, read
from tests.trust.zones import Dns

INFO = b"md=a.example; mc=list; mv=good.example:other.example"
AT = "a.example._vouch.good.example"


async def ask(
    dns: Dns, *values: bytes, authentic: str = "a.example", believed: str = "good.example"
) -> VbrResult:
    return await check(dns, values or (INFO,), {authentic}, believed.split(), 0.2)


# --- the field -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    (
        INFO,
        b"mv=good.example:other.example;mc=list;md=a.example;",
        b" MD = A.Example. ; MC = List ; MV = good.example : OTHER.example. ",
        b"v=1; md=a.example; x=y; mc=list; mv=good.example:good.example:-:other.example",
    ),
)
def test_a_field_is_read_in_each_spelling(value: bytes) -> None:
    assert read(value) == Info("a.example", "list", ("good.example", "other.example"))


@pytest.mark.parametrize(
    "value",
    (
        b"",
        b"md=a.example; mc=list",
        b"md=a.example; mv=good.example",
        b"mc=list; mv=good.example",
        b"md=; mc=list; mv=good.example",
        b"md=[192.0.2.1]; mc=list; mv=good.example",
        b"md=a b.example; mc=list; mv=good.example",
        b"md=a.example; mc=l1st; mv=good.example",
        b"md=a.example; mc=list; mv=::,",
        b"md=a.example; md=b.example; mc=list; mv=good.example",
        b"md=a.example; MD=b.example; mc=list; mv=good.example",
        b"md=a.example; mc=list; mv=good.example; junk",
        b"md=a.example; mc=list; mv=" + b"x" * 5_000,
        b"md=\xff.example; mc=list; mv=good.example",
    ),
)
def test_what_is_wrong_in_a_field_voids_it(value: bytes) -> None:
    assert read(value) is None


def test_only_so_many_certifiers_of_a_field_are_looked_at() -> None:
    listed = b":".join(b"c%d.example" % n for n in range(100))
    found = read(b"md=a.example; mc=all; mv=" + listed)
    assert found is not None and len(found.certifiers) == vbr.MOST_CERTIFIERS


@given(st.binary(max_size=200))
def test_any_octets_are_read_or_void(value: bytes) -> None:
    found = read(value)
    if found is not None:
        assert found.domain and found.kind and found.certifiers


@given(
    st.from_regex(r"[a-z]{1,10}\.example", fullmatch=True),
    st.from_regex(r"[a-z]{1,20}", fullmatch=True),
    st.lists(
        st.from_regex(r"[a-z]{1,8}\.test", fullmatch=True), min_size=1, max_size=9, unique=True
    ),
)
@settings(max_examples=50)
def test_what_is_written_is_read_as_it_was(domain: str, kind: str, by: list[str]) -> None:
    value = f"md={domain}; mc={kind}; mv={':'.join(by)}".encode()
    assert read(value) == Info(domain, kind, tuple(by))


def test_reading_takes_time_in_proportion() -> None:
    small, large = (b"md=a.example; mc=all; mv=" + b"a:" * size for size in (150, 1_500))
    assert len(large) < vbr.LONGEST
    assert grows_linearly(lambda value: [read(value) for _ in range(100)], small, large, 10)


# --- what certifiers say ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code", "kinds"),
    (
        (("all",), "pass", ("all",)),
        (("list",), "pass", ("list",)),
        (("transaction list",), "pass", ("list", "transaction")),
        (("transaction", "list"), "pass", ("list", "transaction")),
        (("v=spf1 -all", " list "), "pass", ("list",)),
        (("transaction",), "fail", ("transaction",)),
        (("v=spf1 -all",), "permerror", ()),
        (("ALL",), "permerror", ()),
        (("",), "permerror", ()),
        (("lists all2",), "permerror", ()),
        (("all" + " x" * 600,), "permerror", ()),
        (("x" * 65_000,), "permerror", ()),
        (tuple(f"x{n}" for n in range(200)), "permerror", ()),
    ),
)
async def test_what_an_answer_is_worth(
    said: tuple[str, ...], code: str, kinds: tuple[str, ...]
) -> None:
    found = await ask(Dns({AT: [("TXT", text) for text in said]}))
    assert (found.code, found.kinds) == (code, kinds)
    assert (found.domain, found.certifier) == ("a.example", "good.example")


async def test_one_who_does_not_know_the_domain_does_not_vouch() -> None:
    found = await ask(Dns())
    assert (found.code, found.why) == ("fail", "good.example does not vouch for a.example")


async def test_dns_that_fails_is_a_temporary_error() -> None:
    dns = Dns()
    dns.fail(AT)
    found = await ask(dns)
    assert found.code is VbrCode.TEMPERROR
    assert found.why.startswith("whether good.example vouches for a.example is not known: ")


async def test_who_does_not_answer_takes_no_longer_than_allowed() -> None:
    class Slow(Dns):
        async def query(self, name: str, kind: Kind) -> Answer[Record]:
            await asyncio.sleep(60)
            return await super().query(name, kind)

    async with asyncio.timeout(5):
        found = await ask(Slow())
    assert (found.code, found.why) == (
        "temperror",
        "good.example did not answer about a.example within 0.2 s",
    )


async def test_a_name_that_cannot_be_is_not_asked_for() -> None:
    domain = ".".join(["a" * 60] * 4) + ".example"
    certifier = "b" * 60 + ".example"
    value = f"md={domain}; mc=all; mv={certifier}".encode()
    dns = Dns()
    found = await ask(dns, value, authentic=domain, believed=certifier)
    assert found.code is VbrCode.PERMERROR and not dns.asked


# --- who is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "authentic", "believed", "why"),
    (
        ((b"nonsense",), "a.example", "good.example", "no VBR-Info field"),
        ((INFO,), "b.example", "good.example", "neither SPF nor DKIM vouches for a.example"),
        ((INFO,), "mail.a.example", "good.example", "neither SPF nor DKIM vouches"),
        ((INFO,), "example", "good.example", "neither SPF nor DKIM vouches"),
        ((INFO,), "a.example", "third.example", "nobody whom this server believes"),
        ((INFO,), "a.example", "sub.good.example", "nobody whom this server believes"),
    ),
)
async def test_nobody_is_asked_where_nobody_may_be(
    values: tuple[bytes, ...], authentic: str, believed: str, why: str
) -> None:
    dns = Dns({AT: [("TXT", "all")]})
    found = await ask(dns, *values, authentic=authentic, believed=believed)
    assert found.code is VbrCode.NONE and why in found.why and not dns.asked


async def test_fields_that_disagree_on_the_sort_of_mail_fail() -> None:
    dns = Dns({AT: [("TXT", "list")]})
    other = INFO.replace(b"mc=list", b"mc=transaction")
    found = await ask(dns, INFO, other, INFO)
    assert found.code is VbrCode.FAIL and "disagree" in found.why and not dns.asked


async def test_fields_of_one_domain_are_taken_together_and_each_domain_for_itself() -> None:
    dns = Dns({"a.example._vouch.late.example": [("TXT", "list")]})
    late = b"md=a.example; mc=list; mv=late.example"
    foreign = b"md=b.example; mc=transaction; mv=late.example"
    found = await ask(dns, foreign, INFO, late, believed="good.example late.example")
    assert (found.code, found.certifier) == ("pass", "late.example")
    assert {name for name, _ in dns.asked} == {AT, "a.example._vouch.late.example"}


async def test_one_who_vouches_outweighs_others_who_do_not_or_fail() -> None:
    dns = Dns({"a.example._vouch.other.example": [("TXT", "all")]})
    dns.fail(AT)
    found = await ask(dns, believed="good.example other.example")
    assert (found.code, found.certifier) == ("pass", "other.example")


async def test_however_much_is_named_little_is_asked() -> None:
    names = [f"c{n}.example" for n in range(50)]
    fields = [
        f"md=a.example; mc=all; mv={':'.join(names[n : n + 20])}".encode() for n in range(0, 50, 3)
    ]
    dns = Dns()
    found = await ask(dns, *fields * 50, believed=" ".join(names))
    assert found.code is VbrCode.FAIL
    assert len(dns.asked) == vbr.MOST_QUERIES
