"""SCRAM: the RFCs' exchanges, both sides against each other, and what neither takes."""

from __future__ import annotations

import base64
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Corrupt, Malformed
from postroom.wire.sasl import (
    ITERATIONS_MOST,
    LONGEST,
    BindingMismatch,
    ScramClient,
    ScramServer,
    Verifier,
    parse_client_final,
    parse_client_first,
    parse_server_final,
    parse_server_first,
    parse_verifier,
    password_octets,
)

SALT = b"0123456789abcdef"
ENDPOINT = bytes(range(32))
PENCIL = Verifier.of(b"pencil", SALT, 4096)
PLAIN_ONE, BOUND_ONE = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"


def opened(first: bytes | None, *, plus: bool = False, binding: bytes = b"") -> ScramServer:
    assert first is not None
    return ScramServer(parse_client_first(first), plus=plus, binding=binding)


def converse(client: ScramClient, server: ScramServer, verifier: Verifier = PENCIL) -> bytes | None:
    """The two to their end; the server's last message, which the client has believed."""
    final = client.step(server.challenge(verifier, "server-nonce"))
    assert final is not None, client.problem
    said = server.finish(final)
    if said is not None:
        assert client.step(said) == b""
        assert client.done
    return said


# --- the vectors ------------------------------------------------------------------------------

