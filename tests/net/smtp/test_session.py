"""Opening a session, without a socket: greeting, EHLO, STARTTLS, AUTH, and what is offered."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import pytest

from postroom.core.errors import Misuse, Status
from postroom.net.smtp import Credentials, Fate, OpenFailed, Phase, Session

from .sending import HELLO, Octets, play, ready, script

ANN = Credentials("ann", "secret")


def fresh(*, lmtp: bool = False, secured: bool = False) -> Session:
    return Session("mx.example", HELLO, lmtp=lmtp, secured=secured)


def b64(text: bytes) -> bytes:
    return base64.b64encode(text)


@pytest.mark.parametrize("greeting", [b"220 a\r\n", b"220-a\r\n220 b\r\n", b"250 a\r\n"])
def test_a_greeting_is_judged_by_its_first_digit(greeting: bytes) -> None:
    session = fresh()
    play(session.greeting(), script(), greeting)
    assert session.banner.startswith("a")


@pytest.mark.parametrize(
    ("greeting", "fate", "status"),
    [
        (b"554 5.7.1 go away\r\n", Fate.PERMANENT, Status(5, 7, 1)),
        (b"521 no mail here\r\n", Fate.PERMANENT, Status(5, 0, 0)),
        (b"450 later\r\n", Fate.TEMPORARY, Status(4, 0, 0)),
        (b"421 4.3.2 busy\r\n", Fate.TEMPORARY, Status(4, 3, 2)),
        (b"354 what\r\n", Fate.TEMPORARY, Status(4, 5, 0)),
        (b"SSH-2.0-OpenSSH\r\n", Fate.TEMPORARY, Status(4, 5, 0)),
        (b"220 no end", Fate.TEMPORARY, Status(4, 4, 2)),
        (b"220-" + b"x" * 9000, Fate.TEMPORARY, Status(4, 5, 0)),
    ],
)
def test_a_host_that_does_not_greet_well(greeting: bytes, fate: Fate, status: Status) -> None:
    with pytest.raises(OpenFailed) as failed:
        play(fresh().greeting(), script(), greeting)
    assert (failed.value.phase, failed.value.fate) == (Phase.GREETING, fate)
    assert failed.value.answer.status == status


@pytest.mark.parametrize("code", [500, 502])
def test_helo_only_where_ehlo_is_not_known(code: int) -> None:
    session, server = fresh(), script(f"{code} what", "250 hello")
    play(session.hello(), server)
    assert server.said == [b"EHLO client.example\r\n", b"HELO client.example\r\n"]
    assert not session.offers.keywords


@pytest.mark.parametrize(
    ("code", "fate"),
    [(550, Fate.PERMANENT), (501, Fate.PERMANENT), (504, Fate.PERMANENT), (451, Fate.TEMPORARY)],
)
def test_another_refusal_of_ehlo_stands(code: int, fate: Fate) -> None:
    server = script(f"{code} no", "250 hello")
    with pytest.raises(OpenFailed) as failed:
        play(fresh().hello(), server)
    assert (failed.value.fate, failed.value.answer.code) == (fate, code)
    assert len(server.said) == 1


def test_lmtp_greets_in_its_own_way_and_falls_back_to_nothing() -> None:
    server = script("500 what", "250 hello")
    with pytest.raises(OpenFailed):
        play(fresh(lmtp=True).hello(), server)
    assert server.said == [b"LHLO client.example\r\n"]


def test_421_to_ehlo_ends_the_connection() -> None:
    session = fresh()
    with pytest.raises(OpenFailed) as failed:
        play(session.hello(), script("421 4.3.2 not now"))
    assert failed.value.fate is Fate.TEMPORARY
    assert session.over


def test_what_is_offered_is_read() -> None:
    offers = ready(
        "pipelining", "SIZE 1000", "AUTH plain LOGIN", "LIMITS MAILMAX=5 RCPTMAX=7 X=1"
    ).offers
    assert "PIPELINING" in offers
    assert "CHUNKING" not in offers
    assert (offers.size, offers.mechanisms) == (1000, ("PLAIN", "LOGIN"))
    assert (offers.mail_max, offers.rcpt_max, offers.domain_max) == (5, 7, None)


@pytest.mark.parametrize("said", ["SIZE", "SIZE 0", "SIZE many", "SIZE -1", "SIZE " + "9" * 30])
def test_a_size_that_names_no_limit(said: str) -> None:
    assert ready(said).offers.size is None


@pytest.mark.parametrize("said", ["RCPTMAX=0", "RCPTMAX=-1", "RCPTMAX=1234567", "RCPTMAX", "=3"])
def test_limits_that_are_malformed_are_not_said(said: str) -> None:
    """RFC 9422"""
    assert ready(f"LIMITS {said}").offers.rcpt_max is None


def test_all_that_was_said_before_tls_is_forgotten() -> None:
    """RFC 3207 §4.2"""
    session = ready("STARTTLS", "CHUNKING", "SIZE 1000")
    assert play(session.starttls(), script("220 go")).positive
    session.forget()
    assert not session.offers.keywords
    assert session.offers.size is None
    play(session.hello(), script(["250-mx", "250 8BITMIME"]))
    assert list(session.offers.keywords) == ["8BITMIME"]


def test_a_strange_answer_to_starttls_ends_it() -> None:
    session = ready("STARTTLS")
    with pytest.raises(OpenFailed):
        play(session.starttls(), script("354 go"))
    assert session.over


# --- AUTH ------------------------------------------------------------------------------------


def test_plain_says_all_at_once() -> None:
    session, server = ready("AUTH LOGIN PLAIN", secured=True), script("235 welcome")
    play(session.authenticate(ANN), server)
    assert server.said == [b"AUTH PLAIN " + b64(b"\0ann\0secret") + b"\r\n"]
    assert session.signed_in == "PLAIN"


def test_login_answers_two_challenges() -> None:
    session = ready("AUTH LOGIN", secured=True)
    server = script("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 welcome")
    play(session.authenticate(ANN), server)
    assert server.said == [b"AUTH LOGIN\r\n", b64(b"ann") + b"\r\n", b64(b"secret") + b"\r\n"]


def test_an_initial_response_too_long_for_a_line_waits_for_the_challenge() -> None:
    """RFC 4954 §4"""
    long = Credentials("ann", "s" * 5_000)
    session, server = ready("AUTH PLAIN", secured=True), script("334 ", "235 welcome")
    play(session.authenticate(long), server)
    assert server.said[0] == b"AUTH PLAIN\r\n"
    assert base64.b64decode(server.said[1]) == b"\0ann\0" + b"s" * 5_000


def test_nothing_is_said_without_tls() -> None:
    server = script("235 welcome")
    with pytest.raises(OpenFailed) as failed:
        play(ready("AUTH PLAIN").authenticate(ANN), server)
    assert server.said == []
    assert failed.value.answer.status == Status(5, 7, 11)
    assert failed.value.fate is Fate.TEMPORARY


@pytest.mark.parametrize("offer", ["AUTH CRAM-MD5", "AUTH", "SIZE 1"])
def test_no_mechanism_that_fits(offer: str) -> None:
    with pytest.raises(OpenFailed) as failed:
        play(ready(offer, secured=True).authenticate(ANN), script())
    assert failed.value.phase is Phase.AUTH


def test_a_refused_sign_in_is_temporary_for_the_mail() -> None:
    with pytest.raises(OpenFailed) as failed:
        play(ready("AUTH PLAIN", secured=True).authenticate(ANN), script("535 5.7.8 wrong"))
    assert failed.value.fate is Fate.TEMPORARY
    assert (failed.value.answer.code, failed.value.answer.status) == (535, Status(5, 7, 8))


def test_a_challenge_that_is_no_base64_is_cancelled() -> None:
    server = script("334 !!!", "501 5.5.2 cancelled")
    with pytest.raises(OpenFailed):
        play(ready("AUTH LOGIN", secured=True).authenticate(ANN), server)
    assert server.said == [b"AUTH LOGIN\r\n", b"*\r\n"]


def test_challenges_without_end_are_given_up() -> None:
    session, server = ready("AUTH LOGIN", secured=True), script(*["334 "] * 100)
    with pytest.raises(OpenFailed) as failed:
        play(session.authenticate(ANN), server)
    assert len(server.said) == 16
    assert failed.value.answer.status == Status(4, 5, 0)
    assert session.over


@dataclass
class Counting:
    """A mechanism of three rounds."""

    name: str = "X-COUNT"
    done: bool = True
    problem: str = ""
    seen: list[bytes] = field(default_factory=list)

    def start(self) -> bytes | None:
        return b""

    def step(self, challenge: bytes) -> bytes | None:
        self.seen.append(challenge)
        return b"%d" % len(self.seen)


def test_another_mechanism_may_be_brought() -> None:
    mechanism, session = Counting(), ready("AUTH X-COUNT", secured=True)
    server = script("334 YQ==", "334 Yg==", "235 welcome")
    play(session.authenticate(mechanism), server)
    assert mechanism.seen == [b"a", b"b"]
    assert server.said == [b"AUTH X-COUNT =\r\n", b64(b"1") + b"\r\n", b64(b"2") + b"\r\n"]


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(ANN)


@pytest.mark.parametrize("name", ["", "a b", "a\r\nRCPT TO:<x>", "bücher.example", "[1.2.3]"])
def test_a_name_that_cannot_be_said(name: str) -> None:
    with pytest.raises(Misuse):
        Session("mx.example", name)


# --- the end ---------------------------------------------------------------------------------


def test_reset_tells_whether_the_server_is_there() -> None:
    session = ready()
    assert play(session.reset(), script("250 ok"))
    assert not session.over
    assert not play(session.reset(), script())
    assert session.over


@pytest.mark.parametrize("answer", ["221 bye", "500 what", "garbage"])
def test_quit_takes_any_answer(answer: str) -> None:
    session, server = ready(), script(answer)
    play(session.quit(), server)
    assert server.said == [b"QUIT\r\n"]
    assert session.over


def test_a_content_is_measured_against_the_offers() -> None:
    assert ready().needs(Octets(b"plain\r\n")) is None
    need = ready().needs(Octets("é\r\n".encode()))
    assert need is not None
    assert need.name == "EIGHT_BIT"
    need = ready("8BITMIME", "CHUNKING").needs(Octets(b"\0", binary=True))
    assert need is not None
    assert need.name == "BINARY"
    assert ready("8BITMIME", "CHUNKING", "BINARYMIME").needs(Octets(b"\0", binary=True)) is None
