"""Searches that are kept under a name: FILTER. RFC 5466.

They are annotations of the server: a user's own are /private/filters/values/NAME, the
administrator's stand in the settings, and a user's own comes first. Before anything is looked for
each FILTER gives way to what its filter says, as one key; from there on nobody knows of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import structlog

from postroom.core.errors import LimitReached, Malformed, NotAllowed, NotFound
from postroom.domain.mailboxes import annotating
from postroom.domain.mailboxes.annotated.settings import MetadataSettings
from postroom.domain.mailboxes.annotating import PRIVATE_FILTERS, SHARED_FILTERS, Noted, Wanted
from postroom.protocols.imap.session import Session
from postroom.store.sql import Tx
from postroom.wire.imap import And, InFilter, Not, Or, SearchKey, parse_criteria

PASSES: Final = 5
"""Filters within filters; RFC 5466 §3.1 asks for 3 at least. What is deeper, or names itself, is
as a filter that is not there."""

DEPTH: Final = 10
"""Parentheses within one filter: with `PASSES` of them a tree stays shallow."""

FILTERS_MOST: Final = 64
"""Filters that one search may need."""

OCTETS_MOST: Final = annotating.VALUE_OCTETS
"""What they may hold in all: they are read on the loop, and a command has as many itself."""

KEYS_MOST: Final = 10_000
"""Keys that a search may have once its filters are put in: one that names another twice has twice
its keys."""

_log: Final = structlog.get_logger("postroom.imap")


class UndefinedFilter(NotFound):
    """A filter that is not there, or that cannot be had. RFC 5466 §3.1."""

    sentence = "There is no filter of this name"

    def __init__(self, name: str, *, detail: str = "") -> None:
        super().__init__(detail=detail)
        self.code = b"UNDEFINED-FILTER " + name.encode("ascii")


class NotASearch(NotAllowed):
    """What was to be kept as a filter can never be found with."""

    sentence = "This is not a filter: a search under a name without a slash"


class Rule(NamedTuple):
    """What a filter says: its keys, how many, and the filters that are named among them."""

    key: SearchKey
    keys: int
    names: tuple[str, ...]


async def expanded(session: Session, key: SearchKey) -> SearchKey:
    """A search without filters. Raises UndefinedFilter, LimitReached."""
    asked = tuple(_names(key))
    if not asked:
        return key
    rules: dict[str, Rule] = {}
    missing, octets = set(asked), 0
    for _ in range(PASSES):
        if len(rules) + len(missing) > FILTERS_MOST:
            raise LimitReached("These are too many filters at once")
        found = await session.shared.house.mail.read(_texts, session, sorted(missing))
        octets += sum(map(len, found.values()))
        if octets > OCTETS_MOST:
            raise LimitReached("These filters are too long to be used at once")
        rules |= {name: _rule(name, found.get(name)) for name in sorted(missing)}
        missing = {each for name in missing for each in rules[name].names} - rules.keys()
        if not missing:
            break
    known = _resolved(rules)
    for name in asked:
        if name not in known:  # a loop, or too deep
            raise UndefinedFilter(name)
    if sum(known[name].keys for name in asked) > KEYS_MOST:
        raise _too_many()
    return _put_in(key, known)


def check_filters(values: Noted) -> None:
    """That what is to be noted on the server as filters is one. Raises NotASearch. RFC 5466
    §3.2 asks for it."""
    for name, value in values.items():
        if not name.startswith(PRIVATE_FILTERS) or value is None:
            continue
        try:
            parse_criteria(b"FILTER " + name.removeprefix(PRIVATE_FILTERS).encode("ascii"), DEPTH)
            parse_criteria(value, DEPTH)
        except Malformed as error:
            raise NotASearch(detail=str(error)) from None


def _texts(tx: Tx, session: Session, names: list[str]) -> dict[str, bytes]:
    """What filters of these names say: a user's own before the one of all. RFC 5466 §1."""
    entries = [prefix + name for name in names for prefix in (SHARED_FILTERS, PRIVATE_FILTERS)]
    settings = session.policy(tx).of(MetadataSettings)
    found = annotating.of_server(tx, session.account, Wanted(tuple(entries)), settings).values
    texts: dict[str, bytes] = {}
    for entry in entries:  # the private one comes later
        value = found[entry]
        if value is not None:
            texts[entry.rpartition("/")[2]] = value
    return texts


def _rule(name: str, text: bytes | None) -> Rule:
    if text is None:
        raise UndefinedFilter(name)
    try:
        key = parse_criteria(text, DEPTH)
    except Malformed as error:
        _log.warning("a filter is not a search", name=name, reason=str(error))
        raise UndefinedFilter(name) from None
    return Rule(key, sum(1 for _ in _each(key)), tuple(_names(key)))


def _resolved(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Those whose filters are all known, innermost first, in at most `PASSES` rounds."""
    known: dict[str, Rule] = {}
    for _ in range(PASSES):
        ready = {
            name: rule
            for name, rule in rules.items()
            if name not in known and all(each in known for each in rule.names)
        }
        for name, rule in ready.items():
            keys = rule.keys + sum(known[each].keys for each in rule.names)
            if keys > KEYS_MOST:
                raise _too_many()
            known[name] = Rule(_put_in(rule.key, known), keys, ())
    return known


def _too_many() -> LimitReached:
    return LimitReached("These filters are too many keys to look for at once")


def _each(key: SearchKey) -> Iterator[SearchKey]:
    """Every key of a tree."""
    waiting = [key]
    while waiting:
        each = waiting.pop()
        yield each
        match each:
            case And(keys) | Or(keys):
                waiting += keys
            case Not(inner):
                waiting.append(inner)
            case _:
                pass


def _names(key: SearchKey) -> Iterator[str]:
    """The filters that a tree names, as often as it does."""
    return (each.name for each in _each(key) if isinstance(each, InFilter))


def _put_in(key: SearchKey, known: Mapping[str, Rule]) -> SearchKey:
    """A tree with what its filters say. Recursion is as deep as what the reader of commands, or
    `DEPTH`, allows."""
    match key:
        case InFilter(name):
            return known[name].key
        case And(keys):
            return And(tuple(_put_in(each, known) for each in keys))
        case Or(keys):
            return Or(tuple(_put_in(each, known) for each in keys))
        case Not(inner):
            return Not(_put_in(inner, known))
        case _:
            return key
