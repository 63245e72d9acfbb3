"""What may be said when: states, capabilities, signing in and out. RFC 3501 §3, §6."""

from __future__ import annotations

import asyncio
import base64

import pytest

from postroom.protocols.imap import server
from postroom.protocols.imap.verbs import VERBS
from postroom.testing.imap import ImapClient, Literal, Reply
from postroom.testing.scripted import ClosedError
from postroom.wire.imap import Tagged, Untagged
from tests.protocols.imap.serving import ANN, BOB, PASSWORD, Room, client_context

# Each command with arguments that are right, and its replies before sign-in, after it, and with
# a mailbox open: of INBOX with one message. "" ends the session or begins an exchange.
MATRIX = {
    "CAPABILITY": ("CAPABILITY", "OK", "OK", "OK"),
    "NOOP": ("NOOP", "OK", "OK", "OK"),
    "ID": ("ID NIL", "OK", "OK", "OK"),
    "LANGUAGE": ("LANGUAGE", "OK", "OK", "OK"),
    "STARTTLS": ("STARTTLS", "BAD", "BAD", "BAD"),  # TLS is active
    "AUTHENTICATE": ("AUTHENTICATE CRAM-MD5", "NO", "BAD", "BAD"),
    "LOGIN": ("LOGIN nobody wrong", "NO", "BAD", "BAD"),
    "ENABLE": ("ENABLE CONDSTORE", "BAD", "OK", "OK"),
    "SELECT": ("SELECT INBOX", "BAD", "OK", "OK"),
    "EXAMINE": ("EXAMINE INBOX", "BAD", "OK", "OK"),
    "CREATE": ("CREATE Made", "BAD", "OK", "OK"),
    "DELETE": ("DELETE Nowhere", "BAD", "NO", "NO"),
    "RENAME": ("RENAME Nowhere There", "BAD", "NO", "NO"),
    "SUBSCRIBE": ("SUBSCRIBE Sent", "BAD", "OK", "OK"),
    "UNSUBSCRIBE": ("UNSUBSCRIBE Sent", "BAD", "OK", "OK"),
    "LIST": ('LIST "" *', "BAD", "OK", "OK"),
    "LSUB": ('LSUB "" *', "BAD", "OK", "OK"),
    "NAMESPACE": ("NAMESPACE", "BAD", "OK", "OK"),
    "STATUS": ("STATUS Sent (MESSAGES)", "BAD", "OK", "OK"),
    "APPEND": ("APPEND Sent {3+}\r\nabc", "BAD", "OK", "OK"),
    "SETACL": ("SETACL Sent anyone lr", "BAD", "OK", "OK"),
    "DELETEACL": ("DELETEACL Sent anyone", "BAD", "OK", "OK"),
    "GETACL": ("GETACL Sent", "BAD", "OK", "OK"),
    "LISTRIGHTS": ("LISTRIGHTS Sent anyone", "BAD", "OK", "OK"),
    "MYRIGHTS": ("MYRIGHTS Sent", "BAD", "OK", "OK"),
    "GETQUOTA": ('GETQUOTA ""', "BAD", "NO", "NO"),  # nothing is limited
    "GETQUOTAROOT": ("GETQUOTAROOT INBOX", "BAD", "OK", "OK"),
    "GETMETADATA": ("GETMETADATA INBOX /private/comment", "BAD", "OK", "OK"),
    "SETMETADATA": ('SETMETADATA INBOX (/private/comment "x")', "BAD", "OK", "OK"),
    "COMPRESS": ("COMPRESS GZIP", "BAD", "NO", "NO"),
    "UNAUTHENTICATE": ("UNAUTHENTICATE", "BAD", "OK", "OK"),
    "IDLE": ("IDLE", "BAD", "", ""),
    "GENURLAUTH": ("GENURLAUTH x INTERNAL", "BAD", "BAD", "BAD"),  # it is no URL
    "RESETKEY": ("RESETKEY", "BAD", "OK", "OK"),
    "URLFETCH": ("URLFETCH x", "BAD", "OK", "OK"),
    "NOTIFY": ("NOTIFY NONE", "BAD", "OK", "OK"),
    "ESEARCH": ("ESEARCH IN (personal) ALL", "BAD", "OK", "OK"),
    "CHECK": ("CHECK", "BAD", "BAD", "OK"),
    "CANCELUPDATE": ('CANCELUPDATE "x"', "BAD", "BAD", "NO"),
    "CLOSE": ("CLOSE", "BAD", "BAD", "OK"),
    "UNSELECT": ("UNSELECT", "BAD", "BAD", "OK"),
    "EXPUNGE": ("EXPUNGE", "BAD", "BAD", "OK"),
    "SEARCH": ("SEARCH ALL", "BAD", "BAD", "OK"),
    "SORT": ("SORT (SUBJECT) UTF-8 ALL", "BAD", "BAD", "OK"),
    "UID SORT": ("UID SORT (DATE) UTF-8 ALL", "BAD", "BAD", "OK"),
    "THREAD": ("THREAD REFERENCES UTF-8 ALL", "BAD", "BAD", "OK"),
    "UID THREAD": ("UID THREAD ORDEREDSUBJECT UTF-8 ALL", "BAD", "BAD", "OK"),
    "FETCH": ("FETCH 1 (FLAGS)", "BAD", "BAD", "OK"),
    "STORE": ("STORE 1 +FLAGS (\\Flagged)", "BAD", "BAD", "OK"),
    "COPY": ("COPY 1 Sent", "BAD", "BAD", "OK"),
    "MOVE": ("MOVE 1 Sent", "BAD", "BAD", "OK"),
    "REPLACE": ("REPLACE 1 Sent {3+}\r\nabc", "BAD", "BAD", "OK"),
    "UID EXPUNGE": ("UID EXPUNGE 1", "BAD", "BAD", "OK"),
    "UID SEARCH": ("UID SEARCH ALL", "BAD", "BAD", "OK"),
    "UID FETCH": ("UID FETCH 1 (FLAGS)", "BAD", "BAD", "OK"),
    "UID STORE": ("UID STORE 1 +FLAGS (\\Flagged)", "BAD", "BAD", "OK"),
    "UID COPY": ("UID COPY 1 Sent", "BAD", "BAD", "OK"),
    "UID MOVE": ("UID MOVE 1 Sent", "BAD", "BAD", "OK"),
    "UID REPLACE": ("UID REPLACE 1 Sent {3+}\r\nabc", "BAD", "BAD", "OK"),
}


