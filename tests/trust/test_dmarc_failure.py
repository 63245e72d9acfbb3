"""Failure reports: who wants one, what it says, and what is kept back. RFC 9991, RFC 6591."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats import arf, compose
from postroom.testing.scaling import grows_linearly
from postroom.trust.dmarc import failure, select
from postroom.trust.dmarc.failure import Found, Told

KEY = b"k" * 32
TOLD = Told(
    failure="dmarc",
    alignment="dkim, spf",
    delivery="reject",
    domain="a.example",
    source_ip="192.0.2.1",
    mail_from="ann@evil.example",
    arrived="Thu, 1 Jan 2026 00:00:00 +0000",
    envelope_id="t1",
    results="mail.example.test; dmarc=fail header.from=a.example",
    dkim_domain="b.example",
    dkim_selector="s",
    dkim_identity="@b.example",
    spf_domain="evil.example",
)


@pytest.mark.parametrize(
    ("fo", "found", "failed"),
    (
        ("", Found(False, False), "dmarc"),
        ("", Found(True, False), ""),
        ("fo=0;", Found(False, True), ""),
        ("fo=1;", Found(True, False), "dmarc"),
        ("fo=1;", Found(True, True), ""),
        ("fo=d;", Found(False, False), ""),
        ("fo=d;", Found(False, False, dkim=("pass", "fail")), "signature"),
        ("fo=d;", Found(True, True, dkim=("fail",)), "signature"),
        ("fo=s;", Found(False, False, "softfail"), "spf"),
        ("fo=s;", Found(False, False, "temperror", ("fail",)), ""),
        ("fo=d:s;", Found(False, True, "fail", ("pass",)), "spf"),
        ("fo=x;", Found(False, False), "dmarc"),  # what nobody knows is the default
        ("psd=y;", Found(False, False), ""),  # RFC 9991 §2
    ),
)
def test_a_domain_says_which_failures_it_wants_to_hear_of(
    fo: str, found: Found, failed: str
) -> None:
    record = select([f"v=DMARC1; p=none; {fo} ruf=mailto:f@a.example".encode()])
    silent = select([f"v=DMARC1; p=none; {fo}".encode()])
    assert record is not None and silent is not None
    assert failure.wanted(record, found) == failed
    assert not failure.wanted(silent, found)


def test_what_did_not_vouch_is_named() -> None:
    assert failure.alignment(Found(False, False)) == "dkim, spf"
    assert failure.alignment(Found(True, False)) == "dkim"
    assert failure.alignment(Found(True, True)) == "none"


def test_what_is_written_is_read_as_it_was() -> None:
    published = failure.Published('v=spf1 exp="x" -all', "v=DKIM1; p=AA")
    made = failure.fields(TOLD, "mail.example.test", "Postroom/1", published, 3)
    read = arf.read(compose.status("message/feedback-report", [made]).body)
    assert (read.kind, read.version, read.agent) == ("auth-failure", "1", "Postroom/1")
    assert (read.auth_failure, read.alignment) == ("dmarc", ("dkim", "spf"))
    assert (read.delivery, read.source_ip) == ("reject", "192.0.2.1")
    assert (read.mail_from, read.domains) == ("ann@evil.example", ("a.example",))
    assert (read.reporting_mta, read.envelope_id) == ("mail.example.test", "t1")
    assert (read.dkim_domain, read.dkim_selector) == ("b.example", "s")
    assert read.results == (TOLD.results,)
    assert read.arrived == 1_767_225_600_000
    assert ("SPF-DNS", 'txt : evil.example : "v=spf1 exp=\\"x\\" -all"') in made
    assert ("DKIM-Selector-DNS", '"v=DKIM1; p=AA"') in made
    assert ("Incidents", "3") in made


def test_what_is_not_known_is_left_out() -> None:
    told = Told("spf", "spf", "delivered", "a.example", "", "", "", "t1", "")
    names = [name for name, _ in failure.fields(told, "m.example", "Postroom/1")]
    assert names == [
        *("Feedback-Type", "User-Agent", "Version", "Auth-Failure", "Identity-Alignment"),
        *("Delivery-Result", "Reported-Domain", "Reporting-MTA", "Original-Envelope-Id"),
    ]


# --- what is kept back --------------------------------------------------------------------------

HEADER = (
    b"From: Ann Other <ann@a.example>\r\n"
    b'To: "Bob, the second" <Bob@b.example>, carol@[192.0.2.1]\r\n'
    b"Subject: You are dismissed\r\n"
    b"X-Secret: yes\r\n"
    b"Received: from x (10.1.2.3) by y for <bob@b.example>; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    b"\r\n"
)


def test_names_subjects_and_what_nobody_knows_are_kept_back() -> None:
    hidden = failure.redacted(HEADER, KEY)
    for word in (b"bob", b"Bob", b"carol", b"ann@", b"dismissed", b"Secret"):
        assert word not in hidden, word
    assert b"@a.example>" in hidden
    assert b"@b.example" in hidden and b"@[192.0.2.1]" in hidden
    assert b"Received: from x" in hidden


def test_one_person_has_one_digest_for_each_key() -> None:
    """RFC 6590: who reads several reports sees that it was the same person."""
    one = failure.hide_local_parts(b"<Bob@b.example>", KEY)
    assert one == failure.hide_local_parts(b"<bob@b.example>", KEY)
    assert one != failure.hide_local_parts(b"<bob@b.example>", b"other")
    assert one != failure.hide_local_parts(b"<rob@b.example>", KEY)
    assert failure.hide_local_parts(b"<bob@b.example>", b"") == b"<redacted@b.example>"


def test_quoted_local_parts_are_hidden_whole() -> None:
    assert failure.hide_local_parts(b'<"bob smith"@b.example>', b"") == b"<redacted@b.example>"


@given(st.binary(max_size=60).filter(lambda raw: b"@" not in raw), st.binary(max_size=30))
@settings(max_examples=150)
def test_text_behind_the_last_at_sign_stays(before: bytes, after: bytes) -> None:
    after = after.replace(b"@", b"")
    assert failure.hide_local_parts(before + b"@" + after, KEY).endswith(b"@" + after)
    assert failure.hide_local_parts(after, KEY) == after


@pytest.mark.parametrize(
    ("written", "shown"),
    (
        (b"from x ([10.1.2.3])", b"from x ([X.X.X.X])"),
        (b"127.0.0.1 and 8.8.8.8", b"X.X.X.X and 8.8.8.8"),
        (b"[IPv6:fd00::1] at 12:30:59", b"[IPv6:X.X.X.X] at 12:30:59"),
        (b"(fe80::1) (2606:4700::1111)", b"(X.X.X.X) (2606:4700::1111)"),
        (b"Version 999.1.1.1 10.1.2.3.4", b"Version 999.1.1.1 10.1.2.3.4"),
    ),
)
def test_addresses_that_mean_nothing_elsewhere_are_kept_back(written: bytes, shown: bytes) -> None:
    assert failure.hide_reserved(written) == shown


def test_no_field_of_a_long_header_is_cut() -> None:
    assert failure.header_within(HEADER, 10_000) == HEADER
    cut = failure.header_within(HEADER, 60)
    assert cut == b"From: Ann Other <ann@a.example>\r\n"


def test_hostile_headers_cost_no_more_than_their_size() -> None:
    for piece in (b"a", b"@", b'"@', b"1.", b":", b"::1 ", b"a@b,"):

        def work(octets: int, piece: bytes = piece) -> None:
            value = piece * (octets // len(piece))
            failure.hide_reserved(failure.redacted(b"To: x@y\r\nFrom: " + value + b"\r\n", KEY))

        assert grows_linearly(work, 20_000, 80_000, 4), piece
