"""Greeting, CAPA, STLS, USER and PASS, AUTH, UTF8: who is let in, and how it is said. Sockets.

RFC 1939 §4, RFC 2449, RFC 2595, RFC 3206, RFC 5034, RFC 6856.
"""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from postroom.access import Attempt, make_secret
from postroom.core.clock import Instant
from postroom.core.errors import Busy
from postroom.core.settings import Role
from postroom.domain.directory import people
from postroom.domain.directory.people import NewAccount
from postroom.domain.mailboxes import folders
from postroom.formats.address import parse_mailbox
from postroom.protocols.pop3 import session as session_module
from postroom.store.sql import Tx
from postroom.testing.pop3 import Pop3Client
from postroom.testing.scripted import ClosedError
from postroom.wire.pop3 import Challenge, Reply
from postroom.wire.sasl import Client, LoginClient, PlainClient, ScramClient
from tests.protocols.imap.serving import (
    ANN,
    BOB,
    CHEAP,
    DOMAIN,
    PASSWORD,
    client_context,
    message,
)
from tests.protocols.pop3.serving import Pop3Room

MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
PLUS = "SCRAM-SHA-256-PLUS"
ALWAYS = {"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8", "EXPIRE"}


def client_for(room: Pop3Room, name: str, password: str = PASSWORD) -> Client:
    if name == "PLAIN":
        return PlainClient(ANN, password)
    if name == "LOGIN":
        return LoginClient(ANN, password)
    tls = room.workers[0].connections()[0]._session.peer.tls
    assert tls is not None
    binding = tls.endpoint if name.endswith("PLUS") else b""
    return ScramClient(name, ANN, password, "client-nonce", binding=binding)


# --- before anybody has signed in ------------------------------------------------------------


@pytest.mark.rows("ACC-13")
async def test_nothing_that_needs_readable_passwords_is_offered(room: Pop3Room) -> None:
    """For APOP a client looks in the greeting for <timestamp@host>. RFC 1939 §7."""
    for door in ("pop3", "pop3s"):
        client = await room.connect(door)
        assert client.greeting.ok
        assert "<" not in client.greeting.text
        assert not (await client.ask("APOP", ANN, "0" * 32)).ok
        assert not (await client.ask("AUTH", "CRAM-MD5")).ok


async def test_capabilities_by_state(room: Pop3Room) -> None:
    plain = await room.connect("pop3")
    offered = await plain.capa()
    assert offered.keys() == ALWAYS | {"IMPLEMENTATION", "STLS"}
    assert (offered["UTF8"], offered["EXPIRE"]) == (("USER",), ("NEVER",))
    assert (await plain.stls(client_context())).ok
    secure = await room.connect("pop3s")
    assert await plain.capa() == await secure.capa()
    assert (await secure.capa()).keys() == ALWAYS | {"IMPLEMENTATION", "SASL", "USER"}
    assert (await secure.capa())["SASL"] == MECHANISMS
    before = await secure.capa()
    assert (await secure.login(ANN, PASSWORD)).ok
    assert await secure.capa() == before


async def test_nobody_signs_in_before_tls(room: Pop3Room) -> None:
    """RFC 8314 §3; not by [AUTH], which would have the client ask for another password."""
    client = await room.connect("pop3")
    for line in ("USER ann", "PASS x", "AUTH PLAIN", "AUTH LOGIN", "AUTH PLAIN ="):
        assert await client.ask(line) == Reply(False, "Encryption is needed first"), line
    assert (await client.lines("AUTH")).each() == []
    assert (await client.stls(client_context())).ok
    assert (await client.login(ANN, PASSWORD)).ok


async def test_nothing_of_the_maildrop_before_sign_in(room: Pop3Room) -> None:
    await room.imap.deliver(message())
    client = await room.connect()
    for line in ("STAT", "LIST", "UIDL", "RETR 1", "TOP 1 0", "DELE 1", "NOOP", "RSET"):
        assert await client.ask(line) == Reply(False, "Not in this state"), line
    assert (await client.login(ANN, PASSWORD)).ok


async def test_quit_before_sign_in(room: Pop3Room) -> None:
    client = await room.connect()
    assert await client.ask("QUIT") == Reply(True, "Goodbye")
    assert await client.until_closed() == []


async def test_stls_once_and_never_inside_tls(room: Pop3Room) -> None:
    client = await room.connect("pop3")
    assert not (await client.ask("STLS now")).ok
    assert (await client.stls(client_context())).ok
    assert not (await client.ask("STLS")).ok
    assert (await client.login(ANN, PASSWORD)).ok
    assert not (await (await room.connect()).ask("STLS")).ok


async def test_stls_where_there_is_no_certificate(room: Pop3Room) -> None:
    server = room.workers[0].server
    server.shared = replace(server.shared, tls=None)
    client = await room.connect("pop3")
    assert "STLS" not in await client.capa()
    assert not (await client.ask("STLS")).ok


