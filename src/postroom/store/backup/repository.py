"""A folder of backups: its mark, its lock, its manifests, and what may be forgotten.

    repository.json      the mark, with the number of the form
    backups/NAME.json    a manifest: a line of JSON, and the SHA-256 of that line
    packs/NNNNNNNN.pack  content (`packs`)
    new/                 what is being written
    lock                 held by who writes; shared by who reads

A manifest is written last, so a backup without one does not exist. It refers to lists of chunks,
which are objects themselves: a manifest stays small.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import orjson

from postroom.core.clock import Instant, to_datetime
from postroom.core.errors import Corrupt, InUse, Misuse, NotFound, StoreFailed
from postroom.store.backup.packs import FOLDER, NEW, Packs, Ref, pack_path, reference
from postroom.store.backup.rows import CONTENT
from postroom.store.files import Files, is_unfinished

FORMAT: Final = 1
LATEST: Final = "latest"

_MARK: Final = "repository.json"
_LOCK: Final = "lock"
_IGNORED: Final = frozenset({_LOCK, "lost+found"})  # a disk of its own has the latter
_MANIFESTS: Final = "backups"
_NAME: Final = re.compile(r"\d{8}T\d{9}Z")
_MANIFEST_MOST: Final = 16 << 20


class Entry(NamedTuple):
    """A chunk in the list of a table, or the places of the content of a chunk of blobs."""

    ref: Ref
    rows: int
    first: tuple[Any, ...]
    last: tuple[Any, ...]
    octets: int = 0  # of content
    problems: int = 0  # content that was gone or damaged when it was copied


@dataclass(frozen=True, slots=True)
class TableCopy:
    """A table in a backup."""

    name: str
    columns: tuple[tuple[str, str], ...]  # name, kind: int, text, bytes
    key: tuple[str, ...]
    rows: int
    chunks: Ref  # a list of entries


@dataclass(frozen=True, slots=True)
class StoreCopy:
    """A store in a backup: one snapshot."""

    name: str  # mail, state
    step: int  # of the schema
    at: Instant
    tables: tuple[TableCopy, ...]

    def table(self, name: str) -> TableCopy:
        """Raises NotFound."""
        for each in self.tables:
            if each.name == name:
                return each
        raise NotFound(f"The backup has no table {name}")


@dataclass(frozen=True, slots=True)
class Content:
    """The content of blobs: `places` is a list of entries, one for each chunk of blobs."""

    blobs: int
    octets: int
    places: Ref


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A small file of the data directory."""

    folder: str
    name: str
    ref: Ref


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run did: what it copied, and what it found in the backup before."""

    seconds: float
    rows: int
    chunks: int
    chunks_copied: int
    blobs: int
    blobs_copied: int
    octets: int  # of all content
    octets_copied: int
    stored: int  # octets written to the repository


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup."""

    name: str
    made_at: Instant
    release: str
    stores: tuple[StoreCopy, ...]
    content: Content
    files: tuple[KeptFile, ...]
    taken: Taken
    problems: tuple[str, ...]
    last_pack: int  # packs above it are a later run's

    def store(self, name: str) -> StoreCopy:
        """Raises NotFound."""
        for each in self.stores:
            if each.name == name:
                return each
        raise NotFound(f"The backup has no store {name}")

    def blobs(self) -> TableCopy:
        """The table of blobs, in whichever store it is; raises NotFound."""
        for store in self.stores:
            for table in store.tables:
                if table.name == CONTENT:
                    return table
        raise NotFound("The backup has no table of blobs")

    def refs(self) -> Iterator[Ref]:
        """What it refers to itself; lists of entries refer further."""
        for store in self.stores:
            for table in store.tables:
                yield table.chunks
        yield self.content.places
        for file in self.files:
            yield file.ref

    def lists(self) -> Iterator[Ref]:
        """Those of `refs` that are lists of entries."""
        for store in self.stores:
            for table in store.tables:
                yield table.chunks
        yield self.content.places


