"""postroom.formats.dsn: notices that people understand, machines read, and nobody breaks out of."""

from __future__ import annotations

import email
import email.message
import email.policy
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Misuse, Status
from postroom.formats import dsn, headers, status_text
from postroom.formats.address import Address
from postroom.formats.compose import MessageId
from postroom.formats.dsn import (
    Action,
    RecipientStatus,
    Report,
    Typed,
    host,
    mailbox,
    parse,
    reply,
)
from postroom.formats.mime import Part, scan
from postroom.formats.recode import fits, to_seven_bit
from postroom.formats.transfer import decode
from postroom.formats.words import decode_words
from postroom.testing.scaling import cpu_seconds

NOW = datetime(2026, 11, 22, 15, 18, tzinfo=UTC)
LATER = datetime(2026, 11, 27, 16, 18, tzinfo=timezone(timedelta(hours=1)))
ANN = Address("ann", "a.example")
BOB = Address("bob", "b.example")
DAEMON = Address("mailer-daemon", "a.example")
ORIGINAL = (
    b"Received: from x by y; Sun, 22 Nov 2026 15:18:00 +0000\r\n"
    b"Message-ID: <one@a.example>\r\nFrom: Ann <ann@a.example>\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nDear Bob\r\n"
)
FAILED = RecipientStatus(
    final_recipient=mailbox(BOB),
    action=Action.FAILED,
    status=Status(5, 1, 1),
    original_recipient=Typed("rfc822", "bob@list.example"),
    remote_mta=host("mx.b.example"),
    diagnostic=reply("550 5.1.1 <bob@b.example>: no such user"),
    last_attempt=NOW,
    final_log_id="q1w2",
)
DELAYED = RecipientStatus(
    final_recipient=mailbox(Address("carl", "b.example")),
    action=Action.DELAYED,
    status=Status(4, 4, 1),
    will_retry_until=LATER,
)
REPORT = Report(
    reporting_mta=host("mx.a.example"),
    arrival_date=NOW,
    recipients=(FAILED, DELAYED),
    received_from_mta=host("client.a.example"),
    original_envelope_id="env+1 =x",
)


def composed(report: Report = REPORT, original: bytes = ORIGINAL, **options: Any) -> bytes:
    given: dict[str, Any] = {
        "to": ANN,
        "sender": DAEMON,
        "message_id": MessageId("dsn.1", "a.example"),
        "date": NOW,
        "random": lambda size: b"\x01" * size,
        "trace": "t1234",
        **options,
    }
    return dsn.compose(report, original, **given)


def of(*recipients: RecipientStatus) -> Report:
    return replace(REPORT, recipients=recipients)


def part_of(raw: bytes, n: int) -> tuple[Part, bytes]:
    part = scan(raw).children[n]
    encoding = (part.encoding or b"").decode()
    return part, decode(raw[part.body : part.end], encoding)


def text_of(raw: bytes) -> str:
    return part_of(raw, 0)[1].decode().replace("\r\n", "\n")


def words_of(raw: bytes) -> str:
    return " ".join(text_of(raw).split())


# --- what a notice looks like --------------------------------------------------------------------


def test_a_notice_is_a_report_of_three_parts() -> None:
    raw = composed()
    root = scan(raw)
    assert (root.type, root.subtype) == (b"multipart", b"report")
    assert dict(root.params)[b"report-type"] == b"delivery-status"
    assert [part.subtype for part in root.children] == [
        *(b"plain", b"delivery-status", b"rfc822-headers"),
    ]
    assert part_of(raw, 1)[1] == (
        b"Original-Envelope-Id: env+1 =x\r\n"
        b"Reporting-MTA: dns; mx.a.example\r\n"
        b"Received-From-MTA: dns; client.a.example\r\n"
        b"Arrival-Date: Sun, 22 Nov 2026 15:18:00 +0000\r\n"
        b"X-Postroom-Trace: t1234\r\n"
        b"\r\n"
        b"Original-Recipient: rfc822; bob@list.example\r\n"
        b"Final-Recipient: rfc822; bob@b.example\r\n"
        b"Action: failed\r\n"
        b"Status: 5.1.1\r\n"
        b"Remote-MTA: dns; mx.b.example\r\n"
        b"Diagnostic-Code: smtp; 550 5.1.1 <bob@b.example>: no such user\r\n"
        b"Last-Attempt-Date: Sun, 22 Nov 2026 15:18:00 +0000\r\n"
        b"Final-Log-ID: q1w2\r\n"
        b"\r\n"
        b"Final-Recipient: rfc822; carl@b.example\r\n"
        b"Action: delayed\r\n"
        b"Status: 4.4.1\r\n"
        b"Will-Retry-Until: Fri, 27 Nov 2026 16:18:00 +0100\r\n"
    )


