"""What a client that watches its mailboxes is told: pure, from two looks at them. RFC 5465.

A look is kept as one small row of octets for each mailbox, so that a session which watches for
weeks holds little, and two looks are compared without reading a row that did not change.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from postroom.domain.mailboxes.annotating import Marks, may_read
from postroom.domain.mailboxes.folders import SEPARATOR, canonical
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.sharing import Sight, is_level
from postroom.protocols.imap.sources import holds
from postroom.wire.imap import EventGroup, FetchItem, Happening, Notify, Which

WATCHED_MOST: Final = 2_000
"""Mailboxes that one session may watch; with more, watching is refused or ends."""

ANNOTATIONS_MOST: Final = 5_000
"""Annotations that one session may watch; with more, watching is refused or ends."""

RENAMES_MOST: Final = 16
"""Renames between two looks that are told as such."""

SUPPORTED: Final = (
    Happening.MESSAGE_NEW,
    Happening.MESSAGE_EXPUNGE,
    Happening.FLAG_CHANGE,
    Happening.MAILBOX_NAME,
    Happening.SUBSCRIPTION_CHANGE,
    Happening.MAILBOX_METADATA_CHANGE,
    Happening.SERVER_METADATA_CHANGE,
)


# --- a look ---------------------------------------------------------------------------------------

_SEPARATOR: Final = SEPARATOR.encode("ascii")
_ROW: Final = struct.Struct("!QIIIIB")
_SUBSCRIBED: Final = 1
_READABLE: Final = 2
_OWN: Final = 4
_ANNOTATED: Final = 8

Look = Mapping[int, bytes]
"""By a mailbox's id, what was seen of it: `Seen`, packed."""


class Seen(NamedTuple):
    """A mailbox as it was at a look."""

    path: str
    modseq: int
    uidnext: int
    total: int
    unseen: int
    uidvalidity: int
    subscribed: bool
    readable: bool
    own: bool
    annotated: bool  # what is noted on it may be read: another right than that to its messages


def look(sight: Sight) -> dict[int, bytes]:
    """What an account sees now. Levels without a mailbox are not told of."""
    found: dict[int, bytes] = {}
    for path, box in sight.tree.by_path.items():
        if is_level(box):
            continue
        marks = _SUBSCRIBED * box.subscribed
        if box.account == sight.viewer:
            marks |= _OWN | _READABLE | _ANNOTATED
        else:
            held = sight.rights_in(box)
            marks |= _READABLE * bool(held & Right.READ)
            marks |= _ANNOTATED * may_read(held)
        row = _ROW.pack(box.modseq, box.uidnext, box.total, box.unseen, box.uidvalidity, marks)
        found[box.id] = row + path.encode()
    return found


def seen(row: bytes) -> Seen:
    """A row of a look."""
    modseq, uidnext, total, unseen, uidvalidity, marks = _ROW.unpack_from(row)
    return Seen(
        row[_ROW.size :].decode(),
        modseq,
        uidnext,
        total,
        unseen,
        uidvalidity,
        subscribed=bool(marks & _SUBSCRIBED),
        readable=bool(marks & _READABLE),
        own=bool(marks & _OWN),
        annotated=bool(marks & _ANNOTATED),
    )


def as_told(rows: Look, opened: int, modseq: int, uidnext: int, total: int) -> Look:
    """A look with the mailbox that is open as the client knows it: what it is not told before it
    opens another, it hears as of one that is not open."""
    row = rows.get(opened)
    if row is None:
        return rows
    *_, unseen, uidvalidity, marks = _ROW.unpack_from(row)
    known = _ROW.pack(modseq, uidnext, total, unseen, uidvalidity, marks)
    return {**rows, opened: known + row[_ROW.size :]}


def as_done(before: Look, now: Look, paths: Collection[str]) -> Look:
    """The look before, with what the client itself has made of these paths, of what lies below
    them, and of levels above them that came with them. RFC 5465 §5: it knows. The counters are
    those before, so that what others did meanwhile is told yet."""

    def own(path: str, *, new: bool) -> bool:
        return any(
            f"{path}{SEPARATOR}".startswith(f"{each}{SEPARATOR}")
            or (new and each.startswith(f"{path}{SEPARATOR}"))
            for each in paths
        )

    made = dict(before)
    for box, row in before.items():
        if box not in now and own(seen(row).path, new=False):
            del made[box]
    for box, row in now.items():
        was = before.get(box)
        if was == row:
            continue
        if was is None:
            if own(seen(row).path, new=True):
                made[box] = row
        elif own(seen(row).path, new=False) or own(seen(was).path, new=False):
            *counters, _ = _ROW.unpack_from(was)
            *_, marks = _ROW.unpack_from(row)
            made[box] = _ROW.pack(*counters, marks) + row[_ROW.size :]
    return made


