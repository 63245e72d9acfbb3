"""A scripted IMAP client for tests, stress and plays: it says what it is told, well or badly.

It reads with `wire.imap.ResponseReader`, so an answer that is no IMAP raises BadResponse. Every
wait has a deadline; what the server says meanwhile is kept in order.

    async with await ImapClient.connect("127.0.0.1", 143) as client:
        await client.starttls(context)
        await client.login("ann@example.test", "secret")
        reply = await client.command("SELECT INBOX")
        assert reply.ok and reply.code_data("UIDVALIDITY")
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from postroom.testing.scripted import PATIENCE, ClosedError, ScriptedClient
from postroom.wire.imap import (
    Atom,
    Code,
    Continuation,
    Response,
    ResponseReader,
    Tagged,
    Untagged,
    Value,
    compress,
)


@dataclass(frozen=True, slots=True)
class Literal:
    """A part of a command that goes as a literal; `sync` waits for the server's leave."""

    data: bytes
    sync: bool = True
    binary: bool = False

    def announcement(self) -> bytes:
        mark = b"~" if self.binary else b""
        return mark + b"{%d%b}\r\n" % (len(self.data), b"" if self.sync else b"+")


Part = str | bytes | Literal
Fetched = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Reply:
    """The tagged response of a command and the untagged ones that came before it."""

    tagged: Tagged
    untagged: list[Untagged] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """OK, NO or BAD."""
        return self.tagged.kind.decode("ascii")

    @property
    def ok(self) -> bool:
        return self.kind == "OK"

    @property
    def code(self) -> str | None:
        """The name of the tagged reply's response code."""
        return self.tagged.code.name.decode("ascii") if self.tagged.code is not None else None

    @property
    def text(self) -> str:
        return self.tagged.text.decode("utf-8")

    def __getitem__(self, name: str) -> list[Untagged]:
        """The untagged responses of a name, in order."""
        wanted = name.encode("ascii")
        return [each for each in self.untagged if each.name == wanted]

    def codes(self) -> list[Code]:
        """Every response code, the tagged reply's last."""
        found = [each.code for each in self.untagged if each.code is not None]
        return [*found, self.tagged.code] if self.tagged.code is not None else found

    def code_data(self, name: str) -> tuple[Value, ...] | None:
        """The arguments of the first response code of that name; None if there is none."""
        wanted = name.encode("ascii")
        return next((code.data for code in self.codes() if code.name == wanted), None)

    def numbers(self, name: str) -> list[int]:
        """The numbers of `* n NAME` responses, in order."""
        return [each.number for each in self[name] if each.number is not None]

    def fetched(self) -> dict[int, Fetched]:
        """FETCH responses by message number; what is said of a number later is added."""
        found: dict[int, Fetched] = {}
        for number, items in fetches(self.untagged):
            found.setdefault(number, {}).update(items)
        return found


def fetches(responses: Sequence[Response]) -> Iterator[tuple[int, Fetched]]:
    """(message number, items by name in upper case) of each FETCH response."""
    for each in responses:
        if isinstance(each, Untagged) and each.name == b"FETCH" and each.number is not None:
            (listed,) = each.data
            assert isinstance(listed, tuple)
            names = [str(bytes(n), "ascii").upper() for n in listed[::2] if isinstance(n, Atom)]
            yield each.number, dict(zip(names, listed[1::2], strict=True))


def flags_of(value: Value) -> set[str]:
    """A list of flags as a set of names."""
    assert isinstance(value, tuple)
    return {bytes(flag).decode("ascii") for flag in value if isinstance(flag, bytes)}


def numbers_of(value: Value) -> list[int]:
    """A set such as `1:3,7`, or one number, as a list."""
    if isinstance(value, int):
        return [value]
    assert isinstance(value, bytes)
    found: list[int] = []
    for piece in bytes(value).split(b","):
        first, _, last = piece.partition(b":")
        found += range(int(first), int(last or first) + 1)
    return found


