"""A message under way: its header is looked at once, wherever its content lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.core.ids import Ids
from postroom.domain.transit import Protocol, Transit, Visit
from postroom.formats.headers import HEADER_MAX, scan
from postroom.net.connection import Peer
from postroom.store.blobs import SPOOL_LIMIT, Blobs
from postroom.store.files import Files
from postroom.testing.clock import ManualClock

HEADER = b"From: Ann <ann@a.example>\r\nSubject: Hello\r\n\r\n"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path), Files(), Ids(ManualClock()))


def transit(blobs: Blobs, content: bytes) -> Transit:
    clock = ManualClock()
    visit = Visit("s1", Peer(None, 0, None, 0, "smtp"), Protocol.SMTP, clock.now())
    made = Transit(1, visit, clock.now(), None)
    made.spool = blobs.spool()
    made.spool.write(content)
    return made


@pytest.mark.parametrize("body", [b"Hi.\r\n", b"x" * 78 * 1000, b"x\r\n" * SPOOL_LIMIT])
def test_the_header_is_what_a_scan_of_the_content_says(blobs: Blobs, body: bytes) -> None:
    under_way = transit(blobs, HEADER + body)
    found, meant = under_way.header(), scan(HEADER + body)
    assert found is not None
    assert (found.fields, found.end, found.over_cap) == (meant.fields, meant.end, False)
    assert found.first(b"from") == b"Ann <ann@a.example>"
    assert under_way.header() is found


@pytest.mark.parametrize("size", [HEADER_MAX - 100, HEADER_MAX + 100])
def test_a_header_beyond_the_cap_is_known_as_such_in_a_file_too(blobs: Blobs, size: int) -> None:
    content = b"X: " + b"a" * (size - 5) + b"\r\n" + HEADER + b"x" * SPOOL_LIMIT
    under_way = transit(blobs, content)
    assert under_way.spool is not None and under_way.spool.in_file
    found, meant = under_way.header(), scan(content)
    assert found is not None
    assert (found.fields, found.over_cap) == (meant.fields, meant.over_cap)


def test_other_content_has_another_header(blobs: Blobs) -> None:
    under_way = transit(blobs, HEADER)
    first = under_way.header()
    under_way.spool = blobs.spool()
    under_way.spool.write(b"From: bob@b.example\r\n\r\n")
    found = under_way.header()
    assert found is not first and found is not None
    assert found.first(b"from") == b"bob@b.example"


def test_without_content_there_is_no_header(blobs: Blobs) -> None:
    under_way = transit(blobs, HEADER)
    under_way.drop()
    assert under_way.header() is None
