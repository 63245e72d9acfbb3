"""Mailboxes themselves: the tree, special uses, subscriptions.

A path is the names from the top joined by "/". INBOX is compared without case (RFC 3501 §5.1);
other names are compared as written, after NFC. Names hold no "/" and no control character.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, InUse, LimitReached, Malformed, NotAllowed, NotFound
from postroom.core.ids import MAILBOX, external, internal
from postroom.domain.events import Type
from postroom.domain.mailboxes import tables
from postroom.domain.mailboxes.change import Change, begin
from postroom.domain.mailboxes.shares import tables as shares
from postroom.formats.folding import nfc
from postroom.store.sql import Row, Tx

SEPARATOR: Final = "/"
INBOX: Final = "INBOX"
NAME_OCTETS: Final = 255
DEPTH: Final = 32
MOST: Final = 10_000
"""Mailboxes in one account."""
NAMES_MOST: Final = 1_000
"""Names of mailboxes that are gone to which an account stays subscribed."""

# Role (RFC 6154 without the backslash) and the name it gets in a new account.
FIRST_FOLDERS: Final = (
    ("inbox", INBOX),
    ("drafts", "Drafts"),
    ("sent", "Sent"),
    ("junk", "Junk"),
    ("trash", "Trash"),
    ("archive", "Archive"),
)
ROLES: Final = frozenset(
    {"inbox", "drafts", "sent", "junk", "trash", "archive", "all", "flagged", "important"}
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A row of the tree with its counters, which SELECT and STATUS need."""

    id: int
    account: int
    parent: int
    name: str
    role: str
    subscribed: bool
    uidvalidity: int
    uidnext: int
    modseq: int
    total: int
    unseen: int
    deleted: int
    size: int
    created_modseq: int
    changed_modseq: int


def mailbox_of(row: Row) -> Mailbox:
    """A row of the tables as a mailbox."""
    box, account, parent, name, role, subscribed, *rest = row
    return Mailbox(box, account, parent, name, role, bool(subscribed), *rest)


class Tree:
    """All mailboxes of an account at one moment."""

    __slots__ = ("_children", "by_id", "by_path")

    def __init__(self, boxes: Iterable[Mailbox]) -> None:
        self.by_id: dict[int, Mailbox] = {box.id: box for box in boxes}
        self._children: dict[int, list[Mailbox]] = {}
        for box in self.by_id.values():
            self._children.setdefault(box.parent, []).append(box)
        self.by_path: dict[str, Mailbox] = dict(self._walk())

    def _walk(self) -> Iterator[tuple[str, Mailbox]]:
        # From the top, iteratively: what a damaged parent would hide is not shown as a root.
        waiting = [("", box) for box in self._children.get(0, ())]
        while waiting:
            above, box = waiting.pop()
            path = above + box.name
            yield path, box
            waiting += [(path + SEPARATOR, child) for child in self._children.get(box.id, ())]

    def children(self, box: int) -> list[Mailbox]:
        return self._children.get(box, [])

    def path(self, box: int) -> str:
        """The full path of a mailbox of this tree."""
        names: list[str] = []
        at: Mailbox | None = self.by_id.get(box)
        while at is not None and len(names) <= DEPTH:
            names.append(at.name)
            at = self.by_id.get(at.parent)
        return SEPARATOR.join(reversed(names))

    def below(self, box: int) -> list[Mailbox]:
        """Every mailbox under it, parents before children."""
        return [child for child, _ in self._below(box)]

    def height(self, box: int) -> int:
        """How many levels lie under it."""
        return max((level for _, level in self._below(box)), default=0)

    def _below(self, box: int) -> Iterator[tuple[Mailbox, int]]:
        seen = {box}  # damaged parents may lead in a circle
        waiting = [(child, 1) for child in self.children(box)]
        while waiting:
            child, level = waiting.pop()
            if child.id in seen:
                continue
            seen.add(child.id)
            yield child, level
            waiting += [(below, level + 1) for below in self.children(child.id)]

    def find(self, path: str) -> Mailbox:
        """The mailbox at a path; raises NotFound."""
        found = self.by_path.get(canonical(path))
        if found is None:
            raise NotFound("No such mailbox")
        return found


def canonical(path: str) -> str:
    """The path as it is compared: NFC, and INBOX in capitals at the top."""
    path = nfc(path)
    top, slash, rest = path.partition(SEPARATOR)
    return INBOX + slash + rest if top.upper() == INBOX else path


def split(path: str) -> list[str]:
    """The names of a path that could be made; raises Malformed for one that could not."""
    names = canonical(path).split(SEPARATOR)
    if len(names) > DEPTH:
        raise Malformed("Mailboxes do not nest that deep")
    for name in names:
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
            raise Malformed("A mailbox name may not hold control characters")
        if not name or name != name.strip() or len(name.encode()) > NAME_OCTETS:
            raise Malformed("A mailbox name is empty, padded or too long")
    return names


