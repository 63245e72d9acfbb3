"""Aliases, and the way from a recipient's address to accounts.

An address is looked up as it is, then without its subaddress (RFC 5233), then among the
domain's wildcard aliases, the longest pattern first. An alias may lead to another alias and to
several addresses; chains are followed to a bounded depth, and a loop leads nowhere.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, Malformed, NotAllowed, NotFound
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
from postroom.domain.events import DirectoryChanged
from postroom.domain.transit import Destination
from postroom.formats.address import Address, parse_mailbox
from postroom.store.sql import Tx

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
    as_address = parse_mailbox(f"{local.replace('*', 'x').replace('?', 'x')}@{domain_name}")
    return key(local) if wild else key(as_address.local), wild


def create_alias(tx: Tx, address: str, target: str, ids: Iterator[int], now: Instant) -> Alias:
    """`address` may hold * and ? in its local part.

    Raises Malformed, AlreadyExists, NotFound for a domain that is not ours, NotAllowed for a
    target outside: that needs sending, which an alias alone cannot do.
    """
    local, at, domain_name = address.rpartition("@")
    if not at:
        raise Malformed("An alias is an address")
    of = lock_domain(tx, domain_name)
    pattern, wild = _pattern(local, of.name)
    if pattern.count("*") > _STARS:
        raise Malformed(f"A pattern has at most {_STARS} stars")
    to = parse_mailbox(target)
    if find_domain(tx, to.domain) is None:
        raise NotAllowed(f"{to.domain} is not a domain of this server")
    if not wild and tx.one(tables.ACCOUNT_BY_KEY, domain=of.id, key=pattern) is not None:
        raise AlreadyExists(f"{address} is an account")
    aim = written(to)
    if tx.one(tables.ONE_ALIAS, domain=of.id, pattern=pattern, target=aim) is not None:
        raise AlreadyExists(f"{address} leads to {target} already")
    alias = Alias(next(ids), pattern, of.name, aim, now)
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


def delete_alias(tx: Tx, address: str, target: str = "") -> int:
    """Remove one target of an alias, or all; raises NotFound. Returns how many."""
    local, _, domain_name = address.rpartition("@")
    of = domain(tx, domain_name)
    pattern, _ = _pattern(local, of.name)
    to = written(parse_mailbox(target)) if target else ""
    gone = tx.run(tables.DELETE_ALIAS, domain=of.id, pattern=pattern, target=to)
    if not gone:
        raise NotFound(f"There is no alias {address}")
    tx.after(DirectoryChanged())
    return gone


def aliases(tx: Tx, domain_name: str = "", limit: int = ALL) -> list[Alias]:
    """The aliases of a domain, or of all."""
    return [Alias(*row) for row in tx.all(tables.ALIASES, domain=domain_name, limit=limit)]


@dataclass(slots=True)
class Resolution:
    """Where an address leads."""

    local: bool  # its domain is ours
    destinations: list[Destination] = field(default_factory=list)
    problem: str = ""  # why an address of ours leads nowhere, for the trace


def resolve(tx: Tx, address: Address) -> Resolution:
    """Follow an address to the accounts that receive its mail, the nearest first."""
    of = find_domain(tx, address.domain) if address.domain else None
    if of is None:
        return Resolution(local=False)
    found = Resolution(local=True)
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
            found.problem = f"an alias leads to {at}, which is not ours"
            continue
        targets = _step(tx, here, at, through, detail, found)
        waiting += [(parse_mailbox(t), (*through, at.key), d) for t, d in targets]
    if not found.destinations and not found.problem:
        found.problem = "no account and no alias has this address"
    return found


def _step(
    tx: Tx,
    of: Domain,
    at: Address,
    through: tuple[str, ...],
    detail: str | None,
    found: Resolution,
) -> list[tuple[str, str | None]]:
    """One address: either an account, noted in `found`, or the targets of an alias."""
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
    local = key(at.local)
    wild = tx.all(tables.ALIASES_WILD, domain=of.id, limit=MOST_WILD)
    matched = next((p for p, _ in wild if _matcher(p).fullmatch(local)), None)
    return [(target, detail) for p, target in wild if p == matched]
