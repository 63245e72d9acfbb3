"""Addresses of folders: mail to one is posted into it. RFC 4314 §2.1, `p`.

A folder has the addresses that an administrator gave it, in the domain of its owner. Who may post
is whoever signed in and has the right `p` there, or anybody where that was said.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, NotFound
from postroom.domain.directory import tables
from postroom.domain.directory.people import ALL, domain, key, lock_domain
from postroom.domain.events import DirectoryChanged
from postroom.formats.address import Address
from postroom.store.sql import Tx


@dataclass(frozen=True, slots=True)
class FolderAddress:
    """`address` leads into a mailbox."""

    address: Address
    account: int  # whose mailbox it is
    mailbox: int
    anybody: bool  # anybody may post, strangers too
    created_at: Instant


def put(tx: Tx, address: Address, mailbox: int, now: Instant, *, anybody: bool) -> None:
    """Give a mailbox an address, or say anew who may post to it. Raises AlreadyExists for one that
    an account, an alias or another folder has, NotFound for a domain that is not ours."""
    of = lock_domain(tx, address.domain)
    local = key(address.local)
    if tx.one(tables.ACCOUNT_BY_KEY, domain=of.id, key=local) is not None:
        raise AlreadyExists(f"{address} is an account")
    if tx.one(tables.ALIASES_EXACT, domain=of.id, pattern=local, limit=1) is not None:
        raise AlreadyExists(f"{address} is an alias")
    taken = tx.one(tables.TAKEN_BY_FOLDER, domain=of.id, key=local)
    if taken is not None and taken[0] != mailbox:
        raise AlreadyExists(f"{address} is the address of another folder")
    tx.run(
        tables.PUT_FOLDER_ADDRESS,
        domain=of.id,
        key=local,
        local=address.local,
        mailbox=mailbox,
        anybody=int(anybody),
        now=now,
    )
    tx.after(DirectoryChanged())


def find(tx: Tx, address: Address) -> FolderAddress:
    """Raises NotFound."""
    of = domain(tx, address.domain)
    row = tx.one(tables.FOLDER_TARGET, domain=of.id, key=key(address.local))
    if row is None:
        raise NotFound(f"No folder has the address {address}")
    local, account, mailbox, anybody, created_at = row
    return FolderAddress(Address(local, of.name), account, mailbox, bool(anybody), created_at)


def remove(tx: Tx, address: Address) -> None:
    """Mail to the address finds no folder any more."""
    of = domain(tx, address.domain)
    tx.run(tables.DROP_FOLDER_ADDRESS, domain=of.id, key=key(address.local))
    tx.after(DirectoryChanged())


def listed(tx: Tx, domain_name: str, limit: int = ALL) -> list[FolderAddress]:
    """The addresses of folders in a domain, in their order."""
    of = domain(tx, domain_name)
    rows = tx.all(tables.FOLDER_ADDRESSES, domain=of.id, limit=limit)
    return [
        FolderAddress(Address(local, name), account, mailbox, bool(anybody), created_at)
        for local, name, account, mailbox, anybody, created_at in rows
    ]
