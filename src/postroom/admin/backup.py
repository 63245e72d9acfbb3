"""Operations on backups: taking, listing, verifying and forgetting them. `restore` has the rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from postroom import __version__
from postroom.admin.house import AdminHouse
from postroom.core.clock import iso
from postroom.core.errors import Misuse
from postroom.core.operations import argument, operation
from postroom.core.plural import all_well, counted
from postroom.core.settings import Role
from postroom.domain import backup as kept
from postroom.mailflow.house import MailHouse
from postroom.mailflow.transfer import make_folder
from postroom.store.backup import (
    Extra,
    Manifest,
    Repository,
    Source,
    take,
    verify,
)
from postroom.store.files import Files

TLS: Final = "tls"
SECRETS: Final = "secrets"
"""How a backup calls the folder of certificates and their keys."""

LATEST: Final = "latest"


@dataclass(frozen=True, slots=True)
class BackupView:
    """One backup: what it holds, and what of it was new."""

    backup: str
    made: str
    seconds: float
    rows: int
    contents: int
    octets: int
    copied_octets: int
    written_octets: int
    problems: tuple[str, ...] = ()

    def told(self) -> str:
        lines = [
            f"Backup {self.backup}: {counted(self.contents, 'content')} of "
            f"{counted(self.octets, 'octet')}, {counted(self.rows, 'row')}.",
            f"New: {counted(self.copied_octets, 'octet')}; written: {self.written_octets}, in "
            f"{self.seconds:.1f} s.",
        ]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        return "\n".join(lines)


def _view(of: Manifest) -> BackupView:
    return BackupView(
        backup=of.name,
        made=iso(of.made_at),
        seconds=of.taken.seconds,
        rows=of.taken.rows,
        contents=of.content.blobs,
        octets=of.content.octets,
        copied_octets=of.taken.octets_copied,
        written_octets=of.taken.stored,
        problems=of.problems,
    )


def repository_path(target: str) -> str:
    """The folder of backups; raises Misuse for a path that is not whole."""
    # The command line makes it whole: where a server works is not where a person types.
    if not os.path.isabs(target):
        raise Misuse("Name the folder of the backups by its whole path")
    return os.path.normpath(target)


def repository_at(target: str, files: Files) -> Repository:
    """The backups in a folder; raises Misuse for a path that is not whole."""
    return Repository(repository_path(target), files)


@contextlib.contextmanager
def reading_from(target: str, files: Files) -> Iterator[Repository]:
    """The same, with writers kept out. Blocks; raises Misuse, NotFound, InUse."""
    repository = repository_at(target, files)
    try:
        with os.scandir(repository.root):
            pass
    except FileNotFoundError:
        pass  # `reading` says that there are none
    except OSError as error:
        sentence = f"{target} cannot be read: {error.strerror}. The server's user has to read it"
        raise Misuse(sentence) from error
    with repository.reading():
        yield repository


# --- backups --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BackupTo:
    """Where to, and how much."""

    target: str = argument("The folder of the backups; a new or an empty one at first", path=True)
    full: bool = argument("Copy what earlier backups hold as well", default=False)


@operation("backup", Role.ADMIN, changes=False, audited=True)
async def make_backup(house: AdminHouse, asked: BackupTo) -> BackupView:
    """Copy the stores, all content, certificates and keys, beside a running server. What an
    earlier backup in the same folder holds is not copied again. Backups are not encrypted."""
    return _view(await take_backup(house.flow, asked.target, full=asked.full))


async def take_backup(flow: MailHouse, target: str, *, full: bool = False) -> Manifest:
    """Take a backup into a folder; raises Misuse, InUse, StoreFailed."""
    await asyncio.to_thread(_writable, target)
    # DIR holds everything: content and certificates lie side by side in it.
    data = os.path.dirname(flow.blobs.folder)
    return await take(
        repository_at(target, flow.blobs.files),
        [Source("mail", flow.mail, kept.MAIL_FORMS), Source("state", flow.state, kept.STATE_FORMS)],
        flow.blobs,
        [Extra(name, os.path.join(data, name)) for name in (TLS, SECRETS)],
        flow.clock,
        release=__version__,
        full=full,
    )


def _writable(target: str) -> None:
    """Make the folder if need be; raises Misuse, with why, for one that cannot be written."""
    repository_path(target)
    make_folder(target)
    if not os.access(target, os.R_OK | os.W_OK | os.X_OK):
        raise Misuse(
            f"{target} cannot be written: the user of the server's data may not, or what it lies "
            "on is read-only for the server"
        )


@dataclass(frozen=True, slots=True)
class BackupsIn:
    """Which backups."""

    target: str = argument("The folder of the backups", path=True)


@dataclass(frozen=True, slots=True)
class BackupLine:
    """A backup in a list."""

    backup: str
    made: str
    release: str
    contents: int
    octets: int
    new_octets: int
    problems: int


@operation("backup list", Role.ADMIN, changes=False)
async def list_backups(house: AdminHouse, asked: BackupsIn) -> tuple[BackupLine, ...]:
    """List the backups in a folder, the oldest first."""

    def look() -> tuple[BackupLine, ...]:
        with reading_from(asked.target, house.flow.blobs.files) as repository:
            return tuple(_line(repository.manifest(name)) for name in repository.names())

    return await asyncio.to_thread(look)


def _line(of: Manifest) -> BackupLine:
    return BackupLine(
        of.name,
        iso(of.made_at),
        of.release,
        of.content.blobs,
        of.content.octets,
        of.taken.octets_copied,
        len(of.problems),
    )


@dataclass(frozen=True, slots=True)
class VerifyOf:
    """Which backups to prove."""

    target: str = argument("The folder of the backups", path=True)
    at: str = argument("Only this backup, by its name or as `latest`", default="")


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was read and compared with its hash, and what is wrong."""

    backups: int
    packs: int
    objects: int
    octets: int
    problems: tuple[str, ...]

    def told(self) -> str:
        lines = [
            f"Read {counted(self.backups, 'backup')}: {counted(self.objects, 'object')} of "
            f"{counted(self.octets, 'octet')} in {counted(self.packs, 'pack')}."
        ]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        lines.append(all_well(len(self.problems)))
        return "\n".join(lines)


