"""postroom.formats.bodystructure: the examples of RFC 9051 §7.5.2, depth, and the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.formats.bodystructure import body, bodystructure
from postroom.formats.mime import scan
from tests.formats import imap_grammar

VECTORS = Path(__file__).parent.parent / "vectors" / "mime"
MESSAGES = sorted(p for p in VECTORS.rglob("*.eml") if p.is_file())


def structure(raw: bytes) -> bytes:
    return bodystructure(scan(raw), raw)


def test_a_text_message() -> None:
    raw = b"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\none\r\ntwo\r\n"
    assert body(scan(raw), raw) == (b'("text" "plain" ("CHARSET" "US-ASCII") NIL NIL "7bit" 10 2)')
    assert structure(raw) == (
        b'("text" "plain" ("CHARSET" "US-ASCII") NIL NIL "7bit" 10 2 NIL NIL NIL NIL)'
    )


def test_a_message_without_any_field_is_plain_text() -> None:
    assert structure(b"\r\n") == (
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
    )


def test_every_field_of_a_leaf() -> None:
    raw = (
        b"Content-Type: image/png; name*0=a; name*1=b\r\n"
        b"Content-ID: <1@a>\r\n"
        b'Content-Description: a "picture"\r\n'
        b"Content-Transfer-Encoding: BASE64 (yes)\r\n"
        b"Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\n"
        b'Content-Disposition: Inline; filename="a b"\r\n'
        b"Content-Language: en, mi\r\n"
        b"Content-Location: http://a.example/\r\n\r\nAAAA"
    )
    assert structure(raw) == (
        b'("image" "png" ("name" "ab") "<1@a>" "a \\"picture\\"" "base64" 4 '
        b'"Q2hlY2sgSW50ZWdyaXR5IQ==" ("inline" ("filename" "a b")) ("en" "mi") "http://a.example/")'
    )


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"name*0=long; x=1; NAME*1=er.bin", b'"name" "longer.bin" "x" "1"'),
        (b"name*0*=utf-8'de'%C3%A4; name*1*=%20b", b'"name*" "utf-8\'de\'%C3%A4%20b"'),
        (b"name*0*=utf-8''a; name*1=\"b c\xe4\"", b'"name*" "utf-8\'\'ab%20c%E4"'),
        (b"name*=utf-8''%C3%A4; name=a", b'"name*" "utf-8\'\'%C3%A4" "name" "a"'),
        (b"name*0=a; name*2=c; name*1=b", b'"name" "ab" "name*2" "c"'),
        (b"name*1=b", b'"name*1" "b"'),
        (b"name*0=a; name*0=b", b'"name" "a" "name*0" "b"'),
        (b"*0=a; n**=b; n*x=c", b'"*0" "a" "n**" "b" "n*x" "c"'),
    ],
)
def test_a_value_that_was_sent_in_sections_is_one(sent: bytes, told: bytes) -> None:
    """RFC 9051 §7.5.2: servers should join them; few clients do."""
    raw = b"Content-Type: image/png; %b\r\n\r\n" % sent
    assert structure(raw).startswith(b'("image" "png" (%b) NIL NIL' % told)


def test_a_multipart_and_an_attached_message() -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\nContent-Language: de\r\n\r\n"
        b"--b\r\n\r\nhello\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx\r\ny\r\n--b--\r\n"
    )
    text = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" %b)'
    nil = b" NIL NIL NIL NIL"
    within = b'(NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL)'
    assert structure(raw) == (
        b"("
        + text % (b"5 0" + nil)
        + b'("message" "rfc822" NIL NIL NIL "7bit" 19 '
        + within
        + b" "
        + text % (b"4 1" + nil)
        + b" 3"
        + nil
        + b")"
        + b' "mixed" ("boundary" "b") NIL "de" NIL)'
    )
    assert body(scan(raw), raw) == (
        b"("
        + text % b"5 0"
        + b'("message" "rfc822" NIL NIL NIL "7bit" 19 '
        + within
        + b" "
        + text % b"4 1"
        + b' 3) "mixed")'
    )


def test_a_multipart_without_parts_has_one() -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    assert structure(raw) == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
        b' "mixed" ("boundary" "b") NIL NIL NIL)'
    )


def test_an_encoded_message_is_a_file() -> None:
    raw = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA"
    assert structure(raw).startswith(b'("application" "octet-stream" NIL NIL NIL "base64" 4 ')


@pytest.mark.parametrize("kind", [b"multipart/mixed; boundary=%d", b"message/rfc822"])
def test_every_depth_is_well_formed(kind: bytes) -> None:
    for depth in (1, 50, 98, 99, 100, 101, 150):
        raw = b"".join(
            b"Content-Type: " + (kind % n if b"%d" in kind else kind) + b"\r\n\r\n--%d\r\n" % n
            if b"%d" in kind
            else b"Content-Type: message/rfc822\r\n\r\n"
            for n in range(depth)
        )
        root = scan(raw)
        for extended, wire in ((True, bodystructure(root, raw)), (False, body(root, raw))):
            parts = imap_grammar.body(imap_grammar.read(wire), extended=extended)
            assert parts == min(depth + 1, 100)


@pytest.mark.parametrize("path", MESSAGES, ids=lambda p: p.name)
def test_the_corpus_is_well_formed(path: Path) -> None:
    raw = path.read_bytes()
    root = scan(raw)
    for extended, wire in ((True, bodystructure(root, raw)), (False, body(root, raw))):
        parts = imap_grammar.body(imap_grammar.read(wire), extended=extended)
        assert parts == len(root.walk())
