"""STAT, LIST, UIDL, RETR, TOP, DELE, RSET, QUIT: what a session sees and leaves behind. Sockets.

RFC 1939 §5 to §7.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re

import pytest

from postroom.domain.mailboxes import reading
from postroom.protocols.pop3 import update
from postroom.store.blobs import Blobs, facts
from postroom.store.sql import Tx
from postroom.testing.corpus import messages
from postroom.testing.pop3 import Pop3Client, RefusedError
from postroom.wire.pop3 import Reply
from tests.protocols.imap.serving import ANN, BOB, PASSWORD, message
from tests.protocols.pop3.serving import Pop3Room

DOTS = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\na.\r\n\r\n.\r\n\r\n"
PLAIN = message("plain")
LONG = message("long", b"A line that is said again and again.\r\n.dot\r\n" * 20_000)


async def test_a_session_in_full(room_both: Pop3Room) -> None:
    room = room_both
    await room.imap.deliver(PLAIN, DOTS, LONG)
    client = await room.client()
    sizes = [len(PLAIN), len(DOTS), len(LONG)]
    assert await client.stat() == (3, sum(sizes))
    assert await client.list() == dict(enumerate(sizes, 1))
    assert (await client.ask("LIST", 2)).text == f"2 {len(DOTS)}"
    uidl = await client.uidl()
    assert list(uidl) == [1, 2, 3]
    assert (await client.ask("UIDL", 3)).text == f"3 {uidl[3]}"
    assert [await client.retr(n) for n in (3, 1, 2)] == [LONG, PLAIN, DOTS]
    assert (await client.ask("DELE", 2)).ok
    assert await client.stat() == (2, sizes[0] + sizes[2])
    assert await client.list() == {1: sizes[0], 3: sizes[2]}
    assert await client.uidl() == {1: uidl[1], 3: uidl[3]}
    assert (await client.ask("NOOP")).ok
    assert await room.uids() == [1, 2, 3]  # nothing goes before QUIT
    assert (await client.ask("QUIT")).ok
    assert await room.uids() == [1, 3]
    assert await client.until_closed() == []


async def test_an_empty_maildrop(room: Pop3Room) -> None:
    client = await room.client()
    assert await client.stat() == (0, 0)
    assert await client.list() == {}
    assert await client.uidl() == {}
    for verb in ("LIST", "UIDL", "RETR", "DELE"):
        assert not (await client.ask(verb, 1)).ok
    assert (await client.ask("QUIT")).ok


async def test_a_number_that_names_no_message(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN)
    client = await room.client()
    for verb in ("LIST", "UIDL", "RETR", "TOP", "DELE"):
        for number in ("0", "2", "4294967297", "99999999999", "-1", "+1", "1.0", "x", "\u0661"):
            asked = (verb, number, 1) if verb == "TOP" else (verb, number)
            assert not (await client.ask(*asked)).ok, asked
            assert await client.stat() == (1, len(PLAIN))


REFUSED = (
    *("STAT 1", "NOOP x", "RSET 1", "QUIT 1", "CAPA 1", "LIST 1 2", "UIDL 1 2", "RETR"),
    *("RETR 1 2", "DELE", "DELE 1 2", "TOP", "TOP 1", "TOP 1 x", "TOP 1 -1", "TOP 1 2 3"),
    *("USER ann", "PASS x", "AUTH PLAIN", "STLS", "UTF8", "APOP ann x", "LAST", "XTND", ""),
)


async def test_what_is_refused_after_sign_in(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN)
    client = await room.client()
    for line in REFUSED:
        reply = await client.ask(line)
        assert (reply.ok, reply.code) == (False, ""), line
        assert await client.retr(1) == PLAIN


async def test_verbs_in_any_case_and_spaces_at_the_end(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN)
    client = await room.client()
    assert (await client.ask("stat ")).text == f"1 {len(PLAIN)}"
    assert (await client.ask("List 1 ")).ok
    assert (await client.lines("top 1 0 ")).reply.ok
    assert (await client.ask("Dele  1")).ok
    assert (await client.ask("quit ")).ok
    assert await room.uids() == []


async def test_a_deleted_message_is_gone_for_the_session_until_rset(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN, DOTS)
    client = await room.client()
    assert (await client.ask("DELE", 1)).ok
    for verb in ("LIST", "UIDL", "RETR", "DELE"):
        assert not (await client.ask(verb, 1)).ok
    assert not (await client.ask("TOP", 1, 0)).ok
    assert (await client.ask("RSET")).ok
    assert await client.stat() == (2, len(PLAIN) + len(DOTS))
    assert await client.retr(1) == PLAIN
    assert (await client.ask("QUIT")).ok
    assert await room.uids() == [1, 2]


async def test_top_gives_the_header_and_so_many_lines(room: Pop3Room) -> None:
    body = b"".join(b"%d\r\n" % n for n in range(10))
    await room.imap.deliver(b"Subject: x\r\nTo: y\r\n\r\n" + body, LONG, DOTS)
    client = await room.client()
    head = b"Subject: x\r\nTo: y\r\n\r\n"
    assert await client.top(1, 0) == head
    assert await client.top(1, 3) == head + b"0\r\n1\r\n2\r\n"
    assert await client.top(1, 10) == await client.top(1, 4_000_000_000) == head + body
    for lines in (0, 1, 7000, 39_999, 40_000, 50_000):
        got = await client.top(2, lines)
        assert got == b"".join(LONG.splitlines(keepends=True)[: 6 + lines])
    assert await client.top(3, 4) == DOTS[: DOTS.index(b"a.\r\n") + 4]


async def test_content_in_every_place_of_the_store_comes_octet_by_octet(room: Pop3Room) -> None:
    """Small rows, files, and a file with a header of its own before it (a rope)."""
    rng = random.Random(7)
    wanted = [*messages(30, 5)]
    for size in (65_000, 66_000, 131_000, 131_072, 131_200, 400_000):
        lines = [rng.choice([b".", b"..", b"x" * 70, b"", b".x"]) for _ in range(size // 20)]
        wanted.append(message("n", b"\r\n".join(lines)[:size].rstrip(b"\r\n") + b"\r\n"))
    await room.imap.deliver(*wanted)
    client = await room.client()
    assert [await client.retr(n + 1) for n in range(len(wanted))] == wanted
    assert list((await client.list()).values()) == [len(each) for each in wanted]


async def test_a_message_whose_last_line_has_no_end_gets_one(room: Pop3Room) -> None:
    await room.imap.deliver(b"Subject: x\r\n\r\nno end", b"Subject: only a header\r\n")
    client = await room.client()
    assert await client.retr(1) == b"Subject: x\r\n\r\nno end\r\n"
    assert await client.retr(2) == await client.top(2, 5) == b"Subject: only a header\r\n"


@pytest.mark.parametrize("cut", [True, False], ids=["by TOP", "by RETR"])
async def test_a_bare_line_end_in_the_store_ends_no_message(room: Pop3Room, cut: bool) -> None:
    """It must not be there; a client that splits at LF would take what follows for replies."""
    inside = b"Subject: x\n\na\n.\n+OK forged\r.\r\nb\r"
    await room.imap.deliver(inside, inside + b"\n" + b"y\n" * 100_000)
    client = await room.client()
    wanted = b"Subject: x\r\n\r\na\r\n.\r\n+OK forged\r\n.\r\nb\r\n"
    assert await (client.top(1, 9) if cut else client.retr(1)) == wanted
    raw = await client.lines("RETR", 2)
    assert raw.content == wanted + b"y\r\n" * 100_000
    assert (await client.ask("NOOP")).ok


# --- beside others ---------------------------------------------------------------------------


async def test_what_comes_after_the_sign_in_is_of_the_next_session(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN)
    client = await room.client()
    await room.imap.deliver(DOTS)
    assert await client.stat() == (1, len(PLAIN))
    assert not (await client.ask("RETR", 2)).ok
    await client.ask("QUIT")
    assert await (await room.client()).stat() == (2, len(PLAIN) + len(DOTS))


async def test_a_message_that_another_removed_is_refused_and_never_replaced(
    room_both: Pop3Room,
) -> None:
    room = room_both
    await room.imap.deliver(PLAIN, DOTS, LONG)
    client = await room.client()
    before = await client.uidl()
    await room.imap.remove([2])
    await room.imap.deliver(message("after"))
    with pytest.raises(RefusedError, match="removed meanwhile"):
        await client.retr(2)
    with pytest.raises(RefusedError):
        await client.top(2, 1)
    assert (await client.retr(1), await client.retr(3)) == (PLAIN, LONG)
    assert await client.uidl() == before
    # It may still be deleted: that it is gone is what was wanted.
    assert (await client.ask("DELE", 2)).ok
    assert (await client.ask("DELE", 3)).ok
    assert (await client.ask("QUIT")).ok
    assert await room.uids() == [1, 4]


async def test_an_imap_session_hears_of_what_pop3_removed_and_read(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN, DOTS, LONG)
    watcher = await room.imap.client()
    client = await room.client()
    await client.retr(1)
    await client.retr(2)
    await client.ask("DELE", 2)
    assert (await watcher.command("NOOP")).untagged == []
    await client.ask("QUIT")
    heard = await watcher.command("NOOP")
    assert heard.numbers("EXPUNGE") == [2]
    flags = heard.fetched()[1]["FLAGS"]
    assert isinstance(flags, tuple)
    assert b"\\Seen" in flags


async def test_messages_that_imap_marked_as_deleted_are_still_there(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN, DOTS)
    await room.imap.flag([1], add=("\\Deleted",))
    client = await room.client()
    assert await client.stat() == (2, len(PLAIN) + len(DOTS))
    await client.ask("DELE", 2)
    await client.ask("QUIT")
    assert await room.imap.stored() == {1: {"\\Deleted"}}


# --- what a session leaves behind ------------------------------------------------------------


async def test_what_was_deleted_can_be_brought_back(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN, DOTS)
    client = await room.client()
    await client.ask("DELE", 1)
    await client.ask("QUIT")
    account = room.imap.accounts[ANN]
    (kept,) = await room.house.mail.read(reading.recoverable, account, 10)
    assert (kept.uid, kept.path) == (1, "INBOX")


@pytest.mark.parametrize("way", ["lost", "reset", "eof", "idle", "shutdown", "dismissed"])
async def test_a_session_that_does_not_quit_deletes_nothing(room: Pop3Room, way: str) -> None:
    await room.imap.deliver(PLAIN, DOTS)
    client = await room.client()
    await client.retr(1)
    await client.ask("DELE", 1)
    await client.ask("DELE", 2)
    (session,) = room.workers[0].connections()
    match way:
        case "lost":
            await client.close()
        case "reset":
            client.abort()
        case "eof":
            client._writer.transport.close()
        case "idle":
            session.on_timeout()
        case "shutdown":
            session.on_shutdown()
        case "dismissed":
            assert session.dismiss("Please go")
    if way in ("idle", "shutdown", "dismissed"):
        assert await client.until_closed() == []  # without a word: RFC 1939 §3
    other = await room.client(worker=1)
    assert await other.stat() == (2, len(PLAIN) + len(DOTS))
    await room.workers[0].server.close()
    assert await room.imap.stored() == {1: {"\\Seen"}, 2: set()}


async def test_a_client_that_hangs_up_at_quit_has_its_way(
    room: Pop3Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "UNIT_ROWS", 10)  # thirty units
    await room.imap.deliver(*[PLAIN] * 300)
    client = await room.client()
    client.send(b"".join(b"DELE %d\r\n" % n for n in range(1, 301)) + b"QUIT\r\n")
    (session,) = room.workers[0].connections()
    await room.imap.settled(lambda: session._session.state.value == "update")
    client.abort()
    async with asyncio.timeout(5):
        while await room.uids():
            await asyncio.sleep(0.01)
    assert await (await room.client()).stat() == (0, 0)


async def test_what_is_downloaded_is_marked_as_read_unless_told_otherwise(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN, DOTS, LONG, user=BOB)
    await room.imap.configure("pop3.mark_seen", False)
    for wanted in (set[str](), {"\\Seen"}):
        client = await room.client(BOB)
        await client.retr(1)
        await client.retr(3)
        await client.top(2, 1)
        await client.ask("QUIT")
        assert await room.imap.stored(user=BOB) == {1: wanted, 2: set(), 3: wanted}
        await room.imap.configure("pop3.mark_seen", None)


async def test_thousands_are_deleted_in_bounded_units(room: Pop3Room) -> None:
    await room.imap.fill(4500)
    client = await room.client()
    count, _ = await client.stat()
    assert count == 4500
    for start in range(1, 4500, 500):
        client.send(b"".join(b"DELE %d\r\n" % n for n in range(start, start + 500)))
        for _ in range(500):
            assert (await client.reply()).ok
    assert (await client.ask("QUIT")).ok
    assert await room.uids() == []


async def test_old_mail_that_was_read_goes_where_it_may_not_stay(room: Pop3Room) -> None:
    day = 24 * 3600 * 1000
    now = room.house.clock.now()
    for age in (0, 29, 31, 400):
        await room.imap.deliver(PLAIN, DOTS, at=type(now)(now - age * day))
    await room.imap.flag([2, 4, 6, 8], add=("\\Seen",))
    await room.imap.configure("pop3.expire_days", 30)
    client = await room.client()
    assert (await client.capa())["EXPIRE"] == ("30",)
    await client.retr(5)
    await client.close()
    client = await room.client()
    assert await room.uids() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (await client.ask("QUIT")).ok
    assert await room.uids() == [1, 2, 3, 4, 7]  # 7 is old, and nobody has read it


# --- unique ids --------------------------------------------------------------------------------


async def test_unique_ids_stay_as_they_are_and_are_never_given_twice(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN, DOTS)
    client = await room.client()
    first = await client.uidl()
    assert all(re.fullmatch(r"[!-~]{1,70}", unique) for unique in first.values())
    await client.ask("DELE", 2)
    await client.ask("QUIT")
    await room.imap.deliver(DOTS)
    client = await room.client(worker=1)
    second = await client.uidl()
    assert second[1] == first[1]
    assert second[2] not in first.values()


async def test_another_uidvalidity_makes_other_unique_ids(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN)
    box = await room.imap.box()
    (unique,) = (await (await room.client()).uidl()).values()
    assert unique == f"{box.uidvalidity}.1"


# --- pipelining and pace -----------------------------------------------------------------------


async def test_pipelined_commands_are_answered_in_order(room: Pop3Room) -> None:
    await room.imap.deliver(*[PLAIN, DOTS] * 50)
    client = await room.connect()
    client.send(b"USER %b\r\nPASS %b\r\nSTAT\r\n" % (ANN.encode(), PASSWORD.encode()))
    client.send(b"".join(b"RETR %d\r\nDELE %d\r\n" % (n, n) for n in range(1, 101)) + b"QUIT\r\n")
    assert [(await client.reply()).ok for _ in range(3)] == [True, True, True]
    for n in range(100):
        assert (await client.content()).content == (DOTS if n % 2 else PLAIN)
        assert (await client.reply()).ok
    assert await client.reply() == Reply(True, "Goodbye")
    assert await room.uids() == []


async def _drained(client: Pop3Client) -> None:
    """Read as a modem would."""
    while True:
        await asyncio.sleep(0.001)
        if not await client._reader.read(2000):
            return


async def test_others_are_served_while_one_downloads_slowly(room: Pop3Room) -> None:
    await room.imap.deliver(LONG, LONG)
    await room.imap.deliver(PLAIN, user=BOB)
    slow = await room.client()
    slow.send(b"RETR 1\r\nRETR 2\r\n")
    reading = asyncio.create_task(_drained(slow))
    for _ in range(20):
        client = await room.client(BOB)
        assert await client.retr(1) == PLAIN
        await client.ask("QUIT")
    reading.cancel()


# --- content that is damaged -------------------------------------------------------------------


async def test_content_that_is_lost_is_refused_and_the_session_goes_on(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN, LONG, DOTS)
    rows = await room.imap.rows()
    path = await room.house.mail.read(_path, room.house.blobs, rows[1].blob)
    os.unlink(path)
    client = await room.client()
    for verb in ("RETR 2", "TOP 2 0"):
        reply = await client.ask(verb)
        assert (reply.ok, reply.code) == (False, "SYS/PERM")
    assert await client.retr(3) == DOTS
    await client.ask("QUIT")
    assert await room.imap.stored() == {1: set(), 2: set(), 3: {"\\Seen"}}


async def test_a_message_that_breaks_off_ends_the_connection_and_never_the_message(
    room: Pop3Room,
) -> None:
    """A dot would say that this was all of it."""
    await room.imap.deliver(LONG)
    (row,) = await room.imap.rows()
    path = await room.house.mail.read(_path, room.house.blobs, row.blob)
    os.truncate(path, 300_000)
    client = await room.client()
    assert await client.top(1, 5) == b"".join(LONG.splitlines(keepends=True)[:11])
    client.send(b"RETR 1\r\nNOOP\r\n")
    assert (await client.reply()).ok
    heard = b""
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            while data := await client._reader.read(65_536):
                heard += data
    assert b"\r\n.\r\n" not in heard
    assert b"+OK" not in heard
    await room.workers[0].server.close()
    assert await room.imap.stored() == {1: set()}  # it was not read


def _path(tx: Tx, blobs: Blobs, blob: int) -> str:
    return blobs.path(blob, facts(tx, blob).sha256, compressed=False)