def test_its_header_names_the_message_and_keeps_robots_quiet() -> None:
    found = headers.scan(composed())
    assert found.first(b"from") == b"Mail Delivery System <mailer-daemon@a.example>"
    assert found.first(b"to") == b"ann@a.example"
    assert found.first(b"in-reply-to") == found.first(b"references") == b"<one@a.example>"
    assert found.first(b"auto-submitted") == b"auto-replied"
    assert decode_words(found.first(b"subject") or b"") == "Undelivered: Grüße"


@pytest.mark.parametrize(
    ("action", "subject"),
    [
        (Action.FAILED, "Undelivered: Grüße"),
        (Action.DELAYED, "Delayed: Grüße"),
        (Action.DELIVERED, "Delivered: Grüße"),
        (Action.RELAYED, "Passed on: Grüße"),
        (Action.EXPANDED, "Passed on to a list: Grüße"),
    ],
)
def test_the_subject_names_the_gravest_fate(action: Action, subject: str) -> None:
    raw = composed(of(replace(FAILED, action=action), replace(FAILED, action=Action.EXPANDED)))
    assert decode_words(headers.scan(raw).first(b"subject") or b"") == subject


def test_the_text_says_what_happened_and_what_to_do() -> None:
    raw = composed(contact=Address("help", "a.example"))
    text = text_of(raw)
    assert text.startswith(
        "Your message could not be delivered to this recipient:\n\n"
        "    bob@list.example (which leads to bob@b.example)\n\n"
        "    The address does not exist.\n"
        "    Check the address for typing errors, or ask the recipient for\n"
        "    another one.\n\n"
        "Your message has not been delivered yet to this recipient:\n\n"
        "    carl@b.example\n\n"
        "    The recipient's mail system does not answer.\n"
    )
    words = words_of(raw)
    assert "goes on trying until Fri, 27 Nov 2026 16:18:00 +0100. You need not" in words
    assert "write to help@a.example, and name the trace t1234." in words
    assert "Subject: Grüße" in words
    assert "Server: mx.b.example" in words
    assert "550 5.1.1 <bob@b.example>: no such user" in words


def test_recipients_of_one_fate_share_a_paragraph() -> None:
    many = [
        replace(
            FAILED, final_recipient=mailbox(Address(f"u{n}", "b.example")), original_recipient=None
        )
        for n in range(150)
    ]
    raw = composed(of(*many))
    text = text_of(raw)
    assert text.count("The address does not exist.") == 1
    assert "u99@b.example" in text
    assert "u100@b.example" not in text
    assert "50 more recipients are named in the attached report." in text
    assert len((parse(raw) or REPORT).recipients) == 150


def test_good_news_asks_for_nothing() -> None:
    text = text_of(composed(of(replace(FAILED, action=Action.DELIVERED, status=Status(2, 1, 5)))))
    assert text.startswith("Your message was delivered to this recipient:")
    assert "Check" not in text


@pytest.mark.parametrize(
    "status", [Status(5, 1, 1), Status(4, 99, 0), Status(5, 0, 0), Status(9, 9, 9)]
)
def test_every_status_has_a_sentence(status: Status) -> None:
    found = status_text.meaning(status)
    assert found.sentence.endswith(".")
    assert found.advice.endswith(".")


def test_every_registered_status_is_a_short_sentence_without_jargon() -> None:
    for found in status_text._MEANINGS.values():
        assert len(found.sentence) < 100
        assert not re.search(r"SMTP|MTA|DNS|SPF|DKIM|TLS|\d", found.sentence + found.advice)


def test_a_report_needs_recipients_and_dates_with_a_zone() -> None:
    with pytest.raises(Misuse):
        composed(of())
    with pytest.raises(ValueError, match="naive"):
        composed(replace(REPORT, arrival_date=datetime(2026, 1, 1)))  # noqa: DTZ001 - the point


# --- what is returned ----------------------------------------------------------------------------