VECTORS = [
    (  # RFC 7677 §3
        PLAIN_ONE,
        "rOprNGfwEbeRWgbNEkqO",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
    (  # RFC 5802 §5
        "SCRAM-SHA-1",
        "fyko+d2lbbFgONRv9qkxdawL",
        "3rfcNHYJY1ZVvWVs7j",
        "QSXCR+Q6sek8bf92",
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
]


@pytest.mark.parametrize(
    ("name", "own", "theirs", "salt", "first", "challenge", "final", "last"), VECTORS
)
def test_the_exchanges_of_the_rfcs(
    name: str,
    own: str,
    theirs: str,
    salt: str,
    first: bytes,
    challenge: bytes,
    final: bytes,
    last: bytes,
) -> None:
    verifier = Verifier.of(b"pencil", base64.b64decode(salt), 4096, name)
    client = ScramClient(name, "user", "pencil", own)
    assert client.start() == first
    server = opened(first)
    assert server.challenge(verifier, theirs) == challenge
    assert client.step(challenge) == final
    assert not client.done
    assert server.finish(final) == last
    assert client.step(last) == b""
    assert client.done


def test_a_verifier_as_directories_keep_it() -> None:
    """RFC 5803 §2; PostgreSQL keeps the same."""
    text = PENCIL.text()
    assert text.startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
    assert parse_verifier(text) == PENCIL
    assert parse_verifier(Verifier.of(b"x", SALT, 4096, "SCRAM-SHA-1").text()).hash_name == "sha1"
    assert repr(PENCIL.stored_key) not in repr(PENCIL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
        PENCIL.text().replace("SHA-256", "MD5"),
        PENCIL.text().replace("4096", "0"),
        PENCIL.text().replace("4096", "-1"),
        PENCIL.text().replace("4096", "٤٠٩٦"),
        PENCIL.text().replace("4096", str(ITERATIONS_MOST + 1)),
        PENCIL.text()[:-4],
        PENCIL.text() + "$",
        PENCIL.text().replace("MDEy", "MD~y"),
        "SCRAM-SHA-256$4096:$" + PENCIL.text().rpartition("$")[2],
    ],
)
def test_a_damaged_verifier_is_known_as_one(text: str) -> None:
    with pytest.raises(Corrupt):
        parse_verifier(text)


# --- both sides -------------------------------------------------------------------------------

ASCII = "".join(map(chr, range(32, 127)))
NAMES = st.text(ASCII + "äéж中", min_size=1, max_size=20)
NONCES = st.text(ASCII.translate({32: None, 44: None}), min_size=1, max_size=40)


@given(NAMES, NAMES, NONCES, NONCES, st.binary(min_size=1, max_size=40), st.booleans(), NAMES)
@settings(max_examples=60, deadline=None)
def test_the_right_password_is_proved_on_both_sides(
    login: str, password: str, own: str, theirs: str, salt: bytes, plus: bool, authzid: str
) -> None:
    verifier = Verifier.of(password_octets(password), salt, 4096)
    binding = ENDPOINT if plus else b""
    name = BOUND_ONE if plus else PLAIN_ONE
    client = ScramClient(name, login, password, own, authzid=authzid, binding=binding)
    first = client.start()
    assert first is not None
    read = parse_client_first(first)
    assert (read.login, read.authzid, read.nonce) == (login, authzid, own)
    assert read.render() == first
    server = ScramServer(read, plus=plus, binding=binding)
    assert converse(client, server, verifier) is not None
    liar = ScramClient(name, login, password + "x", own, authzid=authzid, binding=binding)
    again = ScramServer(read, plus=plus, binding=binding)
    final = liar.step(again.challenge(verifier, theirs))
    assert final is not None
    assert again.finish(final) is None


def test_names_hold_commas_and_equals_signs() -> None:
    client = ScramClient(PLAIN_ONE, "a=b,c", "pencil", "abc", authzid=",=")
    assert client.start() == b"n,a==2C=3D,n=a=3Db=2Cc,r=abc"
    assert parse_client_first(b"n,a==2c=3d,n=a=3db=2cc,r=abc").login == "a=b,c"


def test_a_header_is_bound_as_it_was_said() -> None:
    """`=2c` is as good as `=2C`, and what is signed holds the one that was said."""
    first = b"n,a==2c,n=user,r=abc"
    server = opened(first)
    server.challenge(PENCIL, "def")
    with pytest.raises(BindingMismatch):
        server.finish(b"c=biws,r=abcdef,p=" + base64.b64encode(bytes(32)))
    said = base64.b64encode(b"n,a==2c,")
    assert server.finish(b"c=" + said + b",r=abcdef,p=" + base64.b64encode(bytes(32))) is None


def test_unknown_extensions_are_passed_over_and_signed() -> None:
    first = parse_client_first(b"n,,n=user,r=abc,x=1,Y=two")
    assert first.bare == b"n=user,r=abc,x=1,Y=two"
    assert parse_server_first(b"r=abcdef,s=c2FsdA==,i=4096,z=9").iterations == 4096
    assert parse_client_final(b"c=biws,r=abc,q=7,p=cHJvb2Y=").unproven == b"c=biws,r=abc,q=7"
    assert parse_server_final(b"v=cHJvb2Y=,t=1").signature == b"proof"


# --- the channel ------------------------------------------------------------------------------


def test_another_channel_fails() -> None:
    """Somebody in between ends TLS with each side: their certificates differ."""
    client = ScramClient(BOUND_ONE, "user", "pencil", "abc", binding=ENDPOINT[::-1])
    server = opened(client.start(), plus=True, binding=ENDPOINT)
    final = client.step(server.challenge(PENCIL, "def"))
    assert final is not None
    with pytest.raises(BindingMismatch):
        server.finish(final)


def test_an_offer_that_was_taken_out_on_the_way_is_noticed() -> None:
    """RFC 5802 §6: the client could bind and saw no -PLUS; the server had offered it."""
    client = ScramClient(PLAIN_ONE, "user", "pencil", "abc", binding=ENDPOINT)
    with pytest.raises(BindingMismatch):
        opened(client.start(), binding=ENDPOINT)
    assert converse(client, opened(client.start())) is not None  # where there was no such offer


@pytest.mark.parametrize(
    ("first", "plus", "binding"),
    [
        (b"n,,n=user,r=abc", True, ENDPOINT),
        (b"y,,n=user,r=abc", True, ENDPOINT),
        (b"p=tls-server-end-point,,n=user,r=abc", False, ENDPOINT),
        (b"p=tls-unique,,n=user,r=abc", True, ENDPOINT),
        (b"p=tls-exporter,,n=user,r=abc", True, ENDPOINT),
        (b"p=tls-server-end-point,,n=user,r=abc", True, b""),
    ],
)
def test_a_flag_that_does_not_fit_fails(first: bytes, plus: bool, binding: bytes) -> None:
    with pytest.raises(BindingMismatch):
        opened(first, plus=plus, binding=binding)


def test_the_flag_is_signed() -> None:
    """Who turns y into n on the way, so that the downgrade is not noticed, is found out."""
    client = ScramClient(PLAIN_ONE, "user", "pencil", "abc", binding=ENDPOINT)
    said = client.start()
    assert said is not None
    server = opened(b"n" + said[1:], binding=ENDPOINT)
    final = client.step(server.challenge(PENCIL, "def"))
    assert final is not None
    with pytest.raises(BindingMismatch):
        server.finish(final)


# --- replays and lies -------------------------------------------------------------------------


def test_a_final_message_is_good_for_one_exchange() -> None:
    client = ScramClient(PLAIN_ONE, "user", "pencil", "abc")
    first = client.start()
    server = opened(first)
    final = client.step(server.challenge(PENCIL, "def"))
    assert final is not None
    assert server.finish(final) is not None
    again = opened(first)
    again.challenge(PENCIL, "ghi")
    assert again.finish(final) is None
    forged = replace(parse_client_final(final), unproven=b"c=biws,r=abcghi")
    assert again.finish(forged.render()) is None


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    client = ScramClient(PLAIN_ONE, "user", "pencil", "abc")
    assert client.start()
    assert client.step(opened(client.start()).challenge(PENCIL, "def")) is not None
    assert client.step(b"v=" + base64.b64encode(bytes(32))) is None
    assert not client.done
    assert "does not know" in client.problem


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=abc,s=c2FsdA==,i=4096",  # no nonce of its own
        b"r=xyzdef,s=c2FsdA==,i=4096",  # another client's
        b"r=abcdef,s=c2FsdA==,i=4095",  # quick to guess from
        b"r=abcdef,s=c2FsdA==,i=%d" % (ITERATIONS_MOST + 1),
        b"r=abcdef,s=c2FsdA==,i=99999999999999999999",
        b"r=abcdef,s=,i=4096",
        b"r=abcdef,s=c2FsdA==",
        b"m=new,r=abcdef,s=c2FsdA==,i=4096",
        b"e=other-error",
        b"",
        b"r=abcdef,s=c2FsdA==,i=4096,m=new",
    ],
)
def test_a_client_proves_nothing_to_such_a_server(challenge: bytes) -> None:
    client = ScramClient(PLAIN_ONE, "user", "pencil", "abc")
    assert client.step(challenge) is None
    assert client.problem
    assert not client.done


