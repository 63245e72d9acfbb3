"""Many sessions on one mailbox, by POP3 and IMAP, with deliveries: nothing is lost or mixed up."""

from __future__ import annotations

import asyncio
import random
import re

from postroom.domain.mailboxes import reading
from postroom.testing.imap import Follower
from postroom.testing.pop3 import RefusedError
from tests.protocols.imap.serving import ANN, EVERY, PASSWORD, message
from tests.protocols.pop3.serving import Pop3Room

MESSAGES = 120
POP3, IMAP = 5, 3
_NAME = re.compile(rb"^Subject: (n\d+)\r$", re.MULTILINE)


def content(name: str) -> bytes:
    return message(name, (name.encode() + b".\r\n.dot\r\n") * 50)


class Town:
    """What should be in the mailbox, by name; a name is one message for ever."""

    def __init__(self) -> None:
        self.delivered: set[str] = set()
        self.removed: set[str] = set()  # by whoever was told that it is gone
        self.unique: dict[str, str] = {}  # the name behind each unique id that was seen
        self.reads = 0
        self.gone = 0  # reads that were refused since another had removed the message
        self.in_use = 0

    def knows(self, unique: str, found: bytes) -> str:
        """A unique id names the same message for every session, octet by octet."""
        match = _NAME.search(found)
        assert match is not None, found[:300]
        name = match[1].decode()
        assert found == content(name)
        assert self.unique.setdefault(unique, name) == name
        self.reads += 1
        return name


async def _pop3(room: Pop3Room, town: Town, rng: random.Random, worker: int) -> None:
    for _ in range(12):
        client = await room.connect(worker=worker)
        if not (await client.login(ANN, PASSWORD)).ok:
            town.in_use += 1
            client.abort()
            await asyncio.sleep(rng.random() * 0.05)
            continue
        ids = await client.uidl()
        assert (await client.list()).keys() == ids.keys()
        marked: set[str] = set()
        for number in rng.sample(sorted(ids), min(len(ids), 8)):
            try:
                name = town.knows(ids[number], await client.retr(number))
            except RefusedError as error:
                assert "removed meanwhile" in str(error)
                town.gone += 1
                continue
            if rng.random() < 0.6:
                assert (await client.ask("DELE", number)).ok
                marked.add(name)
        assert await client.uidl() == {
            n: u for n, u in ids.items() if town.unique.get(u) not in marked
        }
        if rng.random() < 0.7:
            assert (await client.ask("QUIT")).ok
            town.removed |= marked
        else:
            client.abort()  # none of its marks may count
        await asyncio.sleep(rng.random() * 0.02)


async def _imap(room: Pop3Room, town: Town, rng: random.Random, worker: int) -> None:
    client = await room.imap.client(worker=worker)
    seen = Follower()
    reply = await client.command("UID FETCH 1:* (UID)")
    seen.hear((await client.command("NOOP")).untagged)
    for _ in range(40):
        box = await room.imap.box()
        reply = await client.command("UID SEARCH ALL")
        (found,) = reply["SEARCH"]
        uids = [uid for uid in found.data if isinstance(uid, int)]
        for uid in rng.sample(uids, min(len(uids), 2)):
            reply = await client.command(f"UID FETCH {uid} (UID BODY.PEEK[])")
            for items in reply.fetched().values():
                body = items.get("BODY[]")
                if isinstance(body, bytes) and items.get("UID") == uid:
                    name = town.knows(f"{box.uidvalidity}.{uid}", bytes(body))
                    if rng.random() < 0.4:
                        await client.command(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
                        if (await client.command(f"UID EXPUNGE {uid}")).ok:
                            town.removed.add(name)
        await asyncio.sleep(rng.random() * 0.02)


async def _deliver(room: Pop3Room, town: Town) -> None:
    for n in range(MESSAGES):
        await room.imap.deliver(content(f"n{n}"))
        town.delivered.add(f"n{n}")
        await asyncio.sleep(0.004)


async def test_nothing_is_lost_and_no_number_names_another_message(room: Pop3Room) -> None:
    town, rng = Town(), random.Random(11)
    await asyncio.gather(
        _deliver(room, town),
        *(_pop3(room, town, random.Random(rng.random()), n % 2) for n in range(POP3)),
        *(_imap(room, town, random.Random(rng.random()), n % 2) for n in range(IMAP)),
    )
    for worker in room.workers:
        await worker.server.close()
    client = await room.client()
    left = {town.knows(unique, await client.retr(n)) for n, unique in (await client.uidl()).items()}
    assert left == town.delivered - town.removed
    assert len(town.delivered) == MESSAGES
    assert town.reads > MESSAGES
    assert town.removed
    assert town.in_use  # they did meet at the door
    box = await room.imap.box()
    rows = await room.house.mail.read(reading.brief, box.id, EVERY)
    assert (box.total, box.size) == (len(rows), sum(row.size for row in rows))
    kept = await room.house.mail.read(reading.recoverable, room.imap.accounts[ANN], 1000)
    assert len(kept) == len(town.removed)
