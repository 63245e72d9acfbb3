"""Policies of MTA-STS and their records, as strict as senders read them. RFC 8461 §3, §4.1."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.testing.scaling import grows_linearly
from postroom.trust import mta_sts
from postroom.trust.mta_sts import Mode, Policy, parse, record_id

POLICY = (
    b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.org\r\nmx: *.example.net\r\n"
    b"max_age: 604800\r\n"
)


@pytest.mark.parametrize(
    "body",
    (
        POLICY,
        POLICY.replace(b"\r\n", b"\n"),
        POLICY.rstrip(),
        b"max_age:604800\nmx:\tMail.Example.ORG \nmx: *.EXAMPLE.net\nmode:enforce\nversion:STSv1",
        POLICY + b"mode: none\r\nmax_age: 1\r\nx-more: what else\r\n\r\n",
        POLICY + b"mx: mail.example.org\r\n",
    ),
)
def test_a_policy_is_read(body: bytes) -> None:
    names = ("mail.example.org", "*.example.net")
    assert parse(body) == Policy(Mode.ENFORCE, 604_800, names)


def test_a_policy_that_asks_for_nothing_needs_no_host() -> None:
    assert parse(b"version: STSv1\nmode: none\nmax_age: 0\n") == Policy(Mode.NONE, 0, ())


@pytest.mark.parametrize(
    ("old", "new", "why"),
    (
        (b"version: STSv1", b"version: STSv2", "it has no `version: STSv1`"),
        (b"version: STSv1\r\n", b"", "it has no `version: STSv1`"),
        (b"version", b"Version", "it has no `version: STSv1`"),
        (b"mode: enforce", b"mode: Enforce", "its mode is Enforce"),
        (b"mode: enforce\r\n", b"", "it has no mode"),
        (b"max_age: 604800\r\n", b"", "it has no max_age"),
        (b"604800", b"-1", "its max_age is -1"),
        (b"604800", b"31557601", "its max_age is 31557601"),
        (b"604800", b"9" * 5_000, "its max_age is " + "9" * 30),
        (b"604800", "\u0667".encode(), "its max_age is ?"),
        (b"mx: mail.example.org\r\nmx: *.example.net\r\n", b"", "it names no mx"),
        (b"mail.example.org", b"[192.0.2.1]", "its mx in line 3 is no name of a host"),
        (b"*.example.net", b"*.*.example.net", "its mx in line 4 is no name of a host"),
        (b"*.example.net", b"*", "its mx in line 4 is no name of a host"),
        (b"*.example.net", b"ma*.example.net", "its mx in line 4 is no name of a host"),
        (b"*.example.net", "b\u00fccher.example".encode(), "its mx in line 4 is no name of a host"),
        (b"*.example.net", b"", "line 4 is no field and value"),
        (b"mode: enforce", b"mode enforce", "line 2 is no field and value"),
        (b"mode: enforce", b": enforce", "line 2 is no field and value"),
        (b"mode: enforce", b"mode: en\x1bforce", "line 2 is no field and value"),
        (b"mode: enforce", b"mode: \xff", "it is not UTF-8"),
        (b"mode", b"x: " + b"y" * 65_536 + b"\nmode", "it is larger than 64 KiB"),
        (
            b"max_age",
            b"".join(b"mx: h%d.example\n" % n for n in range(500)) + b"max_age",
            "it names more than 500 hosts",
        ),
    ),
)
def test_what_is_wrong_with_a_policy_is_told(old: bytes, new: bytes, why: str) -> None:
    assert old in POLICY
    with pytest.raises(Malformed) as told:
        parse(POLICY.replace(old, new))
    assert str(told.value) == why


@given(st.binary(max_size=300))
def test_any_octets_are_a_policy_or_malformed(body: bytes) -> None:
    try:
        found = parse(b"version: STSv1\nmode: testing\nmx: a.example\n" + body)
    except Malformed as malformed:
        assert str(malformed).isascii() and len(str(malformed)) < 100
    else:
        assert 0 <= found.max_age <= mta_sts.MAX_AGE_MOST and found.patterns


@given(
    st.sampled_from(Mode),
    st.integers(0, mta_sts.MAX_AGE_MOST),
    st.lists(
        st.from_regex(r"(\*\.)?[a-z]{1,8}\.example", fullmatch=True),
        min_size=1,
        max_size=9,
        unique=True,
    ),
    st.sampled_from(("\r\n", "\n")),
)
@settings(max_examples=50)
def test_what_is_written_is_read_as_it_was(
    mode: Mode, age: int, patterns: list[str], end: str
) -> None:
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {each}" for each in patterns)]
    body = end.join([*lines, f"max_age: {age}", ""]).encode()
    assert parse(body) == Policy(mode, age, tuple(patterns))


def test_a_star_stands_for_one_label() -> None:
    policy = parse(POLICY)
    named = ("mail.example.org", "a.example.net", "b.example.net")
    others = ("example.net", "a.b.example.net", "x.mail.example.org", "example.org", "aexample.net")
    assert all(map(policy.names, named)) and not any(map(policy.names, others))


@pytest.mark.parametrize(
    ("texts", "expected"),
    (
        (("v=STSv1; id=20260101T000000",), "20260101T000000"),
        (("v=STSv1;id=1;",), "1"),
        (("v=STSv1 ; id=1 ; x-a=b; c=d;",), "1"),
        (("v=spf1 -all", "v=STSv1; id=1"), "1"),
        (("v=STSv1; id=1", "v=STSv1; id=2"), None),
        (("v=STSv1; id=",), None),
        (("v=STSv1; id=2026-01-01",), None),
        (("v=STSv1; id=" + "1" * 33,), None),
        (("v=STSv1; id=1; nonsense",), None),
        (("v=STSv1",), None),
        (("v=stsv1; id=1",), None),
        (("id=1; v=STSv1",), None),
        ((), None),
    ),
)
def test_one_record_names_the_id(texts: tuple[str, ...], expected: str | None) -> None:
    assert record_id([text.encode() for text in texts]) == expected


def test_reading_takes_time_in_proportion() -> None:
    def attempt(body: bytes) -> None:
        for _ in range(5):
            with pytest.raises(Malformed):
                parse(body)

    small, large = (b"x: y\n" * n + b" \t\r" * n for n in (800, 8_000))
    assert grows_linearly(attempt, small, large, 10)
    records = [b"v=STSv1; id=1" + b"; a=b" * n + b"!" for n in (1_000, 10_000)]
    assert grows_linearly(lambda text: record_id([text]), records[0], records[1], 10)
