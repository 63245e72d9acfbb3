"""postroom.formats.words: RFC 2047 and RFC 2231, both ways, broken and whole."""

from __future__ import annotations

import email
import email.charset
import email.header
import re
import time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.formats import headers, words

# Text that a field may hold: no controls, no halves of surrogate pairs.
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        # RFC 2047 §8
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=\r\n  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        (b"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=", "If you can read this yo"),
        (b"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"),  # RFC 2231 §5
        # characters cut in two by neighbours
        (b"=?utf-8?B?w?= =?utf-8?B?6k=?=", "é"),
        (b"=?utf-8?Q?=C3?= =?utf-8?Q?=A9?=", "é"),
        (b"=?utf-8?Q?=C3?= =?UTF-8?B?qQ==?=", "é"),
        (b"=?utf-8?B?SGVsbG?= =?utf-8?B?8gd29ybGQ=?=", "Hello world"),  # base64 cut anywhere
        # damage
        (b"=?NONE?B?VEVTVA=?=", "=?NONE?B?VEVTVA=?="),
        (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        (b"=?utf-8?B?not base64!?=", "=?utf-8?B?not base64!?="),
        (b"=?utf-8?Q?never ends", "=?utf-8?Q?never ends"),
        (b"=?utf-8?Q?bad=XX?=", "bad=XX"),
        (b"=?utf-8?Q?=FF?=", "\ufffd"),
        (b"=?utf-8?B?aGk?=", "hi"),
        (b"=?utf-8?Q?what is up??=", "what is up?"),
        (b"a=?utf-8?Q?b?=c", "abc"),
        (b"=?utf-8?Q??=", ""),
        (b"=?utf-8?Q?open =?utf-8?Q?whole?=", "=?utf-8?Q?open whole"),
        (b"=?unknown-8bit?Q?Andr=E9?=", "André"),
        (b"=?us-ascii?Q?Andr=C3=A9?=", "André"),
        # raw bytes
        ("Füße".encode(), "Füße"),
        (b"Andr\xe9", "André"),
        (b"Andr\xe9 =?utf-8?Q?=C3=A9?=", "André é"),
        (b"one\r\n two", "one two"),
        # controls do not come out, encoded or raw
        (b"=?utf-8?Q?a=0D=0ABcc:_x=00?=", "aBcc: x"),
        (b"a\r\nb\x00c", "a  bc"),
    ],
)
def test_encoded_words_as_they_arrive(sent: bytes, meant: str) -> None:
    assert words.decode_words(sent) == meant


def _read(text: str) -> str:
    """A byte order mark in front says how to read, and is no text: charsets.decode."""
    return text.removeprefix("\ufeff")


@given(texts, st.integers(0, 90), st.booleans())
@example("=?utf-8?Q?a?=", 9, False)
@example("a =?x é", 9, False)
@example(" é  b ", 9, False)
@example("日本語" * 60, 70, False)
@settings(max_examples=300, deadline=None)
def test_encoding_round_trip(text: str, used: int, phrase: bool) -> None:
    assume("\ufeff" not in text)  # a mark where a word begins is no text: charsets.decode
    wire = words.encode_words(text, used=used, phrase=phrase)
    assert words.decode_words(wire) == text
    assert wire.isascii()
    for word in re.findall(rb"=\?utf-8\?[qb]\?[^ ]*", wire):
        assert len(word) <= 75  # RFC 2047 §2
        assert re.fullmatch(rb"=\?utf-8\?([qb])\?[A-Za-z0-9!*+/=_-]*\?=", word)  # §5 (3)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_the_stdlib_reads_what_we_write(text: str) -> None:
    wire = words.encode_words(text, phrase=True).decode("ascii")
    if not text.strip():  # it strips lone blanks
        return
    found = email.header.make_header(email.header.decode_header(wire))
    assert str(found) == text


printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=200)


