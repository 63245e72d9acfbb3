"""The sort value of an address: RFC 5957 §3."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats.display import Addresses, display
from postroom.formats.envelope import ADDRESSES_MAX, envelope
from postroom.formats.headers import scan
from postroom.formats.parsed import SORT_MAX
from postroom.formats.words import decode_words
from postroom.testing.scaling import grows_linearly
from tests.formats import imap_grammar


def shown(raw: bytes, of: Addresses = Addresses.FROM) -> str:
    return display(envelope(scan(raw), raw), of)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"Ann Example <ann@a.example>", "Ann Example"),
        (b'"Example, \\"Ann\\"" <ann@a.example>', 'Example, "Ann"'),
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?= <ann@a.example>", "Grüße"),
        ("Grüße <ann@a.example>".encode(), "Grüße"),
        (b"ann@a.example", "ann@a.example"),
        (b'"" <ann@a.example>', "ann@a.example"),
        (b"=?utf-8?q??= <ann@a.example>", "ann@a.example"),
        (b"ann", "ann"),
        (b"Team: Zoe <zoe@a.example>, ann@a.example;", "Team"),
        (b"Bob <bob@a.example>, Ann <ann@a.example>", "Bob"),
        (b"", ""),
        (b"x" * 300 + b" <ann@a.example>", "x" * SORT_MAX),
    ],
)
def test_name_or_address_of_the_first(field: bytes, expected: str) -> None:
    assert shown(b"From: " + field + b"\r\n\r\n") == expected
    assert shown(b"To: " + field + b"\r\n\r\n", Addresses.TO) == expected


def test_empty_without_the_field() -> None:
    assert shown(b"Subject: x\r\n\r\n") == shown(b"From: a@b\r\n\r\n", Addresses.TO) == ""


def test_to_is_found_behind_other_lists() -> None:
    raw = (
        b"Date: x\r\nSubject: " + b"{5}\xff" * 300 + b"\r\n"
        b"From: A <a@a.example>, B <b@a.example>\r\nSender: S <s@a.example>\r\n"
        b'Reply-To: "(\\")(" <r@a.example>, Team: t@a.example;\r\nTo: Zoe <z@a.example>\r\n\r\n'
    )
    assert shown(raw) == "A"
    assert shown(raw, Addresses.TO) == "Zoe"


_FIELDS = st.dictionaries(
    st.sampled_from([b"Date", b"Subject", b"From", b"Sender", b"Reply-To", b"To"]),
    st.one_of(
        st.binary(max_size=30).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"")),
        st.text('ab<>@(),;:"\\ é{}', max_size=40).map(str.encode),
        st.lists(st.sampled_from([b"A <a@x>", b"b@y", b"T: c@z;", b"{3}"])).map(b", ".join),
    ),
)


@settings(max_examples=300, deadline=None)
@given(_FIELDS)
def test_as_a_reader_of_the_whole_envelope_finds_it(fields: dict[bytes, bytes]) -> None:
    raw = b"".join(b"%b: %b\r\n" % each for each in fields.items()) + b"\r\n"
    wire = envelope(scan(raw), raw)
    whole = imap_grammar.envelope(imap_grammar.read(wire))
    for of, member in ((Addresses.FROM, 2), (Addresses.TO, 5)):
        assert display(wire, of) == _expected(whole[member])


def _expected(addresses: imap_grammar.Value) -> str:
    if not isinstance(addresses, list) or not addresses:
        return ""
    first = addresses[0]
    assert isinstance(first, list)
    name, _, local, host = first
    assert not isinstance(name, list | int)
    assert not isinstance(local, list | int)
    assert not isinstance(host, list | int)
    known = decode_words(name) if name else ""
    if not known and local:
        known = (local + b"@" + host if host else local).decode("utf-8", "replace")
    return known[:SORT_MAX]


@given(st.binary(max_size=60))
def test_no_envelope_has_no_name(raw: bytes) -> None:
    display(raw, Addresses.TO)
    assert display(b"(" + raw[:3], Addresses.TO) == ""


def test_linear_in_the_number_of_addresses() -> None:
    def wire(n: int) -> bytes:
        field = b", ".join(b'"x" <a%d@a.example>' % each for each in range(n))
        raw = b"Sender: s@x\r\nFrom: " + field + b"\r\nReply-To: y@z\r\nTo: t@x\r\n\r\n"
        return envelope(scan(raw), raw)

    def run(wires: list[bytes]) -> None:
        for each in wires:
            assert display(each, Addresses.TO) == "t@x"

    few = [wire(ADDRESSES_MAX // 8)] * 40
    assert grows_linearly(run, few, [wire(ADDRESSES_MAX - 1)] * 40, 8)