_NO_EVENTS: Final[frozenset[Happening]] = frozenset()


# --- what is asked for ----------------------------------------------------------------------------


class Group(NamedTuple):
    """Mailboxes that are not open, and what of them to tell."""

    which: Which
    names: frozenset[str]
    events: frozenset[Happening]

    def holds(self, box: Seen) -> bool:
        """Whether a mailbox is one of these. RFC 5465 §6."""
        return holds(self.which, self.names, box.path, own=box.own, subscribed=box.subscribed)


class Opened(NamedTuple):
    """What to tell of the mailbox that is open. RFC 5465 §6.1.1, §6.1.2."""

    messages: bool = False
    flags: bool = False
    delayed: bool = False  # removals wait for a command after which they may be told
    items: tuple[FetchItem, ...] = ()  # to fetch of a new message


@dataclass(frozen=True, slots=True)
class Filters:
    """What a NOTIFY asked for; what it does not name is not told. A mailbox in several groups is
    told of as all of them ask. RFC 5465 §3.1, §6."""

    groups: tuple[Group, ...] = ()
    opened: Opened = Opened()

    @classmethod
    def of(cls, asked: Notify) -> Filters:
        opened = Opened()
        groups: list[Group] = []
        for group in asked.groups:
            if group.which in (Which.SELECTED, Which.SELECTED_DELAYED):
                opened = _opened(group)
            else:
                names = frozenset(canonical(name) for name in group.names)
                groups.append(Group(group.which, names, group.events))
        return cls(tuple(groups), opened)

    def of_box(self, box: Seen) -> frozenset[Happening]:
        """What to tell of a mailbox that is not open; of an open one, but for its messages."""
        return _NO_EVENTS.union(*(group.events for group in self.groups if group.holds(box)))

    def asks(self, event: Happening) -> bool:
        """Whether it is to be told of any mailbox but the open one, or of the server."""
        return any(event in group.events for group in self.groups)

    @property
    def silent(self) -> bool:
        """Nothing is told unasked."""
        return not self.opened.messages and not any(group.events for group in self.groups)


def _opened(group: EventGroup) -> Opened:
    return Opened(
        Happening.MESSAGE_NEW in group.events,
        Happening.FLAG_CHANGE in group.events,
        group.which is Which.SELECTED_DELAYED,
        group.items,
    )


def unsupported(asked: Notify) -> bool:
    """Whether it asks for an event that is not told here: BADEVENT. RFC 5465 §3.1."""
    known = frozenset(SUPPORTED)
    return any(group.unknown or not group.events <= known for group in asked.groups)


@dataclass(slots=True)
class Watch:
    """What a client that sent NOTIFY asked for, and how far it has been told. RFC 5465."""

    filters: Filters
    look: Look  # of the mailboxes; empty where none but the open one is watched
    owners: frozenset[int]  # accounts whose changes may matter
    marks: dict[int, Marks]  # of annotations, by mailbox; empty where they are not watched

    def annotates(self, box: int, names: Collection[str], marks: Marks) -> None:
        """The session itself changed these entries; `marks` are all that are there now."""
        known = {name: mark for name, mark in self.marks.get(box, {}).items() if name not in names}
        self.marks[box] = known | {name: marks[name] for name in names if name in marks}


# --- what to tell ---------------------------------------------------------------------------------


class Tell(Enum):
    """How a change is told. RFC 5465 §5."""

    GONE = "LIST with \\NonExistent"
    NO_ACCESS = "LIST with \\NoAccess"
    NAMED = "LIST"  # made, renamed, subscribed or not any more
    COUNTED = "STATUS"


class Told(NamedTuple):
    """One response."""

    how: Tell
    box: int
    path: str
    old: str = ""  # what it was called before
    flags: bool = False  # of COUNTED: changes of flags were asked for too
    modseq: bool = False  # of COUNTED: with its modseq, whether or not CONDSTORE is enabled