class Repository:
    """A folder of backups. Every method blocks."""

    def __init__(self, root: str, files: Files) -> None:
        self.root = root
        self.files = files
        self.packs = Packs(files, root)

    # --- opening ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Make the folder if need be, and keep all others out; what a dead run left goes.

        Raises Misuse if the folder holds other things, InUse.
        """
        names = self.files.listdir(self.root)
        if _MARK not in names:
            if [name for name in names if name not in _IGNORED and not is_unfinished(name)]:
                raise Misuse(f"{self.root} holds other things: name an empty folder, or a new one")
            self.files.write_durably(os.path.join(self.root, _MARK), [_mark()])
        self._check_mark()
        with _locked(os.path.join(self.root, _LOCK), fcntl.LOCK_EX):
            for folder in ("", NEW, _MANIFESTS, FOLDER):
                self._clear(os.path.join(self.root, folder), all_of=folder == NEW)
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep writers out. Raises NotFound if there are no backups, InUse."""
        if _MARK not in self.files.listdir(self.root):
            raise NotFound(f"There are no backups in {self.root}")
        self._check_mark()
        with _locked(os.path.join(self.root, _LOCK), fcntl.LOCK_SH):
            yield

    def _check_mark(self) -> None:
        try:
            told = orjson.loads(self.files.read(os.path.join(self.root, _MARK), 0, 4096))
            form = told["postroom backup"]
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{self.root}/{_MARK} cannot be read") from error
        if form != FORMAT:
            raise Misuse(f"{self.root} holds backups of form {form}; this release knows {FORMAT}")

    def _clear(self, folder: str, *, all_of: bool) -> None:
        for name in self.files.listdir(folder):
            if all_of or is_unfinished(name):
                self.files.unlink(os.path.join(folder, name))

    # --- manifests --------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The names of all backups, the oldest first."""
        listed = self.files.listdir(os.path.join(self.root, _MANIFESTS))
        stems = (name.removesuffix(".json") for name in listed if name.endswith(".json"))
        return sorted(stem for stem in stems if _NAME.fullmatch(stem))

    def choose(self, name: str = LATEST) -> Manifest:
        """A backup by name, or the latest; raises NotFound, Corrupt."""
        names = self.names()
        if name == LATEST and names:
            return self.manifest(names[-1])
        if name not in names:
            raise NotFound(f"There is no backup {name}" if names else "There is no backup yet")
        return self.manifest(name)

    def manifest(self, name: str) -> Manifest:
        """Raises Corrupt."""
        raw = self.files.read(self._manifest_path(name), 0, _MANIFEST_MOST)
        line, _, digest = raw.partition(b"\n")
        if hashlib.sha256(line).hexdigest().encode() != digest.strip():
            raise Corrupt(f"The backup {name} is damaged: its manifest has another hash")
        try:
            manifest = _manifest(orjson.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt(f"The backup {name} is damaged", detail=str(error)) from error
        if manifest.name != name:
            raise Corrupt(f"The backup {name} calls itself {manifest.name}")
        return manifest

    def publish(self, manifest: Manifest) -> None:
        """Make a backup exist: all that it refers to is durable."""
        line = orjson.dumps(asdict(manifest), default=list)  # references are named tuples
        digest = hashlib.sha256(line).hexdigest().encode()
        self.files.write_durably(self._manifest_path(manifest.name), [line + b"\n" + digest])

    def free_name(self, at: Instant) -> str:
        """A name for a backup of that moment."""
        taken = set(self.names())
        while (name := name_at(at)) in taken:
            at = Instant(at + 1)
        return name

    def _manifest_path(self, name: str) -> str:
        return os.path.join(self.root, _MANIFESTS, f"{name}.json")

    # --- lists ------------------------------------------------------------------------------

    def entries(self, ref: Ref) -> list[Entry]:
        """A list of chunks; raises Corrupt."""
        try:
            told = orjson.loads(self.packs.read(ref))
            return [
                Entry(reference(place), int(n), tuple(first), tuple(last), int(size), int(lost))
                for place, n, first, last, size, lost in told
            ]
        except (ValueError, TypeError) as error:
            raise Corrupt("The backup is damaged: a list cannot be read") from error

    # --- forgetting -------------------------------------------------------------------------

    def forget(self, keep: int) -> tuple[list[str], int]:
        """Remove all but the newest `keep` (>= 1) backups, and packs that nothing refers to.

        Returns the removed names, and the octets of packs that went. Call it within `writing`.
        """
        names = self.names()
        gone = names[:-keep]
        for name in gone:
            self.files.unlink(self._manifest_path(name))
        if gone:
            # The names must be gone from the disk before what they refer to goes.
            self.files.sync_directory(os.path.join(self.root, _MANIFESTS))
        live: set[int] = set()
        seen: set[Ref] = set()
        for name in names[-keep:]:
            live |= self._packs_of(self.manifest(name), seen)
        freed = 0
        for pack in self.packs.numbers():
            if pack not in live:
                freed += self.packs.size(pack)
                self.files.unlink(pack_path(self.root, pack))
        return gone, freed

    def _packs_of(self, manifest: Manifest, seen: set[Ref]) -> set[int]:
        live = {ref.pack for ref in manifest.refs()}
        for listed in manifest.lists():
            if listed in seen:
                continue
            seen.add(listed)
            for entry in self.entries(listed):
                live.add(entry.ref.pack)
                if listed == manifest.content.places and entry.ref not in seen:
                    seen.add(entry.ref)
                    places = decode_places(self.packs.read(entry.ref))
                    live |= {place.ref.pack for place in places if place.ref is not None}
        # A list that two backups share was looked at once: its packs are in the first's answer.
        return live


# --- where the content of blobs lies --------------------------------------------------------------


class Kept(NamedTuple):
    """A blob's content; without `ref` there is none, and `why` says how that came."""

    blob: int
    ref: Ref | None
    why: str = ""  # gone, damaged


def encode_places(places: Sequence[Kept]) -> bytes:
    """The places of a chunk of blobs, as an object is kept."""
    told = [[kept.blob, list(kept.ref) if kept.ref else None, kept.why] for kept in places]
    return orjson.dumps(told)


def decode_places(content: bytes) -> list[Kept]:
    """Raises Corrupt."""
    try:
        return [
            Kept(int(blob), reference(place) if place is not None else None, str(why))
            for blob, place, why in orjson.loads(content)
        ]
    except (ValueError, TypeError) as error:
        raise Corrupt("The backup is damaged: places cannot be read") from error


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """A list of chunks, as an object is kept."""
    return orjson.dumps([[list(e.ref), *e[1:]] for e in entries])


def overlapping(entries: Sequence[Entry], first: Any, last: Any) -> Sequence[Entry]:
    """The chunks that may hold keys from `first` to `last`; keys may be cut short.

    For keys of numbers: how an engine sorts texts is its own.
    """
    begin = bisect_left(entries, first, key=lambda e: e.last[: len(first)])
    end = begin
    while end < len(entries) and entries[end].first[: len(last)] <= last:
        end += 1
    return entries[begin:end]


def name_at(at: Instant) -> str:
    """20261122T183000123Z: names sort as their times do."""
    return to_datetime(at).strftime("%Y%m%dT%H%M%S") + f"{at % 1000:03d}Z"


def _mark() -> bytes:
    return orjson.dumps({"postroom backup": FORMAT})


def _manifest(told: Any) -> Manifest:
    return Manifest(
        name=str(told["name"]),
        made_at=Instant(told["made_at"]),
        release=str(told["release"]),
        stores=tuple(_store(each) for each in told["stores"]),
        content=Content(
            int(told["content"]["blobs"]),
            int(told["content"]["octets"]),
            reference(told["content"]["places"]),
        ),
        files=tuple(
            KeptFile(str(f["folder"]), str(f["name"]), reference(f["ref"])) for f in told["files"]
        ),
        taken=Taken(**told["taken"]),
        problems=tuple(map(str, told["problems"])),
        last_pack=int(told["last_pack"]),
    )


def _store(told: Any) -> StoreCopy:
    tables = tuple(
        TableCopy(
            name=str(table["name"]),
            columns=tuple((str(name), str(kind)) for name, kind in table["columns"]),
            key=tuple(map(str, table["key"])),
            rows=int(table["rows"]),
            chunks=reference(table["chunks"]),
        )
        for table in told["tables"]
    )
    return StoreCopy(str(told["name"]), int(told["step"]), Instant(told["at"]), tables)


@contextlib.contextmanager
def _locked(path: str, how: int) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT if how == fcntl.LOCK_EX else os.O_RDONLY
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        # A copy of a repository that nobody has written to: nobody keeps anybody out.
        yield
        return
    except OSError as error:
        raise StoreFailed(f"{path} cannot be opened", detail=str(error)) from error
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InUse("Another command works on these backups") from None
    except OSError as error:
        os.close(descriptor)
        raise StoreFailed(f"{path} cannot be locked", detail=str(error)) from error
    try:
        yield
    finally:
        os.close(descriptor)