def tree(tx: Tx, account: int) -> Tree:
    """Every mailbox of the account, in one statement."""
    return Tree(mailbox_of(row) for row in tx.all(tables.TREE, account=account))


def at(tx: Tx, account: int, path: str) -> Mailbox:
    """The account's mailbox at a path: a row for each of its names, however many others there are.
    Raises NotFound."""
    parent, found = 0, None
    path = canonical(path)
    if "\0" in path or not _is_text(path):
        raise NotFound("No such mailbox")  # an engine would not even look for it
    for name in path.split(SEPARATOR, DEPTH):
        row = tx.one(tables.MAILBOX_NAMED, account=account, parent=parent, name=name)
        if row is None:
            raise NotFound("No such mailbox")
        found = mailbox_of(row)
        parent = found.id
    assert found is not None  # a path has a name at least
    return found


def _is_text(path: str) -> bool:
    return path.isascii() or not any("\ud800" <= c <= "\udfff" for c in path)


def get(tx: Tx, box: int) -> Mailbox:
    """One mailbox by id; raises NotFound if it is gone or going."""
    row = tx.one(tables.MAILBOX_ROW, id=box)
    if row is None:
        raise NotFound("No such mailbox")
    return mailbox_of(row)


def by_role(tx: Tx, account: int, role: str) -> Mailbox | None:
    """The mailbox with that special use, if the account has one."""
    row = tx.one(tables.BY_ROLE, account=account, role=role)
    return mailbox_of(row) if row is not None else None


_BY_ID: Final = "#"


def place(box: int) -> str:
    """A mailbox as a place of delivery, beside the special uses: names of these have no `#`."""
    return f"{_BY_ID}{external(MAILBOX, box)}"


def folder_of(at: str) -> int:
    """The mailbox that a place names; 0 if it is a special use."""
    return internal(MAILBOX, at.removeprefix(_BY_ID)) if at.startswith(_BY_ID) else 0


def by_place(tx: Tx, account: int, at: str) -> Mailbox | None:
    """The mailbox that a place means, `place` of one or a special use, if the account has it."""
    folder = folder_of(at)
    if not folder:
        return by_role(tx, account, at)
    row = tx.one(tables.MAILBOX_ROW, id=folder)
    box = mailbox_of(row) if row is not None else None
    return box if box is not None and box.account == account else None


def create_first(tx: Tx, account: int, ids: Iterator[int], now: Instant, actor: int) -> None:
    """Give a new account its folders."""
    change = begin(tx, account)
    for role, name in FIRST_FOLDERS:
        _insert(tx, change, next(ids), 0, name, role, now, subscribed=True)
    change.touch(Type.MAILBOX)
    change.end(tx, now, actor, "mailbox.first", {})


def create(
    tx: Tx, account: int, path: str, ids: Iterator[int], now: Instant, actor: int, *, role: str = ""
) -> int:
    """Make a mailbox and those above it that are missing; returns its id. RFC 3501 §6.3.3.

    Raises AlreadyExists, Malformed, LimitReached; NotAllowed if the role is not to be had.
    """
    change = begin(tx, account)
    names = split(path)
    boxes = tree(tx, account)
    if SEPARATOR.join(names) in boxes.by_path:
        raise AlreadyExists("A mailbox of that name is there")
    if role and (role not in ROLES or any(b.role == role for b in boxes.by_id.values())):
        raise NotAllowed("This special use is taken or not known")
    if len(boxes.by_id) + len(names) > MOST:
        raise LimitReached("No further mailbox fits into this account")
    made: list[int] = []
    parent, at = 0, ""
    for name in names:
        at = at + SEPARATOR + name if at else name
        existing = boxes.by_path.get(at)
        if existing is not None:
            parent = existing.id
            continue
        box = next(ids)
        last = len(at) == len(SEPARATOR.join(names))
        again = bool(tx.run(shares.DROP_NAME, account=account, path=at))
        _insert(tx, change, box, parent, name, role if last else "", now, subscribed=again)
        made.append(box)
        parent = box
    change.touch(Type.MAILBOX)
    change.end(tx, now, actor, "mailbox.create", {"made": made})
    return parent


def _insert(
    tx: Tx,
    change: Change,
    box: int,
    parent: int,
    name: str,
    role: str,
    now: Instant,
    *,
    subscribed: bool,
) -> None:
    tx.run(
        tables.INSERT_MAILBOX,
        id=box,
        account=change.account,
        parent=parent,
        name=name,
        role=role,
        subscribed=int(subscribed),
        uidvalidity=change.uidvalidity(now),
        modseq=change.modseq,
    )
    if parent:
        # Who may use a mailbox may use what is made below it.
        tx.run(shares.INHERIT_RIGHTS, mailbox=box, parent=parent)


