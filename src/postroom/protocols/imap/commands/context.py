"""Results that a client follows: UPDATE of SEARCH and SORT, and CANCELUPDATE. RFC 5267 §4.

A context keeps the UIDs of its result, and of a SORT their order. When the client has been told of
changes, each context looks at what changed and at nothing else, and tells what comes into its
result and what leaves it. What a message is sorted by never changes, so a place in the order is
found by halves.

Message numbers, `*` and `$` mean what they meant when the search came: a set of message numbers
names those messages for good, one of UIDs that ends with `*` also what comes later. How old a
message is changes while nobody does a thing: searches for that (RFC 5032) are answered and not
followed.
"""

from __future__ import annotations

import array
import asyncio
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol, TypeVar

from postroom.core.errors import NotFound
from postroom.protocols.imap.commands.fetch import fetch_unasked
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.selected import Selected, Unasked
from postroom.protocols.imap.session import Session, State
from postroom.protocols.imap.view import Range, View
from postroom.wire.imap import (
    All,
    And,
    BadSyntax,
    BodyContains,
    Command,
    DateIs,
    EmailIdIs,
    FetchBody,
    FetchItem,
    HasFlag,
    HeaderContains,
    Larger,
    Not,
    Older,
    Or,
    SaveDateSupported,
    SearchKey,
    SequenceIn,
    SequenceSet,
    Smaller,
    TextContains,
    UidIn,
    Update,
    Younger,
    compress,
    in_order,
    merge,
    parse_cancelupdate,
    quoted_or_literal,
    untagged,
)

CONTEXTS_MOST: Final = 10
"""Contexts of one session."""

MEMBERS_MOST: Final = 500_000
"""Messages in all of them: 4 octets each, 8 where they are sorted."""

SORTED_MOST: Final = 50_000
"""Messages in one that is sorted: its places are counted."""

RANGES_MOST: Final = 1_000
"""Ranges in the sets of a search that is followed: each message that changes is held against
them."""

PIECE: Final = 2_000
"""Messages that are looked at, or told of in one response, at once."""

PLACED_MOST: Final = 20_000
"""Messages that are put into an order at once: each time, what is there is looked at anew."""

ONE_BY_ONE: Final = 64
"""Messages that are put into a list one by one; for more the list is made anew."""

_LARGEST: Final = 0xFFFFFFFF

A = TypeVar("A")
B = TypeVar("B")

Find = Callable[[Session, SearchKey, Sequence[Range]], Awaitable[list[int]]]
"""The UIDs, ascending, of those of some messages, by number, that match."""


class Ordering(Protocol):
    """The order of a SORT."""

    async def places(self, order: Sequence[int], uids: Sequence[int]) -> list[tuple[int, int]]:
        """Where messages, whose UIDs ascend, belong in a list that is in order: (place, UID), both
        in order; the place is before which of the list it goes. What is gone is left out."""
        ...


class NoSuchContext(NotFound):
    """CANCELUPDATE of what is not followed, or not any more."""

    sentence = "These results are not followed"


async def cancelupdate(session: Session, command: Command) -> None:
    """RFC 5267 §4.3.5. Of several tags those that are known are done with."""
    asked = parse_cancelupdate(command.args)
    contexts = _contexts(session)
    known = [contexts.by_tag.pop(tag, None) for tag in dict.fromkeys(asked.tags)]
    if None in known:
        raise NoSuchContext
    await finish(session, command, "These results are followed no longer")


