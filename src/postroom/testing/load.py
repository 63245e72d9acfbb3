"""Mail and mailbox traffic that puts down what it was promised, until it is told to stop.

`Senders` are SMTP sessions beside each other; a `Reader` is an IMAP session that reads, flags,
copies, appends and expunges in one account. Whatever the server does to them, a refusal, a cut
connection, a door that is closed, they note it and go on.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postroom.testing import smtp
from postroom.testing.imap import ImapClient, Reply, flags_of, numbers_of
from postroom.testing.promises import (
    INBOX,
    Answered,
    Asked,
    Denied,
    Done,
    Event,
    Note,
    Numbered,
    Offered,
    Told,
)
from postroom.testing.scripted import ClosedError
from postroom.testing.smtp import ServerClosed, SmtpClient, Unexpected
from postroom.wire.smtp import Reply as SmtpReply

LINE: Final = 76
ARCHIVE: Final = "Archive"
FLAGS: Final = ("\\Seen", "\\Answered", "\\Flagged", "$Forwarded", "work")
_AGAIN: Final = 0.02  # seconds until a closed door is tried again

_BROKEN: Final = (OSError, ServerClosed, ClosedError, TimeoutError, Unexpected)
"""How a server that dies looks to its clients."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How messages are: (weight, from, to) of sizes in octets, (weight, count) of recipients."""

    sizes: tuple[tuple[int, int, int], ...] = (
        (78, 200, 8_000),
        (12, 16_000, 60_000),
        (6, 70_000, 200_000),  # a file of its own
        (4, 270_000, 400_000),  # a file while it comes in, and a rope
    )
    recipients: tuple[tuple[int, int], ...] = ((70, 1), (27, 3), (3, 60))


SMALL: Final = Mix(sizes=((1, 200, 4_000),), recipients=((1, 1),))


