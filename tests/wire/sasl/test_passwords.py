"""PLAIN and LOGIN, and which mechanism a client chooses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.wire.sasl import (
    LONGEST,
    Client,
    LoginClient,
    Plain,
    PlainClient,
    ScramClient,
    choose,
    parse_answer,
    parse_plain,
)

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@given(WORDS, WORDS, WORDS)
@settings(max_examples=200)
def test_plain_reads_back(authzid: str, login: str, password: str) -> None:
    said = Plain(authzid, login, password)
    assert parse_plain(said.render()) == said


def test_plain_as_the_rfc_writes_it() -> None:
    assert parse_plain(b"\0tim\0tanstaaftanstaaf") == Plain("", "tim", "tanstaaftanstaaf")
    assert parse_plain(b"Ursel\0Kurt\0xipj3plmq") == Plain("Ursel", "Kurt", "xipj3plmq")
    assert "xipj3plmq" not in repr(parse_plain(b"Ursel\0Kurt\0xipj3plmq"))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"ann",
        b"ann\0secret",
        b"\0ann\0sec\0ret",
        b"\0ann\0\xff",
        b"\xc0\x80\0ann\0secret",
        b"\0" * 5000,
        b"\0ann\0" + b"x" * LONGEST,
    ],
)
def test_what_is_no_plain(message: bytes) -> None:
    with pytest.raises(Malformed):
        parse_plain(message)


@pytest.mark.parametrize("message", [b"\xff", b"ann\0", b"x" * (LONGEST + 1)])
def test_what_is_no_answer_to_login(message: bytes) -> None:
    with pytest.raises(Malformed):
        parse_answer(message)


def test_plain_cannot_say_a_nul() -> None:
    with pytest.raises(Malformed):
        PlainClient("ann", "sec\0ret")


def test_login_answers_in_order_whatever_the_prompts_say() -> None:
    client = LoginClient("ann", "secret")
    assert client.start() is None
    assert client.step(b"User Name\0") == b"ann"
    open_still = not client.done
    assert client.step(b"Passwort:") == b"secret"
    assert open_still
    assert client.done
    assert client.step(b"and your card's number?") is None
    assert client.problem


def test_plain_says_all_at_once_and_no_more() -> None:
    client = PlainClient("ann", "secret", authzid="bob")
    assert client.start() == b"bob\0ann\0secret"
    assert client.done
    assert client.step(b"") is None


@pytest.mark.parametrize(
    ("offered", "binding", "name"),
    [
        (["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], b"x", "SCRAM-SHA-256-PLUS"),
        (["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], b"", "SCRAM-SHA-256"),
        (["plain", "scram-sha-1"], b"x", "SCRAM-SHA-1"),
        (["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN"], b"x", "SCRAM-SHA-1-PLUS"),
        (["LOGIN", "PLAIN", "CRAM-MD5"], b"x", "PLAIN"),
        (["LOGIN"], b"", "LOGIN"),
        (["CRAM-MD5", "XOAUTH2"], b"", None),
    ],
)
def test_a_client_takes_the_strongest(offered: list[str], binding: bytes, name: str | None) -> None:
    client: Client | None = choose(offered, "ann", "secret", "nonce", binding=binding)
    assert (client.name if client is not None else None) == name


def test_a_client_that_could_bind_says_so() -> None:
    client = choose(["SCRAM-SHA-256"], "ann", "secret", "nonce", binding=b"x")
    assert isinstance(client, ScramClient)
    assert client.start() == b"y,,n=ann,r=nonce"
