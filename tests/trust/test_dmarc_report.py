"""Aggregate reports as they are written, read back by another parser."""

from __future__ import annotations

import gzip
from dataclasses import replace
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

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
    published = root.find("policy_published")
    assert published is not None
    assert {each.tag: each.text for each in published} == {
        "domain": "a.example",
        "discovery_method": "treewalk",
        "p": "reject",
        "sp": "quarantine",
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
