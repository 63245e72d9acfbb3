"""CREATE, DELETE, RENAME, SUBSCRIBE, LIST, LSUB, NAMESPACE, STATUS. RFC 3501 §6.3.3 to §6.3.10."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from postroom.core.clock import Instant
from postroom.core.errors import Malformed, NotAllowed
from postroom.core.ids import MAILBOX, external
from postroom.domain.mailboxes import folders, messages, reading
from postroom.domain.mailboxes.folders import INBOX, SEPARATOR, Mailbox, Tree
from postroom.domain.mailboxes.messages import Pick
from postroom.protocols.imap import listing
from postroom.protocols.imap.listing import Listed, Named, Pattern
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.session import Session
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS
from postroom.wire.imap import (
    SIGNED_IN,
    Command,
    StatusItem,
    mailbox_name,
    parse_create,
    parse_delete,
    parse_list,
    parse_lsub,
    parse_nothing,
    parse_rename,
    parse_status,
    parse_subscribe,
    parse_unsubscribe,
    untagged,
)

# What a client may give a mailbox. \All and \Flagged name views, which no mailbox of ours is:
# RFC 6154 §2 and §3.
_USES: Final = frozenset({"\\archive", "\\drafts", "\\important", "\\junk", "\\sent", "\\trash"})
_SEPARATOR: Final = b'"/"'
_WALKED: Final = 10_000  # messages that may be looked at on the loop
_COUNTS: Final = 200  # mailboxes whose new messages are counted in one read


class BadName(NotAllowed):
    """No mailbox can have this name: CANNOT. RFC 5530 §3."""


# --- making, removing, naming -------------------------------------------------------------------


async def create(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.3; USE: RFC 6154 §3; MAILBOXID: RFC 8474 §4.1."""
    asked = parse_create(command.args)
    uses = [use.lower() for use in asked.uses]
    try:
        if len(uses) > 1 or not _USES.issuperset(uses):
            raise NotAllowed("This special use is not to be had")
        box = await _make(session, asked.mailbox, "".join(uses)[1:])
    except NotAllowed as error:
        if not uses or isinstance(error, BadName):
            raise
        session.tell(command.tag, "NO", str(error), b"USEATTR")
        return
    name = external(MAILBOX, box).encode("ascii")
    await session.finish(command, "Created", b"MAILBOXID (" + name + b")")


async def _make(session: Session, path: str, role: str = "") -> int:
    # A separator at the end says that mailboxes will lie below it: RFC 3501 §6.3.3.
    path = path.removesuffix(SEPARATOR)
    house = session.shared.house
    with_ids = _new_ids(session)
    now = house.clock.now()
    try:
        return await house.mail.write(
            _create, session.account, path, with_ids, now, session.actor, role
        )
    except Malformed as error:
        raise BadName(str(error)) from None


def _new_ids(session: Session) -> list[int]:
    """Enough for a mailbox and all above it; made here, so that a unit can be rerun."""
    return [session.shared.ids.new() for _ in range(folders.DEPTH)]


def _create(
    tx: Tx, account: int, path: str, ids: Sequence[int], now: Instant, actor: int, role: str
) -> int:
    return folders.create(tx, account, path, iter(ids), now, actor, role=role)


