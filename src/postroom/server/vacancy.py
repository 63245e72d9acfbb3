"""A data directory without a store, while one is restored into it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from typing import Final

import orjson

from postroom.admin.backup import SECRETS, TLS
from postroom.admin.restore import Vacancy
from postroom.core.clock import SystemClock
from postroom.core.errors import AlreadyExists
from postroom.core.ids import Ids
from postroom.server import house
from postroom.server.house import Bootstrap
from postroom.server.instance import Instance, Layout
from postroom.server.privileges import account_for, drop
from postroom.store.backup import PostgresLoading, SqliteLoading
from postroom.store.blobs import Blobs
from postroom.store.files import Files

_MARK_MOST: Final = 4096
_BESIDE: Final = ("", "-wal", "-shm")  # of an SQLite file


@contextlib.contextmanager
def vacant(layout: Layout) -> Iterator[Vacancy]:
    """Take the directory, which is made if it is not there; it stays marked until `finish`.

    As root, become the owner of the directory, as the server will. Raises InUse, AlreadyExists
    if it holds a store that no interrupted restore has left, Misuse.
    """
    boot = house.read_bootstrap(layout)
    owner = account_for(layout.root, None, port_offset=1)
    layout.create((owner.uid, owner.gid))
    if os.geteuid() == 0 and not owner.is_root:
        drop(owner)
    instance = Instance.acquire(layout, wait=0)
    try:
        yield _vacancy(layout, boot)
    finally:
        instance.release()


def _vacancy(layout: Layout, boot: Bootstrap) -> Vacancy:
    files = Files()
    ids = Ids(SystemClock(), node=boot.node, worker=house.OFFLINE)
    mark = house.restoring_mark(layout)
    paths = {"mail": house.mail_path(layout), "state": house.state_path(layout)}

    def loading() -> SqliteLoading | PostgresLoading:
        if boot.database_url:
            return PostgresLoading(boot.database_url)
        return SqliteLoading(paths, files)

    def begin(backup: str) -> bool:
        if not files.exists(mark):
            if boot.database_url:
                with contextlib.closing(PostgresLoading(boot.database_url)) as database:
                    if any(database.occupied(store) for store in paths):
                        raise AlreadyExists("The database holds a store; restore into another")
            elif any(files.exists(path) for path in paths.values()):
                raise AlreadyExists(f"There is a store in {layout.root}; restore into another")
        elif _marked(files, mark) == {"backup": backup, "loaded": True}:
            return True
        elif not boot.database_url:
            # Half of an earlier run's; whole files of content are written again, or swept.
            for path in paths.values():
                for end in _BESIDE:
                    files.unlink(path + end)
        files.write_durably(mark, [orjson.dumps({"backup": backup, "loaded": False})])
        return False

    def loaded(backup: str) -> None:
        files.write_durably(mark, [orjson.dumps({"backup": backup, "loaded": True})])

    def finish() -> None:
        files.unlink(mark)
        files.sync_directory(layout.root)

    return Vacancy(
        files=files,
        blobs=Blobs(house.blob_folder(layout), files, ids),
        folders={TLS: layout.tls, SECRETS: os.path.dirname(layout.secrets)},
        loading=loading,
        begin=begin,
        loaded=loaded,
        migrate=partial(house.bring_up, layout, boot),
        open_house=partial(house.open_house, layout),
        finish=finish,
    )


def _marked(files: Files, mark: str) -> object:
    try:
        return orjson.loads(files.read(mark, 0, _MARK_MOST))
    except ValueError:
        return None  # cut short: as if nothing had been done
