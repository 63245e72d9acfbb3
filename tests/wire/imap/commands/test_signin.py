"""LOGIN, AUTHENTICATE, ENABLE, ID, and the commands that take nothing."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import (
    GRAMMAR,
    Authenticate,
    BadSyntax,
    Enable,
    Id,
    Login,
    Nothing,
    astring,
    nstring,
    parenthesised,
    parse_nothing,
    sasl_response,
)
from tests.wire.imap.commands.reading import read

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NOTHING = sorted(name for name, parse in GRAMMAR.items() if parse is parse_nothing)


@pytest.mark.parametrize("name", NOTHING)
def test_a_command_without_arguments_takes_none(name: bytes) -> None:
    assert read(name) == Nothing()
    for more in (b" ", b" x", b" {0+}\r\n"):
        with pytest.raises(BadSyntax):
            read(name + more)


def test_login() -> None:
    assert read(b"LOGIN SMITH SESAME") == Login("SMITH", "SESAME")  # RFC 9051 §6.2.3
    assert read(b'login "a b" "p\\"w"') == Login("a b", 'p"w')
    assert read(b"LOGIN {4}\r\na\r\nb {2+}\r\n\xc3\xa9") == Login("a\r\nb", "é")


@given(TEXT, TEXT)
def test_logins_round_trip(user: str, password: str) -> None:
    line = b"LOGIN " + astring(user.encode()) + b" " + astring(password.encode())
    assert read(line) == Login(user, password)


def test_a_password_does_not_show() -> None:
    assert "SESAME" not in repr(Login("SMITH", "SESAME"))
    assert "SESAME" not in repr(Authenticate("PLAIN", b"\0SMITH\0SESAME"))


@pytest.mark.parametrize(
    "line", [b"LOGIN", b"LOGIN a", b"LOGIN a b c", b"LOGIN a b ", b'LOGIN a "\xff"', b"LOGIN (a) b"]
)
def test_what_is_no_login_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)


def test_authenticate() -> None:
    assert read(b"AUTHENTICATE gssapi") == Authenticate("GSSAPI")
    assert read(b"AUTHENTICATE PLAIN dGVzdAB0ZXN0AHRlc3Q=") == Authenticate(
        "PLAIN", b"test\0test\0test"
    )  # RFC 4959 §4
    assert read(b"AUTHENTICATE EXTERNAL =") == Authenticate("EXTERNAL", b"")


@given(st.binary())
def test_sasl_octets_round_trip(octets: bytes) -> None:
    encoded = base64.b64encode(octets)
    assert sasl_response(encoded) == octets
    assert read(b"AUTHENTICATE X " + (encoded or b"=")) == Authenticate("X", octets)


def test_a_client_may_cancel() -> None:
    assert sasl_response(b"*") is None


@pytest.mark.parametrize(
    "encoded", [b"a", b"ab=", b"ab==c", b"a b=", b"====", b"YQ==YQ==", b"\xff"]
)
def test_what_is_not_base64_is_refused(encoded: bytes) -> None:
    with pytest.raises(BadSyntax):
        sasl_response(encoded)
    with pytest.raises(BadSyntax):
        read(b"AUTHENTICATE PLAIN " + encoded)


def test_enable() -> None:
    assert read(b"ENABLE condstore UTF8=ACCEPT") == Enable(("CONDSTORE", "UTF8=ACCEPT"))
    for line in (b"ENABLE", b"ENABLE ", b"ENABLE  X", b'ENABLE "X"'):
        with pytest.raises(BadSyntax):
            read(line)


def test_id() -> None:
    assert read(b"ID NIL") == Id(())  # RFC 2971 §3.1
    assert read(b"ID ()") == Id(())
    assert read(b'ID ("name" "sodr" "version" "19.34" "vendor" NIL)') == Id(
        (("name", "sodr"), ("version", "19.34"), ("vendor", None))
    )


@given(st.lists(st.tuples(TEXT.filter(lambda t: len(t) < 8), TEXT | st.none()), max_size=30))
def test_ids_round_trip(fields: list[tuple[str, str | None]]) -> None:
    parts = [nstring(None if word is None else word.encode()) for field in fields for word in field]
    assert read(b"ID " + parenthesised(parts)) == Id(tuple(fields))


@pytest.mark.parametrize(
    "line",
    [
        b"ID",
        b"ID x",
        b'ID "x"',
        b'ID ("a")',
        b'ID (NIL "a")',
        b"ID (" + b'"a" "b" ' * 30 + b'"a" "b")',
        b'ID ("' + b"a" * 31 + b'" "b")',
        b'ID ("a" "' + b"b" * 1025 + b'")',
    ],
)
def test_what_is_no_id_is_refused(line: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(line)
