"""What the server says: one line where one was meant, whatever the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import (
    Atom,
    Code,
    ResponseReader,
    Tagged,
    Untagged,
    astring,
    continuation,
    flags,
    literal,
    literal8,
    literal_header,
    mailbox_name,
    nstring,
    parenthesised,
    quoted_or_literal,
    status_line,
    untagged,
)


@given(st.text(), st.sampled_from([None, b"ALERT", b"COPYUID 1 2:3 4:5"]))
def test_no_text_leaves_its_line(text: str, code: bytes | None) -> None:
    line = status_line(b"A1", "NO", code, text)
    assert line.count(b"\r") == line.count(b"\n") == 1
    assert line.endswith(b"\r\n")
    reader = ResponseReader()
    reader.feed(line)
    response = reader.next()
    assert isinstance(response, Tagged)
    assert reader.next() is None
    assert (response.tag, response.kind) == (b"A1", b"NO")
    assert response.text
    assert (response.code is None) == (code is None)


def test_status_lines() -> None:
    assert status_line(b"a", "OK", None, "Done") == b"a OK Done\r\n"
    assert status_line(None, "BYE", None, "Bye") == b"* BYE Bye\r\n"
    assert status_line(b"a", "OK", b"READ-WRITE", "x") == b"a OK [READ-WRITE] x\r\n"
    assert status_line(b"a", "NO", None, "[ALERT] x\r\nb OK") == b"a NO (ALERT] x??b OK\r\n"
    assert status_line(b"a", "NO", None, "") == b"a NO -\r\n"
    assert len(status_line(b"a", "NO", None, "x" * 9999)) < 1000


@pytest.mark.parametrize(
    "code", [b"", b"A]", b"A\r\n", b"A\n", b"A\0", b" A", b"A\xff", b"(A", b"\xe2\x80\xa8"]
)
def test_a_code_that_could_end_early_is_our_mistake(code: bytes) -> None:
    with pytest.raises(ValueError):
        status_line(b"a", "NO", code, "x")


@pytest.mark.parametrize("tag", [b"", b"a b", b"a\r\n", b"+", b"a\n* BYE"])
def test_a_tag_that_is_none_is_our_mistake(tag: bytes) -> None:
    with pytest.raises(ValueError):
        status_line(tag, "OK", None, "x")


def test_strings_are_quoted_where_they_can_be() -> None:
    assert quoted_or_literal(b'a"b\\c') == b'"a\\"b\\\\c"'
    assert quoted_or_literal(b"") == b'""'
    assert quoted_or_literal(b"a\r\nb") == b"{4}\r\na\r\nb"
    assert quoted_or_literal(b"caf\xc3\xa9") == b"{5}\r\ncaf\xc3\xa9"
    assert quoted_or_literal(b"caf\xc3\xa9", utf8=True) == b'"caf\xc3\xa9"'
    assert quoted_or_literal(b"caf\xe9", utf8=True) == b"{4}\r\ncaf\xe9"
    assert quoted_or_literal(b"a\0b") == b'"a?b"'
    assert quoted_or_literal(b"x" * 1025) == b"{1025}\r\n" + b"x" * 1025
    assert astring(b"a.b/c") == b"a.b/c"
    assert astring(b"[Gmail]") == b'"[Gmail]"'
    assert astring(b"nil") == b'"nil"'
    assert astring(b"") == b'""'
    assert astring(b"a b") == b'"a b"'
    assert nstring(None) == b"NIL"
    assert nstring(b"NIL") == b'"NIL"'


def test_literals() -> None:
    assert literal(b"abc") == literal_header(3) + b"abc" == b"{3}\r\nabc"
    assert literal8(b"\0") == literal_header(1, binary=True) + b"\0" == b"~{1}\r\n\0"


def test_mailbox_names() -> None:
    assert mailbox_name("Entwürfe") == b"Entw&APw-rfe"
    assert mailbox_name("A & B") == b'"A &- B"'
    assert mailbox_name("Entwürfe", utf8=True) == '"Entwürfe"'.encode()
    with pytest.raises(ValueError):
        mailbox_name("\ud800")


def test_flags() -> None:
    assert flags([]) == b"()"
    assert flags(["\\Seen", "$Junk", "\\*"]) == b"(\\Seen $Junk \\*)"
    for flag in (
        "",
        "\\",
        "a b",
        "a)",
        "a\r\n",
        "é",
        "\\\\Seen",
        '"a"',
        "\\*x",
        "a]",
        "a\U0001f600",
    ):
        with pytest.raises(ValueError):
            flags([flag])


def test_lines() -> None:
    assert untagged(b"LIST", parenthesised([b"\\Noselect"]), b'"/"', b"foo") == (
        b'* LIST (\\Noselect) "/" foo\r\n'
    )
    assert continuation() == b"+ \r\n"
    assert continuation("idling\r\nx") == b"+ idling??x\r\n"
    assert continuation("QUJD" * 500) == b"+ " + b"QUJD" * 500 + b"\r\n"


def test_texts_in_another_language_are_utf8() -> None:
    """RFC 5255 §3.5. What would turn a line around, or is not seen, is still not told."""
    assert status_line(b"a", "OK", None, "Über 5 €", utf8=True) == "a OK Über 5 €\r\n".encode()
    assert status_line(None, "NO", None, "[ö]", utf8=True) == "* NO (ö]\r\n".encode()
    assert continuation("grüß Gott", utf8=True) == "+ grüß Gott\r\n".encode()
    for hidden in "\0\r\n\x1b\x7f\x85\xad\u200b\u200f\u2028\u202e\u2066\ufeff\ud800":
        assert status_line(b"a", "OK", None, f"x{hidden}y", utf8=True) == b"a OK x?y\r\n"
        assert continuation(f"x{hidden}y", utf8=True) == b"+ x?y\r\n"
    assert status_line(b"a", "OK", None, "Über", utf8=False) == b"a OK ?ber\r\n"


@given(st.text())
def test_any_text_is_one_line_of_utf8(text: str) -> None:
    line = status_line(b"a", "OK", None, text, utf8=True)
    assert line.count(b"\n") == 1
    assert len(line.decode("utf-8").splitlines()) == 1


@given(st.binary(), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_client_reads_what_the_server_says(data: bytes, name: str) -> None:
    line = untagged(b"7 FETCH", parenthesised([b"X", nstring(data), mailbox_name(name)]))
    reader = ResponseReader()
    reader.feed(line)
    response = reader.next()
    assert isinstance(response, Untagged)
    assert reader.next() is None
    assert (response.name, response.number) == (b"FETCH", 7)
    [values] = response.data
    assert isinstance(values, tuple)
    assert values[:2] == (Atom(b"X"), data.replace(b"\0", b"?"))
    assert len(values) == 3
    assert response.code is None


def test_a_code_is_read_back() -> None:
    reader = ResponseReader()
    reader.feed(status_line(None, "OK", b"PERMANENTFLAGS (\\Seen \\*)", "Limited"))
    code = Code(b"PERMANENTFLAGS", ((Atom(b"\\Seen"), Atom(b"\\*")),))
    assert reader.next() == Untagged(b"OK", code=code, text=b"Limited")
