"""Rebuilds what a power cut may leave of a run that postroom.testing.recorder has recorded.

`replay(events, cut, folder, variant)` writes the files as they may be found if power fails just
before event `cut`; `states` walks all cuts at once. POSIX promises less than most file systems
keep, and the model here keeps to the promise:

- Bytes are safe once an fsync of their file, begun after they were written, has returned.
- A name (created, renamed, removed) is safe once an fsync of its directory, begun after it
  was changed, has returned. An fsync of the file does nothing for its name.
- Anything else may be there or not, in any order, a write in sectors of 512 bytes, except that
  a rename within one directory happens as a whole.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from postroom.testing.recorder import Event

SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A write or, with data None, a truncate to `offset`, not yet safe."""

    at: int  # number of its event
    offset: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class _Names:
    """Entries of one directory that change together, not yet safe; None removes."""

    at: int
    changes: tuple[tuple[str, _File | _Folder | None], ...]


class _File:
    __slots__ = ("pending", "safe")

    def __init__(self) -> None:
        self.safe = bytearray()
        self.pending: list[_Bytes] = []

    def sync(self, covers: int) -> None:
        for change in self.pending:
            if change.at < covers:
                _apply(self.safe, change)
        self.pending = [c for c in self.pending if c.at >= covers]


class _Folder:
    __slots__ = ("now", "pending", "safe")

    def __init__(self) -> None:
        self.now: dict[str, _File | _Folder] = {}
        self.safe: dict[str, _File | _Folder] = {}
        self.pending: list[_Names] = []

    def change(self, at: int, *changes: tuple[str, _File | _Folder | None]) -> None:
        _rename(self.now, changes)
        self.pending.append(_Names(at, changes))

    def sync(self, covers: int) -> None:
        for names in self.pending:
            if names.at < covers:
                _rename(self.safe, names.changes)
        self.pending = [n for n in self.pending if n.at >= covers]


def _apply(content: bytearray, change: _Bytes) -> None:
    offset, data = change.offset, change.data
    if len(content) < offset:
        content += bytes(offset - len(content))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _rename(
    entries: dict[str, _File | _Folder], changes: Iterable[tuple[str, _File | _Folder | None]]
) -> None:
    for name, node in changes:
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class Variant(Enum):
    """What becomes of all that was not safe."""

    NONE = "none"  # nothing of it
    ALL = "all"  # all of it: a killed process, not a power cut
    NAMES = "names"  # names without bytes: the empty file after a rename
    BYTES = "bytes"  # bytes without names: the lost file after an fsync
    TORN = "torn"  # all of it, but the last write only in part, at a sector's edge
    RANDOM = "random"  # every name by a throw, every write by a throw for each sector


class Disk:
    """The files below a root while the events of a log are fed to it one by one."""

    def __init__(self) -> None:
        self._nodes: dict[int, _File | _Folder] = {}
        self._root: _Folder | None = None
        self._count = 0

    def feed(self, event: Event) -> None:
        """Take the next event. Raises ValueError if it concerns what was never recorded."""
        at, self._count = self._count, self._count + 1
        match event.kind:
            case "write":
                self._file(event).pending.append(_Bytes(at, event.offset, event.data))
            case "truncate":
                self._file(event).pending.append(_Bytes(at, event.offset, None))
            case "fsync":
                # Of a directory above the root, say: it makes nothing safe here.
                if event.node in self._nodes:
                    self._nodes[event.node].sync(event.covers)
            case "create" | "mkdir":
                self._make(at, event)
            case "rename":
                self._move(at, event.path, event.target)
            case "unlink" | "rmdir":
                folder, name = self._place(event.path)
                folder.change(at, (name, None))
            case "mark":
                pass

    def write_to(self, folder: str, variant: Variant, rng: random.Random) -> None:
        """Make `folder` (new) hold what this variant of a power cut leaves."""
        if self._root is None:
            raise ValueError("the log does not begin with its root")
        last = max(
            (c.at for n in self._nodes.values() if isinstance(n, _File) for c in n.pending),
            default=-1,
        )
        waiting = [(self._root, folder)]
        while waiting:
            node, path = waiting.pop()
            os.mkdir(path, 0o700)
            for name, child in sorted(_left_names(node, variant, rng).items()):
                below = os.path.join(path, name)
                if isinstance(child, _Folder):
                    waiting.append((child, below))
                else:
                    with open(below, "wb") as file:
                        file.write(_left_bytes(child, variant, rng, last))

    def _file(self, event: Event) -> _File:
        node = self._nodes.get(event.node)
        if not isinstance(node, _File):
            raise ValueError(f"{event.kind} of a file made outside the recording")
        return node

    def _place(self, path: str) -> tuple[_Folder, str]:
        """The directory that holds the path, and the name in it."""
        folder: _File | _Folder | None = self._root
        *above, name = path.split("/")
        for step in above:
            folder = folder.now.get(step) if isinstance(folder, _Folder) else None
        if not isinstance(folder, _Folder):
            raise ValueError(f"{path} lies in a directory made outside the recording")
        return folder, name

    def _make(self, at: int, event: Event) -> None:
        made: _File | _Folder = _Folder() if event.kind == "mkdir" else _File()
        if event.path == "" and isinstance(made, _Folder):
            self._root = made
        else:
            folder, name = self._place(event.path)
            there = folder.now.get(name)
            if there is not None and there is self._nodes.get(event.node):
                return  # two processes opened it at once, and both believe that they made it
            folder.change(at, (name, made))
        self._nodes[event.node] = made  # a number is used again once its file is gone

    def _move(self, at: int, source: str, target: str) -> None:
        here, old = self._place(source)
        there, new = self._place(target)
        moved = here.now.get(old)
        if moved is None:
            raise ValueError(f"rename of {source}, which is not there")
        if here is there:
            here.change(at, (old, None), (new, moved))
        else:
            there.change(at, (new, moved))
            here.change(at, (old, None))


