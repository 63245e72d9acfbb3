"""Flags and keywords as one 63-bit set: system flags first, then the account's registry.

A keyword keeps the case in which it was first written; comparison ignores case (RFC 3501
§2.3.2). The registry belongs to the account, so that a copy within it keeps the bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from postroom.core.errors import LimitReached, Malformed
from postroom.domain.mailboxes import tables
from postroom.store.sql import Tx

SEEN: Final = 1
ANSWERED: Final = 2
FLAGGED: Final = 4
DELETED: Final = 8
DRAFT: Final = 16

SYSTEM: Final = {
    "\\Seen": SEEN,
    "\\Answered": ANSWERED,
    "\\Flagged": FLAGGED,
    "\\Deleted": DELETED,
    "\\Draft": DRAFT,
    # Keywords that every client knows have fixed bits: RFC 5788, RFC 9051 §2.3.2.
    "$Forwarded": 1 << 5,
    "$MDNSent": 1 << 6,
    "$Junk": 1 << 7,
    "$NotJunk": 1 << 8,
    "$Phishing": 1 << 9,
}
FIRST_KEYWORD: Final = 10
KEYWORD_BITS: Final = 63

_FOLDED: Final = {name.lower(): bit for name, bit in SYSTEM.items()}
_NAMES: Final = tuple((bit, name) for name, bit in SYSTEM.items())
_LONGEST: Final = 100
# An atom without the characters that a flag may not have: RFC 3501 §9 flag-keyword.
_KEYWORD: Final = re.compile(r"[!#$&'+,\-./0-9:;<=>?@A-Z^_`a-z|}~\[]+")


class Registry:
    """The keywords of one account at one moment; immutable."""

    __slots__ = ("_bits", "_names", "names")

    def __init__(self, rows: Iterable[tuple[int, str]]) -> None:
        pairs = tuple(rows)
        self._bits = dict(_FOLDED)
        self._bits.update((name.lower(), 1 << bit) for bit, name in pairs)
        self._names = _NAMES + tuple((1 << bit, name) for bit, name in pairs)
        self.names = tuple(name for _, name in self._names)

    @property
    def full(self) -> bool:
        """No further keyword fits."""
        return len(self._names) >= KEYWORD_BITS

    def known(self, flags: Iterable[str]) -> int:
        """The bits of those flags that have one; the others are left out."""
        bits = 0
        for flag in flags:
            bits |= self._bits.get(flag.lower(), 0)
        return bits

    def missing(self, flags: Iterable[str]) -> list[str]:
        """The keywords that have no bit yet, each once, in order."""
        seen: dict[str, str] = {}
        for flag in flags:
            folded = flag.lower()
            if folded not in self._bits:
                seen.setdefault(folded, flag)
        return list(seen.values())

    def flags(self, bits: int) -> tuple[str, ...]:
        """The names of the set's flags, system flags first."""
        return tuple(name for bit, name in self._names if bits & bit)


_SYSTEM_ONLY: Final = Registry(())


def known_bits(tx: Tx, account: int, flags: Iterable[str]) -> int:
    """The set of those of `flags` that have a bit in the account."""
    wanted = list(flags)
    if all(flag.lower() in _FOLDED for flag in wanted):
        return _SYSTEM_ONLY.known(wanted)
    return registry(tx, account).known(wanted)


@lru_cache(maxsize=4096)
def _registry(rows: tuple[tuple[int, str], ...]) -> Registry:
    return Registry(rows)


def registry(tx: Tx, account: int) -> Registry:
    """The account's keywords as they stand."""
    return _registry(tuple(tx.all(tables.KEYWORDS, account=account)))


def is_keyword(name: str) -> bool:
    """Whether a text can be kept as a keyword: RFC 3501 §9."""
    return len(name) <= _LONGEST and _KEYWORD.fullmatch(name) is not None


def fitting(tx: Tx, account: int, flags: Iterable[str]) -> tuple[str, ...]:
    """Those of `flags` that the account has or has room for: what a rule marks is delivered,
    be it without the mark."""
    wanted = tuple(flags)
    if all(flag.lower() in _FOLDED for flag in wanted):
        return wanted
    known = registry(tx, account)
    missing = [name.lower() for name in known.missing(wanted)]
    without = frozenset(missing[max(0, KEYWORD_BITS - len(known.names)) :])
    return tuple([flag for flag in wanted if flag.lower() not in without])


def bits_for(tx: Tx, account: int, flags: Iterable[str]) -> int:
    """The set for `flags`; a new keyword gets the next free bit.

    The caller holds the account's lock. Raises Malformed for what is no flag, LimitReached if
    the registry is full (RFC 5530 §3, LIMIT).
    """
    wanted = list(flags)
    if all(flag.lower() in _FOLDED for flag in wanted):
        return _SYSTEM_ONLY.known(wanted)  # the same in every account
    known = registry(tx, account)
    missing = known.missing(wanted)
    if missing:
        taken = len(known.names)
        for n, name in enumerate(missing, start=taken):
            if not is_keyword(name):
                raise Malformed("This is not a flag that can be kept")
            if n >= KEYWORD_BITS:
                raise LimitReached("No further keyword fits into this account")
            tx.run(tables.INSERT_KEYWORD, account=account, bit=n, name=name)
        known = registry(tx, account)
    return known.known(wanted)
