"""Many clients change the same mailboxes at once: what each was told equals the store at the end.

IMAP clients over two workers append, flag, copy, move, expunge, idle and look in a few mailboxes
that they share. Each keeps its view of the open mailbox by untagged responses alone. A number that
does not exist, an EXPUNGE where none may come, a UID that means another message, a message that
goes without anybody having removed it: each fails the run. When all have stopped, every view
equals what a fresh client is shown and what lies in the store, to the flag; so do the counters of
clients that open no mailbox and watch all of them by NOTIFY; and every result of a SEARCH or SORT
that a client kept by ADDTO and REMOVEFROM alone equals what the same search finds then.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from postroom.domain.check import check
from postroom.server import house as stores
from postroom.server.instance import Layout
from postroom.testing import rounds
from postroom.testing.imap import (
    Fetched,
    Followed,
    Follower,
    ImapClient,
    Reply,
    flags_of,
    numbers_of,
)
from postroom.testing.postgres import Cluster, NotInstalledError
from postroom.testing.scripted import ClosedError
from postroom.testing.smtp import trusting_context
from postroom.testing.victim import PATIENCE, Victim
from postroom.wire.imap.responses import Response, Untagged
from tools.verification import Form, Report

PEOPLE: Final = rounds.addresses(3)
BOXES: Final = ("INBOX", "Archive", "Work")
FLAGS: Final = ("\\Seen", "\\Answered", "\\Flagged", "\\Draft", "$Forwarded", "work", "later")
FULL: Final = 120
"""Messages in a mailbox from which on its clients rather expunge."""
_KNOWN: Final = ("UID", "FLAGS", "EMAILID")
_NO_EXPUNGE: Final = frozenset({"FETCH", "STORE", "SEARCH", "SORT"})  # RFC 3501 §7.4.1
_MAY_FAIL: Final = frozenset({"EXPUNGEISSUED", "TRYCREATE", "NONEXISTENT", "ALREADYEXISTS"})
_EXTENSIONS: Final = ("", "CONDSTORE", "QRESYNC", "")
_WIDTHS: Final = (1, 1, 1, 2, 3, 8, 40)
QUESTIONS: Final = (
    "SEARCH RETURN ({}) UNSEEN",
    "SEARCH RETURN ({}) ALL",
    "SEARCH RETURN ({}) OR FLAGGED NOT KEYWORD work",
    "SEARCH RETURN ({}) SUBJECT 7 UNKEYWORD later",
    "SORT RETURN ({}) (REVERSE SUBJECT) UTF-8 UNFLAGGED",
    "SORT RETURN ({}) (SIZE REVERSE ARRIVAL) UTF-8 OR SEEN KEYWORD later",
    "SORT RETURN ({}) (FROM REVERSE DATE) UTF-8 UNDELETED",
)
"""What clients follow the results of; `{}` is for what it returns."""
RESULTS: Final = 5
"""Results that a client follows at once."""
LISTENS: Final = 10.0
"""Seconds within which all that happened has been told by NOTIFY."""


@dataclass(frozen=True, slots=True)
class Plan:
    """For how many seconds how many clients work, on each engine."""

    clients: int
    sqlite: float
    postgres: float
    seed: int


PLANS: Final = {Form.SHORT: Plan(18, 12, 8, 1), Form.LONG: Plan(60, 240, 120, 2)}


def run(form: Form) -> Report:
    """Both engines."""
    plan = PLANS[form]
    done = [asyncio.run(_campaign("SQLite", plan, plan.sqlite, ""))]
    try:
        cluster = Cluster(fsync=False)
    except NotInstalledError:
        done.append(Campaign("PostgreSQL: none here"))
    else:
        with cluster:
            url = cluster.create_database()
            done.append(asyncio.run(_campaign("PostgreSQL", plan, plan.postgres, url)))
    columns = (
        "store",
        "clients",
        "seconds",
        "commands",
        "changes",
        "refused, as they may be",
        "untagged responses followed",
        "changes of results followed",
        "messages made",
        "removed",
        "left",
        "views compared",
    )
    failures = tuple(f"{c.name}: {failure}" for c in done for failure in c.failures[:30])
    return Report(columns, tuple(c.row() for c in done), failures)


async def _campaign(name: str, plan: Plan, seconds: float, url: str) -> Campaign:
    with tempfile.TemporaryDirectory(prefix="postroom-stress-") as folder:
        layout = Layout(os.path.join(folder, "data"))
        await rounds.furnish(layout, PEOPLE, url)
        campaign = Campaign(name, clients=plan.clients, seconds=seconds)
        victim = Victim(layout, _no_questions)
        try:
            await victim.start()
            await campaign.work(993 + victim.offset, plan.seed)
            async with stores.open_house(layout) as house:
                report = await check(house.mail, house.blobs, repair=False)
            campaign.failures += [f"check: {problem}" for problem in report.problems]
        finally:
            victim.close()
        campaign.failures += [f"a log holds a traceback: {line}" for line in victim.tracebacks]
        return campaign


async def _no_questions() -> None:
    """The first client will see whether the doors answer."""


# --- what all clients know together -----------------------------------------------------------


Place = tuple[str, str]  # account and path


@dataclass
class Common:
    """What must be true across all clients."""

    identities: dict[tuple[Place, int], object] = field(default_factory=dict)
    """EMAILID by place and UID, once anybody was told: for ever."""
    made: set[tuple[Place, int]] = field(default_factory=set)
    removed: set[tuple[Place, int]] = field(default_factory=set)
    unmet: Counter[Place] = field(default_factory=Counter)
    """EXPUNGEs of messages that went before that client had asked for their UIDs."""
    uidnext: Counter[Place] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def meet(self, place: Place, uid: int, emailid: object) -> None:
        """Somebody was told of a message."""
        known = self.identities.setdefault((place, uid), emailid)
        if known != emailid:
            self.failures.append(f"{place} {uid}: was {known!r}, is {emailid!r}")

    def make(self, place: Place, uids: Sequence[int]) -> None:
        """Messages came into being under these UIDs."""
        for uid in uids:
            if (place, uid) in self.made:
                self.failures.append(f"{place} {uid}: given to two messages")
            self.made.add((place, uid))
        self.uidnext[place] = max(self.uidnext[place], max(uids, default=0) + 1)


# --- one client -------------------------------------------------------------------------------


class Client:
    """Works in one account until it is told to stop; `view` is what it was told."""

    def __init__(self, name: str, account: str, common: Common, rng: random.Random) -> None:
        self.name = name
        self.account = account
        self.path = ""
        self.view = Follower()
        self.stop = asyncio.Event()
        self.commands = 0
        self.changes = 0
        self.followed = 0
        self.refused = 0
        self.results: list[tuple[str, Followed]] = []
        self.results_changed = 0
        self._common = common
        self._rng = rng
        self._client: ImapClient | None = None
        self._uids_go = False  # it is told of what is removed by UID: RFC 7162 §3.2.10

    @property
    def place(self) -> Place:
        return self.account, self.path

    @property
    def client(self) -> ImapClient:
        assert self._client is not None
        return self._client

    async def run(self, port: int, extension: str) -> None:
        """Sign in, ENABLE an extension, work until told to stop; the connection stays open."""
        self._client = await ImapClient.connect(
            "127.0.0.1", port, tls=trusting_context(), patience=PATIENCE
        )
        said = await self.client.login(self.account, rounds.PASSWORD)
        if not said.ok:
            raise AssertionError(f"cannot sign in: {said.text}")
        if extension:
            said = await self.client.command(f"ENABLE {extension}")
            self._uids_go = extension == "QRESYNC" and bool(said["ENABLED"][0].data)
        await self._open(self._rng.choice(BOXES))
        actions = (
            (self._append, 14),
            (self._store, 34),
            (self._copy, 8),
            (self._move, 8),
            (self._expunge, 8),
            (self._idle, 6),
            (self._look, 18),
            (self._follow, 4),
            (self._cancel, 1),
            (self._reopen, 2),
        )
        whats, weights = zip(*actions, strict=True)
        while not self.stop.is_set():
            if len(self.view.messages) > FULL:
                await self._expunge()
            await self._rng.choices(whats, weights)[0]()
            await self._learn()

    async def catch_up(self) -> None:
        """Hear what others did, and learn of what came."""
        await self._say("NOOP")
        await self._learn()

    async def differing(self) -> list[str]:
        """The results that are not what the same searches find now."""
        found: list[str] = []
        for question, result in self.results:
            said = await self._say(question.format("ALL"))
            data = said["ESEARCH"][0].data
            now = numbers_of(data[data.index(b"ALL") + 1]) if b"ALL" in data else []
            if now != result.numbers:
                found.append(f"{question}: {result.numbers} followed, {now} found")
        return found

    async def close(self) -> None:
        """Leave without a word."""
        if self._client is not None:
            await self._client.close()

    # --- saying and hearing -----------------------------------------------------------------------

    async def _say(self, command: str) -> Reply:
        """A command, and what it told."""
        self.commands += 1
        said = await self.client.command(command)
        self._hear(said.untagged, command)
        if said.kind == "BAD" or (not said.ok and said.code not in _MAY_FAIL):
            raise AssertionError(f"{command[:80]}: {said.kind} [{said.code}] {said.text}")
        self.refused += not said.ok
        return said

    def _hear(self, told: Sequence[Response], during: str) -> None:
        self.followed += len(told)
        may_shrink = during.split(" ", 1)[0] not in _NO_EXPUNGE
        for each in told:
            if isinstance(each, Untagged) and each.name in (b"EXPUNGE", b"VANISHED"):
                if not may_shrink or self._uids_go != (each.name == b"VANISHED"):
                    raise AssertionError(f"{each.name!r} during {during[:60]}")
                if self._uids_go:
                    self._vanished(numbers_of(each.data[-1]))
                else:
                    self._gone(each.number or 0)
            self.view.hear([each])
            for _, result in self.results:
                before = result.heard
                result.hear([each])
                self.results_changed += result.heard - before
                if result.ended:
                    raise AssertionError(f"a result is followed no longer: {each}")

    def _gone(self, number: int) -> None:
        if 1 <= number <= len(self.view.messages):  # else the view says what is wrong
            uid = self.view.messages[number - 1].get("UID")
            if isinstance(uid, int):
                self._common.removed.add((self.place, uid))
            else:
                self._common.unmet[self.place] += 1

    def _vanished(self, uids: Sequence[int]) -> None:
        """Take these out of the view. One whose UID was not asked for yet stands between those
        whose UIDs are known, as UIDs ascend."""
        gone: set[int] = set()
        places = {known.get("UID"): n for n, known in enumerate(self.view.messages, 1)}
        for uid in sorted(uids, reverse=True):
            place = places.get(uid) or self._place_of(uid, gone)
            if not place:
                raise AssertionError(f"VANISHED {uid}, which was not there")
            gone.add(place)
        for number in sorted(gone, reverse=True):
            self._gone(number)
            del self.view.messages[number - 1]

    def _place_of(self, uid: int, taken: set[int]) -> int:
        """The number of a message of unknown UID that can be this one; 0 if there is none."""
        found = 0
        for n, known in enumerate(self.view.messages, 1):
            there = known.get("UID")
            if isinstance(there, int) and there > uid:
                break
            if isinstance(there, int):
                found = 0  # what stands before a smaller UID is none of it
            elif n not in taken:
                found = n
        return found

    async def _learn(self) -> None:
        """Ask for what is not known of the messages that came."""
        for item in _KNOWN:
            if unknown := self.view.unknown(item):
                await self._say(f"FETCH {unknown[0]}:{unknown[-1]} (UID FLAGS EMAILID)")
                break
        before = 0
        for known in self.view.messages:
            uid = known.get("UID")
            if uid is None:
                continue  # somebody has removed it meanwhile, and we will be told
            assert isinstance(uid, int)
            if uid <= before:
                raise AssertionError(f"{self.place}: UID {uid} comes behind {before}")
            before = uid
            if "EMAILID" in known:
                self._common.meet(self.place, uid, known["EMAILID"])

    # --- what it does -----------------------------------------------------------------------------

    async def _open(self, path: str) -> None:
        self.view, self.path, self.results = Follower(), path, []
        told = self._common.uidnext[self.place]
        said = await self._say(f"SELECT {path}")
        if not said.ok:
            await self._say(f"CREATE {path}")
            said = await self._say(f"SELECT {path}")
        uidnext = said.code_data("UIDNEXT")
        if uidnext is None or not isinstance(uidnext[0], int):
            raise AssertionError("SELECT without UIDNEXT")
        if uidnext[0] < told:
            raise AssertionError(f"UIDNEXT {uidnext[0]}, and UID {told - 1} was given before")
        await self._learn()

    async def _reopen(self) -> None:
        if self._rng.random() < 0.5:
            await self._say("UNSELECT")
        await self._open(self._rng.choice(BOXES))

    async def _append(self) -> None:
        rng = self._rng
        size = rng.choice((100, 400, 3_000, 90_000))
        body = rng.randbytes(size // 2).hex().encode()
        head = f"From: {self.name}@example.test\r\nSubject: {rng.getrandbits(40):x}\r\n\r\n"
        message = head.encode() + body + b"\r\n"
        count = rng.choice((1, 1, 1, 2, 5))
        flags = f"({' '.join(rng.sample(FLAGS, rng.randint(0, 2)))})"
        path = rng.choice(BOXES)
        self.commands += 1
        said = await self.client.append(path, *[message] * count, flags=flags)
        self._hear(said.untagged, "APPEND")
        made = said.code_data("APPENDUID")
        if not said.ok:
            if said.code not in _MAY_FAIL:
                raise AssertionError(f"APPEND: {said.kind} [{said.code}] {said.text}")
            await self._say(f"CREATE {path}")
        elif made is not None:
            self._common.make((self.account, path), numbers_of(made[1]))
            self.changes += 1

    async def _store(self) -> None:
        rng = self._rng
        picked, by_uid = self._pick()
        if not picked:
            return
        silent = ".SILENT" if rng.random() < 0.3 else ""
        sign = rng.choice(("+", "+", "-", ""))
        flags = rng.sample(FLAGS, rng.randint(1, 2))
        said = await self._say(f"{by_uid}STORE {picked} {sign}FLAGS{silent} ({' '.join(flags)})")
        self.changes += said.ok
        if silent:
            # It is not told what it asked for; what others did meanwhile came before or comes yet.
            await self._say(f"{by_uid}FETCH {picked} (UID FLAGS)")

    async def _copy(self) -> None:
        picked, by_uid = self._pick()
        if picked:
            path = self._rng.choice(BOXES)
            said = await self._say(f"{by_uid}COPY {picked} {path}")
            await self._copied(said, path)

    async def _move(self) -> None:
        picked, by_uid = self._pick()
        if picked:
            path = self._rng.choice([box for box in BOXES if box != self.path])
            said = await self._say(f"{by_uid}MOVE {picked} {path}")
            await self._copied(said, path)

    async def _copied(self, said: Reply, path: str) -> None:
        new = said.code_data("COPYUID")
        if new is not None:
            self._common.make((self.account, path), numbers_of(new[2]))
            self.changes += 1
        elif said.code == "TRYCREATE":
            await self._say(f"CREATE {path}")

    async def _expunge(self) -> None:
        picked, by_uid = self._pick(0.6 if len(self.view.messages) > FULL else 0.0)
        if not picked:
            return
        said = await self._say(f"{by_uid}STORE {picked} +FLAGS (\\Deleted)")
        if by_uid and self._rng.random() < 0.5:
            said = await self._say(f"UID EXPUNGE {picked}")
        else:
            said = await self._say("EXPUNGE")
        self.changes += said.ok

    async def _idle(self) -> None:
        self.commands += 1
        loop = asyncio.get_running_loop()
        until = loop.time() + self._rng.uniform(0.01, 0.8)
        async with self.client.idle() as idle:
            self._hear(idle.before, "IDLE")
            while (left := until - loop.time()) > 0:
                try:
                    self._hear([await idle.next(left)], "IDLE")
                except TimeoutError:
                    break
        self._hear(idle.after, "IDLE")

    async def _look(self) -> None:
        picked, by_uid = self._pick()
        commands = ["NOOP", "CHECK", "SEARCH UNSEEN", "UID SEARCH FLAGGED"]
        if picked:
            commands += [
                f"{by_uid}FETCH {picked} (UID FLAGS)",
                f"{by_uid}FETCH {picked} (UID ENVELOPE BODYSTRUCTURE)",
                f"{by_uid}FETCH {picked} (UID BODY[])",  # marks it as read, which all are told
            ]
        await self._say(self._rng.choice(commands))

    async def _follow(self) -> None:
        """Follow a result from now on; message numbers mean nothing to who hears of UIDs."""
        if len(self.results) == RESULTS:
            return
        by_uid = "UID " if self._uids_go or self._rng.random() < 0.5 else ""
        question = by_uid + self._rng.choice(QUESTIONS)
        self.commands += 1
        said, result = await self.client.follow(question.format("UPDATE ALL"))
        self._hear(said.untagged, question)
        if not said.ok or result.ended:
            raise AssertionError(f"{question}: {said.kind} [{said.code}] {said.text}")
        self.results.append((question, result))

    async def _cancel(self) -> None:
        if self.results:
            # It hears nothing of it from here on, not even of removals that the reply tells.
            _, result = self.results.pop(self._rng.randrange(len(self.results)))
            await self._say(f'CANCELUPDATE "{result.tag.decode()}"')

    def _pick(self, share: float = 0.0) -> tuple[str, str]:
        """Some messages of the view, and "UID " if they are given by UID."""
        rng, size = self._rng, len(self.view.messages)
        if not size:
            return "", ""
        width = max(rng.choice(_WIDTHS), int(size * share))
        first = rng.randint(1, size)
        last = min(size, first + width - 1)
        known = [m.get("UID") for m in self.view.messages[first - 1 : last]]
        uids = [uid for uid in known if isinstance(uid, int)]
        if uids and rng.random() < 0.5:
            return f"{uids[0]}:{uids[-1]}", "UID "
        return f"{first}:{last}", ""


class Watcher:
    """Watches all mailboxes of an account by NOTIFY alone: `counts` is what it was told, by path
    messages, UIDNEXT and unseen. RFC 5465."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.counts: dict[str, tuple[object, ...]] = {}
        self.followed = 0
        self._client: ImapClient | None = None
        self._listening: asyncio.Task[None] | None = None

    async def begin(self, port: int) -> None:
        """Sign in and ask; nothing is asked after that."""
        self._client = await ImapClient.connect(
            "127.0.0.1", port, tls=trusting_context(), patience=PATIENCE
        )
        await self._client.login(self.account, rounds.PASSWORD)
        said = await self._client.command(
            "NOTIFY SET STATUS (personal (MessageNew MessageExpunge FlagChange))"
        )
        if not said.ok:
            raise AssertionError(f"NOTIFY: {said.text}")
        self._hear(said.untagged)
        self._listening = asyncio.create_task(self._listen(self._client))

    async def _listen(self, client: ImapClient) -> None:
        while True:
            self._hear([await client.response(3600)])

    async def comes_to(self, shown: Mapping[str, tuple[object, ...]]) -> bool:
        """Wait until what was told is as shown; False if it does not come to be."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LISTENS
        while any(self.counts.get(path) != counts for path, counts in shown.items()):
            if loop.time() > until:
                return False
            await asyncio.sleep(0.05)
        return True

    async def close(self) -> None:
        """Leave without a word."""
        if self._listening is not None:
            self._listening.cancel()
        if self._client is not None:
            await self._client.close()

    def _hear(self, told: Sequence[Response]) -> None:
        for each in told:
            if isinstance(each, Untagged) and each.name == b"STATUS":
                path, counts = _counts(each)
                self.counts[path] = counts
                self.followed += 1


def _counts(status: Untagged) -> tuple[str, tuple[object, ...]]:
    path, items = status.data
    assert isinstance(path, bytes)
    assert isinstance(items, tuple)
    found = dict(zip(items[::2], items[1::2], strict=True))
    return path.decode(), tuple(found[name] for name in (b"MESSAGES", b"UIDNEXT", b"UNSEEN"))


# --- the whole --------------------------------------------------------------------------------


View = list[tuple[object, frozenset[str]]]


@dataclass
class Campaign:
    """One engine's run, and what came of it."""

    name: str
    clients: int = 0
    seconds: float = 0.0
    common: Common = field(default_factory=Common)
    failures: list[str] = field(default_factory=list)
    compared: int = 0
    left: int = 0
    workers: list[Client] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        each = self.workers
        numbers = (
            sum(c.commands for c in each),
            sum(c.changes for c in each),
            sum(c.refused for c in each),
            sum(c.followed for c in each) + sum(w.followed for w in self.watchers),
            sum(c.results_changed for c in each),
            len(self.common.made),
            len(self.common.removed),
            self.left,
            self.compared,
        )
        return (self.name, f"{len(each)}", f"{self.seconds:g}", *(f"{n:,}" for n in numbers))

    async def work(self, port: int, seed: int) -> None:
        """All clients, then the comparison."""
        rngs = [random.Random(f"{seed}:{self.name}:{n}") for n in range(self.clients)]
        self.workers = [
            Client(f"c{n}", PEOPLE[n % len(PEOPLE)], self.common, rng) for n, rng in enumerate(rngs)
        ]
        self.watchers = [Watcher(account) for account in PEOPLE]
        try:
            for watcher in self.watchers:
                await watcher.begin(port)
            tasks = [
                asyncio.create_task(self._client(client, port, n))
                for n, client in enumerate(self.workers)
            ]
            await asyncio.sleep(self.seconds)
            for client in self.workers:
                client.stop.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*tasks)
            if not self.failures:
                await self._compare(port)
        finally:
            for client in self.workers:
                await client.close()
            for watcher in self.watchers:
                await watcher.close()
        self.failures += self.common.failures

    async def _client(self, client: Client, port: int, n: int) -> None:
        try:
            await client.run(port, _EXTENSIONS[n % len(_EXTENSIONS)])
        except (AssertionError, ClosedError, OSError, TimeoutError, KeyError) as error:
            where = " < ".join(
                f"{frame.name}:{frame.lineno}"
                for frame in reversed(traceback.extract_tb(error.__traceback__)[-4:])
            )
            problem = f"{client.name} in {client.place}: {type(error).__name__} {error} ({where})"
            self.failures.append(problem[:600])
            client.stop.set()

    async def _compare(self, port: int) -> None:
        """Every view against what a fresh client is shown."""
        for client in self.workers:
            await client.catch_up()
        for account in PEOPLE:
            shown = await self._shown(port, account)
            self.left += sum(map(len, shown.values()))
            for client in self.workers:
                if client.account != account:
                    continue
                self.compared += 1
                held = [_known(message) for message in client.view.messages]
                if held != shown[client.path]:
                    self.failures.append(_difference(client, held, shown[client.path]))
                self.compared += len(client.results)
                wrong = await client.differing()
                self.failures += [f"{client.name} in {client.place}: {each}" for each in wrong]
            for path, view in shown.items():
                self._account_for((account, path), {uid for uid, _ in view})
        for watcher in self.watchers:
            await self._compare_watched(port, watcher)

    async def _compare_watched(self, port: int, watcher: Watcher) -> None:
        """What NOTIFY told against what a fresh client is told."""
        there: dict[str, tuple[object, ...]] = {}
        async with await ImapClient.connect(
            "127.0.0.1", port, tls=trusting_context(), patience=PATIENCE
        ) as client:
            await client.login(watcher.account, rounds.PASSWORD)
            for path in BOXES:
                said = await client.command(f"STATUS {path} (MESSAGES UIDNEXT UNSEEN)")
                there.update(map(_counts, said["STATUS"]))
        self.compared += 1
        if not await watcher.comes_to(there):
            self.failures.append(
                f"watcher of {watcher.account}: told {watcher.counts}, there is {there}"
            )

    async def _shown(self, port: int, account: str) -> dict[str, View]:
        found: dict[str, View] = {}
        async with await ImapClient.connect(
            "127.0.0.1", port, tls=trusting_context(), patience=PATIENCE
        ) as client:
            await client.login(account, rounds.PASSWORD)
            for path in BOXES:
                said = await client.command(f"EXAMINE {path}")
                listed = await client.command("FETCH 1:* (UID FLAGS)") if said.ok else said
                found[path] = [_known(items) for items in listed.fetched().values()]
        return found

    def _account_for(self, place: Place, there: set[object]) -> None:
        """Nothing is there that nobody made, and nothing is gone that nobody removed."""
        made = {uid for at, uid in self.common.made if at == place}
        removed = {uid for at, uid in self.common.removed if at == place}
        lost = made - removed - there
        if len(lost) > self.common.unmet[place]:
            self.failures.append(f"{place}: nobody was told of the end of {sorted(lost)[:8]}")
        if back := there & removed:
            self.failures.append(f"{place}: removed and there: {sorted(map(str, back))[:8]}")
        if strange := there - made:
            self.failures.append(f"{place}: nobody made {sorted(map(str, strange))[:8]}")


def _known(message: Fetched) -> tuple[object, frozenset[str]]:
    flags = flags_of(message["FLAGS"]) if "FLAGS" in message else {"never told"}
    return message.get("UID"), frozenset(flags - {"\\Recent"})


def _difference(client: Client, held: View, shown: View) -> str:
    ours, theirs = dict(held), dict(shown)
    wrong = [uid for uid in {*ours, *theirs} if ours.get(uid) != theirs.get(uid)]
    uid = min(wrong, key=str) if wrong else None
    return (
        f"{client.name} in {client.place}: {len(held)} held, {len(shown)} there; {len(wrong)}"
        f" differ, such as {uid}: {ours.get(uid)} for {theirs.get(uid)}"
    )
