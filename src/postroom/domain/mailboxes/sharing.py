"""Mailboxes of others by name: what an account sees beside its own.

`Shared/ADDRESS/PATH` is a mailbox of the person at ADDRESS, `Public/PATH` one of the viewer's
domain. A mailbox lies where it lies for its owner. What stands above it and is not to be seen is
a level without a mailbox; it is told alike whether there is one or not. An own mailbox of the same
name goes first, so that no mail of an account is ever out of its reach. RFC 2342, RFC 4314.

Who has no right to look a mailbox up gets the same answers as if it were not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, InUse, Malformed, NotAllowed, NotFound
from postroom.core.ids import ACCOUNT, external, internal
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.events import Type
from postroom.domain.mailboxes import folders, rights, tables
from postroom.domain.mailboxes.change import begin_all
from postroom.domain.mailboxes.folders import SEPARATOR, Mailbox, Tree
from postroom.domain.mailboxes.rights import MissingRight, Right
from postroom.domain.mailboxes.shares import tables as shares
from postroom.formats.address import parse_mailbox
from postroom.store.sql import Row, Tx

SHARED: Final = "Shared"
PUBLIC: Final = "Public"
PREFIXES: Final = (SHARED + SEPARATOR, PUBLIC + SEPARATOR)


@dataclass(frozen=True, slots=True)
class Reached:
    """A mailbox, whose it may be, and what the viewer may do in it."""

    mailbox: Mailbox
    rights: Right


def is_beyond(path: str) -> bool:
    """Whether a path leads to mailboxes of others, unless there is an own one of that name."""
    return path.startswith(PREFIXES)


def is_root(path: str) -> bool:
    """Whether it is the name of a whole namespace, which no own mailbox is to take."""
    return path in (SHARED, PUBLIC)


def name_of(owner: Account) -> str:
    """The level below `Shared` that stands for a person: the address, or the id if a separator
    in it would cut it into two."""
    address = str(owner.address)
    return address if SEPARATOR not in address else external(ACCOUNT, owner.id)


# --- one mailbox --------------------------------------------------------------------------------


def _owner(tx: Tx, viewer: int, path: str) -> tuple[Account, str]:
    """Whose mailbox a path names, and its path there; raises NotFound."""
    top, _, rest = path.partition(SEPARATOR)
    owner: Account | None
    if top == PUBLIC:
        owner = people.find_public(tx, people.by_id(tx, viewer).domain_id)
    else:
        name, _, rest = rest.partition(SEPARATOR)
        owner = _person(tx, name)
    if owner is None or owner.state == "disabled" or owner.id == viewer or not rest:
        raise NotFound("No such mailbox")
    return owner, folders.canonical(rest)


def _person(tx: Tx, name: str) -> Account | None:
    try:
        found = (
            people.find_account(tx, parse_mailbox(name))
            if "@" in name
            else people.by_id(tx, internal(ACCOUNT, name))
        )
    except (Malformed, NotFound):
        return None
    return found if found is not None and found.kind == people.PERSON else None


def reach(tx: Tx, viewer: int, path: str) -> Reached:
    """The mailbox at a path with the viewer's rights, of which there is at least one; raises
    NotFound."""
    if not is_beyond(path):
        return Reached(folders.at(tx, viewer, path), rights.ALL)
    try:
        return Reached(folders.at(tx, viewer, path), rights.ALL)
    except NotFound:
        owner, rest = _owner(tx, viewer, path)
    box = folders.at(tx, owner.id, rest)
    held = rights.of(tx, viewer, box)
    if not held:
        raise NotFound("No such mailbox")
    return Reached(_seen(box, subscribed=False), held)


def find(tx: Tx, viewer: int, path: str, needs: Right = Right.READ) -> Mailbox:
    """The mailbox at a path, for an account that needs those rights in it.

    Raises NotFound, also for whom it is as if the mailbox were not there; MissingRight.
    """
    reached = reach(tx, viewer, path)
    rights.check(reached.rights, needs)
    return reached.mailbox


def _seen(box: Mailbox, *, subscribed: bool) -> Mailbox:
    """As another sees it: special uses and subscriptions are the owner's."""
    return replace(box, role="", subscribed=subscribed)


# --- all of them --------------------------------------------------------------------------------


def held(tx: Tx, viewer: int) -> dict[int, Right]:
    """The rights of an account in every mailbox of others in which it has any."""
    by_box: dict[int, list[Row]] = {}
    for box, *entry in tx.all(shares.RIGHTS_HELD, viewer=viewer):
        by_box.setdefault(box, []).append(tuple(entry))
    return {box: found for box, rows in by_box.items() if (found := rights.summed(rows))}