def begin(
    session: Session,
    tag: bytes,
    update: Update | None,
    key: SearchKey,
    find: Find,
    *,
    uid: bool,
    ordering: Ordering | None = None,
) -> Context | None:
    """A context for a search that is about to be made: `keep` gives it its first result. None if
    UPDATE was not asked for, or is refused, which is told. RFC 5267 §4.3.1.

    Raises BadSyntax if the tag is another's.
    """
    if update is None:
        return None
    contexts = _contexts(session)
    if tag in contexts.by_tag:
        raise BadSyntax("The tag is that of a result that is followed")  # RFC 5267 §4.3
    why = ""
    if len(contexts.by_tag) >= CONTEXTS_MOST:
        why = "Too many results are followed"
    elif _depends_on_time(key):
        why = "What depends on the time of day is not followed"
    else:
        key = _fixed(key, session.open)
        if _ranges(key) > RANGES_MOST:
            why = "These are too many messages to name"
    if why:
        refuse(session, tag, why)
        return None
    return Context(session, contexts, tag, key, update.items, find, ordering, uid=uid)


def refuse(session: Session, tag: bytes, why: str) -> None:
    """A result is not followed, or not any more. RFC 5267 §4.3.1."""
    session.tell(None, "NO", why, b"NOUPDATE " + quoted_or_literal(tag))


