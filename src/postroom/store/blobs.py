"""Blobs: immutable content, kept as a row, a file, or a rope of slices of other blobs.

Content is made durable in two steps: a large one is written and fsynced as a file before the
unit (`Blobs.make`, `Spool.finish`), then `insert` runs in the unit. If the unit fails, the file
is an orphan that the sweeper removes a day later. Reading is by range.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt, NotFound
from postroom.core.ids import BLOB, Ids, external
from postroom.store import frames, tables
from postroom.store.files import Files, NewFile
from postroom.store.sql import Row, Tx

ROW_LIMIT: Final = 64 * 1024
"""Content up to this lies in the database: one fsync serves row and content."""

PACKED: Final = ".z"
"""What ends the name of a file that holds its content as zstd frames."""

SPOOL_LIMIT: Final = 256 * 1024
"""A message under reception stays in memory up to this."""


class Place(IntEnum):
    """Where the content lies."""

    ROW = 0
    FILE = 1
    ROPE = 2


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a rope: `length` octets of `blob` from `start`."""

    blob: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class NewBlob:
    """Content that is ready for `insert`: in memory, in a durable file, or a rope."""

    id: int
    sha256: bytes
    size: int
    place: Place
    data: bytes | None = None
    parts: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a blob's row says of it, without the content."""

    id: int
    sha256: bytes
    size: int
    stored: int
    place: Place
    frames: bytes | None


def insert(tx: Tx, blob: NewBlob, now: Instant) -> None:
    """Make the blob part of the store. Its references follow in the same unit."""
    tx.run(
        tables.INSERT_BLOB,
        id=blob.id,
        sha256=blob.sha256,
        size=blob.size,
        stored=blob.size if blob.place is not Place.ROPE else 0,
        place=int(blob.place),
        now=now,
        data=blob.data,
    )
    if blob.parts:
        tx.many(
            tables.INSERT_PART,
            [
                {"rope": blob.id, "n": n, "part": p.blob, "start": p.start, "length": p.length}
                for n, p in enumerate(blob.parts)
            ],
        )


def reuse(tx: Tx, blob: int) -> None:
    """Take the sweeper's mark off a blob that gets a new reference."""
    tx.run(tables.CLEAR_ORPHAN, id=blob)


def facts(tx: Tx, blob: int) -> Facts:
    """The blob's row; raises NotFound."""
    row = tx.one(tables.BLOB_FACTS, id=blob)
    if row is None:
        raise NotFound(detail=f"blob {external(BLOB, blob)}")
    sha256, size, stored, place, table = row
    return Facts(blob, sha256, size, stored, Place(place), table)


class Spool:
    """A message under reception: in memory at first, in a file beyond SPOOL_LIMIT."""

    __slots__ = ("_blobs", "_file", "_hash", "_held", "eight_bit", "size")

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._held: list[bytes] = []
        self._file: NewFile | None = None
        self._hash: hashlib._Hash | None = None  # of what is in the file
        self.size = 0
        self.eight_bit = False  # whether it holds an octet above 127

    def write(self, data: bytes) -> None:
        """Take more content; raises StoreFull or StoreFailed from the file layer."""
        self.size += len(data)
        self.eight_bit = self.eight_bit or not data.isascii()
        if self._file is None:
            self._held.append(data)
            if self.size <= SPOOL_LIMIT:
                return
            self._file = self._blobs.new_file()
            self._hash = hashlib.sha256()
            data = b"".join(self._held)
            self._held.clear()
        assert self._hash is not None  # it begins with the file
        self._hash.update(data)
        self._file.write(data)

    @property
    def in_file(self) -> bool:
        return self._file is not None

    def content(self) -> bytes:
        """All of it, in memory."""
        if self._file is not None:
            return self._file.read(0, self.size)
        joined = b"".join(self._held)
        self._held = [joined]
        return joined

    def head(self, size: int) -> bytes:
        """The first octets."""
        if self._file is not None:
            return self._file.read(0, min(size, self.size))
        return self.content()[:size]

    def sha256(self) -> bytes:
        """Of what is held in memory only if somebody asks: it is kept in other forms."""
        if self._hash is None:
            return hashlib.sha256(self.content()).digest()
        return self._hash.digest()

    def take_file(self) -> NewFile | None:
        """Hand the file over to who makes it durable."""
        taken, self._file = self._file, None
        return taken

    def drop(self) -> None:
        """Forget the content; may be called at any time, more than once."""
        self._held.clear()
        if self._file is not None:
            self._file.drop()
            self._file = None


