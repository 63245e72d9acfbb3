"""Feedback reports: real ones as another reader understood them, and odd ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed, TooLarge
from postroom.formats import arf, mime
from postroom.formats.arf import Feedback
from postroom.testing.scaling import grows_linearly

VECTORS: Final = Path(__file__).parent.parent / "vectors" / "auth" / "arf"
CASES: Final = sorted(VECTORS.glob("*.json"))
# What that reader calls a value, where it is more than another case of its letters.
WORDS: Final = {"AuthFailure": "auth-failure", "Unspecified": "", None: ""}


def within(path: Path) -> Feedback:
    """The report in the message beside that file."""
    raw = path.with_suffix(".eml").read_bytes()
    kind = (b"message", b"feedback-report")
    (part,) = [each for each in mime.scan(raw).walk() if (each.type, each.subtype) == kind]
    return arf.read(raw[part.body : part.end])


def word(value: Any) -> str:
    return WORDS.get(value, (value or "").lower())


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_real_report_is_read_as_another_reader_does(path: Path) -> None:
    wanted = json.loads(path.read_text(encoding="utf-8"))
    found = within(path)
    assert found.kind == word(wanted["feedback_type"])
    assert found.auth_failure == word(wanted["auth_failure"])
    assert found.delivery == word(wanted["delivery_result"])
    assert found.agent == wanted["user_agent"]
    assert found.version == str(wanted["version"])
    assert found.source_ip == (wanted["source_ip"] or "")
    assert found.domains == tuple(wanted["reported_domain"])
    assert found.uris == tuple(wanted["reported_uri"])
    assert found.incidents == wanted["incidents"]
    assert found.mail_from == (wanted["original_mail_from"] or "")
    assert found.rcpt_to == tuple(filter(None, [wanted["original_rcpt_to"]]))
    assert found.envelope_id == (wanted["original_envelope_id"] or "")
    assert found.reporting_mta == (wanted["reporting_mta"] or "")
    assert found.dkim_domain == (wanted["dkim_domain"] or "")
    assert found.dkim_identity == (wanted["dkim_identity"] or "")
    assert found.dkim_selector == (wanted["dkim_selector"] or "")
    # Folds go here; that reader keeps them.
    results = [" ".join(each.split()) for each in wanted["authentication_results"]]
    assert [" ".join(each.split()) for each in found.results] == results
    arrived = wanted["arrival_date"]
    assert found.arrived == (arrived * 1000 if arrived is not None else None)


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(Malformed):
        arf.read(b"Version: 1\r\n")
    with pytest.raises(TooLarge):
        arf.read(b"Feedback-Type: abuse\r\nX: " + b"x" * arf.MOST)


def test_a_report_of_rfc_9991_says_what_is_not_aligned() -> None:
    found = arf.read(
        b"\r\nFeedback-Type: auth-failure\r\nAuth-Failure: dmarc\r\n"
        b"Identity-Alignment: dkim, SPF\r\nSource-IP: not an address\r\nIncidents: -3\r\n"
    )
    assert (found.auth_failure, found.alignment) == ("dmarc", ("dkim", "spf"))
    assert (found.source_ip, found.incidents) == ("", 1)


@given(st.binary(max_size=400))
@settings(max_examples=100)
def test_values_of_strangers_can_be_shown(value: bytes) -> None:
    line = value.replace(b"\r", b"").replace(b"\n", b"")
    found = arf.read(b"Feedback-Type: abuse\r\nUser-Agent: " + line + b"\r\n")
    assert len(found.agent) <= 255
    assert not found.agent or (found.agent.isascii() and found.agent.isprintable())


def test_many_fields_take_time_in_proportion() -> None:
    def make(size: int) -> bytes:
        return b"Feedback-Type: abuse\r\n" + b"Reported-Domain: a.example\r\n" * (size // 28)

    assert len(arf.read(make(100_000)).domains) == 20
    assert grows_linearly(arf.read, make(20_000), make(200_000), 10)
