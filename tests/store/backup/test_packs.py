"""Packs by themselves: what is put in comes out, and what was changed does not."""

from __future__ import annotations

import hashlib
import random
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Corrupt
from postroom.store.backup import packs
from postroom.store.backup.packs import FRAME, Packs, PackWriter, Ref, pack_path, reference
from postroom.store.files import Files
from tests.store.backup.keeping import damage

SMALL = 1_000  # octets of a frame, for quick tests
_SIZES = st.one_of(st.integers(0, 300), st.integers(SMALL - 2, SMALL + 2), st.integers(0, 5_000))


def _content(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(64) * (size // 64 + 1)


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(_SIZES, min_size=1, max_size=8), pieces=st.integers(1, 2_000))
def test_objects_come_back_however_they_came(sizes: list[int], pieces: int) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs, "FRAME", SMALL)
        files = Files()
        writer = PackWriter(files, root, 1)
        kept: list[tuple[Ref, bytes]] = []
        for n, size in enumerate(sizes):
            content = _content(size, n)[:size]
            if n % 2:
                kept.append((writer.add(n, content), content))
                continue
            writer.begin(n)
            for start in range(0, size, pieces):
                writer.feed(content[start : start + pieces])
            kept.append((writer.end(), content))
        writer.seal()
        reader = Packs(files, root)
        random.Random(1).shuffle(kept)
        for ref, content in kept:
            assert reader.read(ref) == content
            assert ref.sha256 == hashlib.sha256(content).hexdigest()
            assert all(len(piece) <= SMALL for piece in reader.pieces(ref))
        index = reader.index(1)
        assert {o.ref for o in index.objects} == {ref for ref, _ in kept}
        # Any tool reads a pack: all content, one object after the other.
        raw = Path(pack_path(root, 1)).read_bytes()
        with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
            assert len(stream.read()) == sum(sizes)


def test_a_pack_is_sealed_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK", 1)
    writer = PackWriter(Files(), str(tmp_path), 5)
    refs = [writer.add(n, bytes([n]) * FRAME) for n in range(3)]
    writer.seal()
    assert [ref.pack for ref in refs] == [5, 6, 7]
    reader = Packs(Files(), str(tmp_path))
    assert reader.numbers() == [5, 6, 7]
    assert writer.last == 7
    assert writer.stored == sum(map(reader.size, reader.numbers()))
    assert [reader.read(ref)[0] for ref in refs] == [0, 1, 2]


def test_what_is_not_sealed_is_no_pack(tmp_path: Path) -> None:
    writer = PackWriter(Files(), str(tmp_path), 1)
    writer.add(1, b"x" * 3 * FRAME)
    assert list((tmp_path / "new").iterdir())
    writer.drop()
    writer.drop()
    assert not list((tmp_path / "new").iterdir())
    assert Packs(Files(), str(tmp_path)).numbers() == []


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    writer = PackWriter(Files(), str(tmp_path), 1)
    refs = [writer.add(n, _content(2_000, n)) for n in range(3)]
    writer.seal()
    path = Path(pack_path(str(tmp_path), 1))
    size = path.stat().st_size
    # One part is no content: the head of the frame that holds the index.
    ends = Packs(Files(), str(tmp_path)).index(1).ends
    for at in range(0, size, 7):
        damage(path, at)
        reader = Packs(Files(), str(tmp_path))
        found = 0
        for ref in refs:
            try:
                reader.read(ref)
            except Corrupt:
                found += 1
        assert found or ends[-1] <= at < ends[-1] + 8, at
        damage(path, at)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Corrupt):
        Packs(Files(), str(tmp_path)).read(refs[0])


def test_a_reference_that_lies_is_refused(tmp_path: Path) -> None:
    writer = PackWriter(Files(), str(tmp_path), 1)
    ref = writer.add(1, b"one")
    writer.add(2, b"two")
    writer.seal()
    reader = Packs(Files(), str(tmp_path))
    lies = (
        ref._replace(start=1),
        ref._replace(size=4),
        ref._replace(size=1 << 50),
        ref._replace(frame=1),
        ref._replace(pack=2),
        ref._replace(sha256="0" * 64),
        ref._replace(size=0),
    )
    for lie in lies:
        with pytest.raises(Corrupt):
            reader.read(lie)


@pytest.mark.parametrize(
    "told",
    [None, [], ["0" * 64, 1, 0, 0], ["x", 1, 0, 0, 0], ["../" * 21 + "a", 1, 0, 0, 0],
     ["0" * 64, "1", 0, 0, 0], ["0" * 64, -1, 0, 0, 0], ["0" * 64, True, 0, 0, 0],
     ["0" * 64, 1 << 70, 0, 0, 0], {"sha256": 1}],
)  # fmt: skip
def test_what_is_no_reference_is_damage(told: object) -> None:
    with pytest.raises(Corrupt):
        reference(told)
