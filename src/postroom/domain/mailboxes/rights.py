"""What an account may do in a mailbox: rights, and the list of them that a mailbox has.

Owner's rights are not kept: who owns a mailbox may do everything in it, so nobody locks himself
out. Everybody else has what the list says: the rights given to him and to his domain, less those
taken from him and from his domain. RFC 4314 §2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached, Malformed, NotAllowed, NotFound
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.events import Changed, Type
from postroom.domain.mailboxes import folders
from postroom.domain.mailboxes.change import begin_all
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.shares import tables as shares
from postroom.formats.address import parse_mailbox
from postroom.store.sql import Row, Tx

ENTRIES_MOST: Final = 1_000
"""Entries in the list of one mailbox."""

ANYONE: Final = "anyone"


class Right(IntFlag):
    """RFC 4314 §2.1."""

    LOOKUP = 1  # l: LIST shows it, SUBSCRIBE takes it
    READ = 2  # r: SELECT, STATUS, FETCH, SEARCH, and COPY from it
    SEEN = 4  # s: STORE \\Seen
    WRITE = 8  # w: STORE any flag but \\Seen and \\Deleted
    INSERT = 16  # i: APPEND, COPY into it
    POST = 32  # p: mail to the mailbox's own address
    CREATE = 64  # k: CREATE below it, or RENAME to below it
    DELETE_MAILBOX = 128  # x: DELETE, RENAME
    DELETE_MESSAGES = 256  # t: STORE \\Deleted
    EXPUNGE = 512  # e: EXPUNGE, and that of CLOSE
    ADMINISTER = 1024  # a: SETACL, DELETEACL, GETACL, LISTRIGHTS


NONE: Final = Right(0)
ALL: Final = Right(2047)
LETTERS: Final = dict(zip("lrswipkxtea", Right, strict=True))
# What RFC 2086 had as one right each: RFC 4314 §2.1.1.
VIRTUAL: Final = {
    "c": Right.CREATE | Right.DELETE_MAILBOX,
    "d": Right.DELETE_MESSAGES | Right.EXPUNGE,
}


class MissingRight(NotAllowed):
    """The mailbox is one that the account may know of, and the right is not there: NOPERM."""

    sentence = "You have no right to do that in this mailbox"


def parse(letters: str) -> Right:
    """`lrs` and the like, `c` and `d` among them; raises Malformed for a letter that is none."""
    found = NONE
    for letter in letters:
        right = LETTERS.get(letter) or VIRTUAL.get(letter)
        if right is None:
            raise Malformed("This is not a right")
        found |= right
    return found


def written(rights: Right) -> str:
    """The letters; with `c` and `d` where any of their members is there: RFC 4314 §2.1.1."""
    own = "".join(letter for letter, right in LETTERS.items() if rights & right)
    return own + "".join(letter for letter, members in VIRTUAL.items() if rights & members)


def check(held: Right, needs: Right) -> None:
    """Raises MissingRight, or NotFound for whom the mailbox is not there. RFC 4314 §4."""
    if needs & ~held:
        if held & Right.LOOKUP:
            raise MissingRight
        raise NotFound("No such mailbox")


# --- what an account may do ---------------------------------------------------------------------


def of(tx: Tx, viewer: int, box: Mailbox) -> Right:
    """The rights of an account in a mailbox: the one place that knows. One statement for what is
    another's, none for its own."""
    if box.account == viewer:
        return ALL
    return summed(tx.all(shares.RIGHTS_OF, mailbox=box.id, viewer=viewer))


def within(tx: Tx, viewer: int, owner: int) -> dict[int, Right]:
    """`of` for all mailboxes of another account at once; those without any right are not in it."""
    by_box: dict[int, list[Row]] = {}
    for box, *entry in tx.all(shares.RIGHTS_WITHIN, account=owner, viewer=viewer):
        by_box.setdefault(box, []).append(tuple(entry))
    found = ((box, summed(entries)) for box, entries in by_box.items())
    return {box: rights for box, rights in found if rights}


def summed(entries: Iterable[Row]) -> Right:
    """What (negative, rights) entries come to. RFC 4314 §2."""
    given = taken = 0
    for negative, rights in entries:
        if negative:
            taken |= rights
        else:
            given |= rights
    return Right(given & ~taken) & ALL


# --- the list -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a mailbox's list; the identifier as people write it, with `-` before it if the
    rights are taken and not given."""

    identifier: str
    rights: Right


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom an identifier means: an account, or all of a domain."""

    principal: int
    negative: bool