def test_the_matrix_names_every_command() -> None:
    assert MATRIX.keys() | {"LOGOUT"} == {name.decode() for name in VERBS}


@pytest.mark.parametrize("state", [0, 1, 2], ids=["stranger", "signed in", "selected"])
async def test_every_command_is_answered_as_its_state_says(room: Room, state: int) -> None:
    for name, (wanted, *answers) in MATRIX.items():
        line, expected = wanted, answers[state]
        if not expected:
            continue
        client = await room.connect()
        if state:
            assert (await client.login(ANN, PASSWORD)).ok
        if state == 2:
            if not (await room.box()).total:
                await room.deliver(b"Subject: one\r\n\r\nbody\r\n")
            assert (await client.command("SELECT INBOX")).ok
            if "1" in line and "UID" in line:
                box = await room.box()
                line = line.replace(" 1", f" {box.uidnext - 1}", 1)
        reply = await client.command(line)
        assert reply.kind == expected, (name, reply)
        assert (await client.command("NOOP")).ok, name  # the session goes on
        client.abort()


@pytest.mark.parametrize("signed_in", [False, True])
async def test_an_unknown_command_is_bad_and_does_no_harm(room: Room, signed_in: bool) -> None:
    client = await (room.client() if signed_in else room.connect())
    for line in ("XYZZY", "FETCH", "UID", "UID NOOP", "SELECT", "LOGIN a"):
        assert (await client.command(line)).kind == "BAD", line
    assert (await client.command("NOOP")).ok


async def test_logout_says_bye_then_ok_and_closes(room: Room) -> None:
    for client in (await room.connect(), await room.client()):
        reply = await client.command("LOGOUT")
        assert reply.ok
        assert [each.name for each in reply.untagged] == [b"BYE"]
        assert await client.until_closed() == []


