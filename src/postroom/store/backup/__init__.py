"""Backups: a consistent, incremental copy of the stores in one form for both engines.

A repository is a folder of packs (`packs`: content by its hash, compressed, fsynced a pack at a
time) and of manifests (`repository`), one for each backup. A table is kept as chunks of rows
that are cut by their keys (`rows`), so that what did not change since the last backup is the
same chunk and not written again; content is kept once for each blob. `taking` makes a backup
beside a running server: the tables of a store in one snapshot, then the content, which never
changes. `restoring` fills empty stores of either engine; `reading` gives single rows and
content out of a backup; `verifying` proves all of it against its hashes.

Nothing here knows what a table means: names, types and keys come from the declared tables. The
one exception are blobs, which are the store's own. A table with `info={"backup": False}` is left
out. Backups are not encrypted: whoever can read the folder can read the mail, so every file is
its owner's alone.

Called by domain and admin. May import: store, core.
"""

from postroom.store.backup.packs import Packs, Ref
from postroom.store.backup.reading import Copy
from postroom.store.backup.repository import Content, Entry, Manifest, Repository, Taken
from postroom.store.backup.restoring import (
    Loading,
    PostgresLoading,
    Restored,
    SqliteLoading,
    restore,
)
from postroom.store.backup.rows import Form, forms
from postroom.store.backup.taking import Extra, Source, take
from postroom.store.backup.verifying import Verified, verify

__all__ = [
    "Content",
    "Copy",
    "Entry",
    "Extra",
    "Form",
    "Loading",
    "Manifest",
    "Packs",
    "PostgresLoading",
    "Ref",
    "Repository",
    "Restored",
    "Source",
    "SqliteLoading",
    "Taken",
    "Verified",
    "forms",
    "restore",
    "take",
    "verify",
]
