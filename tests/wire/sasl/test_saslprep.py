"""SASLprep: the RFC's examples, what it refuses, and what SCRAM hashes of a password."""

from __future__ import annotations

import stringprep
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.wire.sasl import password_octets, saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),  # RFC 4013 §3: soft hyphen mapped to nothing
        ("user", "user"),
        ("USER", "USER"),  # case is kept
        ("\u00aa", "a"),  # NFKC
        ("\u2168", "IX"),
        ("a\u00a0b\u3000c", "a b c"),  # RFC 4013 §2.1: other spaces
        ("\u0627\u0628", "\u0627\u0628"),  # right to left throughout
        ("e\u0301", "\u00e9"),
    ],
)
def test_examples(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\u00ad",  # nothing is left
        "\x07",  # RFC 4013 §3
        "a\x7f",
        "\u0627\u0031",  # RFC 4013 §3: ends left to right
        "\u0627a\u0628",  # both directions
        "\u0085",
        "\ue000",  # private use
        "\ufdd0",  # no character
        "\ud800",
        "\u202e",  # changes the direction
        "\u2ff0",
        "\U000e0041",  # a tag
        "\U0001f511",  # not assigned in Unicode 3.2
        "x" * 1025,
    ],
)
def test_what_has_no_prepared_form(text: str) -> None:
    with pytest.raises(Malformed):
        saslprep(text)


@given(st.text(max_size=30))
@settings(max_examples=300)
def test_what_is_prepared_stays_so(text: str) -> None:
    try:
        once = saslprep(text)
    except Malformed:
        return
    assert saslprep(once) == once
    assert not any(map(stringprep.in_table_b1, once))


def test_a_password_that_saslprep_cannot_take_is_hashed_as_it_is() -> None:
    assert password_octets("\U0001f511 key") == "\U0001f511 key".encode()
    assert password_octets("p\u00e4ss\u00a0w\u00f6rd") == "p\u00e4ss w\u00f6rd".encode()
    for impossible in ("", "a\x00b", "\ud800", "\x7f"):
        with pytest.raises(Malformed):
            password_octets(impossible)


def test_long_text_is_not_worth_a_strangers_while() -> None:
    began = time.process_time()
    for text in ("\ufdfa" * 1024, "\u0301" * 1024, "\u0627" * 1024, "a" * 10**6):
        try:
            saslprep(text)
        except Malformed:
            pass
    assert time.process_time() - began < 0.5
