"""postroom.formats.transfer: round trips, damage, chunks, and the stdlib as oracle."""

from __future__ import annotations

import base64
import binascii
import quopri
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.formats import transfer

ENCODINGS = ["base64", "quoted-printable", "x-uuencode", "8bit"]


@given(st.binary(max_size=2_000))
@settings(max_examples=150, deadline=None)
def test_base64_round_trip_in_lines_of_76(data: bytes) -> None:
    encoded = transfer.encode_base64(data)
    assert transfer.decode(encoded, "base64") == data
    assert encoded.replace(b"\r\n", b"") == base64.b64encode(data)
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))
    assert encoded == b"" or encoded.endswith(b"\r\n")


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (b"aGVsbG8=", b"hello"),
        (b"aGVsbG8", b"hello"),  # padding missing
        (b"aGVs\r\nbG8=\r\n", b"hello"),
        (b"aG*V-s b!G8=", b"hello"),  # foreign bytes: RFC 2045 §6.8 says skip
        (b"aGVsbG8=aGVsbG8=", b"hellohello"),  # pieces glued together
        (b"aGk=\r\n=\r\naGk=", b"hihi"),
        (b"====", b""),
        (b"a", b""),
        (b"aGVsbG8=a", b"hello"),
    ],
)
def test_base64_as_it_arrives(sent: bytes, meant: bytes) -> None:
    assert transfer.decode(sent, "base64") == meant


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_base64_agrees_with_binascii_up_to_the_first_padding(data: bytes) -> None:
    # Beyond it they differ: binascii stops there, we go on with the next piece.
    # It also wants the padding that we forgive.
    head = data.partition(b"=")[0]
    count = sum(byte in transfer._ALPHABET for byte in head)
    head = head[: len(head)] + b"=" * (-count % 4 if count % 4 != 1 else 0)
    if count % 4 == 1:
        return
    assert transfer.decode(head, "base64") == binascii.a2b_base64(head)


@given(st.binary(max_size=1_000))
@example(b"a \r\nb\t\r\n")
@example(b"dot\r\n.\r\nFrom here")
@example(b"bare \r in it\rend")
@example(b"=" * 100)
@settings(max_examples=200, deadline=None)
def test_quoted_printable_round_trip(data: bytes) -> None:
    text = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    encoded = transfer.encode_quoted_printable(data)
    assert transfer.decode(encoded, "quoted-printable") == text
    assert quopri.decodestring(encoded).replace(b"\r\n", b"\n") == text.replace(b"\r\n", b"\n")
    for line in encoded.split(b"\r\n"):
        assert len(line) <= 76
        assert b"\r" not in line and b"\n" not in line
        assert not line.endswith((b" ", b"\t"))
        assert line.isascii()


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (b"caf=C3=A9", "café".encode()),
        (b"caf=c3=a9", "café".encode()),
        (b"soft=\r\nbreak", b"softbreak"),
        (b"soft=\nbreak", b"softbreak"),
        (b"soft=  \r\nbreak", b"softbreak"),  # blanks added on the way: RFC 2045 §6.7 (3)
        (b"blank  \r\nend\t", b"blank\r\nend"),
        (b"bad =XY =", b"bad =XY "),
        (b"==41", b"=A"),
        (b"=\rtext\nmore", b"=\rtext\nmore"),  # binascii would swallow "text"
        (b"100% = sure", b"100% = sure"),
        (b"=4", b"=4"),
    ],
)
def test_quoted_printable_as_it_arrives(sent: bytes, meant: bytes) -> None:
    assert transfer.decode(sent, "quoted-printable") == meant


@given(
    st.lists(st.sampled_from([b"a", b" ", b"=41", b"=\r\n", b"\r\n", b"=E9", b"_"]), max_size=60)
)
@settings(max_examples=150, deadline=None)
def test_quoted_printable_agrees_with_quopri(parts: list[bytes]) -> None:
    data = b"".join(parts)
    ours = transfer.decode(data, "quoted-printable")
    # quopri in C keeps blanks at line ends, which RFC 2045 §6.7 (3) takes away.
    trimmed = b"\r\n".join(line.rstrip(b" ") for line in data.split(b"\r\n"))
    assert ours == quopri.decodestring(trimmed)


def _uuencoded(data: bytes) -> bytes:
    lines = [binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)]
    return b"begin 644 some file.doc\n" + b"".join(lines) + b"`\nend\n"


@given(st.binary(max_size=500), st.booleans())
@settings(max_examples=100, deadline=None)
def test_uuencode_round_trip(data: bytes, crlf: bool) -> None:
    body = _uuencoded(data)
    if crlf:
        body = body.replace(b"\n", b"\r\n")
    assert transfer.decode(b"\r\n" + body + b"trailer\n", "x-uuencode") == data


def test_uuencode_without_a_begin_line_stays_readable() -> None:
    assert transfer.decode(b"just text", "x-uuencode") == b"just text"
    long = b"just text\r\n" * 20_000
    assert transfer.decode(long, "x-uuencode") == long


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("BASE64", "base64"),
        (" base64 ; ", "base64"),
        ('"base64"', "base64"),
        ("base64 (what else)", "base64"),
        ("quoted printable", "quoted-printable"),
        ("Quoted-Printable;", "quoted-printable"),
        ("x-uuencode", "x-uuencode"),
        ("7-bit", "identity"),
        ("8bits", "identity"),
        ("text/html", "identity"),
        ("", "identity"),
        ("x" * 10_000, "identity"),
    ],
)
def test_names_of_encodings(value: str, name: str) -> None:
    assert transfer.canonical(value) == name


@given(
    st.sampled_from(ENCODINGS),
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [b"=", b"==", b"=\r", b"\n", b" ", b"QUJD", b"begin 644 x\n", b"end\n"]
            ),
        ),
        max_size=30,
    ),
)
@settings(max_examples=300, deadline=None)
def test_chunks_do_not_matter(encoding: str, chunks: list[bytes]) -> None:
    decoder = transfer.Decoder(encoding)
    pieces = [decoder.feed(chunk) for chunk in chunks]
    assert b"".join(pieces) + decoder.flush() == transfer.decode(b"".join(chunks), encoding)


@given(st.sampled_from(ENCODINGS), st.binary(max_size=500), st.integers(0, 600))
@settings(max_examples=100, deadline=None)
def test_a_limit_gives_the_start(encoding: str, data: bytes, limit: int) -> None:
    assert transfer.decode(data, encoding, limit=limit) == transfer.decode(data, encoding)[:limit]


def test_a_limit_saves_the_work() -> None:
    body = transfer.encode_base64(bytes(30_000_000))
    start = time.thread_time()
    assert len(transfer.decode(body, "base64", limit=100)) == 100
    assert time.thread_time() - start < 0.05


@pytest.mark.parametrize(
    ("encoding", "unit"),
    [
        ("base64", b"A="),
        ("base64", b"!"),
        ("base64", b"QUJD\r\n"),
        ("quoted-printable", b" "),
        ("quoted-printable", b"= "),
        ("quoted-printable", b"=\r"),
        ("quoted-printable", b"=4"),
        ("x-uuencode", b"begin 644 "),
        ("x-uuencode", b"begin 644 x\n"),
    ],
)
def test_time_is_linear(encoding: str, unit: bytes) -> None:
    def seconds(count: int) -> float:
        data = unit * count
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            transfer.decode(data, encoding)
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(200_000) < 30 * seconds(20_000) + 0.01