@dataclass(frozen=True, slots=True)
class Form:
    """What becomes of a content: octets put before it, and ranges of it left out.

    `cuts` are (start, end) in order, not overlapping.
    """

    prefix: bytes = b""
    cuts: tuple[tuple[int, int], ...] = ()

    def of(self, content: bytes) -> bytes:
        """The content in this form."""
        if not self.cuts:
            return self.prefix + content
        kept = (content[start:end] for start, end in self.kept(len(content)))
        return b"".join((self.prefix, *kept))

    def kept(self, size: int) -> Iterator[tuple[int, int]]:
        """The ranges of a content of that size that stay; none is empty."""
        at = 0
        for start, end in self.cuts:
            if at < start:
                yield at, start
            at = end
        if at < size:
            yield at, size


@dataclass(frozen=True, slots=True)
class Finished:
    """A content that is ready: every blob to `insert`, in order, and the whole of each form."""

    stored: tuple[NewBlob, ...]
    wholes: tuple[NewBlob, ...]


class Blobs:
    """Makes and reads blobs. One for each worker."""

    def __init__(self, folder: str, files: Files, ids: Ids) -> None:
        self.folder = folder
        self.files = files
        self._ids = ids

    def path(self, blob: int, sha256: bytes, *, compressed: bool) -> str:
        """The file of a blob with Place.FILE."""
        name = external(BLOB, blob) + (PACKED if compressed else "")
        return os.path.join(self.folder, f"{sha256[0]:02x}", name)

    def new_file(self) -> NewFile:
        """A fresh spool file; a crash leaves it to the sweeper."""
        return self.files.create(os.path.join(self.folder, "new", external(BLOB, self._ids.new())))

    def spool(self) -> Spool:
        return Spool(self)

    async def make(self, content: bytes) -> NewBlob:
        """Ready `content` for `insert`; a large one is on disk when this returns."""
        blob = self._ids.new()
        if len(content) <= ROW_LIMIT:
            digest = hashlib.sha256(content).digest()
            return NewBlob(blob, digest, len(content), Place.ROW, content)
        return await asyncio.to_thread(self._make_file, blob, content)

    def _make_file(self, blob: int, content: bytes) -> NewBlob:
        digest = hashlib.sha256(content).digest()
        self.files.write_durably(self.path(blob, digest, compressed=False), [content])
        return NewBlob(blob, digest, len(content), Place.FILE)

    async def finish(self, spool: Spool, forms: Sequence[Form]) -> Finished:
        """Ready the spooled content for `insert`, in one form or several.

        A spool in memory becomes one blob for each form. One in a file is not written again:
        each form is a rope of its prefix and of what it keeps of the file, which is fsynced when
        this returns; a form that changes nothing is the file alone.
        """
        file = spool.take_file()
        if file is None:
            content = spool.content()
            made = tuple([await self.make(form.of(content)) for form in forms])
            return Finished(made, made)
        body = NewBlob(self._ids.new(), spool.sha256(), spool.size, Place.FILE)
        digests = await asyncio.to_thread(self._keep, file, body, forms)
        stored = [body]
        wholes = []
        for form, digest in zip(forms, digests, strict=True):
            if not form.prefix and not form.cuts:
                wholes.append(body)
                continue
            parts = tuple(Slice(body.id, start, end - start) for start, end in form.kept(body.size))
            if form.prefix:
                own = await self.make(form.prefix)
                stored.append(own)
                parts = (Slice(own.id, 0, own.size), *parts)
            size = sum(part.length for part in parts)
            rope = NewBlob(self._ids.new(), digest, size, Place.ROPE, None, parts)
            stored.append(rope)
            wholes.append(rope)
        return Finished(tuple(stored), tuple(wholes))

    def _keep(self, file: NewFile, body: NewBlob, forms: Sequence[Form]) -> list[bytes]:
        """Make the file durable; the digest of each form of it."""
        digests = []
        for form in forms:
            if not form.prefix and not form.cuts:
                digests.append(body.sha256)
                continue
            whole = hashlib.sha256(form.prefix)
            for start, end in form.kept(file.size):
                for at in range(start, end, 1 << 20):
                    whole.update(file.read(at, min(1 << 20, end - at)))
            digests.append(whole.digest())
        file.keep(self.path(body.id, body.sha256, compressed=False))
        return digests

    # --- reading, inside a read unit ---------------------------------------------------------

    def read(self, tx: Tx, blob: int, start: int = 0, length: int | None = None) -> bytes:
        """A range of the content, all of it by default.

        Raises NotFound, or Corrupt if what lies there is shorter than its row says.
        """
        if length is None and start == 0:
            # The usual case, in one statement: a small raw row.
            row = tx.one(tables.BLOB_FACTS, id=blob)
            if row is not None and row[3] == Place.ROW and not row[4]:
                return self._row(tx, blob, row)
        return self.read_facts(tx, facts(tx, blob), start, length)

    def _row(self, tx: Tx, blob: int, row: Row) -> bytes:
        data = tx.one(tables.BLOB_DATA, id=blob)
        if data is None or data[0] is None or len(data[0]) != row[1]:
            raise Corrupt(detail=f"blob {external(BLOB, blob)} has lost its content")
        return bytes(data[0])

    def read_facts(self, tx: Tx, known: Facts, start: int = 0, length: int | None = None) -> bytes:
        """`read` for a caller who has the row already."""
        wanted = known.size - start if length is None else min(length, known.size - start)
        if wanted <= 0:
            return b""
        if known.place is Place.ROPE:
            got = b"".join(self._rope(tx, known.id, start, wanted))
        elif known.frames:
            reader = self._stored_reader(tx, known)
            got = frames.read(known.frames, reader, known.size, start, wanted)
        else:
            got = self._stored_reader(tx, known)(start, wanted)
        if len(got) != wanted:
            raise Corrupt(detail=f"blob {external(BLOB, known.id)}: {len(got)} of {wanted} octets")
        return got

    def _rope(self, tx: Tx, rope: int, start: int, length: int) -> Iterator[bytes]:
        end = start + length
        at = 0
        for part, part_start, part_length in tx.all(tables.BLOB_PARTS, id=rope):
            lo, hi = max(start, at), min(end, at + part_length)
            if lo < hi:
                # A rope's parts are rows and files: ropes are made of own bytes and slices of
                # what was stored whole, so this does not go deeper.
                inner = facts(tx, part)
                if inner.place is Place.ROPE:
                    raise Corrupt(detail=f"rope {external(BLOB, rope)} holds a rope")
                yield self.read_facts(tx, inner, part_start + lo - at, hi - lo)
            at += part_length

    def _stored_reader(self, tx: Tx, known: Facts) -> Callable[[int, int], bytes]:
        if known.place is Place.FILE:
            path = self.path(known.id, known.sha256, compressed=bool(known.frames))
            if not known.frames:
                return lambda offset, length: self._raw_file(known, path, offset, length)
            return lambda offset, length: self.files.read(path, offset, length)

        def from_row(offset: int, length: int) -> bytes:
            row = tx.one(tables.BLOB_SLICE, id=known.id, first=offset + 1, length=length)
            return bytes(row[0]) if row is not None and row[0] is not None else b""

        return from_row

    def _raw_file(self, known: Facts, path: str, offset: int, length: int) -> bytes:
        try:
            return self.files.read(path, offset, length)
        except Corrupt:
            # Recompression may have replaced it after this snapshot, or these facts, were taken.
            packed = self.path(known.id, known.sha256, compressed=True)
            if not self.files.exists(packed):
                raise

        def reader(at: int, count: int) -> bytes:
            return self.files.read(packed, at, count)

        table = frames.table_of(self.files.size(packed), known.size, reader)
        return frames.read(table, reader, known.size, offset, length)

    def hashed(self, tx: Tx, known: Facts) -> bytes:
        """The SHA-256 of the content as it lies there, read in pieces."""
        digest = hashlib.sha256()
        for start in range(0, known.size, 1 << 20):
            digest.update(self.read_facts(tx, known, start, 1 << 20))
        return digest.digest()

    def remove_files(self, removed: Sequence[Facts]) -> None:
        """Unlink the files of blobs whose rows are gone."""
        for known in removed:
            if known.place is Place.FILE:
                for compressed in (False, True):
                    path = self.path(known.id, known.sha256, compressed=compressed)
                    if self.files.exists(path):
                        self.files.unlink(path)