async def test_pipelined_commands_meet_the_state_that_their_predecessors_left(room: Room) -> None:
    await room.deliver(b"Subject: one\r\n\r\nbody\r\n")
    client = await room.connect()
    client.send(
        b"a1 SELECT INBOX\r\na2 LOGIN %b {%d+}\r\n%b\r\na3 SELECT INBOX\r\na4 FETCH 1 (UID)\r\n"
        b"a5 UNSELECT\r\na6 FETCH 1 (UID)\r\na7 LOGOUT\r\na8 NOOP\r\n"
        % (ANN.encode(), len(PASSWORD), PASSWORD.encode())
    )
    heard = await client.until_closed()
    tagged = [(each.tag, each.kind) for each in heard if isinstance(each, Tagged)]
    assert tagged == [
        (b"a1", b"BAD"),
        (b"a2", b"OK"),
        (b"a3", b"OK"),
        (b"a4", b"OK"),
        (b"a5", b"OK"),
        (b"a6", b"BAD"),
        (b"a7", b"OK"),
    ]


async def test_a_client_that_says_no_more_is_still_answered(room: Room) -> None:
    client = await room.connect("imap")
    client.send(b"a NOOP\r\nb CAPABILITY\r\n")
    client.send_eof()
    heard = await client.until_closed()
    assert [each.tag for each in heard if isinstance(each, Tagged)] == [b"a", b"b"]


# --- capabilities --------------------------------------------------------------------------------

ANY = ["IMAP4rev1", "IMAP4rev2", "LITERAL+", "SASL-IR", "ID", "ENABLE", "LANGUAGE"]
AFTER = [
    "IDLE",
    "NAMESPACE",
    "ACL",
    "RIGHTS=kxte",
    "LIST-MYRIGHTS",
    "UIDPLUS",
    "MOVE",
    "REPLACE",
    "UNSELECT",
    "CHILDREN",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "METADATA",
    "FILTERS",
    "LIST-METADATA",
    "STATUS=SIZE",
    "ESEARCH",
    "SEARCHRES",
    "WITHIN",
    "CONDSTORE",
    "QRESYNC",
    "OBJECTID",
    "MULTIAPPEND",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "APPENDLIMIT=52428800",
    "INPROGRESS",
    "PREVIEW",
    "SAVEDATE",
    "SORT",
    "SORT=DISPLAY",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "THREAD=REFS",
    "ESORT",
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "PARTIAL",
    "UTF8=ACCEPT",
    "I18NLEVEL=1",
    "UIDONLY",
    "UNAUTHENTICATE",
    "BINARY",
    "CATENATE",
    "COMPRESS=DEFLATE",
    "URL-PARTIAL",
    "URLAUTH",
    "URLAUTH=BINARY",
    "NOTIFY",
    "MULTISEARCH",
]


async def _told(client: ImapClient) -> list[str]:
    reply = await client.command("CAPABILITY")
    ((words),) = [each.data for each in reply["CAPABILITY"]]
    return [bytes(word).decode() for word in words if isinstance(word, bytes)]


def _coded(code: tuple[object, ...] | None) -> list[str]:
    assert code is not None
    return [bytes(word).decode() for word in code if isinstance(word, bytes)]


async def test_capabilities_are_exact_in_each_state(room: Room) -> None:
    plain = await room.connect("imap")
    before = [*ANY, "STARTTLS", "LOGINDISABLED"]
    assert plain.greeting.code is not None
    assert _coded(plain.greeting.code.data) == before
    assert await _told(plain) == before
    assert (await plain.starttls(client_context())).ok
    encrypted = [
        *ANY,
        "AUTH=SCRAM-SHA-256-PLUS",
        "AUTH=SCRAM-SHA-256",
        "AUTH=PLAIN",
        "AUTH=LOGIN",
    ]
    assert await _told(plain) == encrypted
    secure = await room.connect()
    assert secure.greeting.code is not None
    assert _coded(secure.greeting.code.data) == encrypted
    for client in (plain, secure):
        reply = await client.login(ANN, PASSWORD)
        assert _coded(reply.code_data("CAPABILITY")) == [*ANY, *AFTER]
        assert await _told(client) == [*ANY, *AFTER]


# --- signing in ----------------------------------------------------------------------------------


async def test_nobody_signs_in_before_tls(room: Room) -> None:
    client = await room.connect("imap")
    for reply in (
        await client.command(f'LOGIN {ANN} "{PASSWORD}"'),
        await client.plain(ANN, PASSWORD),
        await client.command("AUTHENTICATE PLAIN"),
    ):
        assert (reply.kind, reply.code) == ("NO", "PRIVACYREQUIRED")
    assert (await client.command("SELECT INBOX")).kind == "BAD"