def test_a_server_says_no_and_the_client_hears_why() -> None:
    client = ScramClient(PLAIN_ONE, "user", "pencil", "abc")
    client.step(opened(client.start()).challenge(PENCIL, "def"))
    assert client.step(b"e=invalid-proof") is None
    assert "invalid-proof" in client.problem


# --- grammar ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,,",
        b"n,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"p=,,n=user,r=abc",
        b"p=a_b,,n=user,r=abc",
        b"N,,n=user,r=abc",
        b"n,b=ann,n=user,r=abc",
        b"n,a=,n=user,r=abc",
        b"n,,n=,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,n=user=2,r=abc",
        b"n,,n=user=41,r=abc",
        b"n,,r=abc,n=user",
        b"n,,n=user",
        b"n,,n=user,r=",
        b"n,,n=user,r=a b",
        b"n,,n=user,r=\xc3\xa4",
        b"n,,n=user,r=" + b"x" * 513,
        b"n,,m=new,n=user,r=abc",
        b"n,,n=user,r=abc,m=new",
        b"n,,n=user,r=abc,",
        b"n,,n=user,r=abc,x=",
        b"n,,n=user,r=abc,xx=1",
        b"n,,n=user,r=abc,1=1",
        b"n,,n=us\0er,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,,n=user,r=abc" + b",x=1" * 40,
        b"n,,n=" + b"x" * LONGEST + b",r=abc",
    ],
)
def test_what_is_no_first_message(message: bytes) -> None:
    with pytest.raises(Malformed):
        parse_client_first(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"c=biws,r=abc",
        b"c=biws,p=cHJvb2Y=",
        b"r=abc,c=biws,p=cHJvb2Y=",
        b"c=b,r=abc,p=cHJvb2Y=",
        b"c=biws,r=abc,p=",
        b"c=biws,r=abc,p=cHJvb2Y",
        b"c=biws,r=abc,p=cHJv b2Y=",
        b"c=biws,r=abc,p=cHJvb2Y=,x=1",
        b"c=biws,r=abc,p=" + base64.b64encode(bytes(65)),
        b"c=biws,m=1,r=abc,p=cHJvb2Y=",
    ],
)
def test_what_is_no_final_message(message: bytes) -> None:
    with pytest.raises(Malformed):
        parse_client_final(message)


@pytest.mark.parametrize("message", [b"", b"v=", b"v=x", b"e=", b"x=1", b"v=cHJvb2Y=,m=1"])
def test_what_is_no_last_message(message: bytes) -> None:
    with pytest.raises(Malformed):
        parse_server_final(message)


def test_the_server_is_asked_in_order() -> None:
    with pytest.raises(RuntimeError):
        opened(b"n,,n=user,r=abc").finish(b"c=biws,r=abc,p=cHJvb2Y=")
    with pytest.raises(ValueError, match="bound"):
        ScramClient(BOUND_ONE, "user", "pencil", "abc")


def test_what_is_long_is_refused_in_linear_time() -> None:
    shapes = [b"n,,n=" + b"=2C" * 4000, b"," * 12_000, b"n,,n=u,r=a" + b",x=1" * 3000]
    began = time.process_time()
    for _ in range(20):
        for message in shapes:
            with pytest.raises(Malformed):
                parse_client_first(message)
            with pytest.raises(Malformed):
                parse_client_final(message)
    assert time.process_time() - began < 1
