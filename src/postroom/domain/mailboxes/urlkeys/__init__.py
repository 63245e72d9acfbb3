"""Mailbox access keys: with these an account authorizes URLs of messages. RFC 4467 §2.

A key is of an account and of one mailbox that it may read, its own or another's. It goes with
either. Who makes another one revokes every URL that the former one authorized. A key's name is
drawn at random like the key itself: a token says which key made it, so a forged one costs one
look at nothing, whatever it speaks of. Keys are sealed (`core.secrets`); nothing here can open
them. Called by protocols.imap and admin. Imports store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from postroom.domain.mailboxes.urlkeys import tables
from postroom.store.sql import Tx

NAMES: Final = 1 << 63
"""A name is at least 1 and below this."""
RESEALED: Final = 200
"""Keys that one unit seals anew."""


@dataclass(frozen=True, slots=True)
class UrlKey:
    """A mailbox access key."""

    name: int
    account: int
    mailbox: int
    secret: str = field(repr=False)  # sealed


def secret_of(name: int) -> str:
    """What is authenticated with a sealed key."""
    return f"urlauth {name}"


def named(tx: Tx, name: int) -> UrlKey | None:
    """The key that a token says it was made with."""
    row = tx.one(tables.NAMED, name=name)
    return UrlKey(*row) if row is not None else None


def of_mailboxes(tx: Tx, account: int, boxes: Iterable[int]) -> dict[int, UrlKey]:
    """The keys of an account, by mailbox; those without one are not in it."""
    rows = tx.all(tables.OF_MAILBOXES, account=account, ids=list(boxes))
    return {key.mailbox: key for key in (UrlKey(*row) for row in rows)}


def keep(tx: Tx, account: int, keys: Iterable[UrlKey]) -> dict[int, UrlKey]:
    """Keep first keys of an account; the ones that are there, by mailbox: where somebody was
    faster it is his."""
    made = list(keys)
    for key in made:
        tx.run(tables.ADD, name=key.name, account=account, mailbox=key.mailbox, secret=key.secret)
    return of_mailboxes(tx, account, [key.mailbox for key in made])


def replace(tx: Tx, key: UrlKey) -> None:
    """Keep a key in the place of the one that was there, if one was."""
    tx.run(tables.PUT, name=key.name, account=key.account, mailbox=key.mailbox, secret=key.secret)


def forget(tx: Tx, account: int) -> int:
    """Forget all keys of an account; how many there were."""
    return tx.run(tables.DROP_ALL, account=account)


# --- sealed -------------------------------------------------------------------------------------


def sealed(tx: Tx) -> dict[str, str]:
    """Every sealed key, by what it is a secret of."""
    return {secret_of(name): secret for name, secret in tx.all(tables.SEALED)}


def reseal(tx: Tx, again: Callable[[str, str], str], after: int) -> tuple[int, int | None]:
    """Seal the next keys anew: how many were, and the last one looked at, or None at the end."""
    rows = tx.all(tables.SEALED_AFTER, after=after, limit=RESEALED)
    done = 0
    for name, was in rows:
        is_ = again(was, secret_of(name))
        if is_ != was:
            tx.run(tables.RESEAL, name=name, secret=is_)
            done += 1
    return done, int(rows[-1][0]) if len(rows) == RESEALED else None
