"""Proving a repository against its hashes: every pack once, then every reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from postroom.core.errors import MailError
from postroom.core.ids import BLOB, external
from postroom.store.backup.packs import Index, Ref
from postroom.store.backup.repository import (
    LATEST,
    Manifest,
    Repository,
    decode_places,
)
from postroom.store.backup.rows import decode

WORST: Final = 1_000
"""Problems that are listed; beyond them only the count grows."""

Spot = tuple[int, int, int]
"""An object within its pack: frame, start, size."""


@dataclass(slots=True)
class Verified:
    """What was looked at, and what is wrong."""

    backups: int = 0
    packs: int = 0
    objects: int = 0
    octets: int = 0  # of content
    stored: int = 0  # of files
    found: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        self.found += 1
        if len(self.problems) < WORST:
            self.problems.append(text)


def verify(repository: Repository, name: str = "") -> Verified:
    """Look at one backup, or at all. Blocks; call it within `reading`. Raises NotFound."""
    run = _Run(repository)
    names = repository.names() if not name else [repository.choose(name).name]
    if not names:
        repository.choose(LATEST)  # says that there is none
    for each in names:
        run.backup(each)
    return run.report


class _Run:
    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._packs = repository.packs
        self.report = Verified()
        self._looked: dict[int, frozenset[Spot] | None] = {}  # pack: what is damaged; None: all
        self._seen: set[Ref] = set()
        self._where = lru_cache(4)(self._places)

    def backup(self, name: str) -> None:
        """Everything that a backup refers to."""
        report = self.report
        report.backups += 1
        try:
            manifest = self._repository.manifest(name)
        except MailError as error:
            report.problem(f"backup {name}: {error.detail or error}")
            return
        for text in manifest.problems:
            report.problem(f"backup {name}: when it was made, {text}")
        for store in manifest.stores:
            for table in store.tables:
                self._table(manifest, f"{store.name}.{table.name}", table.chunks, table.rows)
        self._content(manifest)
        for file in manifest.files:
            self._sound(manifest, f"{file.folder}/{file.name}", file.ref)

    def _table(self, manifest: Manifest, what: str, listed: Ref, rows: int) -> None:
        if not self._sound(manifest, what, listed) or listed in self._seen:
            return
        self._seen.add(listed)
        entries = self._repository.entries(listed)
        if sum(entry.rows for entry in entries) != rows:
            self.report.problem(f"backup {manifest.name}: {what} does not hold {rows} rows")
        for entry in entries:
            if entry.ref not in self._seen and self._sound(manifest, what, entry.ref):
                self._seen.add(entry.ref)

    def _content(self, manifest: Manifest) -> None:
        """Each chunk of blobs has its places, and each place holds what its blob says."""
        listed = manifest.content.places
        if not self._sound(manifest, "the list of content", listed) or listed in self._seen:
            return
        self._seen.add(listed)
        table = manifest.blobs()
        try:
            chunks = self._repository.entries(table.chunks)
        except MailError:
            return  # it was named above
        places = self._repository.entries(listed)
        if len(chunks) != len(places):
            self.report.problem(f"backup {manifest.name}: content does not fit its table")
            return
        names = [name for name, _ in table.columns]
        sha256, number = names.index("sha256"), names.index("id")
        for chunk, entry in zip(chunks, places, strict=True):
            if entry.ref in self._seen or not self._sound(manifest, "content", entry.ref):
                continue
            self._seen.add(entry.ref)
            try:
                rows = decode(table.columns, self._packs.read(chunk.ref))
            except MailError:
                continue  # it was named above
            told = {row[number]: row[sha256].hex() for row in rows}
            for kept in decode_places(self._packs.read(entry.ref)):
                what = f"blob {external(BLOB, kept.blob)}"
                if kept.ref is None or kept.why:
                    continue  # the manifest says why
                if told.get(kept.blob) != kept.ref.sha256:
                    self.report.problem(f"backup {manifest.name}: {what} has another hash")
                else:
                    self._sound(manifest, what, kept.ref)

    def _sound(self, manifest: Manifest, what: str, ref: Ref) -> bool:
        """Whether a reference leads to sound content; says so if not."""
        damaged = self._pack(ref.pack)
        spot = (ref.frame, ref.start, ref.size)
        if damaged is None or spot in damaged:
            self.report.problem(f"backup {manifest.name}: {what} is damaged")
            return False
        if self._where(ref.pack).get(spot) != ref.sha256:
            self.report.problem(f"backup {manifest.name}: {what} is not where it should be")
            return False
        return True

    # --- packs ------------------------------------------------------------------------------

    def _pack(self, pack: int) -> frozenset[Spot] | None:
        """The damaged objects of a pack; each pack is read once."""
        if pack not in self._looked:
            try:
                self.report.stored += self._packs.size(pack)
                index = self._packs.index(pack)
            except MailError as error:
                self.report.problem(error.detail or str(error))
                self._looked[pack] = None
            else:
                self.report.packs += 1
                self._looked[pack] = self._objects(index)
        return self._looked[pack]

    def _objects(self, index: Index) -> frozenset[Spot]:
        """Hash every object, in the order in which they lie: each frame is expanded once."""
        damaged: set[Spot] = set()
        for each in index.objects:
            ref = each.ref
            self.report.objects += 1
            self.report.octets += ref.size
            try:
                for _ in self._packs.pieces(ref):
                    pass
            except MailError as error:
                self.report.problem(error.detail or str(error))
                damaged.add((ref.frame, ref.start, ref.size))
        return frozenset(damaged)

    def _places(self, pack: int) -> dict[Spot, str]:
        objects = self._packs.index(pack).objects
        return {(o.ref.frame, o.ref.start, o.ref.size): o.ref.sha256 for o in objects}
