"""Annotations: what clients note on a mailbox, or on the server as a whole. RFC 5464.

An entry is named /shared/… or /private/…: all who may read it see the first, and the account that
set it alone the second. Names are compared without case. A value is octets; "" is one, and none is
not. An annotation belongs to its mailbox, not to a name: it stays with a mailbox that is renamed,
goes with one that is deleted, and messages that are brought back do not bring it along.

The special use of a mailbox is /private/specialuse of its owner: RFC 6154 §4. What the server
says of itself stands in the settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, TypeAlias

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached, Malformed, NotAllowed, NotFound, OverQuota, TooLarge
from postroom.domain.events import Type
from postroom.domain.mailboxes import folders, rights, sharing, tables
from postroom.domain.mailboxes.annotated import tables as annotated
from postroom.domain.mailboxes.annotated.settings import MetadataSettings, named_filter
from postroom.domain.mailboxes.change import Change, begin_all
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.rights import MissingRight, Right
from postroom.store.sql import Tx

VALUE_OCTETS: Final = 64 * 1024
NAME_OCTETS: Final = 255
SHARED: Final = "/shared"
PRIVATE: Final = "/private"
SPECIAL_USE: Final = "/private/specialuse"
PRIVATE_FILTERS: Final = "/private/filters/values/"
SHARED_FILTERS: Final = "/shared/filters/values/"
"""What lies below them on the server are searches by their names. RFC 5466 §3.2."""

# RFC 5464 §3.2: ASCII without control characters and without the wildcards of LIST.
_NAME: Final = re.compile(r"/(?:shared|private)(?:/[\x20-\x24\x26-\x29\x2b-\x2e\x30-\x7e]+)*+")
# RFC 5464 §3.3: of these one, and the right to look the mailbox up.
_ANY_OF: Final = Right.READ | Right.SEEN | Right.WRITE | Right.INSERT | Right.POST
# RFC 6154 §2; \All and \Flagged name views, which no mailbox of ours is.
_USES: Final = {
    f"\\{role}": role for role in ("archive", "drafts", "important", "junk", "sent", "trash")
}


class ValueTooLarge(TooLarge):
    """A value of more than `VALUE_OCTETS`: METADATA MAXSIZE. RFC 5464 §4.3."""

    sentence = "The value of an annotation is larger than this server keeps"


class TooManyAnnotations(LimitReached):
    """METADATA TOOMANY. RFC 5464 §4.3."""

    sentence = "No further annotation fits here"


class NoSuchUse(NotAllowed):
    """A special use that is not known, or that another mailbox has: USEATTR. RFC 6154 §3."""

    sentence = "This special use is not to be had"


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be kept: annotations of one mailbox and account, and octets in all."""

    entries: int
    octets: int


# --- names --------------------------------------------------------------------------------------


def entry(name: str) -> str:
    """The name of an entry as it is kept, `/shared` and `/private` among them, below which
    everything lies. Raises Malformed. RFC 5464 §3.2."""
    known = name.lower()
    if len(name) > NAME_OCTETS or not _NAME.fullmatch(known):
        raise Malformed("This is not the name of an annotation")
    return known


def settable(name: str) -> str:
    """`entry` of one that can have a value; of a vendor's the vendor and more. RFC 5464 §3.2.1."""
    known = entry(name)
    names = known.split("/")[1:]
    if len(names) < (4 if names[1:2] == ["vendor"] else 2):
        raise Malformed("This annotation cannot have a value")
    return known


def _within(name: str, asked: str, depth: int | None) -> bool:
    """Whether an entry is the one that was asked for, or lies so many levels below it at most."""
    if name == asked:
        return True
    if depth == 0 or not name.startswith(asked + "/"):
        return False
    return depth is None or name.count("/", len(asked) + 1) < depth


Noted: TypeAlias = Mapping[str, bytes | None]
"""Values by the names of their entries; None where there is none."""