class Contexts:
    """The results that are followed in the mailbox that is open: `Following`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stirred = array.array("I")  # what they are to be held against
        self._came = array.array("I")  # of it, what is new
        self.by_tag: dict[bytes, Context] = {}

    @property
    def size(self) -> int:
        """Messages in all of them."""
        return sum(each.size for each in self.by_tag.values())

    @property
    def is_behind(self) -> bool:
        return bool(self._stirred)

    @property
    def has_new(self) -> bool:
        return bool(self._came)

    def stir(self, uids: Iterable[int], came: Iterable[int]) -> None:
        if self.by_tag:
            self._stirred.extend(uids)
            self._came.extend(came)

    async def gone(self, uids: Sequence[int]) -> None:
        for each in tuple(self.by_tag.values()):
            await each.gone(uids)

    async def tell(self, new: Unasked) -> None:
        """RFC 5465 §5.2: what several ask to have fetched of a message is one response."""
        few = len(self._stirred) <= PIECE
        uids = _ascending(self._stirred) if few else await _aside(_ascending, self._stirred)
        came = frozenset(self._came)
        asked = [new]
        comes: list[tuple[Context, Sequence[int]]] = []
        for each in tuple(self.by_tag.values()):
            added = await each.look(uids, came)
            comes.append((each, added))
            if each.items:
                asked.append(Unasked(each.items, [uid for uid in added if uid in came]))
        await self._fetch(asked)
        for each, added in comes:
            await each.add(added)
        del self._stirred[:], self._came[:]  # not before: what fails is done again

    async def _fetch(self, asked: Sequence[Unasked]) -> None:
        some = [each for each in asked if each.uids]
        few = sum(len(each.uids) for each in some) <= PIECE
        for each in combined(some) if few else await _aside(combined, some):
            ranges = self._session.open.view.by_uid((uid, uid) for uid in each.uids)
            await fetch_unasked(self._session, each.items, ranges)


def _contexts(session: Session) -> Contexts:
    """Those of the open mailbox."""
    selected = session.open
    if selected.following is None:
        selected.following = Contexts(session)
    assert isinstance(selected.following, Contexts)  # nobody else follows anything
    return selected.following


def combined(asked: Sequence[Unasked]) -> list[Unasked]:
    """The same with each message in one of them: with all items that are asked of it, each once."""
    if len(asked) < 2:
        return list(asked)
    by: dict[int, int] = {}  # of a UID, who asks for it, as bits
    for n, each in enumerate(asked):
        for uid in each.uids:
            by[uid] = by.get(uid, 0) | 1 << n
    groups: dict[int, list[int]] = {}
    for uid in sorted(by):
        groups.setdefault(by[uid], []).append(uid)
    found: list[Unasked] = []
    for who, uids in groups.items():
        items = (item for n, each in enumerate(asked) if who >> n & 1 for item in each.items)
        found.append(Unasked(tuple(dict.fromkeys(map(_unmarked, items))), uids))
    return found


def _unmarked(item: FetchItem) -> FetchItem:
    """What is fetched unasked is not \\Seen by it, however it was asked for."""
    return replace(item, peek=True) if isinstance(item, FetchBody) else item


async def _aside(made: Callable[[A], B], of: A) -> B:
    """In a thread of its own: there is much of it."""
    return await asyncio.to_thread(made, of)


def _ascending(uids: Iterable[int]) -> list[int]:
    return sorted(set(uids))


class Context:
    """One result that is followed."""

    def __init__(
        self,
        session: Session,
        contexts: Contexts,
        tag: bytes,
        key: SearchKey,
        items: tuple[FetchItem, ...],
        find: Find,
        ordering: Ordering | None,
        *,
        uid: bool,
    ) -> None:
        self._session = session
        self._contexts = contexts
        self._tag = tag
        self._key = key
        self.items = items  # to fetch of what is new: RFC 5465 §7
        self._find = find
        self._ordering = ordering
        self._uid = uid
        self._stays = _stays(key)
        self._members = array.array("I")  # UIDs, ascending
        self._order = array.array("I")  # of a SORT: the same in its order

    @property
    def size(self) -> int:
        return len(self._members)

    def keep(self, uids: Sequence[int], order: Iterable[int] = ()) -> None:
        """The result: UIDs that ascend, and of a SORT the same in their order."""
        if self._has_room(len(uids)):
            self._members = array.array("I", uids)
            self._order = array.array("I", order)
            self._contexts.by_tag[self._tag] = self
        else:
            refuse(self._session, self._tag, "There is too much in it")

    async def gone(self, uids: Sequence[int]) -> None:
        """See `Following`."""
        pace = Pace(self._session.shared.clock)
        for start in range(0, len(uids), PIECE):
            if not self._is_spoken():
                return
            some = uids[start : start + PIECE]
            await self._remove([uid for uid in some if self._holds(uid)])
            if pace.over:
                await pace.rest()

    async def look(self, uids: Sequence[int], came: frozenset[int]) -> Sequence[int]:
        """Of messages that changed, ascending, some of which `came`: tell what leaves, and find
        what comes in, ascending, to `add`."""
        if self._stays:
            uids = sorted(came)  # what was there before matches as it did
        pace = Pace(self._session.shared.clock)
        added = array.array("I")
        for start in range(0, len(uids), PIECE):
            if not self._is_spoken() or self._session.state is State.LOGOUT:
                break
            added.extend(await self._look_at(uids[start : start + PIECE]))
            if pace.over:
                await pace.rest()
        return added

    async def add(self, uids: Sequence[int]) -> None:
        """What was no member, ascending, comes in: tell it."""
        most = PIECE if self._ordering is None else PLACED_MOST
        for start in range(0, len(uids), most):
            await self._add(uids[start : start + most])

    async def _look_at(self, uids: Sequence[int]) -> list[int]:
        """What of some messages comes in, ascending; what leaves has left."""
        known = self._session.open.view.by_uid((uid, uid) for uid in uids)
        found = await self._find(self._session, self._key, known) if known else []
        matching = frozenset(found)
        await self._remove([uid for uid in uids if uid not in matching and self._holds(uid)])
        return [uid for uid in found if not self._holds(uid)]

    # --- what is in it -----------------------------------------------------------------------

    def _holds(self, uid: int) -> bool:
        at = bisect_left(self._members, uid)
        return at < len(self._members) and self._members[at] == uid

    def _has_room(self, more: int) -> bool:
        if self._ordering is not None and self.size + more > SORTED_MOST:
            return False
        return self._contexts.size + more <= MEMBERS_MOST

    def _is_spoken(self) -> bool:
        """Whether it can be told of; one of message numbers ends where they do: RFC 9586 §3."""
        if self._contexts.by_tag.get(self._tag) is not self:
            return False
        if self._session.uidonly and not self._uid:
            self._end("Messages are named by UID alone")
            return False
        return True

    def _end(self, why: str) -> None:
        del self._contexts.by_tag[self._tag]
        refuse(self._session, self._tag, why)

    async def _remove(self, uids: Sequence[int]) -> None:
        """Members, ascending, that are none any more."""
        if not uids:
            return
        runs = [Run(0, uids)]
        if len(uids) > ONE_BY_ONE:
            self._members = await asyncio.to_thread(_without, self._members, frozenset(uids))
        else:
            for uid in uids:
                del self._members[bisect_left(self._members, uid)]
        if self._ordering is not None:
            runs, self._order = _parted(self._order, frozenset(uids))
        await self._tell(b"REMOVEFROM", runs)

    async def _add(self, uids: Sequence[int]) -> None:
        if not uids or not self._is_spoken():
            return
        if not self._has_room(len(uids)):
            self._end("There is too much in it")
            return
        runs = [Run(0, uids)]
        if self._ordering is not None:
            placed = await self._ordering.places(self._order, uids)
            runs, self._order = await _join(self._order, placed)
            uids = sorted(uid for _, uid in placed)
        if len(uids) > ONE_BY_ONE:
            self._members = await asyncio.to_thread(_with, self._members, uids)
        else:
            for uid in uids:
                insort(self._members, uid)
        await self._tell(b"ADDTO", runs)

    # --- telling -----------------------------------------------------------------------------

    async def _tell(self, what: bytes, runs: Sequence[Run]) -> None:
        """RFC 5267 §4.3.2. The client takes one run after the other, so they are in order."""
        session, view = self._session, self._session.open.view
        parts = [b"ESEARCH", b"(TAG " + quoted_or_literal(self._tag) + b")"]
        parts += [b"UID", what] if self._uid else [what]
        for some in _together(_short(runs, grows=what == b"ADDTO")):
            pairs = [b"%d %b" % (run.place, self._set(view, run)) for run in some]
            session.write(untagged(*parts, b"(" + b" ".join(pairs) + b")"))
            await session.output.drain()  # raises if nobody listens any more
            if len(runs) > PIECE:
                await asyncio.sleep(0)

    def _set(self, view: View, run: Run) -> bytes:
        named = run.uids if self._uid else [view.number(uid) for uid in run.uids]
        return in_order(named) if run.place else compress(named)


# --- places --------------------------------------------------------------------------------------


class Run(NamedTuple):
    """Neighbours in a result, from a place on, or 0 where places do not count. RFC 5267 §4.3.3."""

    place: int
    uids: Sequence[int]


def _parted(order: array.array[int], gone: frozenset[int]) -> tuple[list[Run], array.array[int]]:
    """What leaves a list, each run when those before it have left; and what is left of it."""
    if len(gone) == 1:
        (uid,) = gone
        place = order.index(uid)
        del order[place]
        return [Run(place + 1, (uid,))], order
    places = [n for n, uid in enumerate(order) if uid in gone]
    runs: list[Run] = []
    start = 0
    for n in range(1, len(places) + 1):
        if n < len(places) and places[n] == places[n - 1] + 1:
            continue
        first, last = places[start], places[n - 1]
        runs.append(Run(first - start + 1, order[first : last + 1]))
        start = n
    return runs, _without(order, gone)


async def _join(
    order: array.array[int], placed: Sequence[tuple[int, int]]
) -> tuple[list[Run], array.array[int]]:
    """What comes into a list, each run when those before it have come; and what it is then."""
    if len(placed) > ONE_BY_ONE:
        return await asyncio.to_thread(_joined, order, placed)
    return _joined(order, placed)


def _joined(
    order: array.array[int], placed: Sequence[tuple[int, int]]
) -> tuple[list[Run], array.array[int]]:
    runs: list[Run] = []
    start = 0
    for n in range(1, len(placed) + 1):
        if n < len(placed) and placed[n][0] == placed[start][0]:
            continue
        runs.append(Run(placed[start][0] + start + 1, [uid for _, uid in placed[start:n]]))
        start = n
    whole = array.array("I")
    at = 0
    for place, uid in placed:
        whole += order[at:place]
        whole.append(uid)
        at = place
    return runs, whole + order[at:]


def _short(runs: Iterable[Run], *, grows: bool) -> Iterator[Run]:
    """Runs of at most PIECE; where the list grows, what follows comes behind."""
    for place, uids in runs:
        for start in range(0, len(uids), PIECE):
            at = place + start if place and grows else place
            yield Run(at, uids[start : start + PIECE])


def _together(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Runs that go into one response."""
    some: list[Run] = []
    held = 0
    for run in runs:
        if some and held + len(run.uids) > PIECE:
            yield some
            some, held = [], 0
        some.append(run)
        held += len(run.uids)
    if some:
        yield some