@pytest.mark.parametrize("user", [ANN, "ann", "ANN@EXAMPLE.TEST"])
async def test_the_ways_to_sign_in(room_both: Room, user: str) -> None:
    async def quoted(client: ImapClient) -> Reply:
        return await client.command(f'LOGIN {user} "{PASSWORD}"')

    async def waited_for(client: ImapClient) -> Reply:
        return await client.command(
            "LOGIN ", Literal(user.encode()), " ", Literal(PASSWORD.encode())
        )

    async def in_two_steps(client: ImapClient) -> Reply:
        tag = client.tag()
        client.send(tag + b" AUTHENTICATE PLAIN\r\n")
        assert await client.continuation() == b""
        client.send(base64.b64encode(f"\0{user}\0{PASSWORD}".encode()) + b"\r\n")
        return await client.reply(tag)

    for way in (
        lambda c: c.login(user, PASSWORD),
        quoted,
        waited_for,
        lambda c: c.plain(user, PASSWORD),
        lambda c: c.plain(user, PASSWORD, acting=user),
        in_two_steps,
    ):
        client = await room_both.connect()
        reply = await way(client)
        assert reply.ok, reply
        assert (await client.command("SELECT INBOX")).ok


async def test_wrong_and_unknown_are_refused_alike(room: Room) -> None:
    client = await room.connect()
    await room.set_state(BOB, "frozen")
    replies = [
        await client.login(ANN, "wrong"),
        await client.login("nobody@example.test", "wrong"),
        await client.login("nobody@elsewhere.example", PASSWORD),
        await client.login("", ""),
        await client.login(BOB, PASSWORD),  # frozen
        await client.plain(ANN, "wrong"),
        await client.plain(ANN, PASSWORD, acting=BOB),
        await client.plain(ANN, PASSWORD, acting="nobody"),
    ]
    told = {(reply.kind, reply.code, reply.text) for reply in replies}
    assert told == {("NO", "AUTHENTICATIONFAILED", "Authentication credentials invalid")}
    assert (await client.login(ANN, PASSWORD)).ok


async def test_a_frozen_or_disabled_account_loses_its_sessions(room: Room) -> None:
    for state in ("frozen", "disabled"):
        client = await room.client(BOB)
        await room.set_state(BOB, state)
        client.send(b"a NOOP\r\n")
        (bye,) = await client.until_closed()
        assert isinstance(bye, Untagged)
        assert bye.name == b"BYE"
        assert (await (await room.connect()).login(BOB, PASSWORD)).kind == "NO"
        await room.set_state(BOB, "active")


async def test_a_new_password_ends_sessions_at_their_next_command(room_both: Room) -> None:
    client, other = await room_both.client(), await room_both.client(BOB, worker=1)
    await room_both.set_password(ANN, "another horse")
    client.send(b"a FETCH 1:* BODY[]\r\n")
    (bye,) = await client.until_closed()
    assert isinstance(bye, Untagged)
    assert bye.name == b"BYE"
    assert (await other.command("NOOP")).ok  # nobody else's business
    assert (await (await room_both.connect()).login(ANN, PASSWORD)).kind == "NO"
    assert (await (await room_both.connect()).login(ANN, "another horse")).ok


async def test_an_exchange_can_be_cancelled_and_begun_again(room: Room) -> None:
    client = await room.connect()
    for line, kind in ((b"*", "BAD"), (b"not base64!", "BAD"), (b"", "BAD"), (b"AAAA", "BAD")):
        tag = client.tag()
        client.send(tag + b" AUTHENTICATE PLAIN\r\n")
        await client.continuation()
        client.send(line + b"\r\n")
        assert (await client.reply(tag)).kind == kind, line
    assert (await client.command("AUTHENTICATE PLAIN =")).kind == "BAD"
    assert (await client.plain(ANN, PASSWORD)).ok


async def test_mechanisms_that_are_not_offered_are_refused(room: Room) -> None:
    client = await room.connect()
    for mechanism in ("CRAM-MD5", "SCRAM-SHA-1", "EXTERNAL", "ANONYMOUS", "XOAUTH2"):
        reply = await client.command(f"AUTHENTICATE {mechanism}")
        assert (reply.kind, reply.code) == ("NO", "CANNOT")
    assert (await client.login(ANN, PASSWORD)).ok


