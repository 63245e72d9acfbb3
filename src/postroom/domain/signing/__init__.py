"""The keys with which mail of our domains is signed: made, published, active, retired, gone.

A key signs in one state only, and comes there only by way of `published`: who calls has seen its
record in DNS. Of one kind at most one key of a domain signs all its mail. Beside it there may be
some that stand apart: each signs what a rule names it for, and neither takes another's place nor
loses its own. A retired one stays, so that its record is not taken away while mail that it signed
is under way. Private keys are sealed (`core.secrets`); nothing here can open them. Called by
mailflow and admin. Imports store, core and the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, Busy, Misuse, NotFound
from postroom.domain.directory import people
from postroom.domain.signing import tables
from postroom.store.sql import Row, Tx

MADE: Final = "made"
PUBLISHED: Final = "published"  # seen in DNS
ACTIVE: Final = "active"
RETIRED: Final = "retired"
STATES: Final = (MADE, PUBLISHED, ACTIVE, RETIRED)

RESEALED: Final = 200
"""Keys that one unit seals anew."""
KEYS_MOST: Final = 20
"""Keys of one domain."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of a domain."""

    id: int
    domain: str
    selector: str
    kind: str
    state: str
    since: Instant
    record: str  # what DNS is to say of it
    private: str = field(repr=False)  # sealed
    created_at: Instant = Instant(0)
    apart: int = 0  # 1: a rule has to name it


def secret_of(key: int) -> str:
    """What is authenticated with a sealed private key."""
    return f"dkim {key}"


def _key(row: Row) -> SigningKey:
    return SigningKey(*row)


# --- looking ------------------------------------------------------------------------------------


def keys(tx: Tx) -> list[SigningKey]:
    """Of all domains."""
    return [_key(row) for row in tx.all(tables.KEYS)]


def of_domain(tx: Tx, name: str) -> list[SigningKey]:
    """Those of a domain, the oldest first; raises NotFound without the domain."""
    found = people.domain(tx, name)
    return [_key(row) for row in tx.all(tables.OF_DOMAIN, domain=found.name)]


def active(tx: Tx, names: Iterable[str]) -> list[SigningKey]:
    """Those that sign for the nearest of these domains: the one with the longest name. Keys apart
    are among them."""
    found = [_key(row) for row in tx.all(tables.ACTIVE, names=list(names))]
    nearest = max((len(each.domain) for each in found if not each.apart), default=0)
    nearest = nearest or max((len(each.domain) for each in found), default=0)
    return [each for each in found if len(each.domain) == nearest]


def one(tx: Tx, domain: str, selector: str) -> SigningKey:
    """Raises NotFound."""
    for each in of_domain(tx, domain):
        if each.selector == selector.lower():
            return each
    raise NotFound(f"{domain} has no key {selector}")


# --- changing -----------------------------------------------------------------------------------


def insert(tx: Tx, key: SigningKey, now: Instant) -> None:
    """A new key, `made`; raises NotFound, AlreadyExists, Misuse where there are too many."""
    found = people.lock_domain(tx, key.domain)
    there = of_domain(tx, found.name)
    if any(each.selector == key.selector for each in there):
        raise AlreadyExists(f"{key.domain} has a key {key.selector} already")
    if len(there) >= KEYS_MOST:
        raise Misuse(f"A domain has at most {KEYS_MOST} keys: retire some first")
    tx.run(
        tables.INSERT,
        id=key.id,
        domain=found.id,
        selector=key.selector,
        kind=key.kind,
        record=key.record,
        private=key.private,
        now=now,
        apart=key.apart,
    )


def move(tx: Tx, key: SigningKey, state: str, now: Instant) -> SigningKey:
    """Bring a key into its next state. Whichever of its kind signed before is retired, but for
    keys apart.

    Raises NotFound if it is gone, Busy if somebody else moved it meanwhile, Misuse for a way
    that there is not: nothing signs that was not published.
    """
    people.lock_domain(tx, key.domain)
    there = {each.id: each for each in of_domain(tx, key.domain)}
    is_ = there.get(key.id)
    if is_ is None:
        raise NotFound(f"{key.domain} has no key {key.selector}")
    if is_.state != key.state:
        raise Busy(f"The key {key.selector} of {key.domain} is {is_.state} by now")
    if (key.state, state) not in _WAYS:
        raise Misuse(f"The key {key.selector} is {key.state}: it cannot become {state}")
    if state == ACTIVE and not key.apart:
        for other in there.values():
            if other.kind == key.kind and other.state == ACTIVE and not other.apart:
                tx.run(tables.MOVE, id=other.id, state=RETIRED, now=now)
    tx.run(tables.MOVE, id=key.id, state=state, now=now)
    return one(tx, key.domain, key.selector)


_WAYS: Final = frozenset(
    {
        (MADE, PUBLISHED),
        (PUBLISHED, MADE),  # its record is there no more
        (PUBLISHED, ACTIVE),
        (MADE, RETIRED),
        (PUBLISHED, RETIRED),
        (ACTIVE, RETIRED),
        (RETIRED, PUBLISHED),  # it was seen in DNS again, and may sign again
    }
)


def remove(tx: Tx, key: SigningKey) -> None:
    """Forget a retired key, the private part too. Raises Misuse for another, NotFound."""
    people.lock_domain(tx, key.domain)
    if one(tx, key.domain, key.selector).state != RETIRED:
        raise Misuse(f"The key {key.selector} of {key.domain} is not retired")
    tx.run(tables.DELETE, id=key.id)


# --- sealed -------------------------------------------------------------------------------------


def sealed(tx: Tx) -> dict[str, str]:
    """Every sealed private key, by what it is a secret of."""
    return {secret_of(id_): private for id_, private in tx.all(tables.SEALED)}


def reseal(tx: Tx, again: Callable[[str, str], str], after: int) -> tuple[int, int | None]:
    """Seal the next keys anew: how many were, and the last one looked at, or None at the end."""
    rows = tx.all(tables.SEALED_AFTER, after=after, limit=RESEALED)
    done = 0
    for id_, was in rows:
        is_ = again(was, secret_of(id_))
        if is_ != was:
            tx.run(tables.RESEAL, id=id_, private=is_)
            done += 1
    return done, int(rows[-1][0]) if len(rows) == RESEALED else None