def _without(uids: array.array[int], gone: frozenset[int]) -> array.array[int]:
    return array.array("I", [uid for uid in uids if uid not in gone])


def _with(uids: array.array[int], more: Sequence[int]) -> array.array[int]:
    return array.array("I", sorted([*uids, *more]))


# --- what a search means for as long as it is followed -------------------------------------------

_NEVER_CHANGES: Final = (
    All | SequenceIn | UidIn | HeaderContains | BodyContains | TextContains | Larger | Smaller
    | DateIs | EmailIdIs | SaveDateSupported
)  # fmt: skip


def _each(key: SearchKey) -> Iterator[SearchKey]:
    """The keys of a tree that hold no others."""
    waiting = [key]
    while waiting:
        match waiting.pop():
            case And(keys) | Or(keys):
                waiting += keys
            case Not(inner):
                waiting.append(inner)
            case other:
                yield other


def _depends_on_time(key: SearchKey) -> bool:
    return any(isinstance(each, Older | Younger) for each in _each(key))


def _stays(key: SearchKey) -> bool:
    """Whether a message that matches once always does. \\Recent is what it was on arrival."""
    return all(
        each.flag.lower() == "\\recent" if isinstance(each, HasFlag)
        else isinstance(each, _NEVER_CHANGES)
        for each in _each(key)
    )  # fmt: skip