Marks: TypeAlias = dict[str, int | bytes]
"""By the names of entries that are there, what is another once one was set: its modseq, or the
value of what is kept elsewhere. Two of them tell what was set or removed in between."""


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What was asked for."""

    values: Noted  # in the order asked for, or by name
    longest: int | None = None  # octets of the largest value that was left out


@dataclass(frozen=True, slots=True)
class Wanted:
    """Entries, and what lies below them. RFC 5464 §4.2."""

    entries: tuple[str, ...]  # as `entry` gives them
    depth: int | None = 0  # levels below each; None: all
    most: int | None = None  # octets of a value that is not left out

    def choose(self, sizes: Mapping[str, int]) -> tuple[list[str], int | None]:
        """Of those that are there: which are told, and the largest that is left out."""
        chosen = (
            [name for name in self.entries if name in sizes]
            if self.depth == 0
            else [name for name in sizes if any(_within(name, e, self.depth) for e in self.entries)]
        )
        most = self.most
        if most is None:
            return chosen, None
        long = [sizes[name] for name in chosen if sizes[name] > most]
        return [name for name in chosen if sizes[name] <= most], max(long, default=None)

    def told(
        self, sizes: Mapping[str, int], values: Mapping[str, bytes]
    ) -> dict[str, bytes | None]:
        """The answer: an entry without a value is told of where it alone was asked for."""
        names = self.entries if self.depth == 0 else sorted(values)
        return {n: values.get(n) for n in names if n in values or n not in sizes}


def of_mailbox(tx: Tx, viewer: int, path: str, wanted: Wanted) -> Found:
    """What is noted on the mailbox at a path. Raises NotFound, MissingRight. RFC 5464 §3.3."""
    box = _reach(tx, viewer, path)
    sizes = dict(tx.all(annotated.NAMES, mailbox=box.id, viewer=viewer))
    use = _use(box)
    if use is not None:
        sizes[SPECIAL_USE] = len(use)
    chosen, longest = wanted.choose(sizes)
    rows = tx.all(annotated.VALUES, mailbox=box.id, viewer=viewer, names=chosen) if chosen else ()
    values = {name: bytes(value) for name, value in rows}
    if use is not None and SPECIAL_USE in chosen:
        values[SPECIAL_USE] = use
    return Found(wanted.told(sizes, values), longest)


def of_mailboxes(
    tx: Tx, viewer: int, boxes: Sequence[Mailbox], entries: Sequence[str]
) -> dict[int, Noted]:
    """Those entries of many mailboxes, which the viewer may read: `may_read`. RFC 9590 §3."""
    found: dict[int, dict[str, bytes | None]] = {box.id: dict.fromkeys(entries) for box in boxes}
    rows = tx.all(annotated.VALUES_OF_MANY, ids=list(found), viewer=viewer, names=list(entries))
    for box_id, name, value in rows:
        found[box_id][name] = bytes(value)
    if SPECIAL_USE in entries:
        for box in boxes:
            found[box.id][SPECIAL_USE] = _use(box)
    return dict(found)


def marks(tx: Tx, viewer: int, boxes: Iterable[Mailbox], most: int) -> dict[int, Marks]:
    """The marks of mailboxes whose annotations the viewer may read (`may_read`); those without
    any are not in it. Where there are more than `most` entries, at least one more than that."""
    found: dict[int, Marks] = {}
    ids: list[int] = []
    for box in boxes:
        ids.append(box.id)
        use = _use(box)
        if use is not None:
            found[box.id] = {SPECIAL_USE: use}
    for box_id, name, modseq in tx.all(annotated.MARKS, ids=ids, viewer=viewer, limit=most + 1):
        found.setdefault(box_id, {})[name] = modseq
    return found


def server_marks(tx: Tx, viewer: int, settings: MetadataSettings) -> Marks:
    """The marks of what `of_server` tells."""
    return {**dict(tx.all(annotated.SERVER_MARKS, account=viewer)), **_said(settings)}


def _said(settings: MetadataSettings) -> dict[str, bytes]:
    """What the server says to all, of itself and as filters. RFC 5464 §6.2, RFC 5466 §3.2."""
    said = {"/shared/admin": settings.admin, "/shared/comment": settings.comment}
    for name, keys in map(named_filter, settings.filters):
        said[SHARED_FILTERS + name] = keys
    return {name: text.encode() for name, text in said.items() if text}


def of_server(tx: Tx, viewer: int, wanted: Wanted, settings: MetadataSettings) -> Found:
    """What the server says of itself, and what the viewer noted on it. RFC 5464 §6.2."""
    shared = _said(settings)
    sizes = {name: len(value) for name, value in shared.items()}
    sizes.update(tx.all(annotated.SERVER_NAMES, account=viewer))
    chosen, longest = wanted.choose(sizes)
    rows = tx.all(annotated.SERVER_VALUES, account=viewer, names=chosen) if chosen else ()
    values = {name: bytes(value) for name, value in rows}
    values |= {name: value for name, value in shared.items() if name in chosen}
    return Found(wanted.told(sizes, values), longest)


def may_read(held: Right) -> bool:
    """Whether who has these rights in a mailbox may read what is noted on it. RFC 5464 §3.3."""
    return bool(held & Right.LOOKUP and held & _ANY_OF)


def _reach(tx: Tx, viewer: int, path: str) -> Mailbox:
    found = sharing.reach(tx, viewer, path)
    _check_rights(found.rights)
    return found.mailbox


def _check_rights(held: Right, also: Right = rights.NONE) -> None:
    rights.check(held, Right.LOOKUP | also)
    if not held & _ANY_OF:
        raise MissingRight


def _use(box: Mailbox) -> bytes | None:
    """The special use as LIST writes it. RFC 6154 §4. Another's is the owner's: no role is seen."""
    if f"\\{box.role}" not in _USES:
        return None
    return b"\\" + box.role.capitalize().encode("ascii")


# --- setting ------------------------------------------------------------------------------------


def set_on_mailbox(
    tx: Tx,
    viewer: int,
    path: str,
    values: Noted,
    limits: Callable[[Tx, int], Limits],
    now: Instant,
) -> None:
    """Set annotations of a mailbox, or remove those whose value is None; all or none.

    `values` by names as `settable` gives them; `limits` of an account. What all share needs the
    right to write, which is more than RFC 5464 §3.3 asks for: who may read alone would else write
    on everybody's wall. Raises NotFound, MissingRight, ValueTooLarge, TooManyAnnotations,
    OverQuota, NoSuchUse.
    """
    _check_sizes(values)
    shares_any = any(name.startswith(SHARED + "/") for name in values)
    needs = Right.WRITE if shares_any else rights.NONE
    box = _reach(tx, viewer, path)
    owner = box.account
    changes = begin_all(tx, {viewer, owner})
    box = folders.get(tx, box.id)  # the lock: what is read now stays true
    _check_rights(rights.of(tx, viewer, box), needs)
    if not changes.keys() >= {viewer, owner}:
        raise NotFound("No such mailbox")
    kept = dict(values)
    if SPECIAL_USE in kept:
        _set_use(tx, changes[viewer], box, kept.pop(SPECIAL_USE))
    for prefix, account, principal in ((PRIVATE, viewer, viewer), (SHARED, owner, 0)):
        part = {name: value for name, value in kept.items() if name.startswith(prefix + "/")}
        if part and _keep(tx, box.id, principal, changes[account], part, limits(tx, account)):
            changes[account].touch(Type.MAILBOX)
    if changes[owner].types:
        tx.run(annotated.NOTED, id=box.id, modseq=changes[owner].modseq)
    image = {"box": box.id, "entries": sorted(values)}
    for change in changes.values():
        change.end(tx, now, viewer, "mailbox.annotate", image)


def _keep(
    tx: Tx,
    box: int,
    principal: int,
    change: Change,
    values: Noted,
    limits: Limits,
) -> bool:
    """Write what one account notes on a mailbox, or what all share; whether anything changed."""
    key = {"mailbox": box, "principal": principal}
    there = {row[0] for row in tx.all(annotated.KEPT, **key)}
    gone = _gone(values, there)
    for name in gone:
        tx.run(annotated.DROP, **key, name=name)
    put = _put(values, change)
    for row in put:
        tx.run(annotated.PUT, **key, account=change.account, **row)
    _check_limits(tx, change.account, there, values, limits)
    return bool(gone or put)


def set_on_server(tx: Tx, viewer: int, values: Noted, limits: Limits, now: Instant) -> None:
    """Set what the viewer notes on the server for himself. What all read is an administrator's.

    Raises NotAllowed, ValueTooLarge, TooManyAnnotations, OverQuota. RFC 5464 §4.3.
    """
    _check_sizes(values)
    if any(name.startswith(SHARED + "/") for name in values):
        raise NotAllowed("What the server says of itself is its administrator's to set")
    changes = begin_all(tx, (viewer,))
    if viewer not in changes:
        raise NotFound("No such account")
    change = changes[viewer]
    there = {row[0] for row in tx.all(annotated.SERVER_KEPT, account=viewer)}
    gone = _gone(values, there)
    for name in gone:
        tx.run(annotated.SERVER_DROP, account=viewer, name=name)
    put = _put(values, change)
    for row in put:
        tx.run(annotated.SERVER_PUT, account=viewer, **row)
    _check_limits(tx, viewer, there, values, limits)
    if gone or put:
        change.touch(Type.MAILBOX)
    change.end(tx, now, viewer, "server.annotate", {"entries": sorted(values)})


def _gone(values: Noted, there: Set[str]) -> list[str]:
    return [name for name, value in values.items() if value is None and name in there]


def _put(values: Noted, change: Change) -> list[dict[str, object]]:
    return [
        {"name": name, "size": len(name) + len(value), "modseq": change.modseq, "value": value}
        for name, value in values.items()
        if value is not None
    ]


def _check_sizes(values: Noted) -> None:
    if any(value is not None and len(value) > VALUE_OCTETS for value in values.values()):
        raise ValueTooLarge


def _check_limits(
    tx: Tx,
    account: int,
    there: Set[str],
    values: Noted,
    limits: Limits,
) -> None:
    """After the rows were written. Who only removes is always let: he may be over a limit that
    became smaller."""
    if all(value is None for value in values.values()):
        return
    names = {*there, *(name for name, value in values.items() if value is not None)}
    names -= {name for name, value in values.items() if value is None}
    if len(names) > max(limits.entries, len(there)):
        raise TooManyAnnotations
    row = tx.one(annotated.HELD, account=account)
    if row is not None and row[0] > limits.octets:
        raise OverQuota("The annotations of this account take more than they may")


def _set_use(tx: Tx, change: Change, box: Mailbox, value: bytes | None) -> None:
    """Give a mailbox another special use, or none. RFC 6154 §4."""
    role = _USES.get(value.decode("latin-1").lower()) if value else ""
    mine = box.account == change.account
    if role == (box.role if mine and _use(box) else ""):
        return
    if role is None or not mine or box.role == "inbox":
        raise NoSuchUse
    if role and folders.by_role(tx, change.account, role) is not None:
        raise NoSuchUse
    tx.run(tables.SET_ROLE, id=box.id, role=role, modseq=change.modseq)
    change.touch(Type.MAILBOX)


def names(entries: Iterable[str]) -> tuple[str, ...]:
    """Each as `entry` gives it, once. Raises Malformed."""
    return tuple(dict.fromkeys(map(entry, entries)))