class ImapClient(ScriptedClient[Response]):
    """One connection. Not for two tasks at once."""

    _responses: ResponseReader

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float
    ) -> None:
        super().__init__(reader, writer, ResponseReader(), patience)
        self._tags = 0
        self.greeting = Untagged(b"")

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
        greeting: bool = True,
    ) -> ImapClient:
        """Connect, with `tls` by implicit TLS, and hear the greeting."""
        reader, writer = await cls.dial(host, port, tls, patience)
        client = cls(reader, writer, patience)
        if greeting:
            first = await client.response()
            assert isinstance(first, Untagged)
            client.greeting = first
        return client

    # --- commands --------------------------------------------------------------------------------

    def tag(self) -> bytes:
        """A tag that was not used before."""
        self._tags += 1
        return b"t%d" % self._tags

    async def command(self, *parts: Part, patience: float | None = None) -> Reply:
        """Say a command and hear its reply. A refused synchronising literal ends it early."""
        tag = self.tag()
        heard: list[Untagged] = []
        out = tag + b" "
        for part in parts:
            if not isinstance(part, Literal):
                out += part.encode() if isinstance(part, str) else part
                continue
            self.send(out + part.announcement())
            out = b""
            if part.sync:
                answer = await self._await_leave(tag, heard, patience)
                if answer is not None:
                    return Reply(answer, heard)
            self.send(part.data)
        self.send(out + b"\r\n")
        return await self.reply(tag, heard, patience=patience)

    async def _await_leave(
        self, tag: bytes, heard: list[Untagged], patience: float | None
    ) -> Tagged | None:
        while True:
            each = await self._hear(heard, patience)
            if isinstance(each, Continuation):
                return None
            if isinstance(each, Tagged):
                assert each.tag == tag, each
                return each

    async def _hear(self, heard: list[Untagged], patience: float | None) -> Response:
        try:
            each = await self.response(patience)
        except ClosedError as error:
            raise ClosedError(heard) from error
        if isinstance(each, Untagged):
            heard.append(each)
        return each

    async def reply(
        self, tag: bytes, heard: list[Untagged] | None = None, *, patience: float | None = None
    ) -> Reply:
        """The tagged reply to a command that was sent already."""
        told = heard if heard is not None else []
        while True:
            each = await self._hear(told, patience)
            if isinstance(each, Tagged):
                assert each.tag == tag, (tag, each)
                return Reply(each, told)
            assert isinstance(each, Untagged), each

    async def continuation(self) -> bytes:
        """The text of the continuation that comes next."""
        each = await self.response()
        assert isinstance(each, Continuation), each
        return each.text

    # --- what most scripts say -------------------------------------------------------------------

    async def starttls(self, context: ssl.SSLContext, name: str = "localhost") -> Reply:
        """Upgrade; what was said in plaintext beyond the reply would be an attack."""
        reply = await self.command("STARTTLS")
        if reply.ok:
            assert self._responses.empty
            await self.upgrade(context, name)
        return reply

    async def compress(self) -> Reply:
        """COMPRESS, and then speak so."""
        reply = await self.command("COMPRESS DEFLATE")
        if reply.ok:
            assert self._responses.empty
            self.compressed()
        return reply

    async def login(self, user: str, password: str) -> Reply:
        """LOGIN with both as literals that need no leave: any octets do."""
        return await self.command(
            "LOGIN ", Literal(user.encode(), sync=False), " ", Literal(password.encode(), False)
        )

    async def plain(self, user: str, password: str, acting: str = "") -> Reply:
        """AUTHENTICATE PLAIN with its initial response. RFC 4616 §2, RFC 4959 §3."""
        response = base64.b64encode(f"{acting}\0{user}\0{password}".encode())
        return await self.command(b"AUTHENTICATE PLAIN " + response)

    async def append(
        self,
        mailbox: str,
        *messages: bytes,
        flags: str = "",
        date: str = "",
        sync: bool = True,
    ) -> Reply:
        """APPEND one message or, by RFC 3502, several; `flags` as `(\\Seen)`, `date` quoted."""
        about = "".join(f"{word} " for word in (flags, date) if word)
        parts: list[Part] = [f"APPEND {mailbox}"]
        for message in messages:
            parts += [f" {about}", Literal(message, sync)]
        return await self.command(*parts)

    async def follow(self, command: str, patience: float | None = None) -> tuple[Reply, Followed]:
        """SEARCH or SORT, by message number or UID, with UPDATE and ALL among what it returns; and
        the result, as far as it is known then. RFC 5267."""
        reply = await self.command(command, patience=patience)
        words = command.upper().split(" ", 2)
        followed = Followed(reply.tagged.tag, uid=words[0] == "UID", ordered="SORT" in words[:2])
        followed.hear(reply.untagged)
        return reply, followed

    @asynccontextmanager
    async def idle(self) -> AsyncIterator[Idle]:
        """IDLE until the block ends, then DONE. RFC 2177."""
        tag = self.tag()
        self.send(tag + b" IDLE\r\n")
        before: list[Untagged] = []
        while isinstance(each := await self._hear(before, None), Untagged):
            pass
        assert isinstance(each, Continuation), each
        idle = Idle(self, before)
        yield idle
        self.send(b"DONE\r\n")
        idle.reply = await self.reply(tag, idle.after)


