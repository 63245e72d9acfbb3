"""Operations that bring mail in from another server's files, and out into such files."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from postroom.admin import codec
from postroom.admin.house import AdminHouse
from postroom.core.clock import iso, to_datetime
from postroom.core.ids import ACCOUNT, external
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.directory.spelling import address_of
from postroom.domain.mailboxes import folders
from postroom.mailflow.house import MailHouse
from postroom.mailflow.transfer import (
    Asked,
    Exported,
    Imported,
    Line,
    MaildirOut,
    MboxOut,
    Receipt,
    Source,
    bring,
    export_maildir,
    export_mbox,
    in_thread,
    make_folder,
    open_maildir,
    open_mbox,
)

RECEIPTS: Final = "receipts"
"""The folder in the data directory for receipts of imports, if nobody names another place."""

RECEIPT: Final = "receipt.jsonl"
"""The receipt of an export, beside what it is of."""

_INTO: Final = "The mailbox to import into; without it INBOX to INBOX and others by their names"
_RECEIPT: Final = (
    "The file for the receipt. One that is there is gone on with: what it has is not imported "
    "again, even if it was moved or deleted since. Without it, a new file in the data directory"
)
_DRY: Final = "Import nothing, and say what would be imported"


@dataclass(frozen=True, slots=True)
class ImportMaildir:
    """Which Maildir, and where to."""

    path: str = argument("The Maildir; the server's user must be able to read it", path=True)
    account: str = argument("The account's address")
    into: str = argument(_INTO, default="")
    dry_run: bool = argument(_DRY, default=False)
    receipt: str = argument(_RECEIPT, default="", path=True)


@dataclass(frozen=True, slots=True)
class ImportMbox:
    """Which file, and where to."""

    file: str = argument("The mbox file; the server's user must be able to read it", path=True)
    account: str = argument("The account's address")
    into: str = argument(
        "The mailbox to import into; without it the one that is called as the file is", default=""
    )
    dry_run: bool = argument(_DRY, default=False)
    receipt: str = argument(_RECEIPT, default="", path=True)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of each message of the source; the receipt has a line for each."""

    account: str
    imported: int
    already_there: int
    failed: int
    left_out: int
    octets: int
    mailboxes: int
    seconds: float
    dry_run: bool
    receipt: str
    problems: tuple[str, ...]

    def told(self) -> str:
        verb = "Would import" if self.dry_run else "Imported"
        lines = [
            f"{verb} {counted(self.imported, 'message')} of {counted(self.octets, 'octet')} into "
            f"{counted(self.mailboxes, 'mailbox', 'mailboxes')} of {self.account} in "
            f"{self.seconds:.1f} s; there already: {self.already_there}, failed: {self.failed}.",
        ]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        lines.append(f"The receipt is {self.receipt}")
        return "\n".join(lines)


@operation("import maildir", Role.ADMIN)
async def import_maildir(house: AdminHouse, asked: ImportMaildir) -> ImportReport:
    """Import a Maildir with its folders, flags, keywords, dates and subscriptions. What is in
    the mailboxes already is not imported again, so it may be run as often as one likes, also
    after it was interrupted. Sent, Drafts, Trash, Junk and Archive go to the account's own. The
    server reads the files: as its user, on its machine."""
    return await _import(house, lambda: open_maildir(asked.path), asked)


@operation("import mbox", Role.ADMIN)
async def import_mbox(house: AdminHouse, asked: ImportMbox) -> ImportReport:
    """Import an mbox file of any dialect, with the flags and keywords that its Status fields or
    Thunderbird's tell. What is in the mailbox already is not imported again. The server reads
    the file: as its user, on its machine."""
    return await _import(house, lambda: open_mbox(asked.file), asked)


async def _import(
    house: AdminHouse, opening: Callable[[], Source], asked: ImportMaildir | ImportMbox
) -> ImportReport:
    flow = house.flow
    account = await _account(flow, asked.account)
    began = flow.clock.monotonic()
    source = await in_thread(opening)
    try:
        receipt = await in_thread(_import_receipt, flow, source, account, asked)
        try:
            wanted = Asked(account, asked.into, asked.dry_run, house.caller.principal)
            done = await bring(flow, source, wanted, receipt)
            report = _imported(done, account, asked, receipt.path, flow.clock.monotonic() - began)
            await in_thread(receipt.finish, _summary(report))
        finally:
            receipt.close()
    finally:
        source.close()
    return report


def _import_receipt(
    flow: MailHouse, source: Source, account: Account, asked: ImportMaildir | ImportMbox
) -> Receipt:
    path = asked.receipt
    if not path:
        folder = os.path.join(os.path.dirname(flow.blobs.folder), RECEIPTS)
        make_folder(folder)
        at = to_datetime(flow.clock.now()).strftime("%Y%m%dT%H%M%S.%f")
        path = os.path.join(folder, f"import-{at}-{external(ACCOUNT, account.id)}.jsonl")
    more = {"source": source.where, "into": asked.into, "dry_run": asked.dry_run}
    return Receipt(path, _begin(flow, f"import {source.kind}", account, **more))


