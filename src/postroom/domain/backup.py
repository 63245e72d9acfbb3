"""Mailboxes and messages as a backup holds them, and what must hold after a whole restore.

`mailbox` and `find` read out of a backup what is then appended beside what is there, as new
messages (`mailboxes.messages.append`). `renumber` is for a store that was restored whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.core.errors import Malformed, NotFound
from postroom.core.ids import MESSAGE, internal
from postroom.domain import schema
from postroom.domain.directory import people
from postroom.domain.mailboxes import flags, marks
from postroom.domain.mailboxes.checking import tables as checking
from postroom.domain.mailboxes.checking.flags import renumber
from postroom.domain.mailboxes.folders import Mailbox, Tree
from postroom.formats.address import Address
from postroom.store.backup import Copy, forms
from postroom.store.schema import MAIL, STATE
from postroom.store.sql import Tx

STEPS: Final = {"mail": schema.MAIL_STEPS, "state": schema.STATE_STEPS}
MAIL_FORMS: Final = forms(MAIL)
STATE_FORMS: Final = forms(STATE)

MODSEQS: Final = 1 << 32
"""More changes of an account than there can have been since a backup."""

UIDS: Final = 1 << 20
"""More messages in a mailbox than there can have come since a backup."""

_UIDS_END: Final = (1 << 32) - 16 * UIDS  # so near to the end there is no room left to skip
PAGE: Final = 100

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message in a mailbox of a backup. `message` is its EMAILID there."""

    path: str
    uid: int
    message: int
    blob: int
    size: int
    received_at: Instant
    flags: tuple[str, ...]


def mailbox(copy: Copy, address: Address, path: str) -> list[KeptMessage]:
    """The messages of a mailbox, in the order of their UIDs; raises NotFound, Corrupt."""
    account = _account(copy, address)
    boxes = _tree(copy, account)
    try:
        wanted = boxes.find(path)
    except NotFound as error:
        raise NotFound(f"The backup has no mailbox {path} of {address}") from error
    return list(_messages(copy, account, boxes, [wanted]))


def find(copy: Copy, address: Address, what: str) -> list[KeptMessage]:
    """The messages of an account with that Message-ID or EMAILID, each once; raises NotFound."""
    account = _account(copy, address)
    boxes = _tree(copy, account)
    once: dict[int, KeptMessage] = {}
    for kept in _messages(copy, account, boxes, boxes.by_id.values()):
        once.setdefault(kept.message, kept)
    try:
        message = internal(MESSAGE, what.strip())
    except Malformed:
        name = f"<{what.strip().strip('<>')}>".encode()
        parsed = copy.at("parsed", (kept.blob for kept in once.values()))
        blobs = {row["blob"] for row in parsed if row["message_id"] == name}
        found = [kept for kept in once.values() if kept.blob in blobs]
    else:
        found = [once[message]] if message in once else []
    if not found:
        raise NotFound(f"The backup has no message {what} of {address}")
    return found


def _account(copy: Copy, address: Address) -> int:
    domains = [row["id"] for row in copy.every("domain") if row["name"] == address.domain]
    key = people.key(address.local)
    for row in copy.every("account"):
        if row["domain"] in domains and row["local_key"] == key:
            return int(row["id"])
    raise NotFound(f"The backup has no account {address}")


def _tree(copy: Copy, account: int) -> Tree:
    names = [each.name for each in fields(Mailbox)]
    return Tree(
        Mailbox(**{name: row[name] for name in names})
        for row in copy.every("mailbox")
        if row["account"] == account and not row["doomed"]
    )


def _messages(
    copy: Copy, account: int, boxes: Tree, of: Iterable[Mailbox]
) -> Iterator[KeptMessage]:
    keywords = copy.between("keyword", (account,), (account,))
    registry = flags.Registry((row["bit"], row["name"]) for row in keywords)
    for box in of:
        path = boxes.path(box.id)
        blocks = copy.between("flag_block", (box.id,), (box.id,))
        became = marks.collected(((row["block"], row["groups"]) for row in blocks), -1)
        for row in copy.between("placement", (box.id,), (box.id,)):
            set_, _ = became.get(row["uid"], (row["flags"], 0))
            yield KeptMessage(
                path,
                row["uid"],
                row["message"],
                row["blob"],
                row["size"],
                Instant(row["received_at"]),
                registry.flags(set_),
            )


# --- a whole store --------------------------------------------------------------------------------


def renumber_accounts(tx: Tx) -> None:
    """Make sure that no number is given twice: clients have seen what came after the backup.

    UIDs and modseqs go on far above all that were given before the store was lost, every
    message counts as changed, and no client may ask for changes since before: it reads all flags
    anew, and keeps the content that it has. RFC 3501 §2.3.1.1, RFC 7162 §3.1.
    """
    tx.run(checking.RENUMBER_ACCOUNTS, modseqs=MODSEQS)
    tx.run(checking.RENUMBER_MAILBOXES, uids=UIDS, most=_UIDS_END)
    tx.run(checking.RENUMBER_TYPES)


def renumber_messages(tx: Tx, after: int) -> int | None:
    """The same for the messages of a few mailboxes; returns where to go on, or None."""
    boxes = tx.all(checking.MAILBOXES_AFTER, after=after, limit=PAGE)
    if not boxes:
        return None
    for box, _, _, modseq, *_ in boxes:
        renumber(tx, box, modseq)
    return int(boxes[-1][0])
