"""CREATE, DELETE, RENAME, SUBSCRIBE, LIST, LSUB, NAMESPACE, STATUS. RFC 3501 §6.3.3 to §6.3.10."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from postroom.core.clock import Instant
from postroom.core.errors import Malformed, NotAllowed, NotFound
from postroom.core.ids import MAILBOX, external
from postroom.domain.mailboxes import annotating, folders, messages, reading, sharing
from postroom.domain.mailboxes.annotating import Noted, Wanted
from postroom.domain.mailboxes.folders import INBOX, SEPARATOR, Mailbox
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.sharing import Sight
from postroom.formats import utf7
from postroom.protocols.imap import listing
from postroom.protocols.imap.announcing import announce, announce_gone, announce_written
from postroom.protocols.imap.commands.acl import myrights_line
from postroom.protocols.imap.commands.metadata import limits, metadata_line
from postroom.protocols.imap.commands.notify import did
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.listing import Listed, Named, Pattern
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.session import Session
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS
from postroom.wire.imap import (
    SIGNED_IN,
    Command,
    ListReturn,
    StatusItem,
    parse_create,
    parse_delete,
    parse_list,
    parse_lsub,
    parse_nothing,
    parse_rename,
    parse_status,
    parse_subscribe,
    parse_unsubscribe,
    quoted_or_literal,
    untagged,
)

# What a client may give a mailbox. \All and \Flagged name views, which no mailbox of ours is:
# RFC 6154 §2 and §3.
_USES: Final = frozenset({"\\archive", "\\drafts", "\\important", "\\junk", "\\sent", "\\trash"})
_SEPARATOR: Final = b'"/"'
_WALKED: Final = 10_000  # messages that may be looked at on the loop
_COUNTS: Final = 200  # mailboxes whose new messages are counted in one read
_NOTED: Final = 32  # mailboxes whose annotations are held at once: values may be large


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
    path = asked.mailbox.removesuffix(SEPARATOR)
    await announce_written(session, path)
    await did(session, path)
    name = external(MAILBOX, box).encode("ascii")
    await finish(session, command, "Created", b"MAILBOXID (" + name + b")")


async def _make(session: Session, path: str, role: str = "", *, noted: bool = False) -> int:
    # A separator at the end says that mailboxes will lie below it: RFC 3501 §6.3.3.
    path = path.removesuffix(SEPARATOR)
    house = session.shared.house
    with_ids = _new_ids(session)
    now = house.clock.now()
    try:
        if noted:
            return await house.mail.write(_create_noted, session, path, with_ids, now)
        return await house.mail.write(_create, session.account, path, with_ids, now, role)
    except Malformed as error:
        raise BadName(str(error)) from None


def _new_ids(session: Session) -> list[int]:
    """Enough for a mailbox and all above it; made here, so that a unit can be rerun."""
    return [session.shared.ids.new() for _ in range(folders.DEPTH)]


def _create(tx: Tx, account: int, path: str, ids: Sequence[int], now: Instant, role: str) -> int:
    return sharing.create(tx, account, path, iter(ids), now, role=role)


def _create_noted(tx: Tx, session: Session, path: str, ids: Sequence[int], now: Instant) -> int:
    """With the annotations of INBOX but its use."""
    made = _create(tx, session.account, path, ids, now, "")
    everything = Wanted((annotating.PRIVATE, annotating.SHARED), depth=None)
    found = annotating.of_mailbox(tx, session.account, INBOX, everything).values
    values = {name: value for name, value in found.items() if value is not None}
    values.pop(annotating.SPECIAL_USE, None)
    if values:
        of = partial(limits, session)
        annotating.set_on_mailbox(tx, session.account, path, values, of, now)
    return made


async def delete(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.4. If the mailbox is the one that is open, it closes: RFC 9051 §7.1."""
    asked = parse_delete(command.args)
    house = session.shared.house
    gone = await house.mail.write(sharing.delete, session.account, asked.mailbox, house.clock.now())
    if session.selected is not None and session.selected.mailbox.id == gone.id:
        session.close_mailbox()
        session.tell(None, "OK", "That mailbox is closed", b"CLOSED")
    announce_gone(session, asked.mailbox)
    await did(session, asked.mailbox)
    await finish(session, command, "Deleted")


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
            await house.mail.write(_rename, session.account, asked.mailbox, to, ids, now)
        except Malformed as error:
            raise BadName(str(error)) from None
        await announce(session, to, asked.mailbox)
    await did(session, asked.mailbox, asked.to.removesuffix(SEPARATOR))
    await finish(session, command, "Renamed")


def _rename(tx: Tx, account: int, old: str, new: str, ids: Sequence[int], now: Instant) -> None:
    sharing.rename(tx, account, old, new, iter(ids), now)


async def _empty_inbox(session: Session, to: str) -> None:
    """Renaming INBOX moves its messages and leaves it there, with those below it.

    The messages that are there now; each piece is one unit, so none is ever in both or in none.
    What the owner noted on it, and what all share, is copied: RFC 5464 §4.1.
    """
    if sharing.is_beyond(to):
        raise NotAllowed("A mailbox stays with its owner")
    house = session.shared.house
    inbox = await session.find(INBOX)
    target = await _make(session, to, noted=True)
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
    await finish(session, command, "Subscribed")