async def test_too_many_errors_end_the_connection(room: Pop3Room) -> None:
    client = await room.connect()
    heard = [await client.ask("WHAT") for _ in range(session_module.BAD_COMMANDS)]
    assert heard[-1].text == "Too many errors"
    assert await client.until_closed() == []


async def test_who_has_signed_in_may_be_silent_for_as_long_as_is_set(room: Pop3Room) -> None:
    """RFC 1939 §3: at least ten minutes."""
    for seconds in (600, 1000):
        client = await room.client()
        (session,) = room.workers[0].connections()
        assert session._session.idle_seconds == seconds
        assert session._connection is not None
        left = session._connection._idle_at - room.workers[0].wheel.time()
        assert seconds - 30 < left <= seconds
        await client.ask("QUIT")
        await client.until_closed()
        await room.imap.settled(lambda: not room.workers[0].connections())
        await room.imap.configure("pop3.idle_seconds", 1000)


async def test_who_does_not_sign_in_is_let_go(room: Pop3Room) -> None:
    client = await room.connect()
    (session,) = room.workers[0].connections()
    assert session._connection is not None
    session._connection.set_timeout(0.05)
    assert await client.until_closed() == []


# --- USER and PASS ---------------------------------------------------------------------------


async def test_user_and_pass(room: Pop3Room) -> None:
    await room.imap.deliver(message())
    client = await room.connect()
    assert (await client.ask("PASS", PASSWORD)).text == "USER comes first"
    assert (await client.ask("USER", BOB)).ok
    assert (await client.ask("USER", ANN)).ok  # the last one counts
    reply = await client.ask("PASS", PASSWORD)
    assert reply == Reply(True, f"1 messages, {len(message())} octets")


@pytest.mark.parametrize(
    "user", [ANN, "nobody@example.test", "x@elsewhere.example", "\udcff", "a b"]
)
async def test_wrong_and_unknown_are_refused_alike(room: Pop3Room, user: str) -> None:
    client = await room.connect()
    name = user.encode(errors="surrogateescape")
    for n in range(3):
        assert (await client.ask("USER", name)).ok
        reply = await client.ask("PASS", f"wrong {n}")
        assert reply == Reply(False, "Authentication credentials invalid", "AUTH")
        if n < 2:
            assert not (await client.ask("PASS", PASSWORD)).ok  # USER has to come again
    assert await client.until_closed() == []  # the third guess was the last


async def test_spaces_are_part_of_a_password(room: Pop3Room) -> None:
    """RFC 1939 §7."""
    for password in ("two words", " before and after ", "many    between"):
        await room.imap.set_password(ANN, password)
        client = await room.connect()
        assert (await client.login(ANN, password)).ok
        await client.ask("QUIT")
        client = await room.connect()
        assert (await client.login(ANN, password.replace(" ", ""))).code == "AUTH"


async def test_names_and_passwords_beyond_ascii(room: Pop3Room) -> None:
    """RFC 6856 §2.2."""
    address, password = f"zoë@{DOMAIN}", "Grüße aus Köln"
    ids = [room.house.ids.new() for _ in range(32)]
    await room.house.mail.write(_settle, address, password, ids, room.house.clock.now())
    for first in ("UTF8", "CAPA"):
        client = await room.connect()
        if first == "UTF8":
            assert (await client.ask("UTF8")).ok
        assert (await client.login(address, password)).ok
        await client.ask("QUIT")


def _settle(tx: Tx, address: str, password: str, numbers: list[int], now: Instant) -> None:
    ids = iter(numbers)
    new = NewAccount(parse_mailbox(address), "", Role.USER, make_secret(password, CHEAP))
    account = people.create_account(tx, new, ids, now)
    folders.create_first(tx, account.id, ids, now, account.id)


async def test_who_is_frozen_does_not_come_in(room: Pop3Room) -> None:
    await room.imap.set_state(ANN, "frozen")
    client = await room.connect()
    assert (await client.login(ANN, PASSWORD)).code == "AUTH"


async def test_what_cannot_be_judged_now_may_be_tried_again(room: Pop3Room) -> None:
    """RFC 3206 §4: another password would not help."""

    async def busy(attempt: Attempt) -> None:
        raise Busy

    room.workers[0].authenticator.before.append(busy)
    client = await room.connect()
    assert (await client.login(ANN, PASSWORD)).code == "SYS/TEMP"
    assert (await client.sign_in(PlainClient(ANN, PASSWORD))).code == "SYS/TEMP"
    room.workers[0].authenticator.before.clear()
    assert (await client.login(ANN, PASSWORD)).ok


# --- AUTH ------------------------------------------------------------------------------------


@pytest.mark.parametrize("initial", [True, False], ids=["initial", "asked"])
@pytest.mark.parametrize("mechanism", [PLUS, *MECHANISMS])
async def test_every_mechanism(room: Pop3Room, mechanism: str, initial: bool) -> None:
    await room.imap.deliver(message())
    if mechanism == PLUS:
        await _bind(room)
    client = await room.connect()
    assert (await client.sign_in(client_for(room, mechanism), initial=initial)).ok
    assert await client.retr(1) == message()
    other = await room.connect(worker=1)
    wrong = client_for(room, mechanism, "not the password")
    assert (await other.sign_in(wrong, initial=initial)).code == "AUTH"


