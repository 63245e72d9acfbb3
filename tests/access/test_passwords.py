"""postroom.access.passwords: preparation, strength, verifiers."""

from __future__ import annotations

import random
import unicodedata

import argon2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.access import passwords
from postroom.access.passwords import Cost
from postroom.access.settings import SCRAM_ITERATIONS, AccessSettings
from postroom.core.errors import Corrupt, Malformed, NotAllowed
from postroom.wire.sasl import Verifier, parse_verifier, password_octets, saslprep

CHEAP = Cost(8, 1, 1)


@pytest.mark.parametrize(
    ("typed", "prepared"),
    [
        # RFC 8265 §4.3, examples 12 to 15.
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("πßå", "πßå"),
        ("Jack of ♦s", "Jack of ♦s"),
        # Example 16: an Ogham space is a space.
        ("foo\u1680bar", "foo bar"),
        ("A\u030angstrom", "\u00c5ngstrom"),
        (b"caf\xc3\xa9", "caf\u00e9"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
    ],
)
def test_the_same_keys_give_the_same_octets(typed: str | bytes, prepared: str) -> None:
    assert passwords.prepare(typed) == prepared.encode()


@pytest.mark.parametrize(
    "typed",
    # RFC 8265 §4.3, examples 17 and 18, and what else breaks out or hides.
    [
        "",
        "my cat is a \tby",
        "a\x00b",
        "a\r\nb",
        "\x7f",
        "\u202eabc",
        "\ud800",
        b"\xff\xfe",
        "x" * 1025,
    ],
)
def test_what_can_be_no_password_is_refused(typed: str | bytes) -> None:
    with pytest.raises(Malformed):
        passwords.prepare(typed)


def test_the_bound_is_in_octets() -> None:
    assert len(passwords.prepare("é" * 512)) == 1024
    with pytest.raises(Malformed):
        passwords.prepare("é" * 513)


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_preparing_twice_changes_nothing(text: str) -> None:
    try:
        once = passwords.prepare(text)
    except Malformed:
        return
    assert passwords.prepare(once) == once
    assert unicodedata.is_normalized("NFC", once.decode())


def test_strength_is_what_the_settings_say() -> None:
    passwords.check_strength("12345678", "ann")
    with pytest.raises(NotAllowed, match="at least 8"):
        passwords.check_strength("1234567", "ann")
    with pytest.raises(NotAllowed, match="name"):
        passwords.check_strength("xxANNelixx", "anneli")
    passwords.check_strength("joanna-of-arc", "jo")  # two letters are in many a password
    passwords.check_strength("xxannelixx", "anneli", AccessSettings(password_without_name=False))
    with pytest.raises(NotAllowed):
        passwords.check_strength("x" * 19, "ann", AccessSettings(password_length=20))


def test_a_verifier_knows_its_password_and_no_other() -> None:
    secret = passwords.make_secret("Åbc def", CHEAP).password
    assert secret.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert passwords.verify(secret, passwords.prepare("A\u030abc def"))
    assert not passwords.verify(secret, passwords.prepare("Åbc deg"))


def test_default_cost_is_owasps() -> None:
    assert passwords.make_secret("long enough").password.startswith(
        "$argon2id$v=19$m=19456,t=2,p=1$"
    )


def test_a_decoy_costs_the_same_and_opens_for_nobody() -> None:
    decoy = passwords.decoy(CHEAP)
    assert argon2.extract_parameters(decoy) == argon2.extract_parameters(
        passwords.make_secret("x", CHEAP).password
    )
    assert not passwords.verify(decoy, b"anything")
    assert passwords.decoy(CHEAP) != decoy


def test_a_verifier_of_another_cost_is_stale() -> None:
    made = passwords.make_secret("some password", CHEAP)
    secret, scram = made.password, made.scram
    assert not passwords.is_stale(secret, scram, CHEAP)
    assert passwords.is_stale(secret, scram, Cost(16, 1, 1))
    assert passwords.is_stale(secret, scram, Cost(8, 2, 1))
    assert passwords.is_stale(secret, scram, Cost(8, 1, 1, 4096))
    assert passwords.is_stale(secret, None, CHEAP)
    assert passwords.is_stale(secret, "damaged", CHEAP)  # a new one mends it
    with pytest.raises(Corrupt):
        passwords.is_stale("damaged", scram, CHEAP)


def test_the_scram_verifier_is_of_what_clients_prove() -> None:
    """SASLprep on their side, OpaqueString on ours first: one keyboard, one verifier."""
    for typed in ("correct horse", "A\u030abc\u00a0def", "\u2168 lives", "\U0001f511 key"):
        kept = parse_verifier(passwords.make_secret(typed, CHEAP).scram)
        assert kept.iterations == SCRAM_ITERATIONS
        assert len(kept.salt) == 16
        assert Verifier.of(password_octets(typed), kept.salt, kept.iterations) == kept


@given(st.text(max_size=20))
@settings(max_examples=300)
def test_what_is_prepared_twice_is_what_clients_prepare_once(typed: str) -> None:
    try:
        prepared = passwords.prepare(typed).decode()
        saslprep(typed)
    except Malformed:
        return  # no password, or none that SASLprep takes
    assert password_octets(prepared) == password_octets(typed)


def test_a_scram_decoy_is_stable_and_looks_like_the_others() -> None:
    decoy = parse_verifier(passwords.scram_decoy(b"k" * 32, "bob@a.example", CHEAP))
    real = parse_verifier(passwords.make_secret("some password", CHEAP).scram)
    assert (decoy.iterations, len(decoy.salt)) == (real.iterations, len(real.salt))
    assert passwords.scram_decoy(b"k" * 32, "bob@a.example", CHEAP) == decoy.text()
    salts = {
        parse_verifier(passwords.scram_decoy(key, login, CHEAP)).salt
        for key in (b"k" * 32, b"l" * 32)
        for login in ("bob@a.example", "cat@a.example", "\ud800")
    }
    assert len(salts) == 6


@pytest.mark.parametrize("damaged", ["", "x", "$argon2id$v=19$m=8,t=1,p=1$$", "$1$abc$def"])
def test_a_damaged_verifier_is_no_wrong_password(damaged: str) -> None:
    with pytest.raises(Corrupt):
        passwords.verify(damaged, b"x")


def test_random_passwords_are_long_distinct_and_sayable() -> None:
    made = {passwords.random_password() for _ in range(200)}
    assert len(made) == 200
    for password in made:
        assert len(password) == 23
        assert not set(password) & set("01ilouILOU")
        passwords.check_strength(password, "admin")
    assert passwords.random_password(random.Random(1)) == passwords.random_password(
        random.Random(1)
    )