@operation("backup verify", Role.ADMIN, changes=False)
async def verify_backups(house: AdminHouse, asked: VerifyOf) -> VerifyReport:
    """Read everything that backups refer to and compare it with its hash."""

    def look() -> VerifyReport:
        with reading_from(asked.target, house.flow.blobs.files) as repository:
            found = verify(repository, asked.at)
        more = found.found - len(found.problems)
        problems = (*found.problems, *([f"and {more} more"] if more > 0 else ()))
        return VerifyReport(found.backups, found.packs, found.objects, found.octets, problems)

    return await asyncio.to_thread(look)


@dataclass(frozen=True, slots=True)
class ForgetAll:
    """How many backups stay."""

    target: str = argument("The folder of the backups", path=True)
    keep: int = argument("How many of the newest stay", option=True, default=0)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went."""

    forgotten: tuple[str, ...]
    left: int
    freed_octets: int


@operation("backup forget", Role.ADMIN, changes=False, audited=True)
async def forget_backups(house: AdminHouse, asked: ForgetAll) -> Forgotten:
    """Forget all but the newest backups. A pack goes once no backup refers to anything in it;
    a full backup now and then lets all older packs go."""
    if asked.keep < 1:
        raise Misuse("Say with --keep how many backups stay: at least 1")

    def forget() -> Forgotten:
        repository = repository_at(asked.target, house.flow.blobs.files)
        with repository.reading():
            repository.choose(LATEST)  # there is one: the folder is not made here
        with repository.writing():
            gone, freed = repository.forget(asked.keep)
            return Forgotten(tuple(gone), len(repository.names()), freed)

    return await asyncio.to_thread(forget)