async def delete(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.4. If the mailbox is the one that is open, it closes: RFC 9051 §7.1."""
    asked = parse_delete(command.args)
    house = session.shared.house
    gone = await house.mail.write(
        folders.delete, session.account, asked.mailbox, house.clock.now(), session.actor
    )
    if session.selected is not None and session.selected.mailbox.id == gone.id:
        session.close_mailbox()
        session.tell(None, "OK", "That mailbox is closed", b"CLOSED")
    await session.finish(command, "Deleted")


async def rename(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.5."""
    asked = parse_rename(command.args)
    if asked.mailbox == INBOX:
        await _empty_inbox(session, asked.to)
    else:
        to = asked.to.removesuffix(SEPARATOR)
        house = session.shared.house
        ids, now = _new_ids(session), house.clock.now()
        try:
            await house.mail.write(
                _rename, session.account, asked.mailbox, to, ids, now, session.actor
            )
        except Malformed as error:
            raise BadName(str(error)) from None
    await session.finish(command, "Renamed")


def _rename(
    tx: Tx, account: int, old: str, new: str, ids: Sequence[int], now: Instant, actor: int
) -> None:
    folders.rename(tx, account, old, new, iter(ids), now, actor)


async def _empty_inbox(session: Session, to: str) -> None:
    """Renaming INBOX moves its messages and leaves it there, with those below it.

    The messages that are there now; each piece is one unit, so none is ever in both or in none.
    """
    house = session.shared.house
    inbox = await session.find(INBOX)
    target = await _make(session, to)
    uids = await house.mail.read_much(reading.uids, inbox.id)
    for piece in messages.pieces(uids, UNIT_ROWS):
        await house.mail.write_much(
            messages.move,
            session.account,
            inbox.id,
            target,
            Pick(piece[0], piece[-1]),  # what comes meanwhile has higher UIDs
            house.clock.now(),
            session.actor,
        )


async def subscribe(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.6. Subscriptions are kept on mailboxes: what is not there is refused."""
    await _subscribe(session, parse_subscribe(command.args).mailbox, wanted=True)
    await session.finish(command, "Subscribed")


async def unsubscribe(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.7."""
    await _subscribe(session, parse_unsubscribe(command.args).mailbox, wanted=False)
    await session.finish(command, "Unsubscribed")


async def _subscribe(session: Session, path: str, *, wanted: bool) -> None:
    house = session.shared.house
    now = house.clock.now()
    await house.mail.write(
        folders.subscribe, session.account, path, now, session.actor, wanted=wanted
    )


# --- listing --------------------------------------------------------------------------------------


async def list_(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.8, RFC 5258, RFC 6154 §5, RFC 5819."""
    asked = parse_list(command.args)
    _check(session, asked.status)
    if asked.patterns == ("",) and not asked.extended:
        session.write(untagged(b"LIST (\\Noselect)", _SEPARATOR, b'""'))
        await session.finish(command, "The separator told")
        return
    wanted = listing.patterns(asked.reference, asked.patterns)
    tree, names = await _named(session, wanted)
    found = list(listing.list_answers(tree, names, asked))
    counted = await _counted(session, [each.named.mailbox for each in found], asked.status)

    def lines(each: Listed) -> bytes:
        told = _list_line(b"LIST", each)
        if asked.status:
            named = each.named
            told += _status_line(named.path, named.mailbox, asked.status, counted)
        return told

    await _write(session, found, lines)
    await session.finish(command, "Listed")


async def lsub(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.9."""
    asked = parse_lsub(command.args)
    wanted = listing.patterns(asked.reference, (asked.pattern,))
    tree, names = await _named(session, wanted)
    found = listing.lsub_answers(tree, names, asked)
    await _write(session, found, lambda each: _list_line(b"LSUB", each))
    await session.finish(command, "Listed")


async def _named(session: Session, wanted: Sequence[Pattern]) -> tuple[Tree, list[Named]]:
    """The account's mailboxes, and those of them that a pattern matches."""
    tree = await session.shared.house.mail.read(folders.tree, session.account)
    pace = Pace(session.shared.clock)
    names: list[Named] = []
    for name in listing.matching(tree, wanted):
        names.append(name)
        if pace.over:
            await pace.rest()
    return tree, names


async def _write(
    session: Session, found: Iterable[Listed], lines: Callable[[Listed], bytes]
) -> None:
    pace = Pace(session.shared.clock)
    held: list[bytes] = []
    for each in found:
        held.append(lines(each))
        if pace.over:
            session.write(b"".join(held))
            held.clear()
            await session.output.drain()
            await pace.rest()
    session.write(b"".join(held))


def _list_line(kind: bytes, each: Listed) -> bytes:
    parts = [kind, b"(" + b" ".join(each.attributes) + b")", _SEPARATOR]
    parts.append(mailbox_name(each.named.path))
    if each.child_info:
        parts.append(b'("CHILDINFO" (' + b" ".join(each.child_info) + b"))")
    return untagged(*parts)


async def namespace(session: Session, command: Command) -> None:
    """RFC 2342 §5: one namespace, the user's own."""
    parse_nothing(command.args)
    session.write(untagged(b"NAMESPACE", b'(("" "/"))', b"NIL", b"NIL"))
    await session.finish(command, "Namespaces told")


# --- status ---------------------------------------------------------------------------------------


async def status(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.10."""
    asked = parse_status(command.args)
    _check(session, asked.items)
    box = await session.find(asked.mailbox)
    counted = await _counted(session, [box], asked.items)
    session.write(_status_line(asked.mailbox, box, asked.items, counted))
    await session.finish(command, "Status told")


def _check(session: Session, items: Sequence[StatusItem]) -> None:
    """Note what turns CONDSTORE on. RFC 7162 §3.1."""
    if StatusItem.HIGHESTMODSEQ in items:
        session.condstore = True


class Counted(NamedTuple):
    """What the row of a mailbox does not say, by its id; empty where nobody asked."""

    recent: dict[int, int]
    deleted: dict[int, int]  # octets


async def _counted(
    session: Session, boxes: Sequence[Mailbox], items: Sequence[StatusItem]
) -> Counted:
    recent = await _recent(session, boxes) if StatusItem.RECENT in items else {}
    deleted = await _deleted(session, boxes) if StatusItem.DELETED_STORAGE in items else {}
    return Counted(recent, deleted)


async def _deleted(session: Session, boxes: Sequence[Mailbox]) -> dict[int, int]:
    """How many octets EXPUNGE would free in each mailbox. RFC 9208 §4.1.4."""
    mail, found = session.shared.house.mail, {}
    for box in boxes:
        if box.deleted in (0, box.total):
            found[box.id] = box.size if box.deleted else 0
            continue
        read = mail.read if box.total <= _WALKED else mail.read_much
        found[box.id] = await read(reading.deleted_size, box.id)
        await session.output.drain()
    return found


async def _recent(session: Session, boxes: Sequence[Mailbox]) -> dict[int, int]:
    """How many messages of each mailbox no other session has been told of. RFC 3501 §2.3.2."""
    house, selected = session.shared.house, session.selected
    floors = await house.state.read(reading.recent_floors, [box.id for box in boxes])
    found = dict.fromkeys((box.id for box in boxes), 0)
    unknown: list[tuple[int, int]] = []
    for box in boxes:
        floor = floors.get(box.id, 1)
        if selected is not None and selected.mailbox.id == box.id:
            found[box.id] = selected.recent_count()
            floor = max(floor, selected.mailbox.uidnext)
        if floor == 1:
            found[box.id] += box.total
        elif floor < box.uidnext:
            unknown.append((box.id, floor))
    for n in range(0, len(unknown), _COUNTS):
        for box_id, count in await house.mail.read(_count, unknown[n : n + _COUNTS]):
            found[box_id] += count
        await session.output.drain()
    return found


def _count(tx: Tx, floors: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(box, reading.count_from(tx, box, floor)) for box, floor in floors]


def _status_line(path: str, box: Mailbox, items: Sequence[StatusItem], counted: Counted) -> bytes:
    told = b" ".join(_status_items(box, items, counted))
    return untagged(b"STATUS", mailbox_name(path), b"(" + told + b")")


def _status_items(box: Mailbox, items: Sequence[StatusItem], counted: Counted) -> Iterator[bytes]:
    for item in items:
        match item:
            case StatusItem.MESSAGES:
                value = box.total
            case StatusItem.RECENT:
                value = counted.recent[box.id]
            case StatusItem.UIDNEXT:
                value = box.uidnext
            case StatusItem.UIDVALIDITY:
                value = box.uidvalidity
            case StatusItem.UNSEEN:
                value = box.unseen
            case StatusItem.DELETED:
                value = box.deleted
            case StatusItem.DELETED_STORAGE:
                value = counted.deleted[box.id]
            case StatusItem.SIZE:
                value = box.size
            case StatusItem.HIGHESTMODSEQ:
                value = max(1, box.modseq)
            case StatusItem.APPENDLIMIT:
                value = SIGNED_IN.append
            case StatusItem.MAILBOXID:
                yield b"MAILBOXID (" + external(MAILBOX, box.id).encode("ascii") + b")"
                continue
        yield item.encode("ascii") + b" %d" % value
