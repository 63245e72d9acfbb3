"""Units without threads, and a small town to run them in."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Concatenate, Final, ParamSpec, TypeVar

from postroom.core.clock import Instant
from postroom.core.ids import Ids
from postroom.core.settings import Role
from postroom.domain.check import Report, check
from postroom.domain.directory import people
from postroom.domain.directory.people import Account, NewAccount
from postroom.domain.mailboxes import folders, messages
from postroom.domain.mailboxes.messages import UNLIMITED, NewMessage, Quota, Stored
from postroom.formats.address import parse_mailbox
from postroom.formats.parsed import parse
from postroom.store import postgres, sqlite
from postroom.store.blobs import Blobs, NewBlob, Place
from postroom.store.files import Files
from postroom.store.postgres import PostgresDatabase, PostgresTx
from postroom.store.sql import Tx
from postroom.store.sqlite import SqliteDatabase, SqliteTx
from postroom.store.units import Database
from postroom.testing.clock import START, ManualClock
from tests.stores import migrate

P = ParamSpec("P")
T = TypeVar("T")

DAY: Final = 86_400_000
NOW: Final = START


class Direct:
    """The store `mail` on one connection: each unit at once, its events in `events`."""

    def __init__(self, engine: str, place: str, *, migrated: bool = False) -> None:
        self.engine = engine
        self.place = place
        self.events: list[object] = []
        self._closing = ExitStack()
        if not migrated:
            migrate(engine, place)
        self.lite = self.post = None
        if engine == "sqlite":
            self.lite = sqlite.connect(os.path.join(place, "mail.db"), durable=False)
            self._closing.callback(self.lite.close)
        else:
            self.post = postgres.connect(place, "mail", durable=False)
            self._closing.callback(self.post.close)

    def write(self, unit: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self.lite is not None:
            tx = SqliteTx(self.lite)
            self.lite.execute("BEGIN IMMEDIATE")
            try:
                result = unit(tx, *args, **kwargs)
            except BaseException:
                self.lite.execute("ROLLBACK")
                raise
            self.lite.execute("COMMIT")
            self.events += tx.events
            return result
        assert self.post is not None
        with self.post.transaction(), self.post.cursor(binary=True) as cursor:
            post = PostgresTx(cursor)
            result = unit(post, *args, **kwargs)
        self.events += post.events
        return result

    read = write

    def close(self) -> None:
        self._closing.close()


def letter(
    subject: str = "Hello",
    message_id: str = "",
    references: Sequence[str] = (),
    body: bytes = b"Hi.\r\n",
) -> bytes:
    """A message of a few lines."""
    fields = ["From: ann@a.test", "To: bob@a.test", "Date: Thu, 1 Jan 2026 00:00:00 +0000"]
    fields.append(f"Subject: {subject}")
    if message_id:
        fields.append(f"Message-ID: {message_id}")
    if references:
        fields.append(f"References: {' '.join(references)}")
    return "\r\n".join(fields).encode() + b"\r\n\r\n" + body


class Town:
    """a.test with root, who administers, and ann; ids and shorthands."""

    def __init__(self, store: Direct) -> None:
        self.store = store
        self.ids: Iterator[int] = itertools.count(1_000)
        self.domain = store.write(people.create_domain, next(self.ids), "a.test", NOW)
        self.root = self.person("root@a.test", Role.ADMIN)
        self.ann = self.person("ann@a.test")

    def person(self, address: str, role: Role = Role.USER) -> Account:
        """A new account with its first mailboxes."""
        new = NewAccount(parse_mailbox(address), address.partition("@")[0], role, None)
        account = self.store.write(people.create_account, new, self.ids, NOW)
        self.store.write(folders.create_first, account.id, self.ids, NOW, 0)
        return account

    def box(self, path: str = "INBOX", of: Account | None = None) -> int:
        account = (of or self.ann).id
        return self.store.read(lambda tx: folders.tree(tx, account).find(path).id)

    def folder(self, path: str, of: Account | None = None) -> int:
        account = (of or self.ann).id
        return self.store.write(folders.create, account, path, self.ids, NOW, 0)

    def new(
        self, raw: bytes | None = None, flags: tuple[str, ...] = ()
    ) -> tuple[NewBlob, NewMessage]:
        """A message that is ready to be appended."""
        raw = letter() if raw is None else raw
        blob = NewBlob(next(self.ids), hashlib.sha256(raw).digest(), len(raw), Place.ROW, raw)
        return blob, NewMessage(next(self.ids), blob.id, len(raw), NOW, parse(raw), flags)

    def append(
        self,
        box: int,
        raw: bytes | None = None,
        flags: tuple[str, ...] = (),
        *,
        of: Account | None = None,
        quota: Quota = UNLIMITED,
        count: int = 1,
        now: Instant = NOW,
    ) -> list[Stored]:
        new = [self.new(raw, flags) for _ in range(count)]
        account = (of or self.ann).id
        return self.store.write(messages.append, account, box, new, quota, now, account)


@asynccontextmanager
async def opened(store: Direct) -> AsyncIterator[Database]:
    """The same store as the server opens it."""
    mail: Database
    if store.engine == "sqlite":
        mail = SqliteDatabase(os.path.join(store.place, "mail.db"), durable=False)
    else:
        mail = PostgresDatabase(store.place, "mail", durable=False)
    try:
        yield mail
    finally:
        await mail.close()


def checked(store: Direct, folder: str = "", *, repair: bool = False) -> Report:
    """What `postroom check` finds; `folder` is where blobs have their files."""

    async def run() -> Report:
        blobs = Blobs(folder or "no-such-folder", Files(), Ids(ManualClock()))
        async with opened(store) as mail:
            return await check(mail, blobs, repair=repair)

    return asyncio.run(run())
