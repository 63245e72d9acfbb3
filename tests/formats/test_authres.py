"""Authentication-Results: one field, whoever chose its values; read back; forged ones found."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Misuse
from postroom.formats import headers
from postroom.formats.authres import (
    TEXT_MAX,
    AuthenticationResults,
    MethodResult,
    Property,
    below_any,
    claimed,
    compose,
    parse,
    quoted,
    word,
)
from postroom.testing.scaling import cpu_seconds

HOST = "mail.example.test"
OURS = below_any((HOST, "example.test"))


def value_of(field: bytes) -> bytes:
    found = headers.scan(field + b"\r\n")
    assert len(found.fields) == 1 and found.fields[0].end == len(field)
    assert found.fields[0].name == b"Authentication-Results"
    return found.fields[0].raw_value(field)


# --- composing ---------------------------------------------------------------------------------


def test_a_field_as_people_and_programs_read_it() -> None:
    spf = MethodResult(
        "spf", "pass", "all is well", (Property("smtp", "mailfrom", "ann@a.example"),), "a (b)"
    )
    iprev = MethodResult("iprev", "fail", properties=(Property("policy", "iprev", "2001:db8::1"),))
    field = compose(AuthenticationResults(HOST, (spf, iprev)))
    assert headers.unfold(field) == (
        b"Authentication-Results: mail.example.test; spf=pass (a ?b?) "
        b'reason="all is well" smtp.mailfrom=ann@a.example; iprev=fail policy.iprev="2001:db8::1"'
    )
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))


def test_without_results_it_says_none() -> None:
    field = compose(AuthenticationResults(HOST))
    assert field == b"Authentication-Results: mail.example.test; none\r\n"
    assert parse(value_of(field)) == AuthenticationResults(HOST)


@pytest.mark.parametrize("bad", ["", "a b", "a;b", "a=b", "-a", "ä", "a\r\nb", "a."])
def test_a_keyword_is_one(bad: str) -> None:
    for made in (
        MethodResult(bad, "pass"),
        MethodResult("spf", bad),
        MethodResult("spf", "pass", properties=(Property(bad, "x", "y"),)),
        MethodResult("spf", "pass", properties=(Property("smtp", bad, "y"),)),
    ):
        with pytest.raises(Misuse):
            compose(AuthenticationResults(HOST, (made,)))


KEYWORDS = st.sampled_from(["spf", "dkim-atps", "pass", "fail", "smtp", "header", "mailfrom", "d"])
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        (
            *('"', "\\", "a@b", '"a b"@c.example', "ann@a.example", "", " ", "é" * 500, "(", ")"),
            *("=?utf-8?q?=0D=0A?=", "\r\nX: y", "a\r\n\r\nbody", "x" * 2000, ";", "a=b", "none"),
            *("a b  c", "😀" * 400),
        )
    ),
    st.text('"\\();= \r\n@.ab', max_size=60),
)
RESULTS = st.builds(
    MethodResult,
    KEYWORDS,
    KEYWORDS,
    TEXTS,
    st.lists(st.builds(Property, KEYWORDS, KEYWORDS, TEXTS), max_size=4).map(tuple),
    TEXTS,
)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(RESULTS, max_size=4), st.booleans())
def test_strangers_add_no_field_and_it_reads_back(
    server: str, results: list[MethodResult], utf8: bool
) -> None:
    field = compose(AuthenticationResults(server, tuple(results)), utf8=utf8)
    assert utf8 or field.isascii()
    assert all(len(line) <= 998 for line in field.split(b"\r\n"))
    found = parse(value_of(field))
    assert found is not None
    assert found.server == plain(server, utf8)
    assert found.results == tuple(
        MethodResult(
            each.method,
            each.result,
            plain(each.reason, utf8),
            tuple(Property(p.kind, p.name, plain(p.value, utf8)) for p in each.properties),
        )
        for each in results
    )
    again = compose(AuthenticationResults(found.server, found.results), utf8=utf8)
    assert parse(value_of(again)) == found


def plain(text: str, utf8: bool) -> str:
    """What of a text comes back."""
    return re.sub(r"\\(.)", r"\1", quoted(text, utf8=utf8)[1:-1])


def test_long_values_are_cut() -> None:
    assert len(word("a" * 1000)) == TEXT_MAX
    assert len(word("ü" * 1000, utf8=True).encode()) <= 2 * TEXT_MAX


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        # RFC 8601, appendix B
        (b"example.org 1; none", AuthenticationResults("example.org")),
        (
            b"example.com;\r\n\tspf=pass smtp.mailfrom=example.net",
            AuthenticationResults(
                "example.com",
                (MethodResult("spf", "pass", "", (Property("smtp", "mailfrom", "example.net"),)),),
            ),
        ),
        (
            b" example.com;\r\n auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n spf=pass",
            AuthenticationResults(
                "example.com",
                (
                    MethodResult(
                        "auth", "pass", "", (Property("smtp", "auth", "sender@example.net"),)
                    ),
                    MethodResult("spf", "pass"),
                ),
            ),
        ),
        (
            b"foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) ="
            b" (wait for it) fail\r\n policy (A dot can go here) . (like that) expired\r\n"
            b" (this surprised me) = (as I wasn't expecting it) 1362471462",
            AuthenticationResults(
                "foo.example.net",
                (MethodResult("dkim", "fail", "", (Property("policy", "expired", "1362471462"),)),),
            ),
        ),
        (
            b'"a b"; DKIM=Pass reason="good; (signature)" header.d=a.example header.b=ab/+= ;',
            AuthenticationResults(
                "a b",
                (
                    MethodResult(
                        "dkim",
                        "pass",
                        "good; (signature)",
                        (Property("header", "d", "a.example"), Property("header", "b", "ab/+=")),
                    ),
                ),
            ),
        ),
        (
            'x; spf=pass smtp.mailfrom="j ä"@b.example'.encode(),
            AuthenticationResults(
                "x",
                (
                    MethodResult(
                        "spf", "pass", "", (Property("smtp", "mailfrom", '"j ä"@b.example'),)
                    ),
                ),
            ),
        ),
    ],
)
def test_fields_of_others_are_read(value: bytes, found: AuthenticationResults) -> None:
    assert parse(value) == found


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b";", b"example.com", b"example.com;", b"example.com; spf", b"example.com; spf="),
        *(b"example.com 2; none", b"a b c; none", b'"a; none', b"a (b; none", b"spf=pass"),
        *(b"a; spf=pass x", b"a; spf=pass smtp.x", b"a; none; spf=pass x"),
        *(b"a; spf=pa ss", b"x" * 20_000, b"a; " + b"spf=pass; " * 200),
        b"a; spf=pass" + b" smtp.x=y" * 200,
    ],
)
def test_what_breaks_the_grammar_is_not_read(value: bytes) -> None:
    assert parse(value) is None


@settings(max_examples=300, deadline=None)
@given(st.text('a1.;=()"\\ \r\n\t/-@', max_size=80).map(str.encode))
def test_any_value_is_read_or_not(value: bytes) -> None:
    found = parse(value)
    if found is not None:
        assert parse(value_of(compose(found))) is not None


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"(" * 16_000,
            b"()" * 8_000,
            b'"' * 16_000,
            b'"a' * 8_000,
            b"a;" * 8_000,
            b"\\" * 16_000,
        ),
        *(b"a; a=a" + b" a.a=a" * 2_500, b"a; a=a" + b" " * 16_000, b"a; a" + b"/1" * 8_000),
        *(b"a; a=a reason" + b"=" * 16_000, b"\xff(" * 8_000),
    ],
)
def test_reading_is_linear(value: bytes) -> None:
    def read() -> None:
        parse(value)
        claimed(b"Authentication-Results:" + value + b"\r\n\r\n", OURS)

    assert cpu_seconds(read, enough=0.3) < 0.3


# --- forged ones -------------------------------------------------------------------------------


def forged(head: bytes) -> list[bytes]:
    return [head[start:end] for start, end in claimed(head, OURS)]


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mail.example.test; spf=pass\r\n",
        b"AUTHENTICATION-results \t: MAIL.example.TEST; spf=pass\r\n",
        b"Authentication-Results:mail.example.test;spf=pass\r\n",
        b"Authentication-Results:\r\n mail.example.test;\r\n\tspf=pass\r\n",
        b"Authentication-Results: mail.example.test. 1; spf=pass\r\n",
        b"Authentication-Results: mail.example.test 1; spf=pass\r\n",
        b"Authentication-Results: mail.example.test/1; spf=pass\r\n",
        b"Authentication-Results: mail.example.test(x)1; spf=pass\r\n",
        b"Authentication-Results: (a (nested) \\) one)\r\n (b) mail.example.test; spf=pass\r\n",
        b'Authentication-Results: "mail.example.test"; spf=pass\r\n',
        b'Authentication-Results: "mail\\.example.\\test" 1; spf=pass\r\n',
        b'Authentication-Results: " mail.example.test "; spf=pass\r\n',
        b"Authentication-Results: mail.example.test\r\n",
        b"Authentication-Results: example.test; spf=pass\r\n",
        b"Authentication-Results: mx2.example.test; spf=pass\r\n",
        b"Authentication-Results: mail.example.test\x0b; spf=pass\r\n",
        "Authentication-Results: ｍail.example.test; spf=pass\r\n".encode(),
        b"Authentication-Results: \xff\xfe; spf=pass\r\n",
        b"Authentication-Results: (never closed mail.example.test; spf=pass\r\n",
        b'Authentication-Results: "mail.example.test; spf=pass\r\n',
        b"Authentication-Results: ; spf=pass\r\n",
        b"Authentication-Results:\r\n",
        b"Authentication-Results: " + b"x" * 20_000 + b"\r\n",
        b"Authentication-Results: mail.example.test; spf=pass\n",
    ],
)
def test_who_claims_to_be_us_is_found(field: bytes) -> None:
    for before in (b"", b"Subject: x\r\n", b"Subject: x\r\n y\r\n"):
        for after in (b"\r\n", b"To: y\r\n\r\n", b""):
            assert forged(before + field + after) == [field]


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mx.elsewhere.example; spf=pass\r\n",
        b"Authentication-Results: mail.example.test.evil.example; spf=pass\r\n",
        b"Authentication-Results: badexample.test; spf=pass\r\n",
        b"Authentication-Results: spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=a.example\r\n",
        b"ARC-Authentication-Results: i=1; mail.example.test; spf=pass\r\n",
        b"X-Authentication-Results: mail.example.test; spf=pass\r\n",
        b"Authentication-Results-Original: mail.example.test; spf=pass\r\n",
        b"Subject: Authentication-Results: mail.example.test; spf=pass\r\n",
        b"Subject: x\r\n Authentication-Results: mail.example.test; spf=pass\r\n",
        "Authentication-Results: mx.bücher.example; spf=pass\r\n".encode(),
        b'Authentication-Results: mx.elsewhere.example; x="mail.example.test"\r\n',
    ],
)
def test_others_may_speak_for_themselves(field: bytes) -> None:
    assert forged(field + b"\r\n") == []


def test_all_of_them_are_found_beyond_every_cap_of_the_header() -> None:
    one = b"Authentication-Results: mail.example.test; spf=pass\r\n"
    head = b"X: y\r\n" * 6_000 + one + b"Z: z\r\n" + one + b"\r\n"
    assert headers.scan(head).over_cap
    assert forged(head) == [one, one]


def test_a_header_of_nothing_else_takes_linear_time() -> None:
    begun = time.process_time()
    assert len(forged(b"Authentication-Results: example.test\r\n" * 25_000 + b"\r\n")) == 25_000
    assert not forged(b"Xauthentication-results" * 40_000)
    assert time.process_time() - begun < 2


def test_a_header_without_any_costs_next_to_nothing() -> None:
    head = b"Received: from a.example by b.example; date\r\n" * 40

    def read() -> None:
        for _ in range(1_000):
            claimed(head, OURS)

    assert cpu_seconds(read, enough=0.02) < 0.02  # 20 µs each
