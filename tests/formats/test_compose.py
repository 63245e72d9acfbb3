"""postroom.formats.compose: read back by the stdlib and by us; nothing breaks out of a field."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed, Misuse
from postroom.formats import compose, headers
from postroom.formats.address import Address, format_mailbox
from postroom.formats.compose import Message, MessageId, attachment, multipart, received_field
from postroom.formats.mime import scan
from postroom.formats.parsed import parse
from postroom.formats.transfer import decode
from postroom.formats.words import decode_words

NOW = datetime(2026, 11, 22, 15, 18, tzinfo=UTC)
ANN = Address("ann", "a.example")


def counting() -> compose.Random:
    drawn = 0

    def random(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return drawn.to_bytes(size, "big")

    return random


def new(*, utf8: bool = False) -> Message:
    message = Message(MessageId("1.2", "mx.a.example"), NOW, counting(), utf8=utf8)
    return message.header("From", format_mailbox("Ann", ANN))


def test_a_message_of_one_text() -> None:
    raw = new().header("Subject", "Greetings").text("Hello\nyou\n").to_bytes()
    assert raw == (
        b"Date: Sun, 22 Nov 2026 15:18:00 +0000\r\n"
        b"Message-ID: <1.2@mx.a.example>\r\n"
        b"From: Ann <ann@a.example>\r\n"
        b"Subject: Greetings\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Hello\r\nyou\r\n"
    )


def test_bodies_and_files_are_nested_as_they_belong() -> None:
    raw = (
        new()
        .text("plain")
        .html("<p>ü")
        .attach(attachment(b"\x00\xff" * 100, "image/png", "Bild ü.png"))
        .to_bytes()
    )
    root = scan(raw)
    assert [(p.type, p.subtype) for p in root.walk()] == [
        (b"multipart", b"mixed"),
        (b"multipart", b"alternative"),
        (b"text", b"plain"),
        (b"text", b"html"),
        (b"image", b"png"),
    ]
    picture = root.children[1]
    assert decode(raw[picture.body : picture.end], "base64") == b"\x00\xff" * 100
    assert headers.parameterised(picture.disposition or b"")[1] == {"filename": "Bild ü.png"}
    assert parse(raw).has_attachment


def test_a_report_has_its_three_parts() -> None:
    status = compose.status(
        "message/delivery-status",
        [
            [("Reporting-MTA", "dns; mx.a.example")],
            [("Final-Recipient", "rfc822; b@b.example"), ("Action", "failed"), ("Status", "5.1.1")],
        ],
    )
    returned = compose.header_only(b"Subject: \xff\r\nFrom: b@b.example\r\n")
    raw = new().text("Sorry").report("delivery-status", status, returned).to_bytes()
    root = scan(raw)
    assert root.subtype == b"report"
    assert dict(root.params)[b"report-type"] == b"delivery-status"
    assert [p.subtype for p in root.children] == [b"plain", b"delivery-status", b"rfc822-headers"]
    part = root.children[1]
    assert raw[part.body : part.end] == (
        b"Reporting-MTA: dns; mx.a.example\r\n\r\n"
        b"Final-Recipient: rfc822; b@b.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    )
    part = root.children[2]
    encoding = (part.encoding or b"").decode()
    assert decode(raw[part.body : part.end], encoding) == b"Subject: \xff\r\nFrom: b@b.example\r\n"


def test_another_message_is_carried_unchanged() -> None:
    whole = b"Subject: \xc3\xbc\r\n\r\nbody\r\n--=_1--\r\n"
    raw = new().text("see").attach(compose.message(whole)).to_bytes()
    part = scan(raw).children[1]
    assert raw[part.body : part.end] == whole
    assert part.encoding == b"8bit"
    assert scan(raw).encoding == b"8bit"  # RFC 2045 §6.4: what holds 8-bit is 8-bit


@pytest.mark.parametrize("bad", [b"a\nb\r\n", b"a\0b\r\n", b"x" * 999 + b"\r\n", b"a\rb\r\n"])
def test_a_message_that_cannot_travel_is_a_file(bad: bytes) -> None:
    part = compose.message(bad)
    assert b"application/octet-stream" in part.fields
    assert decode(part.body, "base64") == bad


def test_a_boundary_that_a_part_holds_is_not_taken() -> None:
    def same(size: int) -> bytes:
        return b"\0" * size

    inner = multipart("mixed", [compose.text("x")], same)
    outer = bytes(multipart("mixed", [inner, compose.text("--=_" + "00" * 12)], same))
    found = scan(outer).walk()
    assert [len(p.children) for p in found] == [2, 1, 0, 0]
    assert [outer[p.body : p.end] for p in found[2:]] == [b"x", b"--=_" + b"00" * 12]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Subject", "a\r\nBcc: x@x.example"),
        ("Subject", "a\nb"),
        ("Subject", "a\0b"),
        ("To", "a@a.example\r\n\r\nbody"),
        ("X:Y", "v"),
        ("X\r\nBcc", "v"),
        ("", "v"),
    ],
)
def test_what_would_add_a_field_is_refused(name: str, value: str) -> None:
    with pytest.raises(Malformed):
        new().header(name, value)


@pytest.mark.parametrize(
    "name", ["Date", "message-id", "MIME-Version", "Content-Type", "content-x"]
)
def test_our_own_fields_cannot_be_given(name: str) -> None:
    with pytest.raises(Misuse):
        new().header(name, "x")


def test_a_field_that_may_stand_once_stands_once() -> None:
    with pytest.raises(Misuse):
        new().header("from", "b@b.example")
    new().header("Received", "x").header("Received", "y").header("X-A", "1").header("X-A", "2")


def test_a_message_needs_an_author_and_a_body() -> None:
    with pytest.raises(Misuse):
        new().to_bytes()
    with pytest.raises(Misuse):
        Message(MessageId("1", "a"), NOW, counting()).text("x").to_bytes()
    with pytest.raises(ValueError, match="naive"):
        Message(MessageId("1", "a"), NOW.replace(tzinfo=None), counting())


@pytest.mark.parametrize("left", ["", "a b", "a>", "a\r\n", "ü", ".a", "a" * 300])
def test_what_is_no_message_id_is_refused(left: str) -> None:
    with pytest.raises(Misuse):
        MessageId(left, "a.example")


@pytest.mark.parametrize(
    "kind", ["text", "text/plain\r\nX: y", "text/plain; a=b", "/", "a/b/c", ""]
)
def test_what_is_no_media_type_is_refused(kind: str) -> None:
    with pytest.raises(Misuse):
        attachment(b"", kind, "x")


def test_a_file_name_cannot_add_a_field() -> None:
    with pytest.raises(Malformed):
        attachment(b"", "a/b", 'x"\r\nBcc: y')
    found = bytes(attachment(b"", "a/b", 'x"; filename=y'))
    assert headers.parameterised(headers.scan(found).first(b"content-disposition") or b"")[1] == {
        "filename": 'x"; filename=y'
    }


def test_an_inline_file_has_its_content_id() -> None:
    found = attachment(b"x", "image/png", "a.png", content_id=MessageId("pic", "a.example"))
    assert b"Content-ID: <pic@a.example>\r\n" in found.fields
    assert b"Content-Disposition: inline; filename=a.png\r\n" in found.fields


def test_utf_8_messages_keep_their_fields() -> None:
    raw = new(utf8=True).header("To", "ü@ü.example").header("Subject", "Grüße").text("x").to_bytes()
    assert "To: ü@ü.example\r\n".encode() in raw
    assert "Subject: Grüße\r\n".encode() in raw


TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_back_and_its_lines_fit(content: str) -> None:
    raw = new().text(content).to_bytes()
    body = raw[raw.index(b"\r\n\r\n") + 4 :]
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", raw)
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    encoding = (scan(raw).encoding or b"").decode()
    wanted = re.sub("\r\n|\r|\n", "\r\n", content).encode()
    assert decode(body, encoding).removesuffix(b"\r\n") == wanted.removesuffix(b"\r\n")
    theirs = email.message_from_bytes(raw, policy=email.policy.default)
    assert not theirs.defects
    assert theirs.get_content_charset() == "utf-8"


@given(TEXTS, TEXTS)
@settings(max_examples=200, deadline=None)
def test_any_subject_and_name_are_one_field_or_refused(subject: str, name: str) -> None:
    try:
        raw = new().header("Subject", subject).header("To", format_mailbox(name, ANN)).text("")
        found = headers.scan(raw.to_bytes())
    except Malformed:
        assert (
            re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f]", subject + name) or len(subject + name) > 50
        )
        return
    assert [field.name for field in found.fields] == [
        *(b"Date", b"Message-ID", b"From", b"Subject", b"To", b"MIME-Version"),
        *(b"Content-Type", b"Content-Transfer-Encoding"),
    ]
    said = decode_words(found.first(b"subject") or b"")
    assert said.replace("\t", " ") == subject.strip(" \t").replace("\t", " ")


# --- trace fields --------------------------------------------------------------------------


def unfolded(field: bytes) -> str:
    assert field.endswith(b"\r\n")
    assert headers.scan(field + b"\r\n").end == len(field) + 2
    (found,) = headers.scan(field + b"\r\n").fields
    return found.value(field).decode()


def test_a_received_field_with_everything() -> None:
    field = received_field(
        by="mx.a.example",
        protocol="ESMTPS",
        identifier="q1w2",
        date=NOW.astimezone(timezone(timedelta(hours=1))),
        helo="mail.b.example",
        peer=IPv4Address("192.0.2.1"),
        peer_name="host.b.example",
        tls="TLS1.3 TLS_AES_128_GCM_SHA256",
        recipient=ANN,
    )
    assert unfolded(field) == (
        "from mail.b.example (host.b.example [192.0.2.1]) by mx.a.example with ESMTPS "
        "(TLS1.3 TLS_AES_128_GCM_SHA256) id q1w2 for <ann@a.example>; "
        "Sun, 22 Nov 2026 16:18:00 +0100"
    )
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))


def received(**more: object) -> str:
    given_ = {"by": "mx.a.example", "protocol": "ESMTP", "identifier": "q1", "date": NOW} | more
    return unfolded(received_field(**given_))  # type: ignore[arg-type] # a test's short cut


def test_who_is_no_domain_is_known_by_address() -> None:
    peer = IPv6Address("2001:db8::1")
    assert received(helo="[192.0.2.9]", peer=peer).startswith(
        "from [192.0.2.9] ([IPv6:2001:db8::1]) by"
    )
    assert received(helo="a b", peer=peer).startswith("from [IPv6:2001:db8::1] (HELO a b) by")
    assert received(peer=peer).startswith("from [IPv6:2001:db8::1] by")
    assert received(helo="ü(").startswith("from unknown (HELO ??) by")
    assert received(helo="a..b").startswith("from unknown (HELO a..b) by")
    assert received(helo="[1.2.3.4.5]").startswith("from unknown (HELO [1.2.3.4.5]) by")
    assert received(helo="-a").startswith("from unknown (HELO -a) by")
    assert received(helo="a" * 256).startswith("from unknown (HELO aaa")
    assert received(helo="host").startswith("from host by")
    assert received().startswith("by mx.a.example with ESMTP id q1; Sun")


def test_a_recipient_that_ascii_cannot_show_is_left_out() -> None:
    umlaut = Address("ü", "a.example")
    assert " for " not in received(recipient=umlaut)
    assert "for <ü@a.example>;" in received(recipient=umlaut, utf8=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": "mx\r\nX: y"},
        {"by": ""},
        {"by": "a b"},
        {"protocol": "ESMTP; x"},
        {"protocol": "esmtp"},
        {"identifier": "a b"},
        {"identifier": "a\n"},
        {"identifier": ""},
    ],
)
def test_what_we_say_of_ourselves_must_be_right(wrong: dict[str, str]) -> None:
    with pytest.raises(Misuse):
        received(**wrong)


@given(TEXTS, TEXTS, TEXTS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_nothing_that_a_peer_says_leaves_its_comment(
    helo: str, peer_name: str, tls: str, utf8: bool
) -> None:
    value = received(
        helo=helo, peer=IPv4Address("192.0.2.1"), peer_name=peer_name, tls=tls, utf8=utf8
    )
    assert value.isascii()
    bare = re.sub(r"\([^()\\]*\)", "", value)  # what is outside of comments
    assert re.fullmatch(
        r"from (\[[0-9.]+\]|\[IPv6:[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+) +by mx\.a\.example with ESMTP"
        r" +id q1; Sun, 22 Nov 2026 15:18:00 \+0000",
        bare,
    )


def test_return_paths() -> None:
    assert compose.return_path(None) == b"Return-Path: <>\r\n"
    assert compose.return_path(ANN) == b"Return-Path: <ann@a.example>\r\n"
    quoted = compose.return_path(Address('a "b"\\', "a.example"))
    assert quoted == b'Return-Path: <"a \\"b\\"\\\\"@a.example>\r\n'
    assert (
        compose.return_path(Address("ü", "a.example")) == "Return-Path: <ü@a.example>\r\n".encode()
    )


def test_a_peers_words_become_printable() -> None:
    assert compose.printable("550 nö\r\nX: y\0", 12) == "550 n???X: y"
