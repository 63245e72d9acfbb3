"""Aggregate reports as they are written, read back by another parser."""

from __future__ import annotations

import gzip
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom import __version__
from postroom.domain.feedback import Seen, Signature
from postroom.trust.dmarc.report import (
    MOST_OCTETS,
    MOST_RECORDS,
    NAMESPACE,
    Metadata,
    file_name,
    write,
)

ABOUT = Metadata(
    "Example", "postmaster@example.test", "r1@example.test", 1_732_665_600, 1_732_751_999
)
SEEN = Seen(
    "a.example",
    "v=DMARC1; p=reject; sp=quarantine; aspf=s; t=y",
    "192.0.2.1",
    "mail.a.example",
    "b.example",
    "none",
    "fail",
    "fail",
    "local_policy",
    "192.0.2.1 is exempt",
    "mfrom",
    "softfail",
    (Signature("b.example", "s1", "pass"), Signature("c.example", "s2", "permerror")),
)
IN = f"{{{NAMESPACE}}}"


def parsed(xml: bytes) -> ElementTree.Element:
    """The report, without names of its space; a report of ours has no declarations of types."""
    assert b"<!" not in xml
    root = ElementTree.fromstring(xml)
    for each in root.iter():
        assert each.tag.startswith(IN)
        each.tag = each.tag.removeprefix(IN)
    return root


def texts(root: ElementTree.Element, path: str) -> list[str]:
    return [each.text or "" for each in root.findall(path)]


def test_a_report_says_who_reports_about_what() -> None:
    root = parsed(write(ABOUT, "a.example", [(SEEN, 3)]).xml)
    assert [each.tag for each in root] == [
        *("version", "report_metadata", "policy_published", "record"),
    ]
    assert texts(root, "report_metadata/date_range/begin") == ["1732665600"]
    assert texts(root, "report_metadata/generator") == [f"Postroom {__version__}"]
    published = root.find("policy_published")
    assert published is not None
    assert {each.tag: each.text for each in published} == {
        "domain": "a.example",
        "discovery_method": "treewalk",
        "p": "reject",
        "sp": "quarantine",
        "np": "quarantine",
        "adkim": "r",
        "aspf": "s",
        "testing": "y",
        "fo": "0",
    }


def test_a_record_tells_what_was_seen_and_why_it_was_taken() -> None:
    root = parsed(write(ABOUT, "a.example", [(SEEN, 3)]).xml)
    assert texts(root, "record/row/source_ip") == ["192.0.2.1"]
    assert texts(root, "record/row/count") == ["3"]
    assert texts(root, "record/row/policy_evaluated/disposition") == ["none"]
    assert texts(root, "record/row/policy_evaluated/reason/type") == ["local_policy"]
    assert texts(root, "record/row/policy_evaluated/reason/comment") == ["192.0.2.1 is exempt"]
    assert texts(root, "record/identifiers/header_from") == ["mail.a.example"]
    assert texts(root, "record/identifiers/envelope_from") == ["b.example"]
    assert texts(root, "record/auth_results/dkim/selector") == ["s1", "s2"]
    assert texts(root, "record/auth_results/spf/result") == ["softfail"]
    assert texts(root, "record/auth_results/spf/scope") == ["mfrom"]


def test_the_null_sender_is_told_as_rfc_9990_has_it() -> None:
    """RFC 9990 §3.1.1.10: an empty `envelope_from`; §3.1.1.13: no scope but `mfrom`."""
    bounced = replace(SEEN, envelope_from="mx.b.example", spf_scope="helo")
    root = parsed(write(ABOUT, "a.example", [(bounced, 1)]).xml)
    assert texts(root, "record/identifiers/envelope_from") == [""]
    assert texts(root, "record/auth_results/spf/domain") == ["mx.b.example"]
    assert texts(root, "record/auth_results/spf/scope") == ["mfrom"]


def test_a_report_is_packed_the_same_each_time_and_named_by_its_span() -> None:
    report = write(ABOUT, "a.example", [(SEEN, 3)])
    assert report.packed() == report.packed()
    assert gzip.decompress(report.packed()) == report.xml
    assert file_name("example.test", "a.example", ABOUT) == (
        "example.test!a.example!1732665600!1732751999.xml.gz"
    )


def test_what_does_not_fit_is_counted() -> None:
    many = write(ABOUT, "a.example", [(SEEN, 1)] * (MOST_RECORDS + 5))
    assert len(many.xml) <= MOST_OCTETS
    assert many.records + many.left_out == MOST_RECORDS + 5
    assert many.left_out >= 5
    assert len(parsed(many.xml).findall("record")) == many.records


def test_a_report_of_nothing_is_well_formed() -> None:
    assert write(ABOUT, "a.example", []).records == 0
    parsed(write(ABOUT, "a.example", []).xml)


