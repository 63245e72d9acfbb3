"""Aliases, and the way from a recipient's address to accounts.

An address is looked up as it is, then without its subaddress (RFC 5233), then among the
domain's wildcard aliases, the longest pattern first. An alias may lead to another alias and to
several addresses; chains are followed to a bounded depth, and a loop leads nowhere. A folder may
have an address, too.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, Malformed, NotFound
from postroom.domain.directory import tables
from postroom.domain.directory.people import (
    ALL,
    Domain,
    domain,
    find_domain,
    key,
    lock_domain,
    written,
)
from postroom.domain.directory.spelling import address_of, named_domain
from postroom.domain.events import DirectoryChanged
from postroom.domain.transit import Destination, Outside
from postroom.formats.address import Address, parse_mailbox
from postroom.store.sql import Row, Tx

DEPTH: Final = 10
MOST_TARGETS: Final = 100
MOST_WILD: Final = 1_000
_STARS: Final = 5


@dataclass(frozen=True, slots=True)
class Alias:
    """`pattern@domain` leads to `target`."""

    id: int
    pattern: str
    domain: str
    target: str
    created_at: Instant
    wild: bool = False  # whether its pattern holds wildcards

    @property
    def address(self) -> str:
        """The alias as an address that reads back."""
        if self.wild:
            return f"{self.pattern}@{self.domain}"
        return str(Address(self.pattern, self.domain))


def _alias(row: Row) -> Alias:
    id_, pattern, of, target, created_at, wild = row
    return Alias(id_, pattern, of, target, created_at, bool(wild))


@lru_cache(maxsize=2048)
def _matcher(pattern: str) -> re.Pattern[str]:
    # Strangers choose the text, so no star may be tried again: what stands between two stars
    # has one length, and is rightly taken where it comes first.
    first, *between = pattern.split("*")
    pieces = [_literal(first)]
    if between:
        pieces += [f"(?>.*?{_literal(piece)})" for piece in between[:-1]]
        pieces.append(".*" + _literal(between[-1]))
    return re.compile("".join(pieces), re.DOTALL)


def _literal(piece: str) -> str:
    return "".join("." if c == "?" else re.escape(c) for c in piece)


def _pattern(local: str, domain_name: str) -> tuple[str, bool]:
    """A local part as it is compared, and whether it holds wildcards; raises Malformed."""
    wild = any(c in local for c in "*?")
    # Checked as an address with the wildcards filled in, so that it could ever match one.
    filled = local.replace("*", "x").replace("?", "x")
    try:
        as_address = parse_mailbox(f"{filled}@{domain_name}")
    except Malformed as error:
        raise Malformed(f"{local}@{domain_name} is not a valid address") from error
    return key(local) if wild else key(as_address.local), wild


def spelled(address: str) -> str:
    """An alias as this room writes it, so that equal ones are equal; raises Malformed."""
    local, at, domain_name = address.rpartition("@")
    if not at:
        raise Malformed(f"An alias is an address, which {address or '(empty)'} is not")
    name = named_domain(domain_name)
    pattern, wild = _pattern(local, name)
    return Alias(0, pattern, name, "", Instant(0), wild).address


def create_alias(tx: Tx, address: str, target: str, ids: Iterator[int], now: Instant) -> Alias:
    """`address` may hold * and ? in its local part.

    `target` may be an address of another server: mail is then passed on (RFC 5321 §3.9.1).
    Raises Malformed, AlreadyExists, NotFound for a domain that is not ours.
    """
    local, at, domain_name = address.rpartition("@")
    if not at:
        raise Malformed(f"An alias is an address, which {address or '(empty)'} is not")
    of = lock_domain(tx, domain_name)
    pattern, wild = _pattern(local, of.name)
    if pattern.count("*") > _STARS:
        raise Malformed(f"A pattern has at most {_STARS} stars")
    to = address_of(target)
    if not wild and tx.one(tables.ACCOUNT_BY_KEY, domain=of.id, key=pattern) is not None:
        raise AlreadyExists(f"{address} is an account")
    if not wild and tx.one(tables.TAKEN_BY_FOLDER, domain=of.id, key=pattern) is not None:
        raise AlreadyExists(f"{address} is the address of a folder")
    aim = written(to)
    if tx.one(tables.ONE_ALIAS, domain=of.id, pattern=pattern, target=aim) is not None:
        raise AlreadyExists(f"{address} leads to {target} already")
    alias = Alias(next(ids), pattern, of.name, aim, now, wild)
    tx.run(
        tables.INSERT_ALIAS,
        id=alias.id,
        domain=of.id,
        pattern=pattern,
        wild=int(wild),
        target=aim,
        now=now,
    )
    tx.after(DirectoryChanged())
    return alias


def ways(tx: Tx, address: str, target: str = "") -> list[Alias]:
    """The ways of one alias, or the one to a target; raises NotFound if there is none."""
    local, _, domain_name = address.rpartition("@")
    of = domain(tx, domain_name)
    pattern, _ = _pattern(local, of.name)
    to = written(address_of(target)) if target else ""
    rows = tx.all(tables.ALIASES_OF, domain=of.id, pattern=pattern, target=to, limit=ALL)
    if not rows:
        raise NotFound(f"There is no alias {address}" + (f" to {target}" if target else ""))
    return [_alias(row) for row in rows]


def exact(tx: Tx, of: Domain, local: str) -> list[Alias]:
    """The ways of an alias without wildcards, if it is there."""
    rows = tx.all(tables.ALIASES_OF, domain=of.id, pattern=key(local), target="", limit=ALL)
    return [_alias(row) for row in rows]


def delete_alias(tx: Tx, address: str, target: str = "") -> int:
    """Remove one target of an alias, or all; raises NotFound. Returns how many."""
    found = ways(tx, address, target)
    for each in found:
        remove_alias(tx, each.id)
    return len(found)


def aliases(tx: Tx, domain_name: str = "", limit: int = ALL) -> list[Alias]:
    """The aliases of a domain, or of all."""
    return [_alias(row) for row in tx.all(tables.ALIASES, domain=domain_name, limit=limit)]


def alias_by_id(tx: Tx, alias: int) -> Alias | None:
    """One way of an alias, if it is there."""
    row = tx.one(tables.ALIAS_BY_ID, id=alias)
    return _alias(row) if row is not None else None


def remove_alias(tx: Tx, alias: int) -> None:
    """Remove one way of an alias by its id."""
    tx.run(tables.DELETE_ALIAS_BY_ID, id=alias)
    tx.after(DirectoryChanged())


def aliases_to(tx: Tx, target: Address, limit: int = ALL) -> list[Alias]:
    """The aliases that lead straight to an address."""
    rows = tx.all(tables.ALIASES_TO, target=written(target), limit=limit)
    return [_alias(row) for row in rows]


@dataclass(slots=True)
class Resolution:
    """Where an address leads: to accounts of ours, and to addresses of other servers."""

    local: bool  # its domain is ours
    destinations: list[Destination] = field(default_factory=list)
    outside: list[Outside] = field(default_factory=list)  # by way of aliases of ours
    problem: str = ""  # why an address of ours leads nowhere, for the trace


def resolve(tx: Tx, address: Address) -> Resolution:
    """Follow an address to the accounts that receive its mail, the nearest first."""
    of = find_domain(tx, address.domain) if address.domain else None
    if of is None:
        return Resolution(local=False)
    found = Resolution(local=True)
    dead: Address | None = None  # the first that nobody has
    seen: set[str] = set()
    # The nearest first, so that a chain that is too long hides no short way to the same place.
    waiting: deque[tuple[Address, tuple[str, ...], str | None]] = deque([(address, (), None)])
    while waiting:
        at, through, detail = waiting.popleft()
        if at.key in seen:
            continue
        seen.add(at.key)
        if len(through) > DEPTH or len(seen) > MOST_TARGETS:
            found.problem = "the aliases of this address are too deep or too many"
            break
        here = of if at.domain == of.name else find_domain(tx, at.domain)
        if here is None:
            found.outside.append(Outside(at, through))
            continue
        targets = _step(tx, here, at, through, detail, found)
        if targets is None:
            dead = dead or at
            continue
        waiting += [(parse_mailbox(t), (*through, at.key), d) for t, d in targets]
    if not (found.destinations or found.outside or found.problem):
        found.problem = _nowhere(address, dead)
    return found


def _nowhere(address: Address, dead: Address | None) -> str:
    """Why an address leads nowhere."""
    if dead is None:
        return "its aliases lead in a circle"
    if dead.key == address.key:
        return "no account and no alias has this address"
    return f"its alias leads to {dead}, an address that no account and no alias has"


def _step(
    tx: Tx,
    of: Domain,
    at: Address,
    through: tuple[str, ...],
    detail: str | None,
    found: Resolution,
) -> list[tuple[str, str | None]] | None:
    """One address: either an account or a folder, noted in `found`, or the targets of an alias;
    None if it is neither."""
    base, sub = at.subaddress()
    tries = [(key(at.local), detail)]
    if sub is not None:
        tries.append((key(base), sub))
    for local, tag in tries:
        row = tx.one(tables.DELIVERY_TARGET, domain=of.id, key=local)
        if row is not None:
            if row[2] == "disabled":
                found.problem = "the account is disabled"
            else:
                address = Address(row[1], of.name)
                found.destinations.append(Destination(row[0], address, through, tag))
            return []
        listed = tx.all(tables.ALIASES_EXACT, domain=of.id, pattern=local, limit=MOST_TARGETS)
        if listed:
            return [(target, tag) for (target,) in listed]
        posted = tx.one(tables.FOLDER_TARGET, domain=of.id, key=local)
        if posted is not None:
            written_as, account, mailbox, anybody, _ = posted
            address = Address(written_as, of.name)
            found.destinations.append(
                Destination(account, address, through, tag, mailbox, bool(anybody))
            )
            return []
    local = key(at.local)
    wild = tx.all(tables.ALIASES_WILD, domain=of.id, limit=MOST_WILD)
    matched = next((p for p, _ in wild if _matcher(p).fullmatch(local)), None)
    if matched is None:
        return None
    return [(target, detail) for p, target in wild if p == matched]
