"""ESEARCH: a search of many mailboxes. RFC 7377 §4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from postroom.wire.imap.commands.filters import NAMES_MOST, Which, parse_filter
from postroom.wire.imap.commands.search import Search, SearchReturn, parse_search
from postroom.wire.imap.cursor import BadSyntax, Cursor

FILTERS_MOST: Final = 64


class Source(NamedTuple):
    """Mailboxes to search."""

    which: Which
    names: tuple[str, ...] = ()  # of those that name mailboxes, else none


SELECTED: Final[tuple[Source, ...]] = (Source(Which.SELECTED),)
"""What is searched if nothing else is said."""


@dataclass(frozen=True, slots=True)
class MultiSearch:
    """A search, and where to look."""

    search: Search
    sources: tuple[Source, ...] = SELECTED

    @property
    def opened(self) -> bool:
        """It looks in the mailbox that is open, whatever its name."""
        return any(each.which is Which.SELECTED for each in self.sources)

    @property
    def alone(self) -> bool:
        """It looks nowhere else."""
        return all(each.which is Which.SELECTED for each in self.sources)


def parse_esearch(args: Cursor) -> MultiSearch:
    """`[IN (sources)] [RETURN (…)] [CHARSET …] keys`."""
    sources = SELECTED
    if args.accept_keyword(b" IN "):
        args.expect(b"(")
        sources = _sources(args)
    search = parse_search(args)
    asked = MultiSearch(search, sources)
    saves = search.returns is not None and SearchReturn.SAVE in search.returns
    if saves and not asked.alone:  # RFC 7377 §2.2
        raise BadSyntax("Only what is found in the open mailbox can be saved")
    return asked


def _sources(args: Cursor) -> tuple[Source, ...]:
    found = [_source(args)]
    while not args.accept(b")"):
        args.sp()
        if args.peek() == b"(":
            raise BadSyntax("No options of sources are known here")  # none is defined
        found.append(_source(args))
        if len(found) > FILTERS_MOST:
            raise BadSyntax("Too many sources")
    if sum(len(each.names) for each in found) > NAMES_MOST:
        raise BadSyntax("Too many mailboxes")
    return tuple(found)


def _source(args: Cursor) -> Source:
    which, names = parse_filter(args)
    if which is Which.SELECTED_DELAYED:
        raise BadSyntax("Nothing is delayed in a search")  # RFC 7377 §2.2
    return Source(which, names)
