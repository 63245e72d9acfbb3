"""Making a backup beside a running server.

First the tables, each store in one snapshot: what was committed before the backup began is in
it. Content is not read then, so the snapshot ends soon, and no writer ever waits for it. Then
the content of blobs that no earlier backup has, in small batches: a blob never changes, and one
that the snapshot refers to is not removed for a day (`sweeper`). The manifest is written last.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, ParamSpec, TypeVar

from postroom.core.clock import Clock
from postroom.core.errors import MailError, NotFound, ShuttingDown
from postroom.core.ids import BLOB, external
from postroom.store import tables
from postroom.store.backup.packs import PackWriter, Ref
from postroom.store.backup.repository import (
    Content,
    Entry,
    Kept,
    KeptFile,
    Manifest,
    Repository,
    StoreCopy,
    TableCopy,
    Taken,
    decode_places,
    encode_entries,
    encode_places,
    overlapping,
)
from postroom.store.backup.rows import CONTENT, Form, chunks, decode
from postroom.store.blobs import Blobs, Facts, Place, facts
from postroom.store.files import is_unfinished
from postroom.store.sql import Statement, Tx
from postroom.store.units import Database

P = ParamSpec("P")
T = TypeVar("T")

BATCH_OCTETS: Final = 4 << 20
BATCH_BLOBS: Final = 256
PIECE: Final = 1 << 20
FILE_MOST: Final = 1 << 20
"""Octets of a file of the data directory that is kept; larger ones are not ours."""
PROBLEMS_LISTED: Final = 1_000

GONE: Final = "gone"
DAMAGED: Final = "damaged"

_STEP: Final = Statement("SELECT coalesce(max(number), 0) FROM schema_step")


@dataclass(frozen=True, slots=True)
class Source:
    """A store that is copied."""

    name: str
    database: Database
    forms: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Extra:
    """A folder of small files that is copied, such as of keys; `name` is how a backup calls it."""

    name: str
    path: str


class _Row(NamedTuple):
    """What the table of blobs says of a content, as it is copied."""

    id: int
    sha256: bytes
    size: int
    place: int
    orphan_since: int | None


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    chunks: int = 0
    chunks_copied: int = 0
    blobs: int = 0
    blobs_copied: int = 0
    octets: int = 0
    octets_copied: int = 0


async def take(
    repository: Repository,
    sources: Sequence[Source],
    blobs: Blobs,
    extras: Sequence[Extra],
    clock: Clock,
    *,
    release: str,
    full: bool = False,
) -> Manifest:
    """Make one backup; what is in the one before is not copied again, unless `full`.

    The first source holds the table of blobs. Content that is damaged or gone is named in the
    manifest's problems and does not stop the rest. Raises Misuse, InUse, StoreFull, StoreFailed.
    """
    begun = clock.monotonic()
    with contextlib.ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, repository.writing())
        run = await asyncio.to_thread(_Run, repository, blobs, clock, full)
        try:
            return await run.take(sources, extras, release, begun)
        finally:
            run.stopping.set()
            await asyncio.shield(asyncio.to_thread(run.drop))


class _Run:
    """One backup under way."""

    def __init__(
        self,
        repository: Repository,
        blobs: Blobs,
        clock: Clock,
        full: bool,
    ) -> None:
        """Blocks: reads what is there."""
        self._repository = repository
        self._blobs = blobs
        self._clock = clock
        self.stopping = threading.Event()
        # A thread goes on when whoever waits for it is cancelled: what is dropped is dropped
        # after its step, and no further step begins.
        self._busy = threading.Lock()
        numbers = repository.packs.numbers()
        first = (numbers[-1] if numbers else 0) + 1
        self._packs = PackWriter(repository.files, repository.root, first)
        names = repository.names()
        manifests = [repository.manifest(names[-1])] if names and not full else []
        self._before = manifests[0] if manifests else None
        used = self._before.last_pack if self._before is not None else 0
        self._known = _Known(repository, self._before)
        if not full:
            for pack in numbers:
                if pack > used:
                    self._known.take_over(pack)
        self._counts = _Counts()
        self._problems: list[str] = []
        self._columns: tuple[tuple[str, str], ...] = ()  # of the table of blobs, as it is kept

    def drop(self) -> None:
        """Let go of what is not whole; blocks until the step under way is done."""
        with self._busy:
            self._packs.drop()

    async def _step(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Something that packs or reads packs, in a thread."""

        def alone() -> T:
            with self._busy:
                if self.stopping.is_set():
                    raise ShuttingDown
                return step(*args, **kwargs)

        return await asyncio.to_thread(alone)

    async def take(
        self, sources: Sequence[Source], extras: Sequence[Extra], release: str, begun: float
    ) -> Manifest:
        at = self._clock.now()
        stores: list[StoreCopy] = []
        content = None
        for source in sources:
            copied = await source.database.read_much(self._tables, source)
            stores.append(copied.store)
            if copied.blobs is not None:
                await self._step(self._packs.seal)  # its chunks are read again
                self._columns = _columns(source)
                content = await self._content(source.database, copied.blobs)
        if content is None:
            raise ValueError("no source holds the table of blobs")
        files = await self._step(self._files, extras)
        await self._step(self._packs.seal)
        counts = self._counts
        manifest = Manifest(
            name=self._repository.free_name(at),
            made_at=at,
            release=release,
            stores=tuple(stores),
            content=content,
            files=files,
            taken=Taken(
                seconds=round(self._clock.monotonic() - begun, 3),
                rows=counts.rows,
                chunks=counts.chunks,
                chunks_copied=counts.chunks_copied,
                blobs=counts.blobs,
                blobs_copied=counts.blobs_copied,
                octets=counts.octets,
                octets_copied=counts.octets_copied,
                stored=self._packs.stored,
            ),
            problems=tuple(self._problems),
            last_pack=self._packs.last,
        )
        await self._step(self._repository.publish, manifest)
        return manifest

    # --- tables, in one snapshot ------------------------------------------------------------

    def _tables(self, tx: Tx, source: Source) -> _Copied:
        """A unit; if it is run again, what it packed before is only not referred to."""
        with self._busy:
            if self.stopping.is_set():
                raise ShuttingDown
            return self._copy_tables(tx, source)

    def _copy_tables(self, tx: Tx, source: Source) -> _Copied:
        row = tx.one(_STEP)
        step = int(row[0]) if row is not None else 0
        at = self._clock.now()
        copies: list[TableCopy] = []
        blobs: list[Entry] | None = None
        counts = _Counts()
        for form in source.forms:
            before = self._entries_before(source.name, form.name)
            entries: list[Entry] = []
            for chunk in chunks(tx, form, self.stopping):
                known = before.get(hashlib.sha256(chunk.lines).hexdigest())
                ref = known if known is not None else self._packs.add(0, chunk.lines)
                entries.append(Entry(ref, chunk.rows, chunk.first, chunk.last))
                counts.rows += chunk.rows
                counts.chunks += 1
                counts.chunks_copied += known is None
            ref = self._list(entries)
            rows = sum(entry.rows for entry in entries)
            copies.append(TableCopy(form.name, form.columns, form.key, rows, ref))
            if form.name == CONTENT:
                blobs = entries
        self._counts.rows += counts.rows
        self._counts.chunks += counts.chunks
        self._counts.chunks_copied += counts.chunks_copied
        return _Copied(StoreCopy(source.name, step, at, tuple(copies)), blobs)

    def _entries_before(self, store: str, table: str) -> dict[str, Ref]:
        """The chunks that the table had in the backup before, by hash."""
        if self._before is None:
            return {}
        try:
            listed = self._before.store(store).table(table).chunks
        except NotFound:
            return {}  # a table of a newer release
        return {entry.ref.sha256: entry.ref for entry in self._repository.entries(listed)}

    def _list(self, entries: Sequence[Entry]) -> Ref:
        return self._packs.add(0, encode_entries(entries))

    # --- content ----------------------------------------------------------------------------

    async def _content(self, mail: Database, listed: Sequence[Entry]) -> Content:
        places: list[Entry] = []
        for entry in listed:
            known = self._known.places_of(entry.ref.sha256)
            places.append(known if known is not None else await self._chunk(mail, entry))
        counts = self._counts
        counts.blobs = sum(entry.rows for entry in places)
        counts.octets = sum(entry.octets for entry in places)
        ref = await self._step(self._list, places)
        return Content(counts.blobs, counts.octets, ref)

    def _rows(self, entry: Entry) -> list[_Row]:
        """The blobs of a chunk that have content of their own."""
        names = [name for name, _ in self._columns]
        at = [names.index(name) for name in _Row._fields]
        rows = [
            _Row(*(values[n] for n in at))
            for values in decode(self._columns, self._repository.packs.read(entry.ref))
        ]
        return [row for row in rows if row.place != Place.ROPE]

    async def _chunk(self, mail: Database, entry: Entry) -> Entry:
        """Copy what is new among the blobs of a chunk, and say where each lies."""
        rows = await self._step(self._rows, entry)
        places = await self._step(self._known.find, entry, rows)
        new = [row for row in rows if row.id not in places]
        for batch in _batches(new):
            places.update(await self._copy(mail, batch))
        octets = sum(row.size for row in rows)
        return await self._step(self._place, entry, [places[row.id] for row in rows], octets)

    def _place(self, entry: Entry, places: Sequence[Kept], octets: int) -> Entry:
        ref = self._packs.add(0, encode_places(places))
        problems = sum(bool(place.why) for place in places)
        return Entry(ref, len(places), entry.first, entry.last, octets, problems)

    async def _copy(self, mail: Database, batch: Sequence[_Row]) -> dict[int, Kept]:
        if batch[0].size > PIECE:
            (row,) = batch
            return {row.id: await self._large(mail, row)}
        found = await mail.read_much(_contents, self._blobs, [row.id for row in batch])
        return await self._step(self._pack, batch, found)

    def _pack(self, batch: Sequence[_Row], found: dict[int, bytes | MailError]) -> dict[int, Kept]:
        places: dict[int, Kept] = {}
        for row in batch:
            content = found.get(row.id)
            if isinstance(content, bytes):
                places[row.id] = self._compared(row, self._packs.add(row.id, content))
            else:
                places[row.id] = self._lost(row, content)
        return places

    async def _large(self, mail: Database, row: _Row) -> Kept:
        """A content that is not held in memory."""
        self._packs.begin(row.id)
        try:
            for start in range(0, row.size, PIECE):
                piece = await mail.read_much(_piece, self._blobs, row.id, start)
                await self._step(self._packs.feed, piece)
        except MailError as error:
            await self._step(self._packs.end)  # what came of it: nothing refers to it
            return self._lost(row, error)
        return self._compared(row, await self._step(self._packs.end))

    def _compared(self, row: _Row, ref: Ref) -> Kept:
        self._counts.blobs_copied += 1
        self._counts.octets_copied += row.size
        if ref.sha256 == row.sha256.hex():
            return Kept(row.id, ref)
        self._problem(f"blob {external(BLOB, row.id)}: its content has another hash")
        return Kept(row.id, ref, DAMAGED)

    def _lost(self, row: _Row, error: MailError | None) -> Kept:
        if error is None and row.orphan_since is not None:
            return Kept(row.id, None, GONE)  # nothing referred to it, and the sweeper was there
        reason = (error.detail or str(error)) if error is not None else "it is gone"
        self._problem(f"blob {external(BLOB, row.id)}: {reason}")
        return Kept(row.id, None, DAMAGED)

    def _problem(self, text: str) -> None:
        if len(self._problems) < PROBLEMS_LISTED:
            self._problems.append(text)

    # --- files ------------------------------------------------------------------------------

    def _files(self, extras: Sequence[Extra]) -> tuple[KeptFile, ...]:
        files = self._repository.files
        kept = []
        for extra in extras:
            for name in files.listdir(extra.path):
                path = os.path.join(extra.path, name)
                if name.startswith(".") or is_unfinished(name) or not os.path.isfile(path):
                    continue
                if files.size(path) > FILE_MOST:
                    self._problem(f"{extra.name}/{name} is too large to be kept")
                    continue
                content = files.read(path, 0, FILE_MOST)
                kept.append(KeptFile(extra.name, name, self._packs.add(0, content)))
        return tuple(kept)


