"""What commands say: read by a server, written by a client, and the one from the other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.wire.pop3 import (
    Auth,
    BadArgument,
    Command,
    Line,
    Receiver,
    auth_command,
    auth_line,
    command,
    parse_auth,
    parse_auth_line,
    parse_nothing,
    parse_number,
    parse_optional_number,
    parse_password,
    parse_top,
    parse_user,
)
from postroom.wire.pop3.limits import AUTH_LINE_CAP


def argument(line: bytes) -> bytes:
    receiver = Receiver()
    receiver.feed(line)
    found = receiver.next()
    assert isinstance(found, Command)
    return found.argument


def test_numbers() -> None:
    assert (parse_number(b"1"), parse_number(b" 0007 ")) == (1, 7)
    assert (parse_optional_number(b""), parse_optional_number(b"12")) == (None, 12)
    assert parse_top(b"3  10 ") == (3, 10)
    for bad in (b"", b"x", b"-1", b"+1", b"1.0", b"1 2", b"0x1", b"1" * 11, b"\xd9\xa1", b"\xb2"):
        with pytest.raises(BadArgument):
            parse_number(bad)
    for bad in (b"", b"1", b"1 2 3", b"a 1", b"1 a", b"1 -1"):
        with pytest.raises(BadArgument):
            parse_top(bad)


def test_nothing_may_be_spaces() -> None:
    parse_nothing(b"")
    parse_nothing(b"  ")
    with pytest.raises(BadArgument):
        parse_nothing(b" x")


def test_names_and_passwords() -> None:
    assert parse_user(b" ann@example.test ") == "ann@example.test"
    assert parse_user("zoë".encode()) == "zoë"
    assert "�" in parse_user(b"zo\xeb")  # nobody's name, and refused like any other
    assert parse_password(b" two  words ") == b" two  words "
    for bad in (b"", b"  "):
        with pytest.raises(BadArgument):
            parse_user(bad)
    with pytest.raises(BadArgument):
        parse_password(b"")


def test_auth() -> None:
    assert parse_auth(b"") is None
    assert parse_auth(b"plain") == Auth("PLAIN")
    assert parse_auth(b"PLAIN =") == Auth("PLAIN", b"")
    assert parse_auth(b"SCRAM-SHA-256-PLUS  YWI=") == Auth("SCRAM-SHA-256-PLUS", b"ab")
    for bad in (b"PLAIN a", b"PLAIN AA== x", b"x" * 21, b"PL\xc3AIN", b"P.", b"PLAIN ===="):
        with pytest.raises(BadArgument):
            parse_auth(bad)
    assert parse_auth_line(b"*") is None
    assert parse_auth_line(b"") == b""
    for bad in (b"YWI", b"Y WI=", b"YWI=YWI=", b"\xff"):
        with pytest.raises(BadArgument):
            parse_auth_line(bad)


def test_a_client_cannot_be_made_to_say_two_commands() -> None:
    """Attack class 3."""
    for bad in ("x\r\nDELE 1", "x\n", "x\r", "x\0", "\x7f", b"x\r\nQUIT"):
        with pytest.raises(BadArgument):
            command("USER", bad)


@settings(max_examples=100)
@given(st.binary(max_size=3000), st.sampled_from(["PLAIN", "SCRAM-SHA-256"]))
def test_what_a_client_says_is_what_a_server_reads(data: bytes, mechanism: str) -> None:
    for initial in (None, data):
        said = Auth(mechanism, initial)
        assert parse_auth(argument(auth_command(said))) == said
    receiver = Receiver()
    receiver.expect_line(AUTH_LINE_CAP)
    receiver.feed(auth_line(data))
    heard = receiver.next()
    assert isinstance(heard, Line)
    assert parse_auth_line(heard.data) == data
    assert auth_line(None) == b"*\r\n"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=50))
def test_any_password_goes_over_the_line(password: str) -> None:
    assert parse_password(argument(command("PASS", password))) == password.encode()