def subject(tx: Tx, owner: Account, identifier: str, *, beyond: bool = False) -> Subject:
    """Whom an identifier means in the lists of an owner's mailboxes.

    An address, or its local part alone in the owner's domain; `anyone` is everybody of that
    domain, `@DOMAIN` everybody of another. Other domains only with `beyond`: without it they are
    as unknown as what is not there, so nobody learns who has an account elsewhere. Raises NotFound.
    """
    negative = identifier.startswith("-")
    name = identifier.removeprefix("-")
    if name.lower() == ANYONE:
        return Subject(owner.domain_id, negative)
    local, at, domain = name.rpartition("@")
    if at and not local:
        found = people.find_domain(tx, domain.lower())
        if found is not None and (beyond or found.id == owner.domain_id):
            return Subject(found.id, negative)
        raise NotFound("There is no such identifier")
    try:
        address = parse_mailbox(name if at else f"{name}@{owner.domain}")
    except Malformed:
        raise NotFound("There is no such identifier") from None
    account = people.find_account(tx, address)
    if account is None or account.kind != people.PERSON:
        raise NotFound("There is no such identifier")
    if account.domain_id != owner.domain_id and not beyond:
        raise NotFound("There is no such identifier")
    return Subject(account.id, negative)


def entries(tx: Tx, box: Mailbox) -> list[Entry]:
    """The list of a mailbox: its owner first, unless that is nobody who signs in. Who is deleted
    and can come back is not told."""
    owner = people.by_id(tx, box.account)
    found = [Entry(str(owner.address), ALL)] if owner.kind == people.PERSON else []
    rows = tx.all(shares.RIGHTS_LIST, mailbox=box.id)
    accounts = people.by_ids(tx, [row[0] for row in rows])
    for principal, negative, rights in rows:
        if principal == owner.domain_id:
            name = ANYONE
        elif principal in accounts:
            if accounts[principal].kind == people.GONE:
                continue
            name = str(accounts[principal].address)
        else:
            domain = people.domain_by_id(tx, principal)
            if domain is None:
                continue
            name = f"@{domain.name}"
        found.append(Entry("-" * negative + name, Right(rights)))
    return found


def put(
    tx: Tx,
    box_id: int,
    whom: Subject,
    rights: Right,
    now: Instant,
    actor: int,
    *,
    add: bool = False,
    remove: bool = False,
) -> Right:
    """Set an entry of the list, add to it or take from it; an entry without rights goes. Returns
    the rights that it has now. RFC 4314 §3.1, §3.2.

    Raises NotFound; NotAllowed for the owner, whose rights do not change; LimitReached.
    """
    owner = folders.get(tx, box_id).account
    changes = begin_all(tx, (owner, whom.principal))  # of a domain there is no account
    box = folders.get(tx, box_id)
    if whom.principal == owner:
        if not whom.negative and (add or rights == ALL):
            return ALL
        raise NotAllowed("The owner of a mailbox has all rights")
    key = {"mailbox": box.id, "principal": whom.principal, "negative": int(whom.negative)}
    row = tx.one(shares.RIGHTS_ENTRY, **key)
    before = Right(row[0]) if row is not None else NONE
    after = before | rights if add else before & ~rights if remove else rights
    if after == before:
        return after
    if not after:
        tx.run(shares.DROP_RIGHTS, **key)
    else:
        count = tx.one(shares.RIGHTS_COUNT, mailbox=box.id)
        if row is None and count is not None and count[0] >= ENTRIES_MOST:
            raise LimitReached("No further entry fits into the list of this mailbox")
        tx.run(shares.PUT_RIGHTS, **key, rights=int(after))
    change = changes[owner]
    tx.run(shares.MAILBOX_CHANGED, id=box.id, modseq=change.modseq)
    tx.run(shares.RAISE_RIGHTS_EPOCH, ids=[owner, whom.principal])
    change.touch(Type.MAILBOX)
    image = {"box": box.id, "principal": whom.principal, "negative": int(whom.negative)}
    change.end(tx, now, actor, "mailbox.rights", {**image, "rights": int(before)})
    if whom.principal in changes:
        # Nothing that it owns changed, but what it sees.
        seen = changes[whom.principal].modseq - 1
        tx.after(Changed(whom.principal, seen, Type.MAILBOX))
    return after


def clear(tx: Tx, box_id: int, whom: Subject, now: Instant, actor: int) -> None:
    """Remove an entry. RFC 4314 §3.2. Raises NotFound, NotAllowed for the owner."""
    put(tx, box_id, whom, NONE, now, actor)


def offered(owner: int, whom: Subject) -> tuple[str, Sequence[str]]:
    """What LISTRIGHTS answers: the rights that somebody always has, and those that can be given
    one by one. RFC 4314 §3.4."""
    if whom.principal == owner:
        return written(ALL), ()
    return "", (*LETTERS, *VIRTUAL)
