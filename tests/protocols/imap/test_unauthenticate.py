"""UNAUTHENTICATE over sockets: the next who signs in finds nothing of the one before. RFC 8437."""

from __future__ import annotations

from postroom.testing.imap import ImapClient
from postroom.wire.imap import BEFORE_SIGN_IN, Tagged
from tests.protocols.imap.serving import ANN, BOB, PASSWORD, SMALL, Room


async def test_another_signs_in_on_the_same_connection(room_both: Room) -> None:
    await room_both.deliver(SMALL)
    await room_both.deliver(SMALL, SMALL, user=BOB)
    client = await room_both.client(ANN)
    assert (await client.command("ENABLE CONDSTORE")).ok
    reply = await client.command("UNAUTHENTICATE")
    assert reply.ok
    words = reply.code_data("CAPABILITY") or ()
    assert b"AUTH=PLAIN" in words
    assert b"IDLE" not in words
    for line in ("SELECT INBOX", "FETCH 1 (FLAGS)", "UNAUTHENTICATE", 'LIST "" *'):
        assert (await client.command(line)).kind == "BAD", line
    assert (await client.plain(BOB, PASSWORD)).ok
    assert (await client.command("FETCH 1 (FLAGS)")).kind == "BAD"  # nothing is open
    reply = await client.command("SELECT INBOX")
    assert [each.number for each in reply["EXISTS"]] == [2]
    reply = await client.command("STORE 1 +FLAGS (\\Seen)")
    assert set(reply.fetched()[1]) == {"FLAGS"}  # CONDSTORE was the other's


async def test_it_is_refused_to_strangers_and_with_arguments(room: Room) -> None:
    stranger = await room.connect()
    assert (await stranger.command("UNAUTHENTICATE")).kind == "BAD"
    client = await room.client()
    assert (await client.command("UNAUTHENTICATE now")).kind == "BAD"
    assert (await client.command("FETCH 1:* (UID)")).kind == "OK"


async def test_limits_are_those_of_a_stranger_again(room: Room) -> None:
    client = await room.client()
    long = b"NOOP " + b"x" * (BEFORE_SIGN_IN.line + 1)
    (connection,) = room.workers[0].connections()
    assert (await client.command("UNAUTHENTICATE")).ok
    assert connection.describe().who == ""
    heard = await _said(client, long)
    assert b"OK" not in heard


async def _said(client: ImapClient, line: bytes) -> list[bytes]:
    client.send(b"z " + line + b"\r\nzz LOGOUT\r\n")
    heard = await client.until_closed()
    return [each.kind for each in heard if isinstance(each, Tagged) and each.tag == b"z"]


async def test_pipelined_commands_belong_to_who_signed_in_then(room: Room) -> None:
    await room.deliver(SMALL, user=BOB)
    client = await room.client(ANN)
    client.send(
        b'a UNAUTHENTICATE\r\nb SELECT INBOX\r\nc LOGIN %b "%b"\r\nd STATUS INBOX (MESSAGES)\r\n'
        b"e LOGOUT\r\n" % (BOB.encode(), PASSWORD.encode())
    )
    heard = await client.until_closed()
    tagged = {each.tag: each.kind for each in heard if isinstance(each, Tagged)}
    assert tagged == {b"a": b"OK", b"b": b"BAD", b"c": b"OK", b"d": b"OK", b"e": b"OK"}