@dataclass(frozen=True, slots=True)
class Sight:
    """All that an account may look up: one tree, and what it may do in the mailboxes of others."""

    viewer: int
    tree: Tree
    held: dict[int, Right]

    def rights_in(self, box: Mailbox) -> Right:
        """What the account may do in a mailbox of the tree; nothing at a level without one."""
        return rights.ALL if box.account == self.viewer else self.held.get(box.id, rights.NONE)


def sight(tx: Tx, viewer: int) -> Sight:
    """The viewer's own mailboxes, and those of others that he may look up.

    A level without a mailbox has a negative id: `is_level`. So have names that are subscribed to
    and have no mailbox any more. Three statements where nobody shares anything, else eight,
    however many mailboxes and owners there are.
    """
    own = folders.tree(tx, viewer)
    names = [each for each in folders.subscribed_names(tx, viewer) if each not in own.by_path]
    by_box = held(tx, viewer)
    visible = [box for box, held_ in by_box.items() if held_ & Right.LOOKUP]
    seen = _Grafting(tx, viewer, own, visible).whole(names) if visible or names else own
    return Sight(viewer, seen, by_box)


def is_level(box: Mailbox) -> bool:
    """It stands for a level of names, and no mailbox is there that the viewer may know of."""
    return box.id < 0


class _Grafting:
    """The making of a tree out of an own one and mailboxes of others."""

    def __init__(self, tx: Tx, viewer: int, own: Tree, visible: list[int]) -> None:
        subscribed = {row[0] for row in tx.all(shares.SUBSCRIPTIONS, principal=viewer)}
        self._own = own
        self._boxes = {
            (box := _seen(folders.mailbox_of(row), subscribed=row[0] in subscribed)).id: box
            for row in tx.all(tables.MAILBOXES_BY_ID, ids=visible)
        }
        self._above: dict[int, tuple[int, str]] = {
            box: (parent, name) for box, parent, name in tx.all(shares.WITH_PARENTS, ids=visible)
        }
        self._owners = people.by_ids(tx, {box.account for box in self._boxes.values()})
        self._domain = people.by_id(tx, viewer).domain_id
        self._levels: dict[str, Mailbox] = {}

    def whole(self, names: Iterable[str]) -> Tree:
        """Own mailboxes as they are; each of the others below the level of its owner; levels for
        names that are subscribed to alone."""
        grafted: list[Mailbox] = []
        paths = {self._path(box): box.id for box in self._boxes.values()}
        at = {path: box for path, box in paths.items() if path and path not in self._own.by_path}
        for path, box_id in at.items():
            above, _, name = path.rpartition(SEPARATOR)
            parent = self._node(above, at)
            grafted.append(replace(self._boxes[box_id], parent=parent, name=name))
        for path in names:
            if path not in at:
                self._node(path, at)
                self._levels[path] = replace(self._levels[path], subscribed=True)
        return Tree([*self._own.by_id.values(), *self._levels.values(), *grafted])

    def _path(self, box: Mailbox) -> str:
        """Where a mailbox of another is for the viewer; empty where it is not to be seen."""
        owner = self._owners.get(box.account)
        if owner is None or owner.state == "disabled":
            return ""
        if owner.kind == people.PUBLIC and owner.domain_id == self._domain:
            names = [PUBLIC]
        elif owner.kind == people.PERSON:
            names = [SHARED, name_of(owner)]
        else:
            return ""
        below: list[str] = []
        node = box.id
        while node:
            if node not in self._above or len(below) > folders.DEPTH:
                return ""  # its parent is gone: `check` reports it
            node, name = self._above[node]
            below.append(name)
        return SEPARATOR.join(names + below[::-1])

    def _node(self, path: str, at: dict[str, int]) -> int:
        """What stands at a path above a mailbox: an own one, one of others, or a level."""
        if path in self._own.by_path:
            return self._own.by_path[path].id
        if path in at:
            return at[path]
        if path not in self._levels:
            above, _, name = path.rpartition(SEPARATOR)
            parent = self._node(above, at) if above else 0
            self._levels[path] = _level(-1 - len(self._levels), parent, name)
        return self._levels[path].id


def _level(level: int, parent: int, name: str) -> Mailbox:
    return Mailbox(level, 0, parent, name, "", False, 0, 0, 0, 0, 0, 0, 0, 0, 0)


# --- changes --------------------------------------------------------------------------------------