def _left_names(
    folder: _Folder, variant: Variant, rng: random.Random
) -> dict[str, _File | _Folder]:
    if variant in {Variant.ALL, Variant.NAMES, Variant.TORN}:
        return folder.now
    left = dict(folder.safe)
    if variant is Variant.RANDOM:
        for names in folder.pending:
            if rng.random() < 0.5:
                _rename(left, names.changes)
    return left


def _left_bytes(file: _File, variant: Variant, rng: random.Random, last: int) -> bytearray:
    left = bytearray(file.safe)
    if variant in {Variant.NONE, Variant.NAMES}:
        return left
    for change in file.pending:
        if variant is Variant.TORN and change.at == last:
            _tear(left, change, rng)
        elif variant is Variant.RANDOM:
            _scatter(left, change, rng)
        else:
            _apply(left, change)
    return left


def _sectors(change: _Bytes) -> Iterator[_Bytes]:
    """A write in pieces that lie in one sector of the disk each."""
    assert change.data is not None
    begin = change.offset
    end = begin + len(change.data)
    while begin < end:
        edge = min(end, (begin // SECTOR + 1) * SECTOR)
        piece = change.data[begin - change.offset : edge - change.offset]
        yield _Bytes(change.at, begin, piece)
        begin = edge


def _tear(content: bytearray, change: _Bytes, rng: random.Random) -> None:
    """Less than the whole write, from its start."""
    if change.data is None:
        return
    pieces = list(_sectors(change))
    for piece in pieces[: rng.randrange(len(pieces)) if pieces else 0]:
        _apply(content, piece)


def _scatter(content: bytearray, change: _Bytes, rng: random.Random) -> None:
    """Any of its sectors. What it lengthened may stay long, with zeros."""
    if change.data is None:
        if rng.random() < 0.5:
            _apply(content, change)
        return
    # All or nothing half of the time: else no long write would ever arrive in full.
    share = rng.choice((0.0, 0.5, 0.5, 1.0))
    end = change.offset + len(change.data)
    for piece in _sectors(change):
        if rng.random() < share:
            _apply(content, piece)
    if len(content) < end and rng.random() < 0.5:
        content += bytes(end - len(content))


# --- replay -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """One legal state after a power cut: what must be there is told by `marks`."""

    cut: int
    variant: Variant
    folder: str
    marks: tuple[Event, ...]
    """Marks made before the cut, in order: label in `target`, payload in `data`."""


def cuts(events: Sequence[Event]) -> Iterator[int]:
    """Where to cut: before every fsync returns, and at the end.

    Between two fsyncs the last moment has the most at risk and the most promised. Any other
    index is a legal cut as well.
    """
    for n, event in enumerate(events):
        if event.kind == "fsync":
            yield n
    yield len(events)


def marks(events: Sequence[Event], cut: int) -> tuple[Event, ...]:
    """The marks before a cut."""
    return tuple(e for e in events[:cut] if e.kind == "mark")


def replay(
    events: Sequence[Event],
    cut: int,
    folder: str | os.PathLike[str],
    variant: Variant = Variant.NONE,
    *,
    seed: int = 0,
) -> State:
    """Write into `folder` (new) what a power cut just before event `cut` may leave."""
    disk = Disk()
    for event in events[:cut]:
        disk.feed(event)
    disk.write_to(os.fspath(folder), variant, _rng(seed, cut, variant))
    return State(cut, variant, os.fspath(folder), marks(events, cut))


def states(
    events: Sequence[Event],
    folder: str | os.PathLike[str],
    *,
    at: Iterable[int] | None = None,
    variants: Sequence[Variant] = tuple(Variant),
    seed: int = 0,
) -> Iterator[State]:
    """Every variant at every cut (or those of `at`), in one walk over the log.

    Each state gets a folder of its own below `folder`, which the caller may remove when it is
    done with it. A state of a variant equals that of replay() with the same seed.
    """
    disk = Disk()
    fed = 0
    for cut in sorted(set(cuts(events) if at is None else at)):
        for event in events[fed:cut]:
            disk.feed(event)
        fed = cut
        promised = marks(events, cut)
        for variant in variants:
            path = os.path.join(os.fspath(folder), f"{cut}-{variant.value}")
            disk.write_to(path, variant, _rng(seed, cut, variant))
            yield State(cut, variant, path, promised)


def _rng(seed: int, cut: int, variant: Variant) -> random.Random:
    return random.Random(f"{seed}:{cut}:{variant.value}")
