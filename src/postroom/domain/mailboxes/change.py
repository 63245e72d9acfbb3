"""One unit's change of one account: its lock, its modseq, and what follows from it.

Every unit that changes what an account owns begins with `begin` (all accounts at once, in id
order, so that units cannot deadlock) and ends with `Change.end`, which writes the account row
once. All rows that the unit touched carry the same modseq.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain.events import Changed, Type
from postroom.domain.mailboxes import tables
from postroom.store import journal
from postroom.store.sql import Tx


@dataclass(slots=True)
class Change:
    """A unit under way in one account; `modseq` is the number of this change."""

    account: int
    modseq: int
    next_uidvalidity: int
    used_bytes: int
    used_messages: int
    types: Type = Type(0)
    octets: int = 0
    messages: int = 0

    def touch(self, types: Type, *, octets: int = 0, messages: int = 0) -> None:
        """Note that objects of `types` changed, and by how much the account grew."""
        self.types |= types
        self.octets += octets
        self.messages += messages

    def uidvalidity(self, now: Instant) -> int:
        """A UIDVALIDITY that this account never had, not even for a deleted mailbox of the same
        name. RFC 3501 §2.3.1.1."""
        chosen = max(self.next_uidvalidity, now // 1000)
        self.next_uidvalidity = chosen + 1
        return chosen

    def end(self, tx: Tx, now: Instant, actor: int, kind: str, before: dict[str, Any]) -> None:
        """Write the account's row, its type states and the journal; tell it after the commit.

        A change that touched nothing leaves no mark.
        """
        if not self.types:
            return
        tx.run(
            tables.ADVANCE,
            id=self.account,
            modseq=self.modseq,
            octets=self.octets,
            messages=self.messages,
            next_uidvalidity=self.next_uidvalidity,
        )
        for kind_changed in self.types:
            tx.run(
                tables.TYPE_CHANGED,
                account=self.account,
                type=int(kind_changed),
                modseq=self.modseq,
            )
        journal.note(tx, self.account, self.modseq, now, actor, kind, before)
        tx.after(Changed(self.account, self.modseq, self.types))


def begin_all(tx: Tx, accounts: Iterable[int]) -> dict[int, Change]:
    """Lock the accounts in id order; those that do not exist are left out."""
    return {
        row[0]: Change(row[0], row[1] + 1, row[2], row[3], row[4])
        for row in tx.all(tables.LOCK_ACCOUNTS, ids=sorted(set(accounts)))
    }


def begin(tx: Tx, account: int) -> Change:
    """Lock one account; raises NotFound."""
    found = begin_all(tx, (account,)).get(account)
    if found is None:
        raise NotFound("No such account")
    return found