def _ranges(key: SearchKey) -> int:
    return sum(len(each.messages.ranges) for each in _each(key) if isinstance(each, UidIn))


def _fixed(key: SearchKey, selected: Selected) -> SearchKey:
    """A search with its sets as UIDs, as they are now. Recursion is as deep as the tree, and the
    tree as deep as the reader of commands allows."""
    match key:
        case And(keys):
            return And(tuple(_fixed(each, selected) for each in keys))
        case Or(keys):
            return Or(tuple(_fixed(each, selected) for each in keys))
        case Not(inner):
            return Not(_fixed(inner, selected))
        case SequenceIn(messages) | UidIn(messages) if messages.saved:
            return UidIn(SequenceSet(tuple(selected.result)))
        case SequenceIn(messages):
            view = selected.view
            numbers = view.by_number(messages.resolve(view.size))
            return UidIn(SequenceSet(tuple((view.uid(lo), view.uid(hi)) for lo, hi in numbers)))
        case UidIn(messages):
            return UidIn(SequenceSet(tuple(_open_ended(messages, selected.view.last_uid))))
        case _:
            return key


def _open_ended(messages: SequenceSet, largest: int) -> list[Range]:
    """What a set of UIDs names, and if a range of it ends with `*` what comes later."""
    if messages.star is None:
        return list(messages.ranges)
    ranges = list(messages.ranges)
    low, high = messages.star
    if largest and low > largest:  # the last message, whatever its UID: RFC 9051 §9
        ranges.append((largest, largest))
    if high:
        ranges.append((low, _LARGEST))
    return merge(ranges)