class Idle:
    """An IDLE under way."""

    def __init__(self, client: ImapClient, before: list[Untagged]) -> None:
        self._client = client
        self.before = before
        """What was told before the continuation."""
        self.after: list[Untagged] = []
        """What was told after DONE."""
        self.reply: Reply | None = None
        """The reply to DONE, once the block has ended."""

    async def next(self, patience: float = 5.0) -> Untagged:
        """What is told next; raises TimeoutError if nothing is."""
        each = await self._client.response(patience)
        assert isinstance(each, Untagged), each
        return each


# --- following a mailbox ---------------------------------------------------------------------


class Follower:
    """What a client knows of its open mailbox if it believes untagged responses alone.

    `messages[n - 1]` is what is known of message `n`: UID, FLAGS, MODSEQ as far as told.
    """

    def __init__(self) -> None:
        self.messages: list[Fetched] = []
        self.recent = 0

    def hear(self, responses: Sequence[Response]) -> None:
        """Take responses in the order in which they came; a wrong number is an AssertionError."""
        for each in responses:
            if not isinstance(each, Untagged) or each.number is None:
                continue
            match each.name:
                case b"EXISTS":
                    grown = each.number - len(self.messages)
                    # RFC 3501 §7.3.1: EXISTS never shrinks a mailbox, EXPUNGE does.
                    assert grown >= 0, each
                    self.messages += [{} for _ in range(grown)]
                case b"RECENT":
                    self.recent = each.number
                case b"EXPUNGE":
                    assert 1 <= each.number <= len(self.messages), each
                    del self.messages[each.number - 1]
                case b"FETCH":
                    assert 1 <= each.number <= len(self.messages), each
                    ((_, items),) = fetches([each])
                    self._learn(self.messages[each.number - 1], items)
                case _:
                    pass

    def _learn(self, known: Fetched, items: Fetched) -> None:
        assert known.get("UID", items.get("UID")) == items.get("UID", known.get("UID"))
        before, after = known.get("MODSEQ"), items.get("MODSEQ")
        if isinstance(before, tuple) and isinstance(after, tuple):
            assert isinstance(before[0], int)
            assert isinstance(after[0], int)
            assert after[0] >= before[0], (known, items)  # RFC 7162 §3.1: it never goes back
        known.update(items)

    def unknown(self, item: str) -> list[int]:
        """The numbers of messages of which `item` was never told."""
        return [n for n, known in enumerate(self.messages, 1) if item not in known]

    def uids(self) -> list[Value]:
        return [known.get("UID") for known in self.messages]


