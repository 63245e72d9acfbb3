"""postroom.formats.envelope: the rules of RFC 9051 §7.5.2, and well-formedness for any header."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.formats.envelope import ADDRESSES_MAX, FIELD_MAX, envelope, nstring, string
from postroom.formats.headers import scan
from tests.formats import imap_grammar
from tests.formats.imap_grammar import Value


def wire(raw: bytes) -> bytes:
    return envelope(scan(raw), raw)


def members(raw: bytes) -> list[Value]:
    return imap_grammar.envelope(imap_grammar.read(wire(raw)))


def addresses(raw: bytes, member: int) -> list[Value]:
    found = members(raw)[member]
    assert isinstance(found, list)
    return found


def test_the_example_of_the_rfc() -> None:
    raw = (
        b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
        b"From: Terry Gray <gray@cac.washington.edu>\r\n"
        b"Subject: IMAP4rev2 WG mtg summary and minutes\r\n"
        b"To: imap@cac.washington.edu\r\n"
        b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
        b"Message-Id: <B27397-0100000@cac.washington.ed>\r\n\r\n"
    )
    assert wire(raw) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" '
        b'"IMAP4rev2 WG mtg summary and minutes" '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'((NIL NIL "imap" "cac.washington.edu")) '
        b'((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) '
        b"NIL NIL "
        b'"<B27397-0100000@cac.washington.ed>")'
    )


def test_absent_is_nil_and_empty_is_empty() -> None:
    assert members(b"\r\n") == [None] * 10
    found = members(b"Subject:\r\nDate: \r\nMessage-ID:\r\nIn-Reply-To:\r\nTo:\r\nFrom:\r\n\r\n")
    assert found == [b"", b"", None, None, None, None, None, None, b"", b""]


def test_sender_and_reply_to_are_from_unless_they_say_something() -> None:
    found = members(b"From: a@a.example\r\nSender:\r\nReply-To: b@b.example\r\n\r\n")
    assert found[2] == found[3] == [[None, None, b"a", b"a.example"]]
    assert found[4] == [[None, None, b"b", b"b.example"]]


def test_groups_stand_between_marks() -> None:
    found = members(b"To: A team: a@a.example, b@b.example;, c@c.example\r\nCc: none:;\r\n\r\n")
    assert found[5] == [
        [None, None, b"A team", None],
        [None, None, b"a", b"a.example"],
        [None, None, b"b", b"b.example"],
        [None, None, None, None],
        [None, None, b"c", b"c.example"],
    ]
    assert found[6] == [[None, None, b"none", None], [None] * 4]


def test_a_mailbox_without_host_is_no_group_mark() -> None:
    (address,) = addresses(b"From: root\r\n\r\n", 2)
    assert address == [None, None, b"root", b""]


def test_a_source_route_is_the_adl() -> None:
    (address,) = addresses(b"From: X <@a.example,@b.example:c@d.example>\r\n\r\n", 2)
    assert address == [b"X", b"@a.example,@b.example", b"c", b"d.example"]


def test_several_to_fields_are_one_list() -> None:
    assert len(addresses(b"To: a@a\r\nTo: b@b\r\n\r\n", 5)) == 2


def test_encoded_words_stay_and_8_bit_is_a_literal() -> None:
    found = wire(b"Subject: =?utf-8?q?=C3=BC?=\r\nFrom: \xc3\xbc <a@b>\r\n\r\n")
    assert b'"=?utf-8?q?=C3=BC?="' in found
    assert b"({2}\r\n\xc3\xbc NIL " in found


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, b"NIL"),
        (b"", b'""'),
        (b"NIL", b'"NIL"'),
        (b'a "b" \\c', b'"a \\"b\\" \\\\c"'),
        (b"tab\there", b'"tab\there"'),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        (b"a\rb", b"{3}\r\na\rb"),
        (b"nul\0here", b"{7}\r\nnulhere"),
        (b"\xff", b"{1}\r\n\xff"),
        (b"\x7f\x01", b"{2}\r\n\x7f\x01"),
        (b"x" * 1_001, b"{1001}\r\n" + b"x" * 1_001),
    ],
)
def test_strings_are_quoted_where_that_is_safe(value: bytes | None, wanted: bytes) -> None:
    assert nstring(value) == wanted


def test_a_long_string_is_cut_between_characters() -> None:
    assert string(("x" + "ü" * FIELD_MAX).encode()) == (
        b"{%d}\r\n" % (FIELD_MAX - 1) + ("x" + "ü" * (FIELD_MAX // 2 - 1)).encode()
    )


def test_a_thousand_addresses_at_most_and_groups_are_closed() -> None:
    for value in (b"a@b," * 3_000, b"g:" + b"a@b," * 3_000 + b";", b"g:a@b;" * 3_000):
        found = addresses(b"To: " + value + b"\r\n\r\n", 5)
        assert ADDRESSES_MAX - 3 <= len(found) <= ADDRESSES_MAX


def test_a_field_fills_64_kib_at_most() -> None:
    long = b", ".join(b'"%b" <a@b>' % (b"\\\\" * 400) for _ in range(300))
    for name in (b"From", b"To"):
        found = wire(name + b": " + long + b"\r\n\r\n")
        imap_grammar.envelope(imap_grammar.read(found))
        assert len(found) <= 3 * FIELD_MAX + 200  # Sender and Reply-To repeat From


HOSTILE = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [
                *(b'"', b"\\", b"(", b")", b"<", b">", b"@", b",", b":", b";", b"\0", b"\r", b"\n"),
                *(
                    b"\r\n ",
                    b"a",
                    b"b.example",
                    b"=?utf-8?q?=00=0d=0a?=",
                    b"\xff",
                    b"{3}\r\n",
                    b" ",
                ),
            ]
        ),
        max_size=30,
    ).map(b"".join),
)
NAMES = st.sampled_from(
    [b"From", b"To", b"Cc", b"Reply-To", b"Sender", b"Subject", b"Date", b"Message-ID"]
)


@given(st.lists(st.tuples(NAMES, HOSTILE), max_size=6))
@example([(b"From", b'"\0" <a@b>')])
@example([(b"To", b"g\0:;")])
@settings(max_examples=400, deadline=None)
def test_any_header_makes_a_well_formed_envelope(fields: list[tuple[bytes, bytes]]) -> None:
    raw = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    assert b"\0" not in wire(raw)
    members(raw)