def changes(before: Look, now: Look, filters: Filters, opened: int = 0) -> list[Told]:
    """What to tell of what happened between two looks, in an order in which a client that takes
    one after the other ends with what is there.

    `opened` is the id of the mailbox that is open: its messages are not told here.
    """
    told = [_gone(box, seen(row), filters) for box, row in before.items() if box not in now]
    changed = [(box, before.get(box), row) for box, row in now.items() if before.get(box) != row]
    moves = _Moves(before, now, filters)
    if any(old is not None and old[_ROW.size :] != row[_ROW.size :] for _, old, row in changed):
        moves.follow()
    names: list[Told] = []
    counts: list[Told] = []
    for box, old, row in changed:
        was, new = None if old is None else seen(old), seen(row)
        events = filters.of_box(new)
        held = _NO_EVENTS if was is None else filters.of_box(was)
        if box not in moves.named:
            names += _named(box, was, new, held | events)
        counted = _counted(box, None if box in moves.anew else was, new, held, events)
        if counted is not None and box != opened:
            counts.append(counted)
    if told or changed:
        names += _grown(before, now, filters)
    return [*filter(None, told), *moves.told, *names, *counts]


class _Moves:
    """The telling of renames: what a client that believes each of them has at which path.

    A client takes what lies below a renamed mailbox along, so that is not told. RFC 5465 §5.4.
    Where a name is another's still, or where more was renamed at once than is followed, the old
    name is told as gone and the new one as made.
    """

    def __init__(self, before: Look, now: Look, filters: Filters) -> None:
        self._before, self._now, self._filters = before, now, filters
        self.told: list[Told] = []
        self.named: set[int] = set()  # a response has told of them as they are now
        self.anew: set[int] = set()  # of these, told as made

    def follow(self) -> None:
        now = {box: row[_ROW.size :].decode() for box, row in self._now.items()}
        known = {box: row[_ROW.size :].decode() for box, row in self._before.items() if box in now}
        at = {path: box for box, path in known.items()}
        left = RENAMES_MOST
        for box in sorted(known, key=lambda each: (now[each].count(SEPARATOR), each)):
            old, path = known[box], now[box]
            if old == path or not self._asked(box):
                continue
            moving = _below(old, path, at) if left else None
            if moving is None or not self._asked_now(box):
                del at[old], known[box]
                self._anew(box, old)
                continue
            left -= 1
            for from_, to in moving:
                mover = at.pop(from_)
                at[to], known[mover] = mover, to
            self.told.append(Told(Tell.NAMED, box, path, old))
            self.named.add(box)
        for box, path in known.items():
            if path != now[box] and self._asked(box):
                self._anew(box, path)  # it was taken along, and is not there
        self.told += [
            Told(Tell.NAMED, box, now[box]) for box in sorted(self.anew) if self._asked_now(box)
        ]

    def _anew(self, box: int, old: str) -> None:
        self.told.append(Told(Tell.GONE, box, old))
        self.named.add(box)
        self.anew.add(box)

    def _asked(self, box: int) -> bool:
        was = self._filters.of_box(seen(self._before[box]))
        return Happening.MAILBOX_NAME in was or self._asked_now(box)

    def _asked_now(self, box: int) -> bool:
        return Happening.MAILBOX_NAME in self._filters.of_box(seen(self._now[box]))


def _below(old: str, new: str, at: Mapping[str, int]) -> list[tuple[str, str]] | None:
    """Where a mailbox and all below it are and would be; None if another is in the way."""
    inside = old + SEPARATOR
    from_ = [old, *(path for path in at if path.startswith(inside))]
    moving = [(path, new + path[len(old) :]) for path in from_]
    leaving = set(from_)
    if any(to in at and to not in leaving for _, to in moving):
        return None
    return moving if leaving.isdisjoint(to for _, to in moving) else None


def _above(rows: Look) -> frozenset[bytes]:
    """The paths right above those of mailboxes."""
    return frozenset(row[_ROW.size :].rpartition(_SEPARATOR)[0] for row in rows.values())