class _Copied(NamedTuple):
    """A store's tables, and the list of its chunks of blobs if it has them."""

    store: StoreCopy
    blobs: list[Entry] | None


def _columns(source: Source) -> tuple[tuple[str, str], ...]:
    return next(form.columns for form in source.forms if form.name == CONTENT)


def _batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """In order; a large one alone."""
    batch: list[_Row] = []
    octets = 0
    for row in rows:
        full = len(batch) >= BATCH_BLOBS or octets + row.size > BATCH_OCTETS
        if batch and (full or row.size > PIECE):
            yield batch
            batch, octets = [], 0
        batch.append(row)
        octets += row.size
        if row.size > PIECE:
            yield batch
            batch, octets = [], 0
    if batch:
        yield batch


def _contents(tx: Tx, blobs: Blobs, ids: Sequence[int]) -> dict[int, bytes | MailError]:
    """The content of these blobs; one that is gone is not in it, one that is damaged says how."""
    found: dict[int, bytes | MailError] = {}
    for blob, sha256, size, stored, place, table, data in tx.all(tables.CONTENTS, ids=ids):
        if place == Place.ROW and not table and data is not None and len(data) == size:
            found[blob] = data
            continue
        try:
            known = Facts(blob, sha256, size, stored, Place(place), table)
            found[blob] = blobs.read_facts(tx, known)
        except MailError as error:
            found[blob] = error
    return found


