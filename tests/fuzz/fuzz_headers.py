"""Header blocks, fields and parameters, from any bytes."""

from __future__ import annotations

import time

from postroom.core.errors import Malformed
from postroom.formats import dates, headers

SEEDS: list[bytes] = [
    b"From: ann@a.example\r\nSubject: one\r\n two\r\n\r\nbody",
    b"A: 1\nB: 2\n\tfold\n\nbody",
    b"From ann Thu Jan  1 00:00:00 1970\r\nA : 1\r\njunk\r\n\r\n",
    b'text/plain; charset="utf-8" (comment); name*0*=utf-8\'\'%C3%A9; name*1=".txt"',
    b"attachment; filename=report (1).pdf; filename*=iso-8859-1'en'Andr%E9",
    b"Fri, 21 Nov 1997 09:55:06 -0600 (CST)",
    b"Subject\x00a\r\nBcc: victim@example.org",
]

SECONDS_FIXED = 0.5
SECONDS_PER_BYTE = 2e-5


def one_input(data: bytes) -> None:
    """Raises AssertionError where a property breaks."""
    start = time.thread_time()
    _scan(data)
    _parameters(data)
    _compose(data)
    found = dates.parse_date(data)
    if found is not None:
        assert dates.parse_date(dates.format_date(found).encode("ascii")) == found
    taken = time.thread_time() - start
    assert taken < SECONDS_FIXED + SECONDS_PER_BYTE * len(data), f"{taken:.3f} s"


def _scan(data: bytes) -> None:
    block = headers.scan(data)
    assert 0 <= block.end <= len(data)
    assert len(block.fields) <= headers.FIELDS_MAX
    last = None
    for field in block.fields:
        assert last is None or field.start == last.end
        assert field.start < field.value_start <= field.end <= block.end
        assert block.find(field.name)
        last = field
    # The block alone reads as it did in its place.
    again = headers.scan(data[: block.end])
    assert again.fields == block.fields


def _parameters(data: bytes) -> None:
    main, raw = headers.raw_parameters(data)
    lowered, found = headers.parameterised(data)
    assert len(raw) <= headers.PARAMETERS_MAX
    assert len(found) <= len(raw)
    assert lowered == main.translate(None, b" \t\r\n").lower()
    for name, text in found.items():
        (name + text).encode("utf-8")
        assert not set(text) & {"\r", "\n", "\x00"}


def _compose(data: bytes) -> None:
    name, _, value = data.decode("utf-8", "surrogateescape").partition("\x00")
    for utf8 in (False, True):
        try:
            wire = headers.field(name, value, utf8=utf8)
        except Malformed:
            continue
        block = headers.scan(wire + b"\r\nbody")
        assert [field.name for field in block.fields] == [name.encode("ascii")]
        assert block.end == len(wire) + 2
        assert all(len(line) <= headers.LINE_HARD for line in wire.split(b"\r\n"))
        assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")
