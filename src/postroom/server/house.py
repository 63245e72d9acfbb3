"""Opens the stores of a data directory: for a worker, the first start, a command offline."""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from postroom.core.clock import Clock, SystemClock
from postroom.core.errors import Corrupt, Misuse, NotAllowed, StoreFailed
from postroom.core.ids import Ids
from postroom.core.secrets import Keyring
from postroom.core.settings import Place, Scope
from postroom.domain import schema
from postroom.domain.policy import Policies
from postroom.domain.searching.indexing import Indexer
from postroom.mailflow.house import MailHouse
from postroom.protocols.pop3 import Pop3Settings
from postroom.server.instance import Layout
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.store.migrate import NewerSchema, drop_postgres, migrate_postgres, migrate_sqlite
from postroom.store.postgres import PostgresDatabase
from postroom.store.schema import INDEX, MAIL, STATE
from postroom.store.shape import check_postgres, check_sqlite
from postroom.store.sql import Tx
from postroom.store.sqlite import SqliteDatabase

OFFLINE: Final = 63
"""The worker number in ids that a command makes without a server."""

DECLARED: Final = (Pop3Settings,)
"""Settings of rooms that only a worker opens; a command on a stopped server knows them too."""

Events = Callable[[list[object]], None]

_log: Final = structlog.get_logger("postroom.server")


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """`DIR/postroom.toml`: only what is needed to start; all else lives in the store."""

    database_url: str = ""  # empty: SQLite in the directory
    node: int = 1


_KNOWN: Final[dict[str, dict[str, type]]] = {"database": {"url": str}, "node": {"number": int}}


def read_bootstrap(layout: Layout) -> Bootstrap:
    """Raises Misuse with a sentence for a person."""
    try:
        with open(layout.bootstrap, "rb") as file:
            told = tomllib.load(file)
    except FileNotFoundError:
        return Bootstrap()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misuse(f"{layout.bootstrap}: {error}") from error
    for table, values in told.items():
        if table not in _KNOWN or not isinstance(values, dict):
            raise Misuse(f"{layout.bootstrap}: there is no table [{table}]")
        for name, value in values.items():
            kind = _KNOWN[table].get(name)
            if kind is None or not isinstance(value, kind):
                raise Misuse(f"{layout.bootstrap}: {table}.{name} is not known, or not of its type")
    url: str = told.get("database", {}).get("url", "")
    if url and not url.startswith(("postgresql://", "postgres://")):
        raise Misuse(f"{layout.bootstrap}: database.url begins with postgresql://")
    node: int = told.get("node", {}).get("number", 1)
    if not 1 <= node <= 63:
        raise Misuse(f"{layout.bootstrap}: node.number is from 1 to 63")
    return Bootstrap(url, node)


def mail_path(layout: Layout) -> str:
    """The SQLite file of the mail store."""
    return os.path.join(layout.root, "mail.db")


def state_path(layout: Layout) -> str:
    """The SQLite file of what may lose a second."""
    return os.path.join(layout.root, "state.db")


def index_path(layout: Layout) -> str:
    """The SQLite file of the search index, which can be made anew from the mail."""
    return os.path.join(layout.root, "index.db")


def blob_folder(layout: Layout) -> str:
    """Where large content lies."""
    return os.path.join(layout.root, "blobs")


def restoring_mark(layout: Layout) -> str:
    """The file that says that a restore is under way."""
    return os.path.join(layout.root, "restoring")


def refuse_unfinished(layout: Layout) -> None:
    """Raises NotAllowed where a restore has not come to its end: half a store is no store."""
    if os.path.exists(restoring_mark(layout)):
        raise NotAllowed(
            f"A restore into {layout.root} has not come to its end: run `postroom restore` again, "
            f"or remove {restoring_mark(layout)} and begin without it"
        )


def migrate(layout: Layout, boot: Bootstrap) -> None:
    """Bring the stores to this release's schema. Blocks; raises StoreFailed, NewerSchema, and
    OtherSchema for a store that does not come to have its tables.

    Raises as `refuse_unfinished`.
    """
    refuse_unfinished(layout)
    bring_up(layout, boot)
    if boot.database_url:
        check_postgres(boot.database_url, "mail", MAIL)
        check_postgres(boot.database_url, "state", STATE)
    else:
        check_sqlite(mail_path(layout), MAIL)
        check_sqlite(state_path(layout), STATE)