def test_the_whole_message_returns_on_request_if_one_failed() -> None:
    part, content = part_of(composed(full=True), 2)
    assert (part.subtype, part.encoding, content) == (b"rfc822", b"7bit", ORIGINAL)
    part, content = part_of(composed(of(DELAYED), full=True), 2)
    assert (part.subtype, content) == (b"rfc822-headers", ORIGINAL.partition(b"\r\nDear")[0])


def test_a_large_message_returns_as_its_header() -> None:
    large = ORIGINAL + b"x\r\n" * 1_000
    assert part_of(composed(original=large, full=True), 2)[0].subtype == b"rfc822"
    part, content = part_of(composed(original=large, full=True, return_limit=len(large) - 1), 2)
    assert (part.subtype, content) == (b"rfc822-headers", ORIGINAL.partition(b"\r\nDear")[0])


def test_a_large_header_returns_in_whole_fields() -> None:
    fields = b"".join(b"X-%04d: %s\r\n" % (n, b"x" * 90) for n in range(2_000))
    content = part_of(composed(original=fields + ORIGINAL), 2)[1]
    assert fields.startswith(content)
    assert content.endswith(b"x\r\n")
    assert 64_000 < len(content) <= dsn.RETURNED_HEADER_MAX


@pytest.mark.parametrize(
    ("original", "full", "kind", "encoding"),
    [
        (b"A: 1\r\n\r\n\xff\r\n", True, b"rfc822", b"8bit"),
        ("A: ü\r\n\r\n\r\n".encode(), True, b"global", b"8bit"),
        ("A: ü\r\n\r\n\r\n".encode(), False, b"global-headers", b"8bit"),
        (b"A: \xff\r\n\r\n", True, b"rfc822", b"8bit"),
        (b"A: \xff\r\n\r\n", False, b"rfc822-headers", b"quoted-printable"),
        (b"A: 1\n\nx\n", True, b"octet-stream", b"base64"),
        (b"A: 1\n\nx\n", False, b"rfc822-headers", b"7bit"),
        (b"A: " + b"x" * 2_000 + b"\r\n\r\n", False, b"rfc822-headers", b"quoted-printable"),
    ],
)
def test_what_returns_is_declared_rightly(
    original: bytes, full: bool, kind: bytes, encoding: bytes
) -> None:
    raw = composed(original=original, full=full)
    part, content = part_of(raw, 2)
    assert (part.subtype, part.encoding) == (kind, encoding)
    wanted = original if full else original.replace(b"\n\n", b"\n").partition(b"\r\n\r\n")[0]
    assert content.replace(b"\r", b"").startswith(wanted.replace(b"\r", b"").partition(b"\nx")[0])
    assert fits(raw, eight_bit=True)
    assert scan(raw).encoding == (None if raw.isascii() else b"8bit")
    seven = to_seven_bit(raw)
    assert (seven is None) == (original == b"A: \xff\r\n\r\n" and full)


def test_a_message_without_header_is_not_returned() -> None:
    raw = composed(original=b"no header")
    assert [part.subtype for part in scan(raw).children] == [b"plain", b"delivery-status"]
    assert decode_words(headers.scan(raw).first(b"subject") or b"") == "Undelivered: your message"
    assert headers.scan(raw).first(b"in-reply-to") is None


def test_the_returned_message_cannot_end_the_notice() -> None:
    boundary = b"--=_" + b"01" * 12
    original = ORIGINAL + boundary + b"\r\n\r\nx\r\n" + boundary + b"--\r\n"
    raw = composed(original=original, full=True)
    assert len(scan(raw).children) == 3
    assert part_of(raw, 2)[1] == original


# --- beyond ASCII --------------------------------------------------------------------------------

UTE = Address("üte", "b.example")


def test_an_address_beyond_ascii_is_escaped_for_a_sender_in_ascii() -> None:
    raw = composed(of(replace(FAILED, final_recipient=mailbox(UTE), original_recipient=None)))
    part, content = part_of(raw, 1)
    assert part.subtype == b"delivery-status"
    assert b"Final-Recipient: utf-8; \\x{FC}te@b.example\r\n" in content
    assert (parse(raw) or REPORT).recipients[0].final_recipient == Typed("utf-8", "üte@b.example")
    assert "üte@b.example" in text_of(raw)
    assert raw.isascii()


