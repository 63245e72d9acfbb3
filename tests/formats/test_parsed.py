"""postroom.formats.parsed: what is kept beside each message."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats.layout import Layout
from postroom.formats.parsed import MAKER_VERSION, REFERENCES_MAX, message_ids, parse
from tests.formats import imap_grammar

VECTORS = Path(__file__).parent.parent / "vectors" / "mime"
MESSAGES = sorted(p for p in VECTORS.rglob("*.eml") if p.is_file())

MESSAGE = (
    b"From: =?utf-8?q?Ann_=C3=9C?= <Ann@A.Example>, bob@b.example\r\n"
    b"To: Team: Carl@c.example, d@d.example;\r\n"
    b'Cc: "E e" <E.E@e.example>\r\n'
    b"Subject: Re: [list] =?iso-8859-1?q?Gr=FC=DFe?=\r\n"
    b"Date: Thu, 1 Jan 1970 01:00:01 +0100\r\n"
    b"Message-ID: <1@a.example>\r\n"
    b"In-Reply-To: <0@a.example> (yours)\r\n"
    b"References: <r1@a.example>\r\n <r2@a.example>\r\n <r1@a.example>\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\nHello\r\n--b\r\nContent-Type: application/pdf\r\n\r\n%PDF\r\n--b--\r\n"
)


def test_every_value_of_a_message() -> None:
    found = parse(MESSAGE)
    assert found.message_id == b"<1@a.example>"
    assert found.in_reply_to == (b"<0@a.example>",)
    assert found.references == (b"<r2@a.example>", b"<r1@a.example>")
    assert (found.subject, found.subject_base) == ("Re: [list] Grüße", "Grüße")
    assert found.sent_at == 1_000
    assert (found.sort_from, found.sort_to, found.sort_cc) == ("ann", "team", "e.e")
    assert found.sort_subject == "grüße"
    assert found.from_addresses == ("Ann@A.Example", "bob@b.example")
    assert (found.has_attachment, found.complex) == (True, None)
    assert found.preview == "Hello"
    assert MESSAGE[: found.header_size].endswith(b"boundary=b\r\n\r\n")
    assert found.version == MAKER_VERSION
    assert len(Layout.unpack(found.layout)) == 3


def test_nothing_gives_empty_values() -> None:
    found = parse(b"")
    assert (found.message_id, found.sent_at, found.subject, found.sort_from) == (None, None, "", "")
    assert (found.in_reply_to, found.references, found.from_addresses) == ((), (), ())
    assert not found.has_attachment
    assert found.envelope == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"", ()),
        (b"<a@b>", (b"<a@b>",)),
        (b"x <a@b> <c@d>y<a@b>", (b"<c@d>", b"<a@b>")),
        (b"<a\r\n @b>", (b"<a@b>",)),
        (b"<>", ()),
        (b"< >", ()),
        (b"<a@b", ()),
        (b"<<a@b>>", (b"<a@b>",)),
        (b"<" + b"x" * 999 + b"> <a@b>", (b"<a@b>",)),
        (b"<a\0@b>", (b"<a@b>",)),
    ],
)
def test_message_ids_each_once_the_last_place_counts(value: bytes, found: tuple[bytes]) -> None:
    assert message_ids(value) == found


def test_the_last_hundred_references_are_kept() -> None:
    many = b" ".join(b"<%d@a>" % n for n in range(500))
    found = parse(b"References: " + many + b"\r\n\r\n").references
    assert len(found) == REFERENCES_MAX
    assert found[-1] == b"<499@a>"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (b"Content-Type: text/plain", False),
        (b"Content-Type: text/plain; name=a.txt", True),
        (b"Content-Type: text/plain\r\nContent-Disposition: attachment", True),
        (b"Content-Type: text/plain; name=a.txt\r\nContent-Disposition: inline", False),
        (b"Content-Type: image/png", True),
        (b"Content-Type: image/png\r\nContent-Disposition: INLINE", False),
        (b"Content-Type: image/png\r\nContent-ID: <1@a>", False),
        (b"Content-Type: image/png\r\nContent-ID: <1@a>\r\nContent-Disposition: attachment", True),
        (b"Content-Type: message/rfc822\r\n\r\nSubject: x", True),
        (b"Content-Type: message/delivery-status", False),
        (b"Content-Type: application/pgp-signature", False),
        (b"Content-Type: application/pkcs7-signature; name=smime.p7s"
         b"\r\nContent-Disposition: attachment", False),
    ],
)  # fmt: skip
def test_a_paper_clip_is_for_what_the_text_does_not_show(part: bytes, expected: bool) -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n--b\r\n"
        + part
        + b"\r\n\r\nx\r\n--b--\r\n"
    )
    assert parse(raw).has_attachment == expected


def test_long_values_are_cut() -> None:
    raw = b"Subject: " + b"x" * 60_000 + b"\r\nFrom: " + b"y" * 60_000 + b"@a.example\r\n\r\n"
    found = parse(raw)
    assert len(found.subject) == 4_096
    assert len(found.sort_subject) == len(found.sort_from) == 256


def test_years_that_no_clock_knows_are_no_date() -> None:
    for date in (b"1 Jan 9999999 00:00:00 +0000", b"31 Dec 9998 23:59:59 -2359", b"x", b""):
        parse(b"Date: " + date + b"\r\n\r\n")


@pytest.mark.parametrize("path", MESSAGES, ids=lambda p: p.name)
def test_the_corpus_is_parsed_whole(path: Path) -> None:
    raw = path.read_bytes()
    found = parse(raw)
    imap_grammar.envelope(imap_grammar.read(found.envelope))
    parts = imap_grammar.body(imap_grammar.read(found.bodystructure), extended=True)
    assert len(Layout.unpack(found.layout)) == parts
    assert found.complex is None
    assert len(found.preview) <= 200


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_octets_are_parsed(raw: bytes) -> None:
    found = parse(raw)
    for text in (found.subject, found.preview, found.sort_from, *found.from_addresses):
        text.encode("utf-8")  # the store keeps UTF-8
        assert "\0" not in text


def test_a_group_is_sorted_by_its_name() -> None:
    """RFC 5256 §3 by way of RFC 9051 §7.5.2: it is the addr-mailbox of what begins the group."""
    found = parse(b"From: Friends: ann@a.example;\r\nTo: undisclosed-recipients:;\r\n\r\n")
    assert (found.sort_from, found.sort_to, found.sort_cc) == (
        "friends",
        "undisclosed-recipients",
        "",
    )
