"""store.blobs: a spooled message that gets nothing on top is one blob, not a rope."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from postroom.store.blobs import ROW_LIMIT, SPOOL_LIMIT, Form, Place, insert
from tests.store.contents import Contents
from tests.stores import Stores


@pytest.mark.parametrize(
    ("size", "place"),
    [(1, Place.ROW), (ROW_LIMIT, Place.ROW), (ROW_LIMIT + 1, Place.FILE),
     (SPOOL_LIMIT, Place.FILE), (SPOOL_LIMIT + 1, Place.FILE)],
)  # fmt: skip
async def test_the_spooled_octets_are_the_blob(
    stores: Stores, tmp_path: Path, size: int, place: Place
) -> None:
    contents = Contents(tmp_path)
    body = bytes(n % 251 for n in range(size))
    spool = contents.blobs.spool()
    spool.write(body)
    made = (await contents.blobs.finish(spool, [Form()])).stored
    spool.drop()
    (blob,) = made
    assert (blob.place, blob.size, blob.parts) == (place, size, ())
    assert blob.sha256 == hashlib.sha256(body).digest()
    await stores.mail.write(insert, blob, contents.now())
    assert await stores.mail.read(contents.blobs.read, blob.id) == body
    assert (
        await stores.mail.read(contents.blobs.read, blob.id, size // 2, 9) == body[size // 2 :][:9]
    )
    assert len(contents.files()) == (place is Place.FILE), "the spool's own name is gone"