def test_a_sender_beyond_ascii_gets_utf_8() -> None:
    report = of(replace(FAILED, final_recipient=mailbox(UTE), diagnostic=reply("550 nö")))
    raw = composed(report, to=UTE)
    assert "To: üte@b.example\r\n".encode() in raw
    part, content = part_of(raw, 1)
    assert (part.subtype, part.encoding) == (b"global-delivery-status", b"8bit")
    assert "Final-Recipient: utf-8; üte@b.example\r\n".encode() in content
    assert parse(raw) == report
    assert part_of(composed(to=UTE), 1)[0].subtype == b"delivery-status"


# --- strangers' words ----------------------------------------------------------------------------

MACHINE = [
    *(b"Original-Envelope-Id", b"Reporting-MTA", b"Received-From-MTA", b"Arrival-Date"),
    *(b"X-Postroom-Trace", b"Original-Recipient", b"Final-Recipient", b"Action", b"Status"),
    *(b"Remote-MTA", b"Diagnostic-Code", b"Last-Attempt-Date", b"Final-Log-ID"),
]
HEADER = [
    *(b"Date", b"Message-ID", b"From", b"To", b"Subject", b"Auto-Submitted", b"MIME-Version"),
    b"Content-Type",
]
HOSTILE_TEXT = st.one_of(
    st.text(max_size=120),
    st.text(st.characters(), max_size=40).map(lambda text: text + "\r\nBcc: x@x\r\n\r\n"),
    st.text("=?utf-8Qq \r\n\t\x00\u202e\u2028\ud800", max_size=60),
    st.sampled_from(
        ["x" * 3_000, "ü" * 3_000, "😀" * 3_000, "", " ", "=?utf-8?q?=0A?=" * 20, "(" * 99]
    ),
)
TYPED = st.builds(Typed, st.sampled_from(["rfc822", "utf-8", "smtp", "x y", ""]), HOSTILE_TEXT)


@given(TYPED, TYPED, HOSTILE_TEXT, HOSTILE_TEXT, st.sampled_from([ANN, UTE]))
@settings(max_examples=250, deadline=None)
def test_any_text_anywhere_gives_exactly_one_field(
    typed: Typed, other: Typed, text: str, name: str, to: Address
) -> None:
    recipient = replace(
        FAILED,
        final_recipient=typed,
        original_recipient=other,
        remote_mta=typed,
        diagnostic=other,
        final_log_id=text,
    )
    report = replace(
        of(recipient),
        reporting_mta=typed,
        received_from_mta=other,
        original_envelope_id=text,
    )
    subject = text.encode("utf-8", "replace").replace(b"\r", b"").replace(b"\n", b"")
    original = b"Subject: " + subject + b"\r\n\r\nx"
    raw = composed(report, original, to=to, trace=name, sender_name=name)
    assert fits(raw, eight_bit=True)
    assert raw.endswith(b"--\r\n")
    seen = [field.name for field in headers.scan(raw).fields]
    assert [each for each in seen if each != b"Content-Transfer-Encoding"] == HEADER
    root = scan(raw)
    assert len(root.children) == 3
    machine = root.children[1]
    body = raw[machine.body : machine.end]
    first, second = body.split(b"\r\n\r\n")
    fields = [each for half in (first, second) for each in headers.scan(half + b"\r\n\r\n").fields]
    assert [each.name for each in fields] == MACHINE
    assert to is UTE or body.isascii()
    found = parse(raw)
    assert found is not None
    assert [each.action for each in found.recipients] == [Action.FAILED]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", text_of(raw))


def test_a_server_s_answer_is_shown_as_its_own() -> None:
    raw = composed(of(replace(FAILED, diagnostic=reply("550 no\r\n\r\nYour message\r\n was fine"))))
    assert "        550 no Your message was fine\n" in text_of(raw)


# --- round trips ---------------------------------------------------------------------------------