def _imported(
    done: Imported,
    account: Account,
    asked: ImportMaildir | ImportMbox,
    receipt: str,
    seconds: float,
) -> ImportReport:
    return ImportReport(
        account=str(account.address),
        imported=done.imported,
        already_there=done.there,
        failed=done.failed,
        left_out=done.left_out,
        octets=done.octets,
        mailboxes=done.mailboxes,
        seconds=round(seconds, 3),
        dry_run=asked.dry_run,
        receipt=receipt,
        problems=_told(done.problems, done.failed),
    )


# --- export ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExportMaildir:
    """Whose mail, and where to."""

    account: str = argument("The account's address")
    target: str = argument(
        "A new directory, or one that is empty; the server's user must be able to write there",
        path=True,
    )
    receipt: str = argument(
        f"A new file for the receipt; without it {RECEIPT} in the target", default="", path=True
    )


@dataclass(frozen=True, slots=True)
class ExportMbox:
    """Whose mail, and where to."""

    account: str = argument("The account's address")
    target: str = argument(
        "A new directory, or one that is empty; with --mailbox a new file. The server's user must "
        "be able to write there",
        path=True,
    )
    mailbox: str = argument("Only this mailbox, such as INBOX or Archive/2026", default="")
    receipt: str = argument(
        f"A new file for the receipt; without it {RECEIPT} in the target, or beside the file",
        default="",
        path=True,
    )


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written; the receipt has a line for each message."""

    account: str
    exported: int
    failed: int
    octets: int
    mailboxes: int
    seconds: float
    target: str
    receipt: str
    problems: tuple[str, ...]

    def told(self) -> str:
        lines = [
            f"Exported {counted(self.exported, 'message')} of {counted(self.octets, 'octet')} "
            f"from {counted(self.mailboxes, 'mailbox', 'mailboxes')} of {self.account} to "
            f"{self.target} in {self.seconds:.1f} s; failed: {self.failed}.",
        ]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        lines.append(f"The receipt is {self.receipt}")
        return "\n".join(lines)


@operation("export maildir", Role.ADMIN, changes=False, audited=True)
async def write_maildir(house: AdminHouse, asked: ExportMaildir) -> ExportReport:
    """Export all mailboxes of an account as a Maildir++ tree, with flags, keywords, dates and
    subscriptions, as Dovecot and Courier read them. Nothing is overwritten. The server writes
    the files: as its user, on its machine."""
    flow = house.flow
    account = await _account(flow, asked.account)
    out = await in_thread(MaildirOut, asked.target, flow.hostname)
    path = asked.receipt or os.path.join(asked.target, RECEIPT)

    async def write(receipt: Receipt) -> Exported:
        return await export_maildir(flow, account, out, receipt)

    return await _export(house, "export maildir", account, asked.target, path, write)


@operation("export mbox", Role.ADMIN, changes=False, audited=True)
async def write_mbox(house: AdminHouse, asked: ExportMbox) -> ExportReport:
    """Export the mailboxes of an account as mbox files (mboxrd), one for each, with flags and
    keywords in Status fields. Nothing is overwritten. The server writes the files: as its user,
    on its machine."""
    flow = house.flow
    account = await _account(flow, asked.account)
    single = bool(asked.mailbox)
    if single:
        await flow.mail.read(lambda tx: folders.tree(tx, account.id).find(asked.mailbox))
    out = await in_thread(MboxOut, asked.target, single=single)
    beside = f"{asked.target}.{RECEIPT}" if single else os.path.join(asked.target, RECEIPT)

    async def write(receipt: Receipt) -> Exported:
        return await export_mbox(flow, account, out, receipt, asked.mailbox)

    return await _export(
        house, "export mbox", account, asked.target, asked.receipt or beside, write
    )


async def _export(
    house: AdminHouse,
    what: str,
    account: Account,
    target: str,
    path: str,
    write: Callable[[Receipt], Awaitable[Exported]],
) -> ExportReport:
    flow = house.flow
    began = flow.clock.monotonic()
    receipt = await in_thread(
        Receipt, path, _begin(flow, what, account, target=target), again=False
    )
    try:
        done = await write(receipt)
        report = ExportReport(
            account=str(account.address),
            exported=done.exported,
            failed=done.failed,
            octets=done.octets,
            mailboxes=done.mailboxes,
            seconds=round(flow.clock.monotonic() - began, 3),
            target=target,
            receipt=path,
            problems=_told(done.problems, done.failed),
        )
        await in_thread(receipt.finish, _summary(report))
    finally:
        receipt.close()
    return report


# --- both -----------------------------------------------------------------------------------------


async def _account(flow: MailHouse, address: str) -> Account:
    return await flow.mail.read(people.account, address_of(address))


def _begin(flow: MailHouse, what: str, account: Account, **more: Any) -> Line:
    """The first line of a receipt."""
    return {
        "receipt": what,
        "account": str(account.address),
        "account_id": external(ACCOUNT, account.id),
        "at": iso(flow.clock.now()),
        **more,
    }


def _summary(report: ImportReport | ExportReport) -> Line:
    """The last one."""
    return {"summary": codec.encode(report)}


def _told(problems: Sequence[str], failed: int) -> tuple[str, ...]:
    more = failed - len(problems)
    return (*problems, *([f"and {more} more"] if more > 0 else ()))
