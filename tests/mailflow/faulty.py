"""A serving house on a disk that fails by script: its files and its `mail` store."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from postroom.store.files import Files
from postroom.store.sqlite import SqliteDatabase
from postroom.testing.faults import Fault, Faults, Op
from tests.mailflow.serving import Mx, serve
from tests.stores import migrate

_NAMES = itertools.count()


class InFolder(Fault):
    """Strikes everything below a folder."""

    def matches(self, op: Op, path: str) -> bool:
        return op == self.op and self.file is not None and path.startswith(self.file)


@asynccontextmanager
async def serve_faulty(folder: Path) -> AsyncIterator[tuple[Mx, Faults]]:
    """The server and the script that its disk follows; `state` lies on a good one."""
    place = str(folder)
    migrate("sqlite", place)
    faults = Faults()
    vfs = faults.vfs(f"mailflow-{next(_NAMES)}")
    mail = SqliteDatabase(os.path.join(place, "mail.db"), durable=True, vfs=vfs.name)
    state = SqliteDatabase(os.path.join(place, "state.db"), durable=False)
    try:
        async with serve(folder, mail, state, files=Files(faults.syscalls())) as mx:
            yield mx, faults
    finally:
        faults.disarm()
        await mail.close()
        await state.close()
