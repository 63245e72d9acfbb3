"""DMARC records: what counts as one, what is left of a broken one, and what never matters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.testing.scaling import grows_linearly
from postroom.trust.dmarc import Record, Request, mailbox, select
from postroom.trust.dmarc.record import LONGEST, MOST_URIS, acceptance


def read(text: str) -> Record:
    found = select([text.encode("latin-1")])
    assert found is not None, text
    return found


def test_a_whole_record_is_read() -> None:
    found = read(
        "v=DMARC1; p=reject; sp=quarantine; np=none; psd=n; adkim=s; aspf=s; t=y; fo=1:d:s; "
        "rua=mailto:a@a.example,mailto:b@b.example; ruf=mailto:c@c.example"
    )
    assert (found.p, found.sp, found.np) == (Request.REJECT, Request.QUARANTINE, Request.NONE)
    assert (found.psd, found.strict_dkim, found.strict_spf, found.testing) == (
        "n",
        True,
        True,
        True,
    )
    assert found.failures == ("1", "d", "s")
    assert found.rua == ("mailto:a@a.example", "mailto:b@b.example")
    assert found.ruf == ("mailto:c@c.example",)
    assert found.usable


def test_defaults_are_those_of_the_standard() -> None:
    found = read("v=DMARC1;p=none")
    assert (found.sp, found.np, found.psd, found.testing) == (None, None, "u", False)
    assert not (found.strict_dkim or found.strict_spf)
    assert found.failures == ("0",)


@pytest.mark.parametrize(
    "text",
    ("v=DMARC1", "v = DMARC1 ; p=none", "V=DMARC1;p=none", "v=DMARC1\t;", "v=DMARC1;;;p=none"),
)
def test_these_are_records(text: str) -> None:
    assert select([text.encode()]) is not None


@pytest.mark.parametrize(
    "text",
    (
        *("", "v=dmarc1; p=none", "v=DMARC2; p=none", "v=DMARC10; p=none", "p=none; v=DMARC1"),
        *(" v=DMARC1; p=none", "v=spf1 -all", "v=DMARC1 p=reject", "x=1; v=DMARC1"),
        "v=DMARC1; p=reject;" + "x" * LONGEST,
    ),
)
def test_these_are_none(text: str) -> None:
    assert select([text.encode()]) is None


def test_several_records_are_as_good_as_none_and_other_texts_do_not_count() -> None:
    one, other = b"v=DMARC1; p=reject", b"v=DMARC1; p=none"
    assert select([b"v=spf1 -all", one, b"hello"]) is not None
    assert select([one, other]) is None
    assert select([one, one]) is None


@pytest.mark.parametrize(
    ("text", "p", "usable"),
    (
        ("v=DMARC1; p=Reject", Request.REJECT, True),
        ("v=DMARC1; p=reject; p=none", Request.NONE, False),
        ("v=DMARC1; p=reject; P=reject", Request.NONE, False),
        ("v=DMARC1", Request.NONE, False),
        ("v=DMARC1; rua=mailto:a@a.example", Request.NONE, True),
        ("v=DMARC1; p=block; rua=mailto:a@a.example", Request.NONE, True),
        ("v=DMARC1; p=block; rua=nothing", Request.NONE, False),
        ("v=DMARC1; p=reject; sp=never", Request.NONE, False),
        ("v=DMARC1; p=reject; np=; rua=https://a.example/", Request.NONE, True),
        ("v=DMARC1; p=reject; pct=0; rf=afrf; ri=1; zz=1; nonsense", Request.REJECT, True),
    ),
)
def test_what_is_wrong_counts_as_not_written(text: str, p: Request, usable: bool) -> None:
    found = read(text)
    assert (found.p, found.usable) == (p, usable)


@pytest.mark.parametrize("fo", ("", "0:1", "2", "1::d", "d:s:x", "-", "1;fo=0"))
def test_failure_options_that_are_wrong_are_the_default(fo: str) -> None:
    assert read(f"v=DMARC1; p=none; fo={fo}").failures == ("0",)


def test_single_tags_that_are_wrong_are_the_default() -> None:
    found = read("v=DMARC1; p=reject; psd=yes; adkim=strict; aspf=; t=1; adkim=s")
    assert (found.psd, found.strict_dkim, found.strict_spf, found.testing) == (
        *("u", False, False, False),
    )


def test_sizes_of_addresses_are_passed_over_and_their_number_is_bounded() -> None:
    found = read("v=DMARC1; p=none; rua=mailto:a@a.example!10m, , x, mailto:a@a.example")
    assert found.rua == ("mailto:a@a.example",)
    found = read("v=DMARC1; rua=mailto:a@a.example!7,mailto:b@a.example")
    assert found.rua == ("mailto:a@a.example", "mailto:b@a.example")
    many = ",".join(f"mailto:a{n}@a.example" for n in range(100))
    assert len(read(f"v=DMARC1; p=none; rua={many}").rua) == MOST_URIS


@pytest.mark.parametrize(
    ("uri", "address"),
    (
        ("mailto:a@a.example", "a@a.example"),
        ("MAILTO:a%21b@a.example?subject=x", "a!b@a.example"),
        ("https://a.example/", None),
        ("mailto:a@a.example%0d%0aBcc:b@b.example", None),
        ("mailto:", None),
        ("mailto:%ff@a.example", None),
    ),
)
def test_whom_a_report_goes_to(uri: str, address: str | None) -> None:
    found = mailbox(uri)
    assert (str(found) if found is not None else None) == address


def test_the_tag_that_applies() -> None:
    found = read("v=DMARC1; p=reject; sp=quarantine; np=none")
    assert found.request(below=False, exists=False) == ("p", Request.REJECT)
    assert found.request(below=True, exists=True) == ("sp", Request.QUARANTINE)
    assert found.request(below=True, exists=False) == ("np", Request.NONE)
    only_p, only_sp = read("v=DMARC1; p=reject"), read("v=DMARC1; p=reject; sp=none")
    assert only_p.request(below=True, exists=False) == ("p", Request.REJECT)
    assert only_sp.request(below=True, exists=False) == ("sp", Request.NONE)


def test_a_report_record_needs_but_its_version() -> None:
    assert acceptance([b"x", b"v=DMARC1"]) is not None
    assert acceptance([b"v=DMARC2", b""]) is None
    both = acceptance([b"v=DMARC1", b"v=DMARC1; rua=mailto:a@a.example"])
    assert both is not None and both.rua == ("mailto:a@a.example",)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_octets_after_the_version_are_read(octets: bytes) -> None:
    found = select([b"v=DMARC1;" + octets])
    assert found is not None
    assert found.text.isascii() and found.text.isprintable()
    assert len(found.rua) <= MOST_URIS


@pytest.mark.parametrize(
    "piece", (b";", b"p=none;", b";rua=mailto:a@a", b",", b"!1", b"=", b"\xff")
)
def test_attack_25_a_record_costs_linear_time(piece: bytes) -> None:
    def work(size: int) -> None:
        text = b"v=DMARC1;rua=" + piece * (size // len(piece))
        for _ in range(20):
            assert select([text]) is not None

    assert grows_linearly(work, 1_500, 15_000, 10)