async def _bind(room: Pop3Room) -> None:
    """Offer what is bound to the channel."""
    await room.imap.configure("pop3.channel_binding", True)
    house = room.house
    await house.mail.read(house.policies.current, house.chain(""))


async def test_a_bound_mechanism_is_offered_where_that_is_set(room: Pop3Room) -> None:
    """A mutt that sees it never comes in."""
    client = await room.connect()
    assert PLUS not in (await client.capa())["SASL"]
    assert not (await client.ask("AUTH", PLUS)).ok
    # A client that could bind and sees no offer says so, and is believed. RFC 5802 §6.
    assert (await client.sign_in(_sees_no_offer())).ok
    await _bind(room)
    client = await room.connect()
    assert (await client.capa())["SASL"] == (PLUS, *MECHANISMS)
    # Somebody in between who takes the offer away is found out.
    client = await room.connect(worker=1)
    assert (await client.sign_in(_sees_no_offer())).code == "AUTH"


def _sees_no_offer() -> Client:
    return ScramClient("SCRAM-SHA-256", ANN, PASSWORD, "client-nonce", binding=b"x")


async def test_auth_alone_lists_the_mechanisms(room: Pop3Room) -> None:
    client = await room.connect()
    listed = (await client.lines("AUTH")).each()
    assert listed == [name.encode() for name in MECHANISMS]


async def test_a_cancelled_sign_in(room: Pop3Room) -> None:
    """RFC 5034 §4."""
    client = await room.connect()
    client.send(b"AUTH PLAIN\r\n")
    assert await client.response() == Challenge(b"")
    assert await client.ask("*") == Reply(False, "Cancelled")
    assert (await client.login(ANN, PASSWORD)).ok


async def test_an_answer_that_is_none_ends_the_exchange(room: Pop3Room) -> None:
    client = await room.connect()
    for line in (b"!", b"AA", b"AA=A", b"====", b"A" * 20_000, b"\x01", b"+OK"):
        client.send(b"AUTH LOGIN\r\n")
        assert isinstance(await client.response(), Challenge)
        client.send(line + b"\r\n")
        assert not (await client.reply()).ok
    assert (await client.login(ANN, PASSWORD)).ok


async def test_auth_that_cannot_be(room: Pop3Room) -> None:
    client = await room.connect()
    for argument in ("CRAM-MD5", "GSSAPI", "PLA.IN", "PLAIN !", "PLAIN AA== AA=="):
        assert not (await client.ask("AUTH", argument)).ok, argument
    assert (await client.login(ANN, PASSWORD)).ok


async def test_acting_as_somebody_else_needs_a_grant(room: Pop3Room) -> None:
    client = await room.connect()
    said = base64.b64encode(f"{BOB}\0{ANN}\0{PASSWORD}".encode())
    assert (await client.ask("AUTH", "PLAIN", said)).code == "AUTH"


# --- afterwards ------------------------------------------------------------------------------


async def _deletes(room: Pop3Room) -> Pop3Client:
    await room.imap.deliver(message())
    client = await room.client()
    assert (await client.ask("DELE", 1)).ok
    return client


async def test_a_new_password_ends_sessions_of_the_old_one(room: Pop3Room) -> None:
    client = await _deletes(room)
    await room.imap.set_password(ANN, "another one")
    assert await client.ask("QUIT") == Reply(False, "Please sign in again", "AUTH")
    with pytest.raises(ClosedError):
        await client.response()
    assert await room.uids() == [1]


async def test_who_becomes_frozen_is_shown_out(room: Pop3Room) -> None:
    client = await _deletes(room)
    await room.imap.set_state(ANN, "frozen")
    assert (await client.ask("QUIT")).code == "AUTH"
    assert await room.uids() == [1]


async def test_an_administrator_sees_who_is_there(room: Pop3Room) -> None:
    client = await room.connect()
    (session,) = room.workers[0].connections()
    assert (session.describe().who, session.describe().state) == ("", "not signed in")
    assert (await client.login(ANN, PASSWORD)).ok
    told = session.describe()
    assert (told.protocol, told.who, told.state) == ("pop3", ANN, "waits")
    assert told.id == session._session.id


@pytest.mark.parametrize("utf8", [True, False], ids=["UTF8", "without"])
async def test_headers_beyond_ascii_come_as_they_are(room: Pop3Room, utf8: bool) -> None:
    """RFC 6856 §4: in either mode, since a refused message would stop the download of all."""
    raw = "From: Zoë <zoë@ünï.example>\r\nSubject: Grüße\r\n\r\nx\r\n".encode()
    await room.imap.deliver(raw)
    client = await room.connect()
    if utf8:
        assert (await client.ask("UTF8")).ok
    assert (await client.login(ANN, PASSWORD)).ok
    assert await client.retr(1) == raw
    assert await client.list() == {1: len(raw)}