def _piece(tx: Tx, blobs: Blobs, blob: int, start: int) -> bytes:
    return blobs.read_facts(tx, facts(tx, blob), start, PIECE)


# --- what is there already ------------------------------------------------------------------------


class _Known:
    """Content that need not be copied: of the backup before, and of runs that were killed.

    Ids may mean something else in another store, so a content is known by id, hash and size.
    """

    def __init__(self, repository: Repository, before: Manifest | None) -> None:
        self._repository = repository
        self._entries: list[Entry] = []
        self._places: dict[str, Entry] = {}
        self._killed: list[tuple[int, int, int]] = []  # first id, last id, pack
        # Chunks follow each other, so the next one often needs what this one needed.
        self._of_entry = lru_cache(4)(self._read_entry)
        self._of_pack = lru_cache(4)(self._read_pack)
        if before is None:
            return
        self._entries = repository.entries(before.content.places)
        listed = repository.entries(before.blobs().chunks)
        for chunk, entry in zip(listed, self._entries, strict=True):
            if not entry.problems:
                self._places[chunk.ref.sha256] = entry

    def take_over(self, pack: int) -> None:
        """A pack of a run that did not come to its end."""
        try:
            ids = list(self._of_pack(pack))
        except MailError:
            return  # damaged: it is not used, and `forget` removes it
        if ids:
            self._killed.append((min(ids), max(ids), pack))

    def places_of(self, chunk: str) -> Entry | None:
        """The places of a chunk of blobs that did not change."""
        return self._places.get(chunk)

    def find(self, entry: Entry, rows: Sequence[_Row]) -> dict[int, Kept]:
        """Of these blobs, those whose content is there."""
        found: dict[int, Kept] = {}
        for known in self._near(entry.first[0], entry.last[0]):
            for row in rows:
                ref = known.get(row.id)
                if ref is not None and (ref.sha256, ref.size) == (row.sha256.hex(), row.size):
                    found[row.id] = Kept(row.id, ref)
        return found

    def _near(self, first: int, last: int) -> Iterator[Mapping[int, Ref]]:
        for entry in overlapping(self._entries, (first,), (last,)):
            yield self._of_entry(entry)
        for begin, end, pack in self._killed:
            if begin <= last and end >= first:
                yield self._of_pack(pack)

    def _read_entry(self, entry: Entry) -> Mapping[int, Ref]:
        places = decode_places(self._repository.packs.read(entry.ref))
        return {kept.blob: kept.ref for kept in places if kept.ref is not None}

    def _read_pack(self, pack: int) -> Mapping[int, Ref]:
        objects = self._repository.packs.index(pack).objects
        return {each.blob: each.ref for each in objects if each.blob}