@given(st.sampled_from(["utf-8", "iso-8859-15", "koi8-r"]), st.booleans(), printable)
@settings(max_examples=200, deadline=None)
def test_we_read_what_the_stdlib_writes(charset: str, base64: bool, text: str) -> None:
    known = email.charset.Charset(charset)
    known.header_encoding = email.charset.BASE64 if base64 else email.charset.QP
    # The charset holds some of the text, and its C1 controls are none.
    text = text.encode(charset, "ignore").decode(charset).strip()
    wire = email.header.Header(text, known).encode()
    assert words.decode_words(wire.encode("ascii").replace(b"\n", b"\r\n")) == text


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_decoding_never_raises_and_gives_one_line(data: bytes) -> None:
    text = words.decode_words(data)
    assert "\r" not in text and "\n" not in text and "\x00" not in text
    text.encode("utf-8")


@given(
    st.lists(
        st.sampled_from(
            [b"=?", b"?=", b"=?utf-8?Q?", b"=?utf-8?b?", b"?", b"=", b" ", b"\r\n ", b"ab", b"=C3"]
        ),
        max_size=40,
    )
)
@settings(max_examples=300, deadline=None)
def test_near_words_never_raise(parts: list[bytes]) -> None:
    words.decode_words(b"".join(parts)).encode("utf-8")


@pytest.mark.parametrize(
    "unit",
    [
        *(b"=?", b"=?utf-8?q?", b"=?utf-8?q?a", b"=?utf-8?q?a?= ", b"?=", b"=?x?q?a?=", b"="),
        *(b"=?utf-8?b?QQ?= ", b"=?utf-8?b?QUJD?=\r\n ", b" ", b"\xe9", b"=?utf-8?q?=?", b"a \r\n"),
    ],
)
def test_time_is_linear(unit: bytes) -> None:
    def seconds(size: int) -> float:
        data = unit * (size // len(unit))
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            words.decode_words(data)
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(300_000) < 30 * seconds(30_000) + 0.01


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x00", "é\x7f", "\x85", "\ud800"])
def test_attack_03_controls_are_not_encoded_but_refused(text: str) -> None:
    with pytest.raises(Malformed):
        words.encode_words(text)
    with pytest.raises(Malformed):
        words.encode_parameter("filename", text)


# --- parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ("report.pdf", b"filename=report.pdf"),
        ("my report.pdf", b'filename="my report.pdf"'),
        ('a"b\\c', b'filename="a\\"b\\\\c"'),
        ("", b'filename=""'),
        ("é.pdf", b"filename*=utf-8''%C3%A9.pdf"),
    ],
)
def test_parameters_take_the_plainest_form(value: str, wire: bytes) -> None:
    assert words.encode_parameter("filename", value) == wire


@given(texts)
@example("é" * 300)
@example("x" * 190)
@example("'%*=?utf-8?q?a?=")
@example("\ufeff")
@settings(max_examples=300, deadline=None)
def test_parameters_round_trip_in_one_field(value: str) -> None:
    wire = b"attachment; " + words.encode_parameter("filename", value)
    main, found = headers.parameterised(wire)
    assert main == b"attachment"
    assert found == {"filename": _read(value)}
    field = headers.field("Content-Disposition", wire.decode("ascii"))
    block = headers.scan(field + b"\r\n")
    assert len(block.fields) == 1
    assert headers.parameterised(block.first(b"content-disposition") or b"")[1] == found


def test_the_stdlib_reads_our_parameters() -> None:
    wire = words.encode_parameter("filename", "Übergrößenträger" * 10 + ".pdf")
    message = email.message_from_bytes(b"Content-Disposition: attachment; " + wire + b"\r\n\r\n")
    assert message.get_filename() == "Übergrößenträger" * 10 + ".pdf"


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a=b", "é", "a*0", "a\r\nb", "x" * 41])
def test_names_of_parameters_are_checked(name: str) -> None:
    with pytest.raises(Malformed):
        words.encode_parameter(name, "v")


def test_a_parameter_that_no_reader_takes_is_refused() -> None:
    with pytest.raises(Malformed):
        words.encode_parameter("filename", "é" * 5_000)
