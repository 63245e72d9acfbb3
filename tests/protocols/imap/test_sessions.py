"""Many sessions on one mailbox: who believes untagged responses alone knows what the store knows.

Each client acts at random by a seeded plan, over two workers, and hears what it is told. In the
end its knowledge is compared with the store's, without asking again. RFC 3501 §5.2, §7.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest

from postroom.testing.imap import Follower, ImapClient, Reply, flags_of
from postroom.wire.imap import Response, Untagged
from tests.protocols.imap.serving import SMALL, Room, message

WORDS = ("\\Seen", "\\Flagged", "\\Deleted", "$One", "$Two", "\\Answered")
# RFC 3501 §7.4.1: no EXPUNGE while one of these is under way.
NUMBERED = ("FETCH", "STORE", "SEARCH")


class Actor:
    """One client with its follower and its plan."""

    def __init__(
        self, room: Room, client: ImapClient, rng: random.Random, name: int, *, condstore: bool
    ) -> None:
        self.room = room
        self.client = client
        self.rng = rng
        self.name = name
        self.condstore = condstore
        self.known = Follower()

    @property
    def size(self) -> int:
        return len(self.known.messages)

    async def say(self, *parts: str | bytes) -> Reply:
        reply = await self.client.command(*parts)
        assert reply.kind in ("OK", "NO"), (parts, reply)
        verb = str(parts[0]).split(" ", maxsplit=1)[0]
        if verb in NUMBERED:
            assert reply.numbers("EXPUNGE") == [], (parts, reply)
        self.hear(reply.untagged)
        return reply

    def hear(self, responses: Sequence[Response]) -> None:
        self.known.hear(responses)

    async def open(self) -> None:
        if self.condstore:
            assert (await self.client.command("ENABLE CONDSTORE")).ok
        await self.say("SELECT INBOX")
        await self.learn()

    async def learn(self) -> None:
        """UIDs and flags of messages that were announced by their number alone."""
        missing = sorted({*self.known.unknown("FLAGS"), *self.known.unknown("UID")})
        if missing:
            await self.say(
                f"FETCH {missing[0]}:{missing[-1]} (UID FLAGS MODSEQ)"
                if self.condstore
                else f"FETCH {missing[0]}:{missing[-1]} (UID FLAGS)"
            )

    def chosen(self, most: int = 6) -> list[int]:
        count = min(self.size, self.rng.randint(1, most))
        return sorted(self.rng.sample(range(1, self.size + 1), count))

    # --- what it may do --------------------------------------------------------------------------

    async def noop(self) -> None:
        await self.say("NOOP")

    async def deliver(self) -> None:
        raws = [message(subject=f"{self.name}") for _ in range(self.rng.randint(1, 4))]
        await self.room.deliver(*raws, flags=("\\Flagged",) if self.rng.random() < 0.3 else ())

    async def append(self) -> None:
        reply = await self.client.append("INBOX", SMALL, flags="(\\Seen $One)")
        assert reply.ok, reply
        self.hear(reply.untagged)

    async def store(self) -> None:
        if not self.size:
            return
        numbers = self.chosen()
        word = self.rng.choice(["+FLAGS", "-FLAGS", "FLAGS"])
        names = self.rng.sample(WORDS, self.rng.randint(1, 2))
        silent = self.rng.random() < 0.5
        if silent:
            # What this client will believe, unless it is told otherwise.
            for number in numbers:
                self.believe(number, word, names)
        which = ",".join(map(str, numbers))
        await self.say(f"STORE {which} {word}{'.SILENT' * silent} ({' '.join(names)})")

    def believe(self, number: int, word: str, names: list[str]) -> None:
        known = self.known.messages[number - 1]
        if "FLAGS" not in known:
            return
        flags = flags_of(known["FLAGS"])
        match word:
            case "+FLAGS":
                flags |= set(names)
            case "-FLAGS":
                flags -= set(names)
            case _:
                flags = set(names) | (flags & {"\\Recent"})
        known["FLAGS"] = tuple(flag.encode() for flag in flags)

    async def expunge(self) -> None:
        await self.say("EXPUNGE")

    async def expunge_some(self) -> None:
        await self.learn()
        uids = [uid for n in self.chosen() if (uid := self.known.messages[n - 1].get("UID"))]
        if uids:
            await self.say(f"UID EXPUNGE {','.join(map(str, uids))}")

    async def move(self) -> None:
        if self.size > 20:
            await self.say(f"MOVE {','.join(map(str, self.chosen(3)))} Archive")

    async def copy(self) -> None:
        if 0 < self.size < 60:
            await self.say(f"COPY {','.join(map(str, self.chosen(3)))} INBOX")

    async def fetch(self) -> None:
        if self.size:
            item = self.rng.choice(["FLAGS", "BODY[HEADER]", "(UID FLAGS)", "BODY.PEEK[TEXT]"])
            await self.say(f"FETCH {','.join(map(str, self.chosen()))} {item}")

    async def uid_fetch(self) -> None:
        await self.say("UID FETCH 1:* (FLAGS)")

    async def search(self) -> None:
        reply = await self.say("SEARCH ALL")
        (found,) = reply["SEARCH"]
        assert set(found.data) <= set(range(1, self.size + 1))

    async def idle(self) -> None:
        async with self.client.idle() as idle:
            self.hear(idle.before)
            heard: list[Untagged] = []
            try:
                while True:
                    heard.append(await idle.next(self.rng.random() * 0.02))
            except TimeoutError:
                pass
            self.hear(heard)
        self.hear(idle.after)

    async def act(self, steps: int) -> None:
        plan: list[Callable[[], Awaitable[None]]] = [
            self.noop, self.deliver, self.append, self.store, self.store, self.store, self.store,
            self.expunge, self.expunge_some, self.move, self.copy, self.fetch, self.fetch,
            self.uid_fetch, self.search, self.idle, self.learn,
        ]  # fmt: skip
        for _ in range(steps):
            await self.rng.choice(plan)()
            if self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.random() * 0.004)


async def _agree(room: Room, actors: list[Actor]) -> None:
    """Nobody acts any more: what each knows is what the store holds."""
    stored = await room.stored()
    modseqs = await room.modseqs()
    for actor in actors:
        await actor.noop()
        believed = [known.get("FLAGS") for known in actor.known.messages]
        assert actor.size == len(stored)
        await actor.learn()
        assert actor.known.uids().count(None) == 0
        assert actor.known.uids() == list(stored), actor.name
        for (uid, flags), known, before in zip(
            stored.items(), actor.known.messages, believed, strict=True
        ):
            assert flags_of(known["FLAGS"]) - {"\\Recent"} == flags, (actor.name, uid)
            if before is not None:
                assert flags_of(before) - {"\\Recent"} == flags, (actor.name, uid)
            told = known.get("MODSEQ")
            if isinstance(told, tuple):
                assert told[0] <= modseqs[uid]  # type: ignore[operator]  # a MODSEQ is one number


async def _play(room: Room, seed: int, steps: int, clients: int = 6) -> None:
    rng = random.Random(seed)
    await room.deliver(*[SMALL] * 30)
    actors = [
        Actor(
            room,
            await room.client(mailbox=None, worker=n % 2),
            random.Random(rng.random()),
            n,
            condstore=n % 3 == 0,
        )
        for n in range(clients)
    ]
    for actor in actors:
        await actor.open()
    for _ in range(3):
        await asyncio.gather(*(actor.act(steps // 3) for actor in actors))
        await _agree(room, actors)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_six_sessions_that_only_listen_know_the_truth(room: Room, seed: int) -> None:
    await _play(room, seed, 120)


async def test_the_same_on_both_engines(room_both: Room) -> None:
    await _play(room_both, 4, 60)


async def test_modseqs_of_the_mailbox_only_grow_while_many_write(room: Room) -> None:
    await room.deliver(*[SMALL] * 20)
    writers = [await room.client(worker=n % 2) for n in range(4)]
    watcher = await room.client(mailbox=None)
    done = False

    async def write(client: ImapClient, rng: random.Random) -> None:
        for _ in range(40):
            number = rng.randint(1, 20)
            assert (await client.command(f"STORE {number} FLAGS.SILENT (k{rng.randint(0, 9)})")).ok

    async def watch() -> None:
        last, seen = 0, dict.fromkeys(range(1, 21), 0)
        while not done:
            reply = await watcher.command("EXAMINE INBOX (CONDSTORE)")
            data = reply.code_data("HIGHESTMODSEQ")
            assert data is not None
            highest = data[0]
            assert isinstance(highest, int)
            assert highest >= last
            reply = await watcher.command("FETCH 1:* (MODSEQ)")
            for number, items in reply.fetched().items():
                told = items["MODSEQ"]
                assert isinstance(told, tuple)
                assert isinstance(told[0], int)
                assert told[0] >= seen[number]
                seen[number] = told[0]
            last = highest

    task = asyncio.create_task(watch())
    await asyncio.gather(*(write(each, random.Random(n)) for n, each in enumerate(writers)))
    done = True
    await task
    modseqs = list((await room.modseqs()).values())
    assert len(set(modseqs)) == len(modseqs)  # each change had its own
