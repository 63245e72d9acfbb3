"""postroom.wire.sasl.bearer. Pure."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.wire.sasl import (
    LONGEST,
    OAUTHBEARER,
    UNDERSTOOD,
    XOAUTH2,
    Bearer,
    BearerClient,
    ExternalClient,
    parse_external,
    parse_oauthbearer,
    parse_xoauth2,
    refusal,
    xoauth2_refusal,
)

NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
TOKENS = st.from_regex(r"[A-Za-z0-9._~+/-]{1,80}=*", fullmatch=True)


def test_the_message_of_the_standard() -> None:
    # RFC 7628 §4.1 in other words: a name with a comma, host and port along.
    message = (
        b"n,a=ann=2Cb@a.example,\x01host=mail.a.example\x01port=143\x01auth=Bearer dF9.4\x01\x01"
    )
    assert parse_oauthbearer(message) == Bearer("ann,b@a.example", "dF9.4")


def test_the_token_may_say_who_it_is() -> None:
    assert parse_oauthbearer(b"n,,\x01auth=bearer t0k\x01\x01") == Bearer("", "t0k")


def test_a_client_that_could_bind_the_channel_is_heard() -> None:
    assert parse_oauthbearer(b"y,,\x01auth=Bearer t\x01\x01").token == "t"


def test_what_is_not_known_is_passed_over() -> None:
    said = parse_oauthbearer(b"n,,\x01mthd=POST\x01path=/\x01post=\x01auth=Bearer t\x01qs=\x01\x01")
    assert said == Bearer("", "t")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,",
        b"n,,\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Basic YQ==\x01\x01",
        b"n,,\x01auth=Bearer t\x01",
        b"n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01",
        b"n,,\x01=Bearer t\x01\x01",
        b"n,,\x01auth Bearer t\x01\x01",
        b"n,b=ann,\x01auth=Bearer t\x01\x01",
        b"n,a=ann=,\x01auth=Bearer t\x01\x01",
        b"n,a=ann\x01auth=Bearer t\x01\x01",
        b"p=tls-exporter,,\x01auth=Bearer t\x01\x01",
        b"n,,\x01auth=Bearer \xff\x01\x01",
        b"n,,\x01auth=Bearer t\xc3\xa9\x01\x01",
        b"n,,\x01auth=Bearer a\nb\x01\x01",
        b"n,,\x01" + b"a=b\x01" * 40 + b"\x01",
        b"n,,\x01auth=Bearer " + b"t" * LONGEST + b"\x01\x01",
    ],
)
def test_what_is_no_oauthbearer(message: bytes) -> None:
    with pytest.raises(Malformed):
        parse_oauthbearer(message)


@pytest.mark.parametrize(
    "message",
    [b"", b"user=ann\x01\x01", b"user=ann\x01auth=Bearer t", b"ann\x01auth=Bearer t\x01\x01"],
)
def test_what_is_no_xoauth2(message: bytes) -> None:
    with pytest.raises(Malformed):
        parse_xoauth2(message)


@given(NAMES, TOKENS)
def test_both_read_back_what_was_said(login: str, token: str) -> None:
    said = Bearer(login, token)
    assert parse_oauthbearer(said.oauthbearer("mail.a.example", 993)) == said
    assert parse_xoauth2(said.xoauth2()) == said


@given(st.binary(max_size=300))
def test_anything_is_understood_or_refused(octets: bytes) -> None:
    for parse in (parse_oauthbearer, parse_xoauth2):
        for message in (octets, b"n,," + octets + b"\x01\x01"):
            try:
                said = parse(message)
            except Malformed:
                continue
            assert said.token.isascii() and said.token


def test_a_token_is_never_shown() -> None:
    assert "s3cret" not in repr(Bearer("ann", "s3cret"))


def test_a_control_character_cannot_be_said() -> None:
    with pytest.raises(Malformed):
        Bearer("ann\x01auth=Bearer other", "t").xoauth2()


def test_the_refusals_are_json() -> None:
    told = json.loads(refusal(scope="mail", configuration="https://id.example/x"))
    assert told == {
        "status": "invalid_token",
        "scope": "mail",
        "openid-configuration": "https://id.example/x",
    }
    assert json.loads(refusal()) == {"status": "invalid_token"}
    assert json.loads(xoauth2_refusal())["status"] == "401"


@pytest.mark.parametrize(("name", "owed"), [(OAUTHBEARER, UNDERSTOOD), (XOAUTH2, b"")])
def test_a_client_that_is_told_why_not_lets_the_server_end_it(name: str, owed: bytes) -> None:
    client = BearerClient(name, Bearer("ann", "t"))
    assert client.start() is not None
    assert client.step(b'{"status":"invalid_token"}') == owed
    assert "invalid_token" in client.problem


def test_external() -> None:
    assert ExternalClient("ann@a.example").start() == b"ann@a.example"
    assert parse_external(b"") == ""
    assert parse_external(b"ann@a.example") == "ann@a.example"
    with pytest.raises(Malformed):
        parse_external(b"a\0b")
    assert ExternalClient().step(b"more") is None