def _grown(before: Look, now: Look, filters: Filters) -> Iterator[Told]:
    """Of mailboxes that have children now and had none, or the other way round, those that are
    where they were: they are told of with what came or went. RFC 5465 §5.4."""
    changed = _above(before) ^ _above(now)
    for box, row in now.items() if changed else ():
        path = row[_ROW.size :]
        if path in changed and before.get(box, b"")[_ROW.size :] == path:
            new = seen(row)
            if Happening.MAILBOX_NAME in filters.of_box(new):
                yield Told(Tell.NAMED, box, new.path)


def _gone(box: int, was: Seen, filters: Filters) -> Told | None:
    if Happening.MAILBOX_NAME not in filters.of_box(was):
        return None
    return Told(Tell.GONE, box, was.path)


def _named(box: int, was: Seen | None, new: Seen, events: frozenset[Happening]) -> Iterator[Told]:
    if was is None:
        if Happening.MAILBOX_NAME in events:
            yield Told(Tell.NAMED, box, new.path)
    elif was.readable and not new.readable and Happening.MAILBOX_NAME in events:
        yield Told(Tell.NO_ACCESS, box, new.path)
    elif (was.subscribed != new.subscribed and Happening.SUBSCRIPTION_CHANGE in events) or (
        was.readable != new.readable and Happening.MAILBOX_NAME in events
    ):
        yield Told(Tell.NAMED, box, new.path)


def _counted(
    box: int,
    was: Seen | None,
    new: Seen,
    held: frozenset[Happening],
    events: frozenset[Happening],
) -> Told | None:
    """Its counters, if they changed in a way that was asked for, or were not told before."""
    if Happening.MESSAGE_NEW not in events or not new.readable:
        return None
    flags = Happening.FLAG_CHANGE in events
    if was is not None and was.readable and Happening.MESSAGE_NEW in held:
        same = was.uidnext == new.uidnext and was.total == new.total
        same = same and was.uidvalidity == new.uidvalidity
        if same and not (flags and (was.modseq != new.modseq or was.unseen != new.unseen)):
            return None
    return Told(Tell.COUNTED, box, new.path, flags=flags)


def first(now: Look, filters: Filters, opened: int = 0) -> list[Told]:
    """How things are: the counters of what is watched, and the modseqs of what is watched for
    flags. RFC 5465 §3.1."""
    rows = ((box, seen(row)) for box, row in now.items() if box != opened)
    found = [_counted(box, None, new, _NO_EVENTS, filters.of_box(new)) for box, new in rows]
    return [told._replace(modseq=told.flags) for told in found if told is not None]


def unreadable(now: Look, asked: Sequence[Group]) -> list[Told]:
    """The mailboxes that were named and that the client may know of but not read: it is told
    that it will hear nothing of their messages. RFC 5465 §3.1."""
    named = frozenset().union(*(group.names for group in asked if group.events))
    rows = ((box, seen(row)) for box, row in now.items())
    return [
        Told(Tell.NO_ACCESS, box, new.path)
        for box, new in rows
        if new.path in named and not new.readable
    ]


# --- annotations ----------------------------------------------------------------------------------

SERVER: Final = 0
"""Under which the marks of the server stand, beside those of mailboxes."""

_UNMARKED: Final[Marks] = {}


class Annotated(NamedTuple):
    """Entries that were set, set anew or removed; of the server the path is empty."""

    path: str
    names: list[str]


def annotated(
    before: Mapping[int, Marks], now: Mapping[int, Marks], seen_now: Look, filters: Filters
) -> list[Annotated]:
    """What to tell of annotations that changed between two looks. RFC 5465 §5.6, §5.7.

    Of a mailbox that is gone, or whose annotations may not be read any more, nothing.
    """
    found: list[Annotated] = []
    for box in sorted(before.keys() | now.keys()):
        was, new = before.get(box, _UNMARKED), now.get(box, _UNMARKED)
        if was == new:
            continue
        path = _annotated_path(box, seen_now, filters)
        if path is not None:
            names = {name for name, _ in was.items() ^ new.items()}
            found.append(Annotated(path, sorted(names)))
    return found


def _annotated_path(box: int, seen_now: Look, filters: Filters) -> str | None:
    """Where it is, if its annotations are to be told of."""
    if box == SERVER:
        return "" if filters.asks(Happening.SERVER_METADATA_CHANGE) else None
    row = seen_now.get(box)
    if row is None:
        return None
    new = seen(row)
    told = new.annotated and Happening.MAILBOX_METADATA_CHANGE in filters.of_box(new)
    return new.path if told else None
