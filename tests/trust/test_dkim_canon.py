"""Canonical forms: the RFC's example, any pieces, and what the simplest code says of the same."""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.testing.scaling import grows_linearly
from postroom.trust.dkim import canon
from postroom.trust.dkim.canon import BodyHasher, Part

BODIES = st.lists(
    st.sampled_from([b" ", b"\t", b"\r\n", b"\r\n\r\n", b"a", b"b c", b"  ", b"\r", b"\n"]),
    max_size=25,
).map(b"".join)


def plainly(body: bytes, how: str) -> bytes:
    """RFC 6376 §3.4.3 and §3.4.4, word for word."""
    if how == "relaxed":
        body = re.sub(rb"[ \t]+(?=\r\n|\Z)", b"", re.sub(rb"[ \t]+", b" ", body))
    body = re.sub(rb"(\r\n)+\Z", b"", body)
    return body + b"\r\n" if body or how == "simple" else b""


def hashed(pieces: list[bytes], part: Part) -> tuple[bytes, int]:
    body = BodyHasher((part, Part("simple"), Part("relaxed")))
    for piece in pieces:
        body.feed(piece)
    body.finish()
    return body.of(part)


@given(
    body=BODIES,
    cuts=st.lists(st.integers(0, 60), max_size=6),
    how=st.sampled_from(["simple", "relaxed"]),
)
@settings(max_examples=400)
def test_a_body_in_any_pieces_is_what_the_rfc_says(body: bytes, cuts: list[int], how: str) -> None:
    ends = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(ends)]
    expected = plainly(body, how)
    assert hashed(pieces, Part(how)) == (hashlib.sha256(expected).digest(), len(expected))


@given(body=BODIES, limit=st.integers(0, 40))
def test_a_limit_hashes_a_beginning_and_counts_all(body: bytes, limit: int) -> None:
    expected = plainly(body, "relaxed")
    digest = hashlib.sha256(expected[:limit]).digest()
    assert hashed([body], Part("relaxed", limit)) == (digest, len(expected))


@pytest.mark.parametrize(
    ("how", "fields", "body"),
    [
        ("relaxed", b"a:X\r\nb:Y Z\r\n", b" C\r\nD E\r\n"),
        ("simple", b"A: X\r\nB : Y\t\r\n\tZ  \r\n", b" C \r\nD \t E\r\n"),
    ],
)
def test_the_example_of_the_rfc(how: str, fields: bytes, body: bytes) -> None:
    """RFC 6376 §3.4.5."""
    made = canon.field(b"A", b"A: X\r\n", b" X", how)
    made += canon.field(b"B", b"B : Y\t\r\n\tZ  \r\n", b" Y\t\r\n\tZ  ", how)
    assert made == fields
    given_body = b" C \r\nD \t E\r\n\r\n\r\n"
    assert hashed([given_body], Part(how))[0] == hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("how", "digest"),
    [
        ("simple", "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),
        ("relaxed", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    ],
)
def test_the_hash_of_an_empty_body(how: str, digest: str) -> None:
    """RFC 6376 §3.4.3, §3.4.4."""

    assert base64.b64encode(hashed([], Part(how))[0]).decode() == digest


@pytest.mark.parametrize("unit", [b"\r\n", b" ", b"\t \r\n", b"\r", b"a \r\n", b" a"])
def test_no_body_costs_more_than_its_length(unit: bytes) -> None:
    def run(body: bytes) -> None:
        hashed([body[at : at + 1460] for at in range(0, len(body), 1460)], Part("relaxed"))

    small = unit * (100_000 // len(unit))
    assert grows_linearly(run, small, small * 8, 8)
