"""Packs: files of compressed content, each object with its SHA-256.

A pack is zstd frames of at most FRAME octets of content, and then its index in a frame that
decompressors pass over (RFC 8878 §3.1.2): `zstd -dc` gives all content of a pack, one after the
other. Small objects share a frame; a large one goes through several. A pack is written under
another name, fsynced once and then renamed: what has a pack's name is whole.

The index is JSON, compressed: the end of each frame in the file, and each object as [blob, hash,
frame, start, size]; blob is 0 for what is no blob's content. It ends with its length, its hash
and a mark. Objects are read through the references that manifests hold; the index is for
verifying, and for a run that takes over what a killed one has packed.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson
import zstandard

from postroom.core.errors import Corrupt
from postroom.store.files import Files, NewFile

FRAME: Final = 1 << 20
"""Octets of content in a frame."""

PACK: Final = 64 << 20
"""Octets of a pack file, about."""

MOST_OBJECTS: Final = 50_000
"""Objects in a pack: its index is held in memory."""

NEW: Final = "new"
FOLDER: Final = "packs"
SUFFIX: Final = ".pack"

_LEVEL: Final = 3
_SKIPPABLE: Final = 0x184D2A50  # RFC 8878 §3.1.2
_MARK: Final = b"postroom"
_TAIL: Final = struct.Struct("<Q32s8s")
_INDEX_MOST: Final = 64 << 20
_FRAMES_KEPT: Final = 8
_INDEXES_KEPT: Final = 4


class Ref(NamedTuple):
    """Where an object lies. Equal content has an equal hash, and may lie at several places."""

    sha256: str
    pack: int
    frame: int
    start: int
    size: int


def reference(told: Any) -> Ref:
    """A reference as JSON kept it; raises Corrupt."""
    if isinstance(told, list) and len(told) == len(Ref._fields):
        sha256, *numbers = told
        if _is_hash(sha256) and all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            return Ref(*told)
    raise Corrupt("The backup is damaged: a reference is none")


def _is_hash(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and text.isalnum()


class Object(NamedTuple):
    """An object as a pack's index names it."""

    blob: int
    ref: Ref


class Index(NamedTuple):
    """What a pack's end says of it."""

    ends: Sequence[int]
    objects: Sequence[Object]


def pack_path(root: str, pack: int) -> str:
    return os.path.join(root, FOLDER, f"{pack:08d}{SUFFIX}")


