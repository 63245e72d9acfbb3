"""Aggregate reports of others: real ones as another reader understood them, and odd ones."""

from __future__ import annotations

import email
import json
from pathlib import Path
from typing import Any, Final

import pytest

from postroom.core.errors import Malformed
from postroom.trust.dmarc.reading import (
    A_ROW,
    MOST_ROWS,
    Found,
    Received,
    Row,
    read,
)
from postroom.trust.dmarc.report import write
from tests.trust.refusing import refuses
from tests.trust.test_dmarc_report import ABOUT, SEEN

VECTORS: Final = Path(__file__).parent.parent / "vectors" / "auth" / "dmarc-feedback"
CASES: Final = sorted(VECTORS.glob("*.json"))

# What that reader calls a value, where it is more than another case of its letters.
WORDS: Final = {
    "Unspecified": "",
    "Relaxed": "r",
    "Strict": "s",
    "MailFrom": "mfrom",
    "TrustedForwarder": "trusted_forwarder",
}
# It knows the reasons of RFC 9990 only and calls others so; here they keep their word.
OTHERS: Final = {"005": {"sampled_out": "other"}}


def attached(stem: str) -> bytes:
    """The report itself: the file, or what the message has attached."""
    plain = VECTORS / f"{stem}.xml"
    if plain.exists():
        return plain.read_bytes()
    message = email.message_from_bytes((VECTORS / f"{stem}.eml").read_bytes())
    found = [
        part.get_payload(decode=True)
        for part in message.walk()
        if not part.is_multipart() and part.get_content_maintype() == "application"
    ]
    assert len(found) == 1 and isinstance(found[0], bytes)
    return found[0]


def word(value: str | None) -> str:
    return WORDS.get(value or "", (value or "").lower())


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_real_report_is_read_as_another_reader_does(path: Path) -> None:
    wanted = json.loads(path.read_text(encoding="utf-8"))
    report = read(attached(path.stem))
    about, policy = wanted["report_metadata"], wanted["policy_published"]
    assert (report.organisation, report.email) == (about["org_name"], about["email"])
    assert (report.report_id, report.contact) == (
        about["report_id"],
        about["extra_contact_info"] or "",
    )
    assert (report.begin, report.end) == (about["date_range"]["begin"], about["date_range"]["end"])
    assert float(report.version or 0) == wanted["version"]
    published = report.published
    assert published.domain == policy["domain"]
    for name in ("p", "sp", "np", "adkim", "aspf"):
        assert getattr(published, name) == word(policy.get(name)), name
    assert published.fo == (policy["fo"] or "")
    assert (published.testing == "y") is policy["testing"]
    assert report.left_out == 0
    assert len(report.rows) == len(wanted["record"])
    for row, record in zip(report.rows, wanted["record"], strict=True):
        compare(row, record, OTHERS.get(path.stem, {}))


def compare(row: Row, record: dict[str, Any], others: dict[str, str]) -> None:
    evaluated, named = record["row"]["policy_evaluated"], record["identifiers"]
    assert (row.source_ip, row.messages) == (record["row"]["source_ip"], record["row"]["count"])
    assert (row.disposition, row.dkim, row.spf) == tuple(
        word(evaluated[name]) for name in ("disposition", "dkim", "spf")
    )
    assert [(others.get(r.kind, r.kind), r.comment) for r in row.reasons] == [
        (word(r["type_"]), r["comment"] or "") for r in evaluated["reason"]
    ]
    assert (row.header_from, row.envelope_from, row.envelope_to) == tuple(
        named[name] or "" for name in ("header_from", "envelope_from", "envelope_to")
    )
    results = record["auth_results"]
    assert [(f.domain, f.name, f.result) for f in row.signatures] == [
        (f["domain"], f["selector"] or "", word(f["result"])) for f in results["dkim"]
    ]
    assert [(f.domain, f.name, f.result) for f in row.senders] == [
        (f["domain"], word(f["scope"]), word(f["result"])) for f in results["spf"]
    ]


def test_what_is_written_here_is_read_here() -> None:
    report = read(write(ABOUT, "a.example", [(SEEN, 4312)]).packed())
    assert (report.organisation, report.email) == (ABOUT.organisation, ABOUT.email)
    assert (report.report_id, report.begin, report.end) == (
        ABOUT.report_id,
        ABOUT.begin,
        ABOUT.end,
    )
    assert (report.published.p, report.published.sp, report.published.aspf) == (
        "reject",
        "quarantine",
        "s",
    )
    (row,) = report.rows
    assert (row.source_ip, row.messages, row.disposition) == (SEEN.source_ip, 4312, "none")
    assert [(r.kind, r.comment) for r in row.reasons] == [(SEEN.override, SEEN.comment)]
    assert row.signatures == tuple(
        Found(each.domain, each.selector, each.result) for each in SEEN.signatures
    )
    assert row.senders == (Found(SEEN.envelope_from, "mfrom", "softfail"),)