@given(st.text(max_size=300), st.text(max_size=300), st.integers(1, 10**9))
@settings(max_examples=100, deadline=None)
def test_attack_03_what_a_stranger_chose_is_text(one: str, other: str, messages: int) -> None:
    seen = replace(
        SEEN,
        record=one,
        header_from=one,
        envelope_from=other,
        comment=one,
        signatures=(Signature(one, other, "fail"),),
    )
    root = parsed(write(ABOUT, other, [(seen, messages)]).xml)
    assert len(list(root.iter())) == len(
        list(
            parsed(
                write(ABOUT, "x", [(replace(SEEN, signatures=SEEN.signatures[:1]), 1)]).xml
            ).iter()
        )
    )
    assert texts(root, "record/row/count") == [str(messages)]


# --- the tables of RFC 9990 §3.1.1 ----------------------------------------------------------------

SHAPE = {
    "feedback": "version? report_metadata policy_published extension? record+",
    "report_metadata": "org_name email extra_contact_info? report_id date_range error? generator?",
    "date_range": "begin end",
    "policy_published": "domain discovery_method? p sp? np? fo? adkim? aspf? testing?",
    "record": "row identifiers auth_results",
    "row": "source_ip count policy_evaluated",
    "policy_evaluated": "disposition dkim spf reason*",
    "reason": "type comment?",
    "identifiers": "header_from envelope_from? envelope_to?",
    "auth_results": "dkim* spf?",
    "auth_results/dkim": "domain selector result human_result?",
    "auth_results/spf": "domain scope? result human_result?",
}
"""What each element holds, and how often; `dkim` and `spf` are two things in a report."""
ORDERED = ("feedback", "record", "policy_evaluated", "auth_results")
ONE_OF = {
    "version": "1.0",
    "discovery_method": "psl treewalk",
    **dict.fromkeys(("p", "sp", "np"), "none quarantine reject"),
    **dict.fromkeys(("adkim", "aspf"), "r s"),
    "testing": "y n",
    "disposition": "none pass quarantine reject",
    **dict.fromkeys(("policy_evaluated/dkim", "policy_evaluated/spf"), "pass fail"),
    "type": "local_policy mailing_list other policy_test_mode trusted_forwarder",
    "scope": "mfrom",
    "dkim/result": "none pass fail policy neutral temperror permerror",
    "spf/result": "none pass fail softfail policy neutral temperror permerror",
}
"""By the name of an element, or with that of the one that holds it."""


def check(each: ElementTree.Element, above: str = "") -> None:
    name, within = each.tag, f"{above}/{each.tag}"
    shape = SHAPE.get(within, SHAPE.get(name, ""))
    allowed = ONE_OF.get(within, ONE_OF.get(name))
    if allowed is not None and not shape:
        assert each.text in allowed.split(), within
    if not shape:
        assert not len(each), within
        return
    tags = [child.tag for child in each]
    known = {word.rstrip("?*+"): word[-1] for word in shape.split()}
    assert known.keys() >= set(tags), within
    for tag, often in known.items():
        count = tags.count(tag)
        assert often in "*+" or count <= 1, (within, tag)
        assert often in "?*" or count >= 1, (within, tag)
    if name in ORDERED:
        assert tags == sorted(tags, key=list(known).index), within
    for child in each:
        check(child, name)


@pytest.mark.parametrize(
    "record",
    (
        SEEN.record,
        "v=DMARC1; p=none; rua=mailto:a@a.example",
        "v=DMARC1; p=Reject; np=quarantine; adkim=S; fo=1:d; psd=n",
        "v=DMARC1; rua=mailto:a@a.example",
        "",
    ),
)
def test_a_report_has_the_shape_of_rfc_9990(record: str) -> None:
    plain = replace(SEEN, record=record, override="", comment="", signatures=(), disposition="pass")
    bounced = replace(SEEN, record=record, envelope_from="mx.b.example", spf_scope="helo")
    tested = replace(SEEN, record=record, override="policy_test_mode", comment="")
    check(parsed(write(ABOUT, "a.example", [(SEEN, 3), (plain, 1), (bounced, 2), (tested, 1)]).xml))


def test_without_an_address_for_failures_their_options_say_nothing() -> None:
    """RFC 9989 §4.7, `fo`."""
    for record, told in (
        ("v=DMARC1; p=none; fo=1:d", "0"),
        ("v=DMARC1; p=none; fo=1:d; ruf=mailto:a@a.example", "1:d"),
    ):
        root = parsed(write(ABOUT, "a.example", [(replace(SEEN, record=record), 1)]).xml)
        assert texts(root, "policy_published/fo") == [told]