def rename(
    tx: Tx, account: int, old: str, new: str, ids: Iterator[int], now: Instant, actor: int
) -> None:
    """Rename a mailbox with all below it. RFC 3501 §6.3.5.

    Missing parents of the new name are made. Renaming INBOX is not this function's: what it
    means (its mail moves, it stays) is `messages.move_all` by the caller. Raises NotFound,
    AlreadyExists, Malformed, NotAllowed.
    """
    begin(tx, account)  # the lock: what is read below stays true
    boxes = tree(tx, account)
    box = boxes.find(old)
    if box.role == "inbox":
        raise NotAllowed("INBOX keeps its name")
    names = split(new)
    target = SEPARATOR.join(names)
    if target in boxes.by_path:
        raise AlreadyExists("A mailbox of that name is there")
    if target.startswith(boxes.path(box.id) + SEPARATOR):
        raise NotAllowed("A mailbox cannot be put below itself")
    if len(names) + boxes.height(box.id) > DEPTH:
        raise Malformed("Mailboxes do not nest that deep")
    parent = 0
    above = SEPARATOR.join(names[:-1])
    if above:
        known = boxes.by_path.get(above)
        parent = known.id if known is not None else create(tx, account, above, ids, now, actor)
    change = begin(tx, account)
    tx.run(tables.RENAME_MAILBOX, id=box.id, parent=parent, name=names[-1], modseq=change.modseq)
    _subscribe_again(tx, change, target)
    change.touch(Type.MAILBOX)
    before: Mapping[str, object] = {"box": box.id, "parent": box.parent, "name": box.name}
    change.end(tx, now, actor, "mailbox.rename", dict(before))


def _subscribe_again(tx: Tx, change: Change, path: str) -> None:
    """What came to be at a path or below it may have a name that is subscribed to."""
    names = subscribed_names(tx, change.account)
    known = [each for each in names if each == path or each.startswith(path + SEPARATOR)]
    boxes = tree(tx, change.account).by_path if known else {}
    for name in known:
        if (box := boxes.get(name)) is not None:
            tx.run(tables.SUBSCRIBE, id=box.id, subscribed=1, modseq=change.modseq)
            tx.run(shares.DROP_NAME, account=change.account, path=name)


def subscribed_names(tx: Tx, account: int) -> list[str]:
    """The paths of mailboxes that are gone to which the account is still subscribed: a server may
    not end that by itself. RFC 3501 §6.3.6."""
    return [row[0] for row in tx.all(shares.SUBSCRIBED_NAMES, account=account)]


def subscribe(tx: Tx, account: int, path: str, now: Instant, actor: int, *, wanted: bool) -> None:
    """Set or clear a subscription, also to what was deleted; raises NotFound for what the account
    never subscribed to. RFC 3501 §6.3.6, §6.3.7."""
    change = begin(tx, account)
    try:
        box = at(tx, account, path)
    except NotFound:
        name = canonical(path)
        if name not in subscribed_names(tx, account):
            raise
        if not wanted:
            tx.run(shares.DROP_NAME, account=account, path=name)
            change.touch(Type.MAILBOX)
            change.end(tx, now, actor, "mailbox.subscribe", {"path": name, "was": True})
        return
    if tx.run(tables.SUBSCRIBE, id=box.id, subscribed=int(wanted), modseq=change.modseq):
        change.touch(Type.MAILBOX)
        change.end(tx, now, actor, "mailbox.subscribe", {"box": box.id, "was": not wanted})


def delete(tx: Tx, account: int, path: str, now: Instant, actor: int) -> Mailbox:
    """Take a mailbox out of sight; a job then empties it in bounded units. RFC 3501 §6.3.4.

    Raises NotFound, NotAllowed for INBOX, InUse if mailboxes lie below it.
    """
    change = begin(tx, account)
    boxes = tree(tx, account)
    box = boxes.find(path)
    if box.role == "inbox":
        raise NotAllowed("INBOX cannot be deleted")
    if boxes.children(box.id):
        raise InUse("Mailboxes lie below this one")
    path = boxes.path(box.id)
    tx.run(tables.DOOM, id=box.id, path=path, modseq=change.modseq)
    if box.subscribed:
        tx.run(shares.KEEP_NAME, account=account, path=path, most=NAMES_MOST)
    tx.run(
        tables.ADD_TOMBSTONE,
        account=account,
        type=int(Type.MAILBOX),
        container=0,
        modseq=change.modseq,
        key=box.id,
        now=now,
    )
    tx.run(tables.COUNT_TOMBSTONES, account=change.account, more=1)
    change.touch(Type.MAILBOX | Type.EMAIL)
    before = {"box": box.id, "parent": box.parent, "name": box.name, "role": box.role}
    change.end(tx, now, actor, "mailbox.delete", before)
    return box