def document(records: str = "", policy: str = "<domain>a.example</domain>") -> str:
    return f"<feedback><policy_published>{policy}</policy_published>{records}</feedback>"


def record(ip: str = "192.0.2.1", count: str = "1", more: str = "") -> str:
    row = f"<row><source_ip>{ip}</source_ip><count>{count}</count></row>"
    return f"<record>{row}{more}</record>"


def one(text: str) -> Received:
    return read(text.encode())


def test_fields_that_are_missing_are_empty() -> None:
    report = one(document(record()))
    assert (report.organisation, report.begin, report.published.p) == ("", 0, "")
    assert report.rows == (Row("192.0.2.1", 1, "", "", "", "", "", "", (), (), ()),)


@pytest.mark.parametrize("namespace", ["http://dmarc.org/dmarc-xml/0.1", "wrong", ""])
def test_a_namespace_is_not_asked(namespace: str) -> None:
    text = document(record()).replace("<feedback>", f'<feedback xmlns="{namespace}">')
    assert len(one(text).rows) == 1


def test_a_prefix_and_capitals_are_passed_over() -> None:
    text = (
        '<d:Feedback xmlns:d="urn:x"><d:policy_published><d:DOMAIN>A.example.</d:DOMAIN>'
        "</d:policy_published></d:Feedback>"
    )
    assert one(text).published.domain == "a.example"


@pytest.mark.parametrize("ip", ["", "none", "192.0.2.1/24", "x" * 500])
def test_a_row_without_an_address_is_left_out_and_counted(ip: str) -> None:
    report = one(document(record(ip) + record()))
    assert (len(report.rows), report.left_out) == (1, 1)


@pytest.mark.parametrize("count", ["", "-1", "many", "1e9", "9" * 13, "٣"])
def test_a_row_without_a_count_is_left_out_and_counted(count: str) -> None:
    report = one(document(record(count=count) + record()))
    assert (len(report.rows), report.left_out) == (1, 1)


def test_a_row_keeps_nothing_of_the_one_before() -> None:
    more = "<identifiers><header_from>b.example</header_from></identifiers>"
    more += "<auth_results><dkim><domain>b.example</domain></dkim></auth_results>"
    first, second = one(document(record(more=more) + record())).rows
    assert (first.header_from, len(first.signatures)) == ("b.example", 1)
    assert (second.header_from, second.signatures) == ("", ())


def test_rows_past_the_bound_are_counted() -> None:
    report = one(document(record() * (MOST_ROWS + 3)))
    assert (len(report.rows), report.left_out) == (MOST_ROWS, 3)


def test_signatures_of_a_row_past_the_bound_are_passed_over() -> None:
    signature = "<dkim><domain>a.example</domain><result>pass</result></dkim>"
    more = f"<auth_results>{signature * (A_ROW + 5)}</auth_results>"
    assert len(one(document(record(more=more))).rows[0].signatures) == A_ROW


def test_a_time_may_have_a_fraction() -> None:
    dates = "<date_range><begin>1669507200.75</begin><end> 1669593599 </end></date_range>"
    text = document(f"<report_metadata>{dates}</report_metadata>")
    assert (one(text).begin, one(text).end) == (1669507200, 1669593599)


def test_a_value_is_short_and_printable() -> None:
    name = "a&#10;b&#13;" + "c" * 1000
    text = document(f"<report_metadata><org_name>{name}</org_name></report_metadata>")
    told = one(text).organisation
    assert len(told) <= 255 and told.isprintable()


@pytest.mark.parametrize("encoding", ["UTF-8", "utf8", "ISO-8859-1", "windows-1252"])
def test_an_encoding_that_reporters_use_is_read(encoding: str) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>\r\n'
    name = "<report_metadata><org_name>Bücher</org_name></report_metadata>"
    assert read((head + document(name)).encode(encoding)).organisation.startswith("B")


def test_utf16_with_a_mark_is_read() -> None:
    assert read(document(record()).encode("utf-16")).published.domain == "a.example"


@pytest.mark.parametrize("encoding", ["utf-7", "cp037", "utf-32", "nonsense", "..os"])
def test_another_encoding_is_refused(encoding: str) -> None:
    with refuses(Malformed, "encoding"):
        one(f'<?xml version="1.0" encoding="{encoding}"?>{document()}')


def test_an_octet_that_is_no_text_does_not_lose_the_numbers() -> None:
    text = document(f"<report_metadata><org_name>X</org_name></report_metadata>{record()}")
    report = read(text.encode().replace(b"X", b"B\xfccher"))
    assert report.rows[0].messages == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Dear postmaster",
        b"<feedback>",
        b"<feedback/>",
        b"<feedback><record/></feedback>",
        b"<html><body>no</body></html>",
        document(policy="").encode(),
        document().encode() + b"<more/>",
        b"<feedback>\x00</feedback>",
    ],
)
def test_what_is_no_report_is_malformed(content: bytes) -> None:
    with pytest.raises(Malformed):
        read(content)
