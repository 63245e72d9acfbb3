"""Records and macro-strings: read whole, or not at all, and never slowly."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.trust.spf import macros, record
from postroom.trust.spf.macros import IN_NAMES, IN_TEXTS, Macro
from postroom.trust.spf.result import BadRecord, Result


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        ([], None),
        ([b"v=spf1"], b"v=spf1"),
        ([b"V=SPF1 -all"], b"V=SPF1 -all"),
        ([b"v=spf10 -all", b"v=spf1\t-all", b"v=spf1-all", b" v=spf1 -all", b"v=spf2.0"], None),
        ([b"google-site=1", b"v=spf1 mx", b"\xff\xfe"], b"v=spf1 mx"),
        ([b"v=spf1\n"], None),
    ],
)
def test_the_record_is_the_one_with_that_version(texts: list[bytes], chosen: bytes | None) -> None:
    assert record.select(texts) == chosen


def test_two_records_are_none() -> None:
    with pytest.raises(BadRecord):
        record.select([b"v=spf1 -all", b"other", b"v=SPF1"])


def test_every_part_of_a_record_is_read() -> None:
    read = record.read(
        b"v=spf1 +a:%{d}/24//64 ?MX ~ptr:b.example exists:%{ir}.c.example -ip4:192.0.2.77/28 "
        b"ip6:2001:db8::1/32 include:d.example unknown=%{s}x Redirect=e.example EXP=f.example  "
    )
    kinds = [(m.kind, m.outcome) for m in read.mechanisms]
    assert kinds == [
        ("a", Result.PASS),
        ("mx", Result.NEUTRAL),
        ("ptr", Result.SOFTFAIL),
        ("exists", Result.PASS),
        ("ip4", Result.FAIL),
        ("ip6", Result.PASS),
        ("include", Result.PASS),
    ]
    first, _, _, _, ip4, ip6, _ = read.mechanisms
    assert (first.bits4, first.bits6, first.domain) == (24, 64, (Macro("d", 0, False, "", False),))
    assert ip4.network == 0xC0000240 >> 4
    assert ip6.network == 0x20010DB8
    assert read.redirect == ("e.example",)
    assert read.exp == ("f.example",)


@pytest.mark.parametrize(
    "term",
    [
        "all:a.example",
        "-all/8",
        "++all",
        "a:",
        "a/",
        "a:/24",
        "a/33",
        "a//129",
        "a/024",
        "a/1000",
        "a:b.example/24/64",
        "a:b",
        "a:b.example%",
        "a:b.example%{d",
        "a:%{x}.example",
        "a:%{d0}.example",
        "a:%{d}example",
        "a:%{c}.example",
        "a:b.example\u007f",
        "mx:b.-example",
        "mx:b.example-",
        "mx:b.123",
        "ptr/24",
        "ip4",
        "ip4:",
        "ip4:192.0.2",
        "ip4:192.0.2.01",
        "ip4:192.0.2.1/",
        "ip4:192.0.2.1/33",
        "ip4:192.0.2.1/+8",
        "ip4:2001:db8::1",
        "ip6:192.0.2.1",
        "ip6:fe80::1%eth0",
        "ip6:2001:db8::1/129",
        "ip6:2001:db8::1//64",
        "include",
        "include:b.example/24",
        "exists",
        "exists:b.example//64",
        "redirect=",
        "redirect=-all",
        "exp=b",
        "exp=b.example exp=b.example",
        "redirect:b.example",
        "-redirect=b.example",
        "moo",
        "moo:b.example",
        "1up=b.example",
        "=b.example",
        "x=%",
        "x=%a",
        "a\tmx",
        "a\r\n",
    ],
)
def test_a_mistake_anywhere_spoils_the_record(term: str) -> None:
    with pytest.raises(BadRecord):
        record.read(f"v=spf1 +all {term}".encode("latin-1"))


@pytest.mark.parametrize(
    "term",
    [
        "a:b.c%%",
        "a:b%_",
        "a:%%_.example",
        "a:b.xn--zckzah",
        "a:b.1-2",
        "a:b.example.",
        "a:b:c/d.example/24",
        "exists:%{l1r-+}._spf.%{d2}",
        "exists:%{D127R.-+,/_=}",
        "a=b.example",
        "all=",
        "redirect.x=%{c}",
        "ip6:::ffff:192.0.2.1/0",
        "ip4:0.0.0.0/0",
    ],
)
def test_what_looks_odd_but_follows_the_grammar_is_read(term: str) -> None:
    record.read(f"v=spf1 {term} -all".encode())


@pytest.mark.parametrize(
    ("text", "value", "expanded"),
    [
        ("%{l}", "strong-bad", "strong-bad"),
        ("%{l-}", "strong-bad", "strong.bad"),
        ("%{lr}", "strong-bad", "strong-bad"),
        ("%{lr-}", "strong-bad", "bad.strong"),
        ("%{l1r-}", "strong-bad", "strong"),
        ("%{l4}", "a.b", "a.b"),
        ("%{l2}", "a.b.c", "b.c"),
        ("%{l1r}", "a.b.c", "a"),
        ("%{l99999999999999999999999}", "a.b.c", "a.b.c"),
        ("%{l+=}", "a+b=c.d", "a.b.c.d"),
        ("%{L}", "a b/ü~", "a%20b%2F%C3%BC~"),
        ("%%%_%-x", "", "% %20x"),
        ("%{l.}", "", ""),
    ],
)
def test_macros_are_expanded_as_the_rfc_says(text: str, value: str, expanded: str) -> None:
    assert macros.expand(macros.parse(text, IN_NAMES), {"l": value}) == expanded


def test_an_explanation_may_hold_blanks_and_more_letters() -> None:
    parsed = macros.parse("%{c} at %{t} by %{R}  .", IN_TEXTS, blanks=True)
    assert macros.expand(parsed, {"c": "1", "t": "2", "r": "a b"}) == "1 at 2 by a%20b  ."
    with pytest.raises(BadRecord):
        macros.parse("no blanks", IN_TEXTS)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("a.example.", "a.example"),
        ("a" * 60 + "." + "b" * 60 + "." + "c" * 60 + "." + "d" * 60 + "." + "e" * 60, 243),
        ("x." * 126 + "y", "x." * 126 + "y"),
        ("x." * 126 + "yz", "x." * 125 + "yz"),
        ("x" * 300, "x" * 300),
    ],
)
def test_long_names_lose_their_first_labels(name: str, short: str | int) -> None:
    found = macros.shortened(name)
    assert found == short or len(found) == short
    assert name.removesuffix(".").endswith(found)


def test_a_label_that_is_too_long_has_no_name() -> None:
    assert macros.dns_name("x" * 64 + ".example") is None
    assert macros.dns_name("a..example") is None
    assert macros.dns_name("a b\\.example") == "a\\032b\\\\.example"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        read = record.read(b"v=spf1 " + octets)
    except BadRecord:
        return
    assert octets.isascii()
    assert len(read.mechanisms) <= octets.count(b" ") + 1


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=60),
    st.sampled_from("slodiphvSLODIPHV"),
    st.integers(1, 200),
    st.sampled_from(["", "r"]),
    st.text(".-+,/_=", max_size=4),
)
def test_transformers_keep_parts_and_add_nothing(
    value: str, letter: str, right: int, reverse: str, delimiters: str
) -> None:
    text = f"%{{{letter}{right}{reverse}{delimiters}}}"
    made = macros.expand(macros.parse(text, IN_NAMES), {letter.lower(): value})
    if letter.isupper():
        assert made.isascii() and not set(made) & set(" &?#/+=,")
    else:
        assert made.count(".") < max(right, 1)
        assert set(made) <= set(value) | {"."}


@pytest.mark.parametrize(
    "octets",
    [
        b"v=spf1 " + b"a " * 16_000,
        b"v=spf1 a:" + b"%{s}" * 8_000 + b".example",
        b"v=spf1 a:" + b"." * 32_000,
        b"v=spf1 a:" + b"-" * 32_000 + b".example",
        b"v=spf1 a" + b"/1" * 16_000,
        b"v=spf1 ip6:" + b":" * 32_000,
        b"v=spf1 x=%{s" + b"9" * 32_000 + b"}",
        b"v=spf1 x=%{s" + b"-" * 32_000 + b"}",
        b"v=spf1 " + b"x" * 32_000,
    ],
)
def test_reading_is_linear(octets: bytes) -> None:
    begun = time.process_time()
    try:
        record.read(octets)
    except BadRecord:
        pass
    assert time.process_time() - begun < 0.5