async def unsubscribe(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.7. What is not there is not subscribed, which is success: RFC 9051 §6.3.8."""
    asked = parse_unsubscribe(command.args)
    with suppress(NotFound):
        await _subscribe(session, asked.mailbox, wanted=False)
    await finish(session, command, "Unsubscribed")


async def _subscribe(session: Session, path: str, *, wanted: bool) -> None:
    house = session.shared.house
    now = house.clock.now()
    await house.mail.write(sharing.subscribe, session.account, path, now, wanted=wanted)
    await did(session, path)


# --- listing --------------------------------------------------------------------------------------


async def list_(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.8, RFC 5258, RFC 6154 §5, RFC 5819, RFC 9590."""
    asked = parse_list(command.args)
    entries = annotating.names(asked.metadata)
    _check(session, asked.status)
    if asked.patterns == ("",) and not asked.extended:
        session.write(untagged(b"LIST (\\Noselect)", _SEPARATOR, b'""'))
        await finish(session, command, "The separator told")
        return
    wanted = listing.patterns(asked.reference, asked.patterns)
    sight, names = await _named(session, wanted)
    found = list(listing.list_answers(sight.tree, names, asked))
    chosen = [each.named.mailbox for each in found if each.chosen]
    told_of = [box for box in chosen if sight.rights_in(box) & Right.READ]  # RFC 5819 §2
    counted = await _counted(session, told_of, asked.status)
    tells = {box.id for box in told_of} if asked.status else set()
    closed = {box.id for box in chosen} - tells if asked.status else set()
    noted: dict[int, Noted] = {}

    def lines(each: Listed) -> bytes:
        named = each.named
        told = _list_line(session, b"LIST", each.closed if named.mailbox.id in closed else each)
        held = sight.rights_in(named.mailbox)
        if ListReturn.MYRIGHTS in asked.returns and held:
            told += myrights_line(session, named.path, held)  # RFC 8440 §3
        if named.mailbox.id in tells:
            told += _status_line(session, named.path, named.mailbox, asked.status, counted)
        if named.mailbox.id in noted:
            told += metadata_line(session, named.path, noted[named.mailbox.id])  # RFC 9590 §3
        return told

    size = _NOTED if entries else max(1, len(found))
    for n in range(0, len(found), size):
        piece = found[n : n + size]
        if entries:
            noted = await _noted(session, sight, piece, entries)
        await _write(session, piece, lines)
        await session.output.drain()
    await finish(session, command, "Listed")


async def _noted(
    session: Session, sight: Sight, found: Sequence[Listed], entries: Sequence[str]
) -> dict[int, Noted]:
    """Annotations, of those mailboxes that were asked for, are there, and may be read so."""
    boxes = [each.named.mailbox for each in found if each.chosen]
    readable = [box for box in boxes if annotating.may_read(sight.rights_in(box))]
    return await session.shared.house.mail.read(
        annotating.of_mailboxes, session.account, readable, entries
    )


async def lsub(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.9."""
    asked = parse_lsub(command.args)
    wanted = listing.patterns(asked.reference, () if asked.pattern is None else (asked.pattern,))
    sight, names = await _named(session, wanted)
    found = listing.lsub_answers(sight.tree, names, asked)
    await _write(session, found, lambda each: _list_line(session, b"LSUB", each))
    await finish(session, command, "Listed")


async def _named(session: Session, wanted: Sequence[Pattern]) -> tuple[Sight, list[Named]]:
    """The mailboxes that the account sees, and those of them that a pattern matches."""
    sight = await session.shared.house.mail.read(sharing.sight, session.account)
    pace = Pace(session.shared.clock)
    names: list[Named] = []
    for name in listing.matching(sight.tree, wanted):
        names.append(name)
        if pace.over:
            await pace.rest()
    return sight, names


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


def _list_line(session: Session, kind: bytes, each: Listed) -> bytes:
    parts = [kind, b"(" + b" ".join(each.attributes) + b")", _SEPARATOR]
    parts.append(session.name(each.named.path))
    if each.child_info:
        parts.append(b'("CHILDINFO" (' + b" ".join(each.child_info) + b"))")
    return untagged(*parts)


async def namespace(session: Session, command: Command) -> None:
    """RFC 2342 §5: the user's own, other users', and the public ones."""
    parse_nothing(command.args)
    session.write(namespaces(session))
    await finish(session, command, "Namespaces told")


def namespaces(session: Session) -> bytes:
    """The NAMESPACE response; with what a person calls a prefix, if the language has a word for
    it. RFC 5255 §3.4."""
    catalogue = session.language.catalogue
    names = {} if catalogue is None else catalogue.prefixes
    told = [b'(("" "/"))']
    for prefix in sharing.PREFIXES:
        called = names.get(prefix)
        more = b"" if called is None else b' "TRANSLATION" (%b)' % _translation(called)
        told.append(b'(("%b" "/"%b))' % (prefix.encode("ascii"), more))
    return untagged(b"NAMESPACE", *told)


def _translation(name: str) -> bytes:
    """Modified UTF-7 whatever else is spoken, and quoted. RFC 5255 §3.5."""
    return quoted_or_literal(utf7.encode(name))


# --- status ---------------------------------------------------------------------------------------


async def status(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.10."""
    asked = parse_status(command.args)
    _check(session, asked.items)
    box = await session.find(asked.mailbox)
    counted = await _counted(session, [box], asked.items)
    session.write(_status_line(session, asked.mailbox, box, asked.items, counted))
    await finish(session, command, "Status told")


def _check(session: Session, items: Sequence[StatusItem]) -> None:
    """Note what turns CONDSTORE on. RFC 7162 §3.1."""
    if StatusItem.HIGHESTMODSEQ in items:
        session.enable_condstore()


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


def _status_line(
    session: Session, path: str, box: Mailbox, items: Sequence[StatusItem], counted: Counted
) -> bytes:
    told = b" ".join(_status_items(box, items, counted))
    return untagged(b"STATUS", session.name(path), b"(" + told + b")")


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
