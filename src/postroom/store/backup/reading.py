"""Single rows and content out of a backup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt, NotFound
from postroom.core.ids import BLOB, external
from postroom.store.backup.packs import Packs, Ref
from postroom.store.backup.repository import (
    Entry,
    Kept,
    Manifest,
    Repository,
    TableCopy,
    decode_places,
    overlapping,
)
from postroom.store.backup.rows import CONTENT, decode
from postroom.store.blobs import Place

_PARTS: Final = "blob_part"

Record = dict[str, Any]
"""A row by the names of its columns."""


class Copy:
    """One store of one backup. Blocks; for one thread."""

    def __init__(self, repository: Repository, manifest: Manifest, store: str) -> None:
        """Raises NotFound if the backup has no such store."""
        self._repository = repository
        self._manifest = manifest
        self._store = manifest.store(store)
        self._packs: Packs = repository.packs
        self._entries = lru_cache(16)(repository.entries)
        # Whoever asks for content in the order of its ids needs a chunk many times in a row.
        self._decoded = lru_cache(8)(self._decode)
        self._keyed = lru_cache(8)(self._by_key)
        self._placed = lru_cache(8)(self._places_in)

    @property
    def name(self) -> str:
        """Of the backup."""
        return self._manifest.name

    @property
    def made_at(self) -> Instant:
        """When the backup began."""
        return self._manifest.made_at

    def every(self, table: str) -> Iterator[Record]:
        """All rows, in the order of their keys; raises NotFound, Corrupt."""
        copy = self._store.table(table)
        for entry in self._entries(copy.chunks):
            yield from _records(copy, decode(copy.columns, self._packs.read(entry.ref)))

    def between(self, table: str, first: Sequence[int], last: Sequence[int]) -> Iterator[Record]:
        """The rows whose keys, which are numbers, begin from `first` to `last`.

        Only the chunks that may hold them are read. Raises NotFound, Corrupt.
        """
        copy = self._store.table(table)
        low, high = tuple(first), tuple(last)
        for entry in overlapping(self._entries(copy.chunks), low, high):
            for record in _records(copy, self._decoded(copy, entry.ref)):
                key = tuple(record[name] for name in copy.key)
                if low <= key[: len(low)] and key[: len(high)] <= high:
                    yield record

    def at(self, table: str, keys: Iterable[int]) -> Iterator[Record]:
        """The rows with these keys of one number, those that are there; raises as `between`."""
        copy = self._store.table(table)
        for key in sorted(set(keys)):
            for entry in overlapping(self._entries(copy.chunks), (key,), (key,)):
                record = self._keyed(copy, entry.ref).get(key)
                if record is not None:
                    yield record

    def _by_key(self, copy: TableCopy, ref: Ref) -> dict[int, Record]:
        return {record[copy.key[0]]: record for record in _records(copy, self._decode(copy, ref))}

    def _decode(self, copy: TableCopy, ref: Ref) -> list[list[Any]]:
        return decode(copy.columns, self._packs.read(ref))

    # --- content ----------------------------------------------------------------------------

    def content(self, blob: int) -> bytes:
        """All of a blob; raises NotFound if there is none, Corrupt if it is damaged."""
        row = self._blob(blob)
        if row["place"] != Place.ROPE:
            return self._own(blob)
        pieces = []
        for part in self.between(_PARTS, (blob,), (blob,)):
            inner = part["part"]
            if self._blob(inner)["place"] == Place.ROPE:
                raise Corrupt(detail=f"rope {external(BLOB, blob)} holds a rope")
            start = part["start"]
            pieces.append(self._own(inner)[start : start + part["length"]])
        whole = b"".join(pieces)
        if len(whole) != row["size"]:
            raise Corrupt(detail=f"rope {external(BLOB, blob)} is not whole")
        return whole

    def _blob(self, blob: int) -> Record:
        for row in self.at(CONTENT, (blob,)):
            return row
        raise NotFound(f"The backup has no blob {external(BLOB, blob)}")

    def _own(self, blob: int) -> bytes:
        entries = self._entries(self._manifest.content.places)
        for entry in overlapping(entries, (blob,), (blob,)):
            kept = self._placed(entry).get(blob)
            if kept is not None and kept.ref is not None and not kept.why:
                return self._packs.read(kept.ref)
        raise Corrupt(detail=f"the backup has no content of {external(BLOB, blob)}")

    def _places_in(self, entry: Entry) -> dict[int, Kept]:
        return {kept.blob: kept for kept in decode_places(self._packs.read(entry.ref))}


def _records(copy: TableCopy, rows: Iterable[list[Any]]) -> Iterator[Record]:
    names = [name for name, _ in copy.columns]
    return (dict(zip(names, row, strict=True)) for row in rows)
