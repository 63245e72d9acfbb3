"""How long what administrators did can be taken back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.clock import Instant
from postroom.core.settings import Place, Scope, chain, group, resolve, setting
from postroom.domain import policy
from postroom.domain.directory.people import Account
from postroom.store.sql import Tx

DAY: Final = 24 * 3600 * 1000


@group("retention")
@dataclass(frozen=True, slots=True)
class ChangeRetention:
    """What is kept so that a change can be reverted, and of who did what."""

    deleted_accounts_days: int = setting(
        30,
        "How long a deleted account can be brought back with all that it holds, as long as a "
        "deleted message by default; 0 erases it at once",
        unit="days",
        scopes=(Scope.SERVER, Scope.DOMAIN),
        at_least=0,
        at_most=3650,
    )
    passwords_days: int = setting(
        7,
        "How long the verifier of a password that was changed is kept, so that the change can be "
        "reverted. It is never shown; 0 keeps none",
        unit="days",
        scopes=(Scope.SERVER,),
        at_least=0,
        at_most=90,
    )
    changes_days: int = setting(
        0,
        "How long the history of administrative changes is kept; 0 keeps it for ever",
        unit="days",
        scopes=(Scope.SERVER,),
        at_least=0,
    )
    audit_days: int = setting(
        365,
        "How long it is kept who was refused an operation, or looked at what is others'",
        unit="days",
        scopes=(Scope.SERVER,),
        at_least=1,
    )


def retention(tx: Tx, domain: str = "") -> ChangeRetention:
    """As it applies in a domain."""
    along = chain(Place(Scope.DOMAIN, domain)) if domain else chain()
    return resolve(ChangeRetention, along, policy.stored(tx)).values


def erase_at(tx: Tx, of: Account, now: Instant) -> Instant:
    """When the content of an account goes that is deleted now; 0: at once."""
    days = retention(tx, of.domain).deleted_accounts_days
    return Instant(now + days * DAY) if days else Instant(0)
