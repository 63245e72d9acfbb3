"""What Dovecot tells a client that comes back is what is told here. RFC 7162 §3.2."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from postroom.testing.imap import Cache, ImapClient, Reply, flags_of, numbers_of
from postroom.wire.imap import Value
from tests.protocols.imap.dovecot import IMAP, dovecot_home, dovecot_session
from tests.protocols.imap.serving import SMALL, Room

pytestmark = pytest.mark.skipif(not IMAP.exists(), reason="dovecot is not installed")

Told = tuple[list[int], dict[Value, set[str]]]


def told(reply: Reply) -> Told:
    """What vanished, and flags by UID."""
    assert reply.ok, reply
    gone = [uid for each in reply["VANISHED"] for uid in numbers_of(each.data[-1])]
    flags = {
        items["UID"]: flags_of(items["FLAGS"]) - {"\\Recent"}
        for items in reply.fetched().values()
        if "FLAGS" in items
    }
    return sorted(gone), flags


async def play(client: ImapClient, other: ImapClient, seed: int) -> list[Told]:
    """A script that depends on nothing but the seed."""
    chance = random.Random(seed)
    uids = list(range(1, 21))
    heard: list[Told] = []
    await other.append("INBOX", *[SMALL] * 20, sync=False)
    assert (await other.command("SELECT INBOX")).ok
    assert (await client.command("ENABLE QRESYNC")).ok
    cache = Cache()
    cache.hear(await client.command("SELECT INBOX"), opened=True)
    cache.flags = {uid: set() for uid in uids}
    for _ in range(12):
        await client.command("UNSELECT")
        for _ in range(chance.randrange(1, 4)):
            uids = await _meddle(other, chance, uids)
        known = chance.choice(["", " 1:9", " 3,5,7:15"])
        asked = f"({cache.uidvalidity} {cache.modseq}{known})"
        reply = await client.command(f"SELECT INBOX (QRESYNC {asked})")
        heard.append(told(reply))
        since = cache.modseq
        for line in ("1:*", "4:12", "17:*"):
            fetch = f"UID FETCH {line} (FLAGS) (CHANGEDSINCE {since} VANISHED)"
            heard.append(told(await client.command(fetch)))
        gone = chance.sample(uids, 2) if len(uids) > 4 else []
        for uid in gone:
            await client.command(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
        reply = await client.command("EXPUNGE")
        heard.append(told(reply))
        uids = [uid for uid in uids if uid not in numbers(heard[-1])]
        if gone:
            assert reply.code == "HIGHESTMODSEQ"
        highest = reply.code_data("HIGHESTMODSEQ")
        if highest is not None:
            assert isinstance(highest[0], int)
            cache.modseq = highest[0]
    return heard


def numbers(heard: Told) -> Sequence[int]:
    return heard[0]


async def _meddle(other: ImapClient, chance: random.Random, uids: list[int]) -> list[int]:
    await other.command("NOOP")
    some = sorted(chance.sample(uids, min(3, len(uids))))
    chosen = ",".join(map(str, some))
    match chance.randrange(3):
        case 0:
            reply = await other.append("INBOX", SMALL)
            data = reply.code_data("APPENDUID")
            assert data is not None
            assert isinstance(data[1], int)
            return [*uids, data[1]]
        case 1 if some:
            flag = chance.choice(["\\Seen", "\\Flagged"])
            assert (await other.command(f"UID STORE {chosen} +FLAGS ({flag})")).ok
            return uids
        case _ if some:
            assert (await other.command(f"UID STORE {chosen} +FLAGS (\\Deleted)")).ok
            assert (await other.command(f"UID EXPUNGE {chosen}")).ok
            return [uid for uid in uids if uid not in some]
    return uids


@pytest.mark.parametrize("seed", range(3))
async def test_dovecot_tells_the_same(room: Room, seed: int) -> None:
    async with (
        dovecot_home() as folder,
        dovecot_session(folder) as one,
        dovecot_session(folder) as other,
    ):
        theirs = await play(one, other, seed)
    ours = await play(await room.client(mailbox=None), await room.client(mailbox=None), seed)
    assert ours == theirs
