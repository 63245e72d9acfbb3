"""Signing in by SCRAM: nothing is said that is worth hearing, and a false server is found out."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from postroom.core.errors import Status
from postroom.net.smtp import Credentials, Fate, OpenFailed, Phase
from postroom.wire.sasl import ITERATIONS_LEAST, ScramServer, Verifier, parse_client_first

from .sending import play, ready

ANN = Credentials("ann", "swordfish")
NONCE = "rOprNGfwEbeRWgbNEkqO"


def server(
    password: str, *, end: Callable[[bytes], list[bytes]] = lambda said: [b"334 " + said]
) -> tuple[Callable[[bytes], bytes | None], list[bytes]]:
    """A server that knows `password`; `end` is what it does with its proof."""
    said: list[bytes] = []
    exchange: list[ScramServer] = []

    def answer(octets: bytes) -> bytes | None:
        line = octets.strip()
        said.append(line)
        if line.startswith(b"AUTH SCRAM-SHA-256 "):
            first = parse_client_first(base64.b64decode(line.split()[2]))
            made = ScramServer(first, plus=False, binding=b"")
            exchange.append(made)
            verifier = Verifier.of(password.encode(), b"salt" * 4, ITERATIONS_LEAST)
            return b"334 " + base64.b64encode(made.challenge(verifier, "server")) + b"\r\n"
        if not line or line == b"*":
            return b"235 welcome\r\n" if not line else b"501 cancelled\r\n"
        final = exchange[0].finish(base64.b64decode(line))
        if final is None:
            return b"535 5.7.8 wrong\r\n"
        return b"\r\n".join(end(base64.b64encode(final))) + b"\r\n"

    return answer, said


def test_scram_is_preferred_and_says_no_password() -> None:
    session = ready("AUTH PLAIN LOGIN SCRAM-SHA-256", secured=True)
    answer, said = server("swordfish")
    play(session.authenticate(ANN, NONCE), answer)
    assert session.signed_in == "SCRAM-SHA-256"
    heard = b"".join(base64.b64decode(each.split()[-1]) for each in said if each)
    assert b"swordfish" not in heard
    assert b"n=ann" in heard


def test_a_wrong_password_is_temporary() -> None:
    session = ready("AUTH SCRAM-SHA-256", secured=True)
    answer, _ = server("trout")
    with pytest.raises(OpenFailed) as failed:
        play(session.authenticate(ANN, NONCE), answer)
    assert (failed.value.answer.code, failed.value.fate) == (535, Fate.TEMPORARY)


def test_a_server_that_does_not_know_the_password_is_not_believed() -> None:
    for end in (
        lambda said: [b"235 welcome"],  # it says yes without a proof
        lambda said: [b"334 " + base64.b64encode(b"v=" + base64.b64encode(b"x" * 32))],
    ):
        session = ready("AUTH SCRAM-SHA-256", secured=True)
        answer, _ = server("swordfish", end=end)
        with pytest.raises(OpenFailed) as failed:
            play(session.authenticate(ANN, NONCE), answer)
        assert failed.value.phase is Phase.AUTH
        assert failed.value.answer.status == Status(4, 7, 0)
        assert session.signed_in == ""


def test_without_a_nonce_scram_is_not_spoken() -> None:
    session = ready("AUTH PLAIN SCRAM-SHA-256", secured=True)
    play(session.authenticate(ANN), lambda octets: b"235 welcome\r\n")
    assert session.signed_in == "PLAIN"


def test_a_name_that_scram_cannot_say_fails_here() -> None:
    session = ready("AUTH SCRAM-SHA-256", secured=True)
    with pytest.raises(OpenFailed) as failed:
        play(session.authenticate(Credentials("an\u0007n", "x"), NONCE), lambda octets: None)
    assert (failed.value.phase, failed.value.fate) == (Phase.AUTH, Fate.TEMPORARY)
