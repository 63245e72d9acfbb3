"""Verifiers of passwords that were changed, kept for a while so that the change can be reverted.

They lie in a table of their own, which nothing shows, and go with their principal. A password is
known by the change set that set it first, 0 for one that no change set did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from postroom.core.clock import Instant
from postroom.domain.directory import tables
from postroom.domain.directory.people import PASSWORD, SCRAM, secrets
from postroom.domain.events import DirectoryChanged
from postroom.store.sql import Tx

KINDS: Final = (PASSWORD, SCRAM)
"""The credentials that are made of one password."""


def of_password(tx: Tx, principal: int) -> dict[str, str]:
    """The verifiers of a principal's password, by kind; empty without one."""
    return {kind: text for kind, text in secrets(tx, principal).items() if kind in KINDS}


def keep(tx: Tx, principal: int, since: int, now: Instant) -> None:
    """Before the password that a change set had set is taken away."""
    tx.run(tables.KEEP_CREDENTIALS, principal=principal, since=since, kinds=list(KINDS), now=now)


def kept(tx: Tx, principal: int, since: int) -> dict[str, str]:
    """The verifiers of the password that a change set had set; empty if it is kept no more."""
    return dict(tx.all(tables.FORMER_CREDENTIALS, principal=principal, since=since))


def put(
    tx: Tx, principal: int, verifiers: Mapping[str, str], ids: Iterator[int], now: Instant
) -> None:
    """Make these the verifiers of the password, none for none; open sessions notice."""
    tx.run(tables.RAISE_EPOCH, id=principal)
    for kind in KINDS:
        tx.run(tables.DELETE_CREDENTIAL, principal=principal, kind=kind)
        if kind in verifiers:
            tx.run(
                tables.INSERT_CREDENTIAL,
                id=next(ids),
                principal=principal,
                kind=kind,
                secret=verifiers[kind],
                now=now,
            )
    tx.after(DirectoryChanged())


def forget(tx: Tx, before: Instant) -> int:
    """Forget what was taken away before an instant; returns how many verifiers."""
    return tx.run(tables.FORGET_FORMER, before=before)