PLAIN = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
CLEAN = PLAIN.filter(lambda text: "=?" not in text and ";" not in text and "<" not in text)
STATUSES = st.builds(Status, st.sampled_from([2, 4, 5]), st.integers(0, 9), st.integers(0, 99))
DATES = st.none() | st.integers(0, 4_000_000_000).map(lambda at: datetime.fromtimestamp(at, UTC))
ADDRESSES = st.builds(Typed, st.just("rfc822"), CLEAN.filter(lambda text: "+" not in text)) | (
    st.builds(Typed, st.just("utf-8"), CLEAN.map(lambda text: f"ü{text}"))
)
HOSTS = st.builds(Typed, st.sampled_from(["dns", "x-local"]), CLEAN)
RECIPIENTS = st.builds(
    RecipientStatus,
    final_recipient=ADDRESSES,
    action=st.sampled_from(Action),
    status=STATUSES,
    original_recipient=st.none() | ADDRESSES,
    remote_mta=st.none() | HOSTS,
    diagnostic=st.none() | st.builds(Typed, st.just("smtp"), CLEAN),
    last_attempt=DATES,
    will_retry_until=DATES,
    final_log_id=st.none() | CLEAN,
)
REPORTS = st.builds(
    Report,
    reporting_mta=HOSTS,
    arrival_date=DATES,
    recipients=st.lists(RECIPIENTS, min_size=1, max_size=4).map(tuple),
    received_from_mta=st.none() | HOSTS,
    original_envelope_id=st.none() | CLEAN.filter(lambda text: "+" not in text),
)


@given(REPORTS, st.sampled_from([ANN, UTE]))
@settings(max_examples=150, deadline=None)
def test_a_report_comes_back(report: Report, to: Address) -> None:
    assert parse(composed(report, to=to)) == report


def groups(part: email.message.Message[Any, Any]) -> Sequence[email.message.Message[Any, Any]]:
    return cast("Sequence[email.message.Message[Any, Any]]", part.get_payload())


@given(REPORTS)
@settings(max_examples=60, deadline=None)
def test_the_standard_library_reads_the_same(report: Report) -> None:
    theirs = email.message_from_bytes(composed(report), policy=email.policy.compat32)
    assert not theirs.defects
    assert theirs.get_content_type() == "multipart/report"
    first, *rest = groups(groups(theirs)[1])
    assert " ".join(str(first["Reporting-MTA"]).split()) == str(report.reporting_mta)
    assert len(rest) == len(report.recipients)
    for group, wanted in zip(rest, report.recipients, strict=True):
        assert (group["Action"], group["Status"]) == (wanted.action.value, str(wanted.status))


# --- reading what others write -------------------------------------------------------------------


def notice(
    body: bytes, kind: bytes = b"message/delivery-status", encoding: bytes = b"7bit"
) -> bytes:
    return (
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        b"--b\r\n\r\nSorry\r\n--b\r\nContent-Type: " + kind + b"\r\n"
        b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body + b"\r\n--b--\r\n"
    )


def read_one(body: bytes) -> RecipientStatus:
    found = parse(notice(body))
    assert found is not None
    (recipient,) = found.recipients
    return recipient


def test_names_in_any_case_and_values_in_any_dress() -> None:
    found = parse(
        notice(
            b"REPORTING-mta:DNS;mx.b.example\r\n \r\nfinal-RECIPIENT: RFC822 ; <bob@b.example>\r\n"
            b"ACTION: Failed (really)\r\nstatus: 5.1.1 (no such user)\r\n"
            b"diagnostic-code: SMTP; 550 5.1.1\r\n no such user\r\n"
        )
    )
    assert found is not None
    assert found.reporting_mta == Typed("dns", "mx.b.example")
    (recipient,) = found.recipients
    assert recipient.final_recipient == Typed("rfc822", "bob@b.example")
    assert (recipient.action, recipient.status) == (Action.FAILED, Status(5, 1, 1))
    assert recipient.diagnostic == Typed("smtp", "550 5.1.1 no such user")


def test_one_block_and_missing_fields_are_understood() -> None:
    found = read_one(b"Reporting-MTA: x\r\nFinal-Recipient: bob@b.example\r\nStatus: 4.4.7\r\n")
    assert (found.action, found.status) == (Action.DELAYED, Status(4, 4, 7))
    assert found.final_recipient == Typed("rfc822", "bob@b.example")
    found = read_one(b"A: 1\r\n\r\nOriginal-Recipient: rfc822;a@b\r\nAction: failed\r\n")
    assert (found.final_recipient.value, found.status) == ("a@b", Status(5, 0, 0))
    found = read_one(
        b"A: 1\n\n\njunk line\nFinal-Recipient: rfc822;a@b\nDiagnostic-Code: 550 5.7.1 No\n"
    )
    assert (found.action, found.status) == (Action.FAILED, Status(5, 7, 1))
    assert found.diagnostic == Typed("smtp", "550 5.7.1 No")