class PackWriter:
    """Writes packs, one after the other. Blocks; for one thread at a time."""

    def __init__(self, files: Files, root: str, first: int) -> None:
        """`first` is the number of the first pack; every one from there on is free."""
        self._files = files
        self._root = root
        self._next = first
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
        self._file: NewFile | None = None
        self._ends: list[int] = []
        self._objects: list[tuple[int, str, int, int, int]] = []
        self._raw = bytearray()
        self._blob = self._frame = self._start = self._size = 0
        self._digest = hashlib.sha256()
        self.stored = 0
        """Octets that went into packs."""

    @property
    def last(self) -> int:
        """The number of the newest pack that is whole; one below `first` if there is none."""
        return self._next - 1

    def add(self, blob: int, content: bytes) -> Ref:
        """Keep an object; it is durable once the pack is sealed."""
        if self._raw and len(self._raw) + len(content) > FRAME:
            self._flush()  # so that a small object needs one frame to be read
        self.begin(blob)
        self.feed(content)
        return self.end()

    def begin(self, blob: int) -> None:
        """An object of unknown size: `feed` its content, then `end` it."""
        self._blob, self._frame, self._start, self._size = blob, len(self._ends), len(self._raw), 0
        self._digest = hashlib.sha256()

    def feed(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._raw += piece
        self._size += len(piece)
        while len(self._raw) >= FRAME:
            self._write(bytes(self._raw[:FRAME]))
            del self._raw[:FRAME]

    def end(self) -> Ref:
        ref = Ref(self._digest.hexdigest(), self._next, self._frame, self._start, self._size)
        self._objects.append((self._blob, ref.sha256, ref.frame, ref.start, ref.size))
        if (self._ends and self._ends[-1] >= PACK) or len(self._objects) >= MOST_OBJECTS:
            self.seal()
        return ref

    def seal(self) -> None:
        """Make durable what was added."""
        if not self._objects:
            return
        self._flush()
        index = {"ends": self._ends, "objects": self._objects}
        packed = self._compressor.compress(orjson.dumps(index))
        tail = _TAIL.pack(len(packed), hashlib.sha256(packed).digest(), _MARK)
        head = struct.pack("<II", _SKIPPABLE, len(packed) + len(tail))
        file = self._open()
        file.write(head + packed + tail)
        self.stored += len(head) + len(packed) + len(tail)
        file.keep(pack_path(self._root, self._next))
        self._next += 1
        self._file = None
        self._ends = []
        self._objects = []

    def drop(self) -> None:
        """Forget what is not sealed; may be called at any time, more than once."""
        if self._file is not None:
            self._file.drop()
            self._file = None

    def _flush(self) -> None:
        if self._raw:
            self._write(bytes(self._raw))
            self._raw.clear()

    def _write(self, raw: bytes) -> None:
        frame = self._compressor.compress(raw)
        self._open().write(frame)
        self.stored += len(frame)
        self._ends.append((self._ends[-1] if self._ends else 0) + len(frame))

    def _open(self) -> NewFile:
        if self._file is None:
            name = f"{self._next:08d}{SUFFIX}"
            self._file = self._files.create(os.path.join(self._root, NEW, name))
        return self._file


class Packs:
    """Reads packs. Every object is compared with its hash before its last octet is given."""

    def __init__(self, files: Files, root: str) -> None:
        self._files = files
        self._root = root
        self._decompressor = zstandard.ZstdDecompressor()
        self.index = lru_cache(_INDEXES_KEPT)(self._index)
        """The index of a pack; raises Corrupt."""
        self.frame = lru_cache(_FRAMES_KEPT)(self._frame)
        """The content of a frame, given pack and number; raises Corrupt."""

    def numbers(self) -> list[int]:
        """The packs that are there, ascending."""
        names = self._files.listdir(os.path.join(self._root, FOLDER))
        stems = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())

    def size(self, pack: int) -> int:
        """Octets of the pack's file; raises Corrupt if it is not there."""
        return self._files.size(pack_path(self._root, pack))

    def read(self, ref: Ref) -> bytes:
        """A whole object; raises Corrupt."""
        return b"".join(self.pieces(ref))

    def pieces(self, ref: Ref) -> Iterator[bytes]:
        """An object piece by piece; raises Corrupt, if the hash is another then at the end."""
        digest = hashlib.sha256()
        left, start = ref.size, ref.start
        frame = ref.frame
        while left > 0:
            content = self.frame(ref.pack, frame)
            piece = content[start : start + left] if start or left < len(content) else content
            if not piece:
                raise Corrupt(detail=f"pack {ref.pack}, frame {frame}: an object is not there")
            digest.update(piece)
            left -= len(piece)
            start = 0
            frame += 1
            if left <= 0 and digest.hexdigest() != ref.sha256:
                break
            yield piece
        if digest.hexdigest() != ref.sha256:
            raise Corrupt(detail=f"pack {ref.pack}, frame {ref.frame}: an object has another hash")

    def _frame(self, pack: int, number: int) -> bytes:
        ends = self.index(pack).ends
        if number >= len(ends):
            raise Corrupt(detail=f"pack {pack} has no frame {number}")
        start = ends[number - 1] if number else 0
        stored = self._files.read(pack_path(self._root, pack), start, ends[number] - start)
        try:
            # A frame states its size: the bound is checked before anything is expanded.
            if not 0 < zstandard.frame_content_size(stored) <= FRAME:
                raise Corrupt(detail=f"pack {pack}, frame {number}: its size is not allowed")
            return self._decompressor.decompress(stored)
        except zstandard.ZstdError as error:
            raise Corrupt(detail=f"pack {pack}, frame {number}: {error}") from error

    def _index(self, pack: int) -> Index:
        path = pack_path(self._root, pack)
        size = self._files.size(path)
        tail = self._files.read(path, max(0, size - _TAIL.size), _TAIL.size)
        if len(tail) != _TAIL.size:
            raise Corrupt(detail=f"pack {pack} is cut short")
        length, digest, mark = _TAIL.unpack(tail)
        if mark != _MARK or length > min(size, _INDEX_MOST):
            raise Corrupt(detail=f"pack {pack} has no index")
        packed = self._files.read(path, size - _TAIL.size - length, length)
        if hashlib.sha256(packed).digest() != digest:
            raise Corrupt(detail=f"pack {pack}: its index has another hash")
        try:
            if not 0 < zstandard.frame_content_size(packed) <= _INDEX_MOST:
                raise Corrupt(detail=f"pack {pack}: its index is too large")
            told = orjson.loads(self._decompressor.decompress(packed))
            objects = [
                Object(blob, reference([sha256, pack, frame, start, octets]))
                for blob, sha256, frame, start, octets in told["objects"]
            ]
            ends = told["ends"]
        except (zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
            raise Corrupt(detail=f"pack {pack}: its index cannot be read: {error}") from error
        if not _ascend(ends, size):
            raise Corrupt(detail=f"pack {pack}: its frames do not follow each other")
        return Index(ends, objects)


def _ascend(ends: Any, most: int) -> bool:
    if not isinstance(ends, list) or not all(type(end) is int for end in ends):
        return False
    starts = [0, *ends[:-1]]
    bounds = zip(starts, ends, strict=True) if ends else ()
    return all(a < b <= min(most, a + 2 * FRAME) for a, b in bounds)