async def test_who_goes_on_guessing_or_babbling_is_shown_out(room: Room) -> None:
    guesser, babbler = await room.connect(), await room.connect()
    for n in range(server.BAD_COMMANDS):
        guesser.send(b"g%d LOGIN ann wrong%d\r\n" % (n, n))
        babbler.send(b"b%d GET / HTTP/1.1\r\n" % n)
    for client in (guesser, babbler):
        *replies, bye = await client.until_closed()
        assert len(replies) == server.BAD_COMMANDS
        assert isinstance(bye, Untagged)
        assert bye.name == b"BYE"


async def test_errors_count_in_a_row_once_signed_in(room: Room) -> None:
    client = await room.client()
    for _ in range(3):
        for _ in range(server.BAD_COMMANDS - 1):
            assert (await client.command("XYZZY")).kind == "BAD"
        assert (await client.command("NOOP")).ok


async def test_guesses_count_whatever_is_said_between_them(room: Room) -> None:
    client = await room.connect()
    with pytest.raises(ClosedError):
        for n in range(server.BAD_COMMANDS + 1):
            await client.login(ANN, f"wrong{n}")
            await client.command("NOOP")


# --- ENABLE, ID ----------------------------------------------------------------------------------


async def test_enable_tells_what_it_turned_on(room: Room) -> None:
    client = await room.client(mailbox=None)
    reply = await client.command("ENABLE CONDSTORE X-NONSENSE QRESYNC")
    assert [each.data for each in reply["ENABLED"]] == [(b"CONDSTORE", b"QRESYNC")]
    reply = await client.command("ENABLE X-NONSENSE")
    assert [each.data for each in reply["ENABLED"]] == [()]
    assert (await client.command("ENABLE")).kind == "BAD"


async def test_id_tells_who_we_are_and_takes_what_it_is_told(room: Room) -> None:
    client = await room.connect()
    reply = await client.command('ID ("name" "A \\"client\\"" "version" NIL "os" "")')
    ((data,),) = [each.data for each in reply["ID"]]
    assert isinstance(data, tuple)
    assert data[:2] == (b"name", b"Postroom")
    assert (await client.command("ID NIL")).ok
    assert (await client.command("ID ()")).ok
    assert (await client.command('ID ("name")')).kind == "BAD"
    assert (await client.command("ID (", Literal(b"name"), " ", Literal(b"a\r\nb"), ")")).ok


# --- time ----------------------------------------------------------------------------------------


async def test_a_stranger_has_a_minute_in_all(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BEFORE_SIGN_IN_SECONDS", 0.3)
    client = await room.connect()
    dripping = await room.connect("imap")
    began = asyncio.get_running_loop().time()

    async def drip() -> None:
        while True:
            dripping.send(b"a")
            await asyncio.sleep(0.02)

    task = asyncio.create_task(drip())
    for each in (client, dripping):
        (bye,) = await each.until_closed()
        assert isinstance(bye, Untagged)
        assert bye.name == b"BYE"
    task.cancel()
    assert asyncio.get_running_loop().time() - began < 5


async def test_who_signed_in_has_longer_and_activity_prolongs_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BEFORE_SIGN_IN_SECONDS", 1.0)
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.7)
    client = await room.client()
    for _ in range(11):
        await asyncio.sleep(0.1)
        assert (await client.command("NOOP")).ok
    (bye,) = await client.until_closed(3)
    assert isinstance(bye, Untagged)
    assert bye.name == b"BYE"


async def test_a_draining_server_says_bye_to_everyone(room: Room) -> None:
    clients = [await room.connect(), await room.client(), await room.client()]
    clients[2].send(b"a IDLE\r\n")
    await clients[2].continuation()
    worker = room.workers[0]
    drained = [acceptor.shutdown() for acceptor in worker.acceptors.values()]
    task = asyncio.gather(*drained)
    for client in clients:
        (bye,) = await client.until_closed(3)
        assert isinstance(bye, Untagged)
        assert bye.name == b"BYE"
        await client.close()
    await asyncio.wait_for(task, 3)