class Writer:
    """Makes messages that are unlike any other."""

    def __init__(self, rng: random.Random, run: str, mix: Mix = Mix()) -> None:
        self._rng = rng
        self._run = run
        self._mix = mix
        self._count = 0
        longest = max(high for _, _, high in mix.sizes)
        raw = base64.b64encode(rng.randbytes(longest))
        lines = [raw[at : at + LINE] for at in range(0, len(raw), LINE)]
        for n in range(0, len(lines), 40):
            lines[n] = b"." + lines[n][1:]  # transparency: RFC 5321 §4.5.2
        self._text = b"\r\n".join(lines) + b"\r\n"

    def write(self) -> tuple[str, bytes]:
        """A Message-ID without its brackets, and the message."""
        rng = self._rng
        self._count += 1
        name = f"{self._count}.{rng.getrandbits(48):x}@{self._run}.elsewhere.example"
        weights = [weight for weight, _, _ in self._mix.sizes]
        _, low, high = rng.choices(self._mix.sizes, weights)[0]
        lines = max(1, rng.randint(low, high) // (LINE + 2))
        first = rng.randrange(0, max(1, len(self._text) // (LINE + 2) - lines))
        body = self._text[first * (LINE + 2) : (first + lines) * (LINE + 2)]
        head = (
            f"Message-ID: <{name}>\r\nFrom: Load <load@elsewhere.example>\r\n"
            f"To: somebody@example.test\r\nSubject: {self._run} {self._count}\r\n"
            "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\n"
        )
        return name, head.encode() + body

    def recipients(self, accounts: Sequence[str]) -> list[str]:
        """Whom a message goes to."""
        counts = [count for _, count in self._mix.recipients]
        count = self._rng.choices(counts, [weight for weight, _ in self._mix.recipients])[0]
        return self._rng.sample(list(accounts), min(count, len(accounts)))


class Senders:
    """SMTP sessions; `run` ends when `stop` is set and each has ended its message."""

    def __init__(
        self, port: int, accounts: Sequence[str], writer: Writer, rng: random.Random, note: Note
    ) -> None:
        self._port = port
        self._accounts = accounts
        self._writer = writer
        self._rng = rng
        self._note = note
        self.stop = asyncio.Event()
        self.taken = 0
        self.refused: Counter[str] = Counter()
        """Replies other than 250, such as "452 4.3.1"."""
        self.connections = 0

    async def run(self, sessions: int, pause: float = 0.0) -> None:
        """So many sessions, each with about `pause` seconds between its messages."""
        await asyncio.gather(*(self._session(pause) for _ in range(sessions)))

    async def _session(self, pause: float) -> None:
        while not self.stop.is_set():
            try:
                async with smtp.connect("127.0.0.1", self._port) as client:
                    self.connections += 1
                    while not self.stop.is_set():
                        await self._message(client)
                        if pause:
                            await asyncio.sleep(self._rng.uniform(0, 2 * pause))
            except _BROKEN:
                await asyncio.sleep(_AGAIN)

    async def _message(self, client: SmtpClient) -> None:
        name, content = self._writer.write()
        wanted = self._writer.recipients(self._accounts)
        lines = ["MAIL FROM:<load@elsewhere.example>", *(f"RCPT TO:<{r}>" for r in wanted), "DATA"]
        await client.send("".join(f"{line}\r\n" for line in lines).encode())
        mail, *rcpts, data = await client.replies(len(lines))
        to = [r for r, reply in zip(wanted, rcpts, strict=True) if reply.positive]
        # What follows a refusal on which it depends is out of order: the first one tells.
        first = [mail] if not mail.positive else rcpts if not to else [*rcpts, data]
        for reply in first:
            if not reply.positive and not reply.intermediate:
                self._refuse(reply)
        if not data.intermediate:
            await client.ask("RSET", 250)
            return
        digest = hashlib.sha256(content).hexdigest()
        self._note(Offered(name, digest, len(content), tuple(to)))
        end = await client.content(content)
        self._note(Answered(name, end.positive))
        if end.positive:
            self.taken += 1
        else:
            self._refuse(end)

    def _refuse(self, reply: SmtpReply) -> None:
        self.refused[f"{reply.code} {reply.status}"] += 1


class Reader:
    """An IMAP session in one account, one change after the other; nobody else changes anything."""

    def __init__(
        self,
        port: int,
        account: str,
        password: str,
        context: ssl.SSLContext,
        writer: Writer,
        rng: random.Random,
        note: Note,
    ) -> None:
        self._port = port
        self._account = account
        self._password = password
        self._context = context
        self._writer = writer
        self._rng = rng
        self._note = note
        self._known: dict[str, dict[int, frozenset[str]]] = {}
        self.stop = asyncio.Event()
        self.changes = 0
        self.refused: Counter[str] = Counter()
        """Answers other than OK, such as "NO UNAVAILABLE"."""

    async def run(self, pause: float = 0.0) -> None:
        """Until `stop` is set. Once the connection breaks it stays away: a change may be open."""
        try:
            async with await ImapClient.connect(
                "127.0.0.1", self._port, tls=self._context
            ) as client:
                said = await client.login(self._account, self._password)
                while said.ok and not self.stop.is_set():
                    await self._change(client)
                    if pause:
                        await asyncio.sleep(self._rng.uniform(0, 2 * pause))
                if not said.ok:
                    self._refuse(said)
        except _BROKEN:
            return

    async def _change(self, client: ImapClient) -> None:
        path = self._rng.choice((INBOX, INBOX, ARCHIVE))
        if not await self._open(client, path):
            return
        known = self._known[path]
        chosen = self._rng.sample(sorted(known), min(len(known), self._rng.randint(1, 8)))
        uids = tuple(sorted(chosen))
        kind = self._rng.choices(("store", "copy", "append", "expunge"), (50, 20, 15, 15))[0]
        if kind == "append":
            await self._append(client)
        elif not uids:
            return
        elif kind == "store":
            await self._store(client, path, uids)
        elif kind == "copy":
            await self._copy(client, path, uids)
        else:
            await self._expunge(client, path, uids)

    async def _open(self, client: ImapClient, path: str) -> bool:
        """SELECT it and learn what came; False if the server will not."""
        said = await client.command(f"SELECT {path}")
        if not said.ok:
            return self._refuse(said)
        validity, following = said.code_data("UIDVALIDITY"), said.code_data("UIDNEXT")
        assert validity is not None
        assert following is not None
        uidvalidity, uidnext = validity[0], following[0]
        assert isinstance(uidvalidity, int)
        assert isinstance(uidnext, int)
        known = self._known.setdefault(path, {})
        first = max(known, default=0) + 1
        got = await client.command(
            f"UID FETCH {first}:* (FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"
        )
        for items in got.fetched().values():
            uid, field = items["UID"], items.get("BODY[HEADER.FIELDS (MESSAGE-ID)]")
            if not isinstance(uid, int) or uid in known or not isinstance(field, bytes):
                continue
            mail = field.partition(b"<")[2].partition(b">")[0].decode()
            known[uid] = frozenset(flags_of(items["FLAGS"]) - {"\\Recent"})
            self._note(Told(self._account, path, uid, mail, tuple(sorted(known[uid]))))
        if not got.ok:
            return self._refuse(got)
        # Only now: what lies below UIDNEXT was there, and is told.
        self._note(Numbered(self._account, path, uidvalidity, uidnext))
        return True

    # --- changes --------------------------------------------------------------------------------

    async def _store(self, client: ImapClient, path: str, uids: tuple[int, ...]) -> bool:
        flag = self._rng.choice(FLAGS)
        adds = self._rng.random() < 0.6
        add, remove = ((flag,), ()) if adds else ((), (flag,))
        return await self._flag(client, path, uids, add, remove)

    async def _flag(
        self,
        client: ImapClient,
        path: str,
        uids: tuple[int, ...],
        add: tuple[str, ...],
        remove: tuple[str, ...],
    ) -> bool:
        self._note(Asked(self._account, "store", path, uids, add, remove))
        sign, names = ("+", add) if add else ("-", remove)
        said = await client.command(f"UID STORE {_set(uids)} {sign}FLAGS ({' '.join(names)})")
        if self._finish(said):
            known = self._known[path]
            for uid in uids:
                known[uid] = (known[uid] | set(add)) - set(remove)
        return said.ok

    async def _copy(self, client: ImapClient, path: str, uids: tuple[int, ...]) -> None:
        target = ARCHIVE if path == INBOX else "Sent"
        self._note(Asked(self._account, "copy", path, uids, target=target))
        said = await client.command(f"UID COPY {_set(uids)} {target}")
        copied = said.code_data("COPYUID") if said.ok else None
        new = numbers_of(copied[2]) if copied is not None else []
        self._finish(said, new)
        if target in self._known:
            held = self._known[path]
            self._known[target] |= {
                new_uid: held[uid] for uid, new_uid in zip(uids, new, strict=False)
            }

    async def _append(self, client: ImapClient) -> None:
        name, content = self._writer.write()
        digest = hashlib.sha256(content).hexdigest()
        flag = self._rng.choice(FLAGS)
        asked = Asked(
            self._account,
            "append",
            ARCHIVE,
            add=(flag,),
            mail=name,
            sha256=digest,
            size=len(content),
        )
        self._note(asked)
        said = await client.append(ARCHIVE, content, flags=f"({flag})")
        made = said.code_data("APPENDUID") if said.ok else None
        new = numbers_of(made[1]) if made is not None else []
        self._finish(said, new)
        if ARCHIVE in self._known:
            self._known[ARCHIVE] |= dict.fromkeys(new, frozenset({flag}))

    async def _expunge(self, client: ImapClient, path: str, uids: tuple[int, ...]) -> None:
        if not await self._flag(client, path, uids, ("\\Deleted",), ()):
            return
        # What an earlier one could not remove is flagged still, and goes with these.
        flagged = [u for u, set_ in self._known[path].items() if "\\Deleted" in set_]
        uids = tuple(sorted({*uids, *flagged}))
        self._note(Asked(self._account, "expunge", path, uids))
        if self._finish(await client.command("EXPUNGE")):
            for uid in uids:
                del self._known[path][uid]

    def _finish(self, said: Reply, new: Sequence[int] = ()) -> bool:
        event: Event = Done(self._account, tuple(new)) if said.ok else Denied(self._account)
        self._note(event)
        if said.ok:
            self.changes += 1
            return True
        return self._refuse(said)

    def _refuse(self, said: Reply) -> bool:
        self.refused[" ".join((said.kind, said.code or "")).strip()] += 1
        return False


def stop(*load: Senders | Reader) -> None:
    """Let each end what it is at, and no more."""
    for each in load:
        each.stop.set()


def _set(uids: Sequence[int]) -> str:
    return ",".join(map(str, uids))
