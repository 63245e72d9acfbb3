"""Export: the mailboxes of an account as a Maildir++ tree or as mbox files, with a receipt."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from postroom.core.ids import MESSAGE, external
from postroom.domain.directory.people import Account
from postroom.domain.mailboxes import folders
from postroom.domain.mailboxes.folders import INBOX, SEPARATOR, Mailbox
from postroom.formats.maildir import Path
from postroom.mailflow.house import MailHouse
from postroom.mailflow.transfer.importing import PROBLEMS
from postroom.mailflow.transfer.maildir_out import MaildirOut
from postroom.mailflow.transfer.mbox_out import MboxOut
from postroom.mailflow.transfer.outgoing import Outgoing, pages
from postroom.mailflow.transfer.receipt import FAILED, Receipt
from postroom.mailflow.transfer.threads import in_thread


@dataclass(slots=True)
class Exported:
    """What an export came to."""

    exported: int = 0
    failed: int = 0
    octets: int = 0
    mailboxes: int = 0
    problems: list[str] = field(default_factory=list)


class _Out(Protocol):
    """What writes the files. Every method blocks."""

    @property
    def place(self) -> str:
        """A directory that is there, for a file of no name."""
        ...

    def begin(self, path: Path) -> None: ...
    def write(self, page: Sequence[Outgoing]) -> Iterable[dict[str, Any]]: ...
    def end(self) -> None: ...
    def finish(self, subscribed: Sequence[Path]) -> None: ...
    def close(self) -> None: ...


async def export_maildir(
    house: MailHouse, account: Account, out: MaildirOut, receipt: Receipt
) -> Exported:
    """Write all mailboxes of the account into a Maildir++ tree.

    Messages that came and went meanwhile may be missing or there. Raises StoreFull and
    StoreFailed where it cannot be written: what was written until then stays.
    """
    boxes = (await house.mail.read(folders.tree, account.id)).by_path
    return await _export(house, boxes, out, receipt)


async def export_mbox(
    house: MailHouse, account: Account, out: MboxOut, receipt: Receipt, mailbox: str = ""
) -> Exported:
    """Write all mailboxes of the account into mbox files, or one; else as `export_maildir`.

    Raises NotFound.
    """
    tree = await house.mail.read(folders.tree, account.id)
    boxes: Mapping[str, Mailbox] = tree.by_path
    if mailbox:
        boxes = {folders.canonical(mailbox): tree.find(mailbox)}
    return await _export(house, boxes, out, receipt)


async def _export(
    house: MailHouse, boxes: Mapping[str, Mailbox], out: _Out, receipt: Receipt
) -> Exported:
    done = Exported()
    with closing(out), tempfile.TemporaryFile(dir=out.place) as spool:
        for path in sorted(boxes):
            await in_thread(out.begin, _names(path))
            async for page in pages(house, boxes[path], spool):
                await in_thread(_write, out, path, page, receipt, done)
            await in_thread(out.end)
            done.mailboxes += 1
        subscribed = [_names(path) for path in sorted(boxes) if boxes[path].subscribed]
        await in_thread(out.finish, subscribed)
    return done


def _names(path: str) -> Path:
    return () if path == INBOX else tuple(path.split(SEPARATOR))


def _write(
    out: _Out, path: str, page: Sequence[Outgoing], receipt: Receipt, done: Exported
) -> None:
    """A page and its lines of the receipt; what was written before an error is told too."""
    lines: list[dict[str, Any]] = []
    try:
        whole = [each for each in page if not each.problem]
        for each, written in zip(whole, out.write(whole), strict=True):
            lines.append(_line(each, path) | written)
            done.exported += 1
            done.octets += each.row.size
        for each in page:
            if each.problem:
                lines.append(_line(each, path) | {"status": FAILED, "why": each.problem})
                done.failed += 1
                if len(done.problems) < PROBLEMS:
                    done.problems.append(f"{path} UID {each.row.uid}: {each.problem}")
    finally:
        receipt.add(lines)


def _line(each: Outgoing, path: str) -> dict[str, Any]:
    return {
        "mailbox": path,
        "uid": each.row.uid,
        "message": external(MESSAGE, each.row.message),
        "sha256": each.sha256.hex(),
        "size": each.row.size,
    }