def create(
    tx: Tx, viewer: int, path: str, ids: Iterator[int], now: Instant, *, role: str = ""
) -> int:
    """`folders.create`, below a mailbox of another too where the viewer may. RFC 4314 §4.

    Raises what that raises; MissingRight or NotFound where he may not.
    """
    if is_root(path):
        raise NotAllowed("This name stands for mailboxes of others")
    if not is_beyond(path):
        return folders.create(tx, viewer, path, ids, now, viewer, role=role)
    owner, rest = _owner(tx, viewer, path)
    if role:
        raise NotAllowed("A special use is the owner's to give")
    begin_all(tx, (owner.id,))  # the lock: what is judged here stays true
    _may_make(tx, viewer, owner.id, rest)
    return folders.create(tx, owner.id, rest, ids, now, viewer)


def _may_make(tx: Tx, viewer: int, owner: int, path: str) -> None:
    """Whether the viewer may make a mailbox at a path of an owner, which needs the right in the
    next one above that is there. What he is told depends on what he may look up."""
    boxes = folders.tree(tx, owner)
    by_box = rights.within(tx, viewer, owner)
    taken = boxes.by_path.get(path)
    if taken is not None and by_box.get(taken.id, rights.NONE) & Right.LOOKUP:
        raise AlreadyExists("A mailbox of that name is there")
    above, known, makes = path, False, None
    while (above := above.rpartition(SEPARATOR)[0]) != "":
        box = boxes.by_path.get(above)
        if box is None:
            continue
        held_ = by_box.get(box.id, rights.NONE)
        makes = bool(held_ & Right.CREATE) if makes is None else makes
        known = known or bool(held_ & Right.LOOKUP)
    if makes and taken is None:
        return
    if known:
        raise MissingRight
    raise NotFound("No such mailbox")


def rename(tx: Tx, viewer: int, old: str, new: str, ids: Iterator[int], now: Instant) -> None:
    """`folders.rename`, of a mailbox of another too, within what is his. RFC 4314 §4.

    Raises what that raises; MissingRight; NotAllowed between two owners.
    """
    if is_root(new):
        raise NotAllowed("This name stands for mailboxes of others")
    box = find(tx, viewer, old, Right.DELETE_MAILBOX)
    mine = box.account == viewer
    if mine and not is_beyond(new):
        folders.rename(tx, viewer, old, new, ids, now, viewer)
        return
    owner = None if mine or not is_beyond(new) else _owner(tx, viewer, new)
    if owner is None or owner[0].id != box.account:
        raise NotAllowed("A mailbox stays with its owner")
    begin_all(tx, (box.account,))
    _may_make(tx, viewer, box.account, owner[1])
    path = folders.tree(tx, box.account).path(box.id)
    folders.rename(tx, box.account, path, owner[1], ids, now, viewer)


def delete(tx: Tx, viewer: int, path: str, now: Instant) -> Mailbox:
    """`folders.delete`, of a mailbox of another too. RFC 4314 §4.

    Raises what that raises, and MissingRight: also where what lies below is not to be seen.
    """
    box = find(tx, viewer, path, Right.DELETE_MAILBOX)
    if box.account == viewer:
        return folders.delete(tx, viewer, path, now, viewer)
    begin_all(tx, (box.account,))
    boxes = folders.tree(tx, box.account)
    try:
        return folders.delete(tx, box.account, boxes.path(box.id), now, viewer)
    except InUse:
        by_box = rights.within(tx, viewer, box.account)
        if any(by_box.get(child.id, rights.NONE) & Right.LOOKUP for child in boxes.below(box.id)):
            raise
        raise MissingRight from None


def subscribe(tx: Tx, viewer: int, path: str, now: Instant, *, wanted: bool) -> None:
    """Set or clear a subscription; the viewer's own, whose ever the mailbox is. Raises NotFound.

    RFC 3501 §6.3.6; RFC 4314 §4: of another's it needs the right to look it up, until it goes.
    """
    if not is_beyond(path):
        folders.subscribe(tx, viewer, path, now, viewer, wanted=wanted)
        return
    box = find(tx, viewer, path, Right.LOOKUP)
    if box.account == viewer:
        folders.subscribe(tx, viewer, path, now, viewer, wanted=wanted)
        return
    (change,) = begin_all(tx, (viewer,)).values()
    statement = shares.ADD_SUBSCRIPTION if wanted else shares.DROP_SUBSCRIPTION
    if tx.run(statement, principal=viewer, mailbox=box.id):
        change.touch(Type.MAILBOX)
        image = {"box": box.id, "was": not wanted}
        change.end(tx, now, viewer, "mailbox.subscribe", image)
