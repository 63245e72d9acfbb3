"""Sources and accounts as values, for the tests of imports and exports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from postroom.domain.directory import people
from postroom.domain.mailboxes import flags, folders, reading
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.address import parse_mailbox
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx
from tests.admin.housing import Admin

ANN = "ann@example.org"
BOB = "bob@example.org"


class Message(NamedTuple):
    """A message as a client sees it."""

    content: bytes
    flags: frozenset[str]
    received_at: int


Mailboxes = dict[str, list[Message]]
"""By path, in the order of UIDs."""


def text(name: str, body: str = "Hello") -> bytes:
    """A message with LF, as files have it."""
    return f"From: {name}@example.net\nMessage-ID: <{name}@example.net>\n\n{body}\n".encode()


def wired(content: bytes) -> bytes:
    """The same with CRLF."""
    return content.replace(b"\n", b"\r\n")


def maildir(path: Path) -> Path:
    """An empty Maildir, or a folder of one."""
    for below in ("cur", "new", "tmp"):
        (path / below).mkdir(parents=True)
    return path


def put(folder: Path, name: str, content: bytes, at: float = 1_600_000_000) -> Path:
    """A message in a folder; `name` has `new/` or `cur/` before it."""
    file = folder / name
    file.write_bytes(content)
    os.utime(file, (at, at))
    return file


async def account(admin: Admin, address: str = ANN) -> int:
    await admin.do("account create", address=address)
    return (await admin.stores.mail.read(people.account, parse_mailbox(address))).id


async def kept(admin: Admin, address: str = ANN) -> Mailboxes:
    """All that the account has; empty mailboxes too."""
    found = await admin.stores.mail.read(people.account, parse_mailbox(address))
    return await admin.stores.mail.read(_kept, found.id, admin.house.flow.blobs)


async def filled(admin: Admin, address: str = ANN) -> Mailboxes:
    """The mailboxes that hold messages."""
    return {path: held for path, held in (await kept(admin, address)).items() if held}


def _kept(tx: Tx, of: int, blobs: Blobs) -> Mailboxes:
    registry = flags.registry(tx, of)
    return {
        path: [
            Message(blobs.read(tx, row.blob), frozenset(registry.flags(row.flags)), row.received_at)
            for row in reading.brief(tx, box.id, Pick(1, box.uidnext))
        ]
        for path, box in folders.tree(tx, of).by_path.items()
    }


async def subscribed(admin: Admin, address: str = ANN) -> set[str]:
    found = await admin.stores.mail.read(people.account, parse_mailbox(address))
    tree = await admin.stores.mail.read(folders.tree, found.id)
    return {path for path, box in tree.by_path.items() if box.subscribed}
