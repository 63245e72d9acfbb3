"""Attack class 7: reports that grow when they are unpacked, or that never end."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile
import zlib

import pytest

from postroom.core.errors import Malformed, TooLarge
from postroom.testing.scaling import cpu_seconds
from postroom.trust.dmarc.reading import read
from postroom.trust.dmarc.unpacking import FREE, MOST_PACKED, MOST_UNPACKED, RATIO, unpack
from tests.trust.refusing import refuses

TEXT = b"<feedback><policy_published><domain>a.example</domain></policy_published></feedback>"


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return made.getvalue()


def streamed(content: bytes) -> bytes:
    """A zip whose sizes follow the file, as a pipe writes it."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.made = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, piece: object) -> int:
            octets = bytes(memoryview(piece))  # type: ignore[arg-type]  # any buffer will do
            self.made += octets
            return len(octets)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.xml", content)
    return bytes(pipe.made)


def bomb(octets: int) -> bytes:
    """gzip of so many zeros, made without holding them."""
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    return b"".join([packer.compress(block) for _ in range(octets >> 20)]) + packer.flush()


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(TEXT, mtime=0),
        zipped(("a.xml", TEXT)),
        zipped(("a.xml", TEXT), method=zipfile.ZIP_STORED),
        streamed(TEXT),
        TEXT,
        gzip.compress(TEXT, mtime=0) + b"\0" * 100,
    ],
    ids=["gzip", "zip", "stored zip", "streamed zip", "plain", "gzip with padding"],
)
def test_each_way_to_pack_is_told_by_content(packed: bytes) -> None:
    assert unpack(packed) == TEXT


def test_a_gzip_bomb_costs_no_more_than_its_budget() -> None:
    packed = bomb(1 << 30)
    assert len(packed) < 2 * FREE

    def open_it() -> None:
        with refuses(TooLarge, "grows past"):
            unpack(packed)

    assert cpu_seconds(open_it, enough=1.0) < 2.0
    tracemalloc.start()
    open_it()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * MOST_UNPACKED


def test_a_small_bomb_may_not_grow_past_its_ratio() -> None:
    packed = bomb(4 << 20)
    assert len(packed) * RATIO < 4 << 20
    with pytest.raises(TooLarge):
        unpack(packed)


def test_a_real_report_of_many_rows_stays_within_the_ratio() -> None:
    rows = b"".join(
        b"<record><row><source_ip>192.0.2.%d</source_ip><count>%d</count></row></record>\n"
        % (n % 256, n)
        for n in range(20_000)
    )
    text = TEXT.replace(b"</feedback>", rows + b"</feedback>")
    assert len(text) > FREE
    assert len(read(gzip.compress(text, 9)).rows) == 20_000


def test_a_bomb_within_a_zip_is_bounded_too() -> None:
    with pytest.raises(TooLarge):
        unpack(zipped(("a.xml", bytes(8 << 20))))


def test_entries_that_overlap_are_not_reached() -> None:
    """Every entry of the directory may point to one kernel: the directory is not asked."""
    whole = zipped(("a.xml", TEXT))
    at = whole.index(b"PK\x01\x02")
    end = whole.index(b"PK\x05\x06")
    assert unpack(whole[:at] + whole[at:end] * 50_000 + whole[end:]) == TEXT


@pytest.mark.parametrize("depth", [1, 5])
def test_one_layer_is_opened_and_no_more(depth: int) -> None:
    """So a quine, that unpacks to itself, ends: what comes out is no XML."""
    packed = gzip.compress(TEXT, mtime=0)
    for _ in range(depth):
        packed = gzip.compress(packed, mtime=0)
    with refuses(Malformed, "no XML"):
        read(packed)


def test_a_report_too_large_to_begin_with_is_not_opened() -> None:
    with pytest.raises(TooLarge):
        unpack(b"\x1f\x8b" + bytes(MOST_PACKED))


@pytest.mark.parametrize("whole", [gzip.compress(TEXT, mtime=0), zipped(("a.xml", TEXT))])
def test_a_report_that_was_cut_is_malformed(whole: bytes) -> None:
    end = whole.find(b"PK\x01\x02") if whole.startswith(b"PK") else len(whole)
    for length in range(4, end):
        with pytest.raises(Malformed):
            unpack(whole[:length])


def test_a_damaged_zip_is_malformed() -> None:
    whole = bytearray(zipped(("a.xml", TEXT), method=zipfile.ZIP_STORED))
    whole[whole.index(b"feedback")] ^= 1
    with refuses(Malformed, "damaged"):
        unpack(bytes(whole))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_way_to_pack_that_no_reporter_uses_is_malformed(method: int) -> None:
    with refuses(Malformed, "method"):
        unpack(zipped(("a.xml", TEXT), method=method))


def test_an_encrypted_zip_is_malformed() -> None:
    whole = bytearray(zipped(("a.xml", TEXT)))
    whole[6] |= 1
    with refuses(Malformed, "encrypted"):
        unpack(bytes(whole))