class Followed:
    """A result that a client keeps by ADDTO and REMOVEFROM alone. RFC 5267 §4.3.

    `numbers` are UIDs or message numbers, in mailbox order or in the order of a SORT. A message
    number that goes by EXPUNGE while it is in the result is an AssertionError.
    """

    def __init__(self, tag: bytes, *, uid: bool, ordered: bool) -> None:
        self.tag = tag
        self.numbers: list[int] = []
        self.ended = False
        """The server refused to follow it, or does not any more."""
        self.heard = 0
        """Pairs of a place and a set that were told."""
        self._uid = uid
        self._ordered = ordered

    def hear(self, responses: Sequence[Response]) -> None:
        """Take responses in the order in which they came, from the reply to the search on."""
        for each in responses:
            if not isinstance(each, Untagged):
                continue
            if each.code is not None and each.code.name == b"NOUPDATE":
                self.ended = self.ended or each.code.data == (self.tag,)
            elif each.name == b"EXPUNGE" and not self._uid:
                assert each.number is not None
                assert each.number not in self.numbers, (each, self.numbers)
                self.numbers = [n - (n > each.number) for n in self.numbers]
            elif each.name == b"ESEARCH" and each.data[0] == (b"TAG", self.tag):
                self._take(each.data[1:])

    def _take(self, data: tuple[Value, ...]) -> None:
        assert (b"UID" in data) == self._uid, data
        pairs = [value for value in data if value != b"UID"]
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            if name == b"ALL":
                self.numbers = numbers_of(value)
            elif name in (b"ADDTO", b"REMOVEFROM"):
                assert not self.ended, data
                assert isinstance(value, tuple), data
                for place, told in zip(value[::2], value[1::2], strict=True):
                    assert isinstance(place, int), data
                    assert bool(place) == self._ordered, data
                    self.heard += 1
                    change = self._add if name == b"ADDTO" else self._remove
                    change(place, numbers_of(told))

    def _add(self, place: int, told: list[int]) -> None:
        assert not set(told) & set(self.numbers), (told, self.numbers)
        assert place <= len(self.numbers) + 1, (place, told, self.numbers)
        if place:
            self.numbers[place - 1 : place - 1] = told
        else:
            self.numbers = sorted(self.numbers + told)

    def _remove(self, place: int, told: list[int]) -> None:
        if place:
            end = place - 1 + len(told)
            assert self.numbers[place - 1 : end] == told, (place, told, self.numbers)
            del self.numbers[place - 1 : end]
        else:
            assert set(told) <= set(self.numbers), (told, self.numbers)
            self.numbers = [n for n in self.numbers if n not in told]


# --- keeping a mailbox between sessions --------------------------------------------------------


class Cache:
    """What a client keeps of a mailbox over sessions, if QRESYNC alone tells it. RFC 7162 §3.2.

    `flags` by UID; `modseq` is the highest up to which the server said that it told everything.
    """

    def __init__(self) -> None:
        self.uidvalidity = 0
        self.modseq = 0
        self.flags: dict[int, set[str]] = {}
        self.count = 0
        """How many messages the open mailbox has, as EXISTS and VANISHED say."""

    def parameter(self, *, known: bool = False, match: bool = False) -> str:
        """What SELECT is given after the mailbox; `known` and `match` add the UIDs that are known,
        and some of them with their numbers."""
        if not self.modseq:
            return ""
        uids = sorted(self.flags)
        more = ""
        if known and uids:
            more += " " + compress(uids).decode("ascii")
        if match and uids:
            places = sorted({len(uids) // 2, len(uids) * 3 // 4, len(uids) - 1})
            numbers = ",".join(str(place + 1) for place in places)
            more += f" ({numbers} {','.join(str(uids[place]) for place in places)})"
        return f" (QRESYNC ({self.uidvalidity} {self.modseq}{more}))"

    def hear(self, reply: Reply, *, opened: bool = False) -> None:
        """Take the reply to a command that went well; `opened`: to SELECT or EXAMINE."""
        if opened:
            validity = reply.code_data("UIDVALIDITY")
            assert validity is not None
            assert isinstance(validity[0], int)
            if validity[0] != self.uidvalidity:
                self.uidvalidity, self.modseq, self.flags = validity[0], 0, {}
        for each in reply.untagged:
            match each.name:
                case b"EXISTS":
                    assert each.number is not None
                    self.count = each.number
                case b"VANISHED":
                    self._vanished(each)
                case b"FETCH":
                    ((_, items),) = fetches([each])
                    uid = items["UID"]  # never without it: RFC 7162 §3.2.4
                    assert isinstance(uid, int)
                    if "FLAGS" in items:
                        self.flags[uid] = flags_of(items["FLAGS"]) - {"\\Recent"}
                case _:
                    assert each.name != b"EXPUNGE", each  # RFC 7162 §3.2.10
        highest = reply.code_data("HIGHESTMODSEQ")
        if highest is not None:
            assert isinstance(highest[0], int)
            assert highest[0] >= self.modseq, (self.modseq, highest)
            self.modseq = highest[0]

    def _vanished(self, told: Untagged) -> None:
        earlier = told.data[0] == (b"EARLIER",)
        for uid in numbers_of(told.data[-1]):
            self.flags.pop(uid, None)
            if not earlier:
                self.count -= 1  # RFC 7162 §3.2.10.2: only what was counted
                assert self.count >= 0, told