def bring_up(layout: Layout, boot: Bootstrap) -> None:
    """`migrate`, for the restore itself."""
    if boot.database_url:
        migrate_postgres(boot.database_url, "mail", schema.MAIL_STEPS)
        migrate_postgres(boot.database_url, "state", schema.STATE_STEPS)
    else:
        migrate_sqlite(mail_path(layout), schema.MAIL_STEPS)
        migrate_sqlite(state_path(layout), schema.STATE_STEPS)
    _migrate_index(layout, boot)


def _migrate_index(layout: Layout, boot: Bootstrap) -> None:
    """The search index at this release's schema: one that is not, or cannot be, is made anew."""
    try:
        _bring_up_index(layout, boot)
    except NewerSchema:
        raise
    except (StoreFailed, Corrupt) as error:
        _log.warning("the search index is made anew", reason=error.detail or str(error))
        if boot.database_url:
            drop_postgres(boot.database_url, "index")
        else:
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(index_path(layout) + end)
        _bring_up_index(layout, boot)


def _bring_up_index(layout: Layout, boot: Bootstrap) -> None:
    if boot.database_url:
        migrate_postgres(boot.database_url, "index", schema.INDEX_STEPS)
        check_postgres(boot.database_url, "index", INDEX)
    else:
        migrate_sqlite(index_path(layout), schema.INDEX_STEPS)
        check_sqlite(index_path(layout), INDEX)


@dataclass(frozen=True, slots=True)
class Parts:
    """What tests replace: the product passes nothing."""

    files: Files | None = None
    vfs: str | None = None
    clock: Clock | None = None


@asynccontextmanager
async def open_house(
    layout: Layout,
    *,
    worker: int = OFFLINE,
    events: Events = lambda told: None,
    parts: Parts = Parts(),
) -> AsyncIterator[MailHouse]:
    """The house of one process, closed at the end with all that waits written.

    The schema must be there (`migrate`). Raises Misuse for a broken bootstrap file.
    """
    boot = read_bootstrap(layout)
    clock = parts.clock or SystemClock()
    ids = Ids(clock, node=boot.node, worker=worker)
    mail, state, index = _stores(layout, boot, events, parts)
    blobs = Blobs(blob_folder(layout), parts.files or Files(), ids)
    try:
        house = MailHouse(
            mail=mail,
            state=state,
            blobs=blobs,
            clock=clock,
            ids=ids,
            policies=Policies(),
            node=str(boot.node),
            secrets=Keyring(layout.secrets),
            indexer=Indexer(mail, index, blobs, clock, ids),
        )
        await read_settings(house)
        yield house
    finally:
        await mail.close()
        await state.close()
        await index.close()


def _stores(layout: Layout, boot: Bootstrap, events: Events, parts: Parts) -> tuple[Any, Any, Any]:
    if boot.database_url:
        url = boot.database_url
        return (
            PostgresDatabase(url, "mail", durable=True, listener=events),
            PostgresDatabase(url, "state", durable=False, listener=events),
            PostgresDatabase(url, "index", durable=False, listener=events),
        )
    return (
        SqliteDatabase(mail_path(layout), durable=True, listener=events, vfs=parts.vfs),
        SqliteDatabase(state_path(layout), durable=False, listener=events, vfs=parts.vfs),
        SqliteDatabase(index_path(layout), durable=False, listener=events),
    )


def holder_of(house: MailHouse, worker: int) -> int:
    """Under which number a worker holds leases: one for each worker of each node, never 0."""
    return int(house.node) * HOLDERS + worker + 1


HOLDERS: Final = 64
"""Holders of one node; a worker's index is below it."""


async def read_settings(house: MailHouse) -> None:
    """Look at the settings, so that what only announces (SIZE, a host name) has them."""
    await house.mail.read(_look, house)


def _look(tx: Tx, house: MailHouse) -> None:
    house.policies.current(tx, (Place(Scope.NODE, house.node), Place(Scope.SERVER)))
