"""A store of one small table, and the units that tests write to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from postroom.store.migrate import migrate_postgres, migrate_sqlite
from postroom.store.schema import Step
from postroom.store.sql import Statement, Tx

_MAKE: Final = "CREATE TABLE line (id BIGINT PRIMARY KEY, text TEXT NOT NULL, data {})"
STEPS: Final = (Step(1, "line", (_MAKE.format("BLOB"),), (_MAKE.format("BYTEA"),)),)

# Made by Statement, not by sql(): the list of what the product declares stays its own.
INSERT: Final = Statement("INSERT INTO line (id, text, data) VALUES (:id, :text, :data)")
UPDATE: Final = Statement("UPDATE line SET text = :text WHERE id = :id")
COUNT: Final = Statement("SELECT count(*) FROM line")
IDS: Final = Statement("SELECT id FROM line ORDER BY id")
TEXT: Final = Statement("SELECT text FROM line WHERE id = :id {for update}")
INTACT: Final = Statement("SELECT text FROM line WHERE id = :id")


class Refused(Exception):
    """A unit's own error."""


def make_sqlite(path: str, vfs: str | None = None) -> None:
    migrate_sqlite(path, STEPS, vfs=vfs)


def make_postgres(conninfo: str) -> None:
    migrate_postgres(conninfo, "mail", STEPS)


def put(tx: Tx, number: int, text: str = "", data: bytes = b"") -> int:
    """Insert one row and tell its number."""
    tx.run(INSERT, id=number, text=text, data=data)
    tx.after(number)
    return number


def put_and_refuse(tx: Tx, number: int) -> None:
    put(tx, number)
    raise Refused(number)


def ids(tx: Tx) -> list[int]:
    return [row[0] for row in tx.all(IDS)]


class Gate:
    """A unit that holds its writer until the test lets go of it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def unit(self, tx: Tx, then: Callable[[Tx], object] | None = None) -> None:
        self.reached.set()
        if not self._open.wait(20):
            raise TimeoutError("nobody opened the gate")
        if then is not None:
            then(tx)

    def open(self) -> None:
        self._open.set()