def test_encoded_reports_and_international_ones_are_read() -> None:
    body = (
        "Reporting-MTA: dns;x\r\n\r\nFinal-Recipient: utf-8; üte@b\r\nAction: failed\r\n".encode()
    )
    for raw in (
        notice(body, b"message/global-delivery-status", b"8bit"),
        notice(body.replace(b"\xc3\xbc", b"=C3=BC"), encoding=b"quoted-printable"),
        notice(body.replace(b"\xc3\xbc", b"\\x{fc}")),
    ):
        found = parse(raw)
        assert found is not None
        assert found.recipients[0].final_recipient == Typed("utf-8", "üte@b")


def test_xtext_that_was_not_decoded_is_as_far_as_it_is_certain() -> None:
    body = b"A: 1\r\n\r\nFinal-Recipient: rfc822;a+2Bb@c\r\nAction: failed\r\n"
    found = read_one(body + b"Original-Recipient: rfc822;ann+2Blist+42+3D@b\r\n")
    assert found.original_recipient == Typed("rfc822", "ann+list+42=@b")
    assert found.final_recipient.value == "a+2Bb@c"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        ORIGINAL,
        notice(b""),
        notice(b"\r\n\r\n"),
        notice(b"Reporting-MTA: dns; x\r\n\r\n"),
        notice(b"A: 1\r\n\r\nAction: failed\r\nStatus: 5.0.0\r\n"),
        notice(b"A: 1\r\n\r\nFinal-Recipient: rfc822; a@b\r\n"),
        notice(b"Final-Recipient: rfc822; a@b\r\nAction: failed", b"text/plain"),
        b"Content-Type: message/rfc822\r\n\r\n" + composed(),
    ],
)
def test_what_is_no_report_is_none(raw: bytes) -> None:
    assert parse(raw) is None


def test_a_report_that_a_message_encloses_is_not_its_own() -> None:
    outer = composed(original=composed(of(DELAYED)), full=True)
    assert (parse(outer) or REPORT).recipients == REPORT.recipients


@pytest.mark.parametrize("action", [b"displayed", b"", b"fail"])
def test_an_unknown_action_follows_from_the_status(action: bytes) -> None:
    body = (
        b"A: 1\r\n\r\nFinal-Recipient: rfc822;a@b\r\nStatus: 2.0.0\r\nAction: " + action + b"\r\n"
    )
    assert read_one(body).action is Action.DELIVERED


@given(st.binary(max_size=500))
@settings(max_examples=200, deadline=None)
def test_any_octets_are_read_or_none(body: bytes) -> None:
    for encoding in (b"8bit", b"base64", b"quoted-printable"):
        parse(notice(b"A: 1\r\n\r\nFinal-Recipient: rfc822;a@b\r\n" + body, encoding=encoding))
    parse(body)


# --- hostile notices -----------------------------------------------------------------------------

ONE = b"Final-Recipient: rfc822; a@b\r\nAction: failed\r\n\r\n"
HOSTILE = {
    "blank lines": b"\r\n" * 500_000,
    "lines of blanks": b" \n" * 500_000,
    "blanks": b" " * 1_000_000,
    "junk": b"junk\r\n" * 200_000,
    "groups": b"A: 1\r\n\r\n" * 120_000,
    "recipients": ONE * 20_000,
    "fields": b"A: 1\r\n" * 150_000,
    "statuses": b"Status: " + b"5.1." * 250_000,
    "escapes": b"Final-Recipient: utf-8; " + b"\\x{" * 300_000,
    "words": b"Diagnostic-Code: " + b"=?utf-8?q?" * 90_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_as_the_report_does(name: str) -> None:
    raw = notice(ONE + HOSTILE[name], encoding=b"8bit")
    enough = 0.2 + 3e-6 * len(raw)
    assert cpu_seconds(lambda: parse(raw), enough=enough) < enough
    found = parse(raw)
    assert found is not None
    assert len(found.recipients) <= dsn.RECIPIENTS_MAX


def test_a_large_report_is_written_in_time() -> None:
    many = [replace(FAILED, final_recipient=Typed("rfc822", f"{n}@b")) for n in range(1_000)]
    start = time.thread_time()
    raw = composed(of(*many), ORIGINAL + b"x" * 70 + b"\r\n" * (1 << 20), full=True)
    assert time.thread_time() - start < 2
    assert (parse(raw) or REPORT).recipients[-1].final_recipient.value == "999@b"
