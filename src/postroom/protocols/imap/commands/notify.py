"""NOTIFY, and what it makes a session tell between commands. RFC 5465.

Hints only say that something happened: what happened comes from comparing the mailboxes as they
are with how they were at the last look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

from postroom.domain.mailboxes import annotating, sharing
from postroom.domain.mailboxes.annotated.settings import MetadataSettings
from postroom.domain.mailboxes.annotating import Marks
from postroom.domain.mailboxes.folders import SEPARATOR, Tree, canonical
from postroom.domain.mailboxes.rights import Right
from postroom.protocols.imap import listing, watching
from postroom.protocols.imap.commands.fetch import fetch_unasked
from postroom.protocols.imap.commands.metadata import changed_lines
from postroom.protocols.imap.keeping_up import NOTHING_NEW, finish, tell_followed, tell_of_open
from postroom.protocols.imap.listing import Named
from postroom.protocols.imap.selected import Unasked
from postroom.protocols.imap.session import Session, State
from postroom.protocols.imap.view import Range
from postroom.protocols.imap.watching import Filters, Look, Tell, Told, Watch
from postroom.store.sql import Tx
from postroom.wire.imap import Command, Happening, List, ListReturn, parse_notify, untagged

MANY: Final = 200
"""Mailboxes that are read on the loop; more of them in a thread."""

_BAD_EVENT: Final = b"BADEVENT (%b)" % " ".join(watching.SUPPORTED).encode("ascii")
_OVERFLOW: Final = b"NOTIFICATIONOVERFLOW"
_TOO_MUCH: Final = "There is too much to watch"
_ASKED: Final = List("", ("*",), returns=frozenset({ListReturn.SUBSCRIBED}))

_log: Final = structlog.get_logger("postroom.imap")


async def notify(session: Session, command: Command) -> None:
    """RFC 5465 §3.1. What is refused leaves all as it was."""
    asked = parse_notify(command.args)
    if watching.unsupported(asked):
        session.tell(command.tag, "NO", "These events are told", _BAD_EVENT)
        return
    filters = Filters.of(asked)
    looked = await _look(session, filters)
    if looked.too_much:
        session.tell(command.tag, "NO", _TOO_MUCH, _OVERFLOW)
        return
    told = watching.unreadable(looked.look, filters.groups)
    if asked.status:
        told += watching.first(looked.look, filters, _opened(session))
    await session.write_lines(_lines(session, looked, told))
    session.watch = Watch(filters, looked.look, looked.owners, looked.marks)
    if session.selected is not None:
        session.selected.fetched = session.selected.mailbox.uidnext
    await finish(session, command, "So it will be told" if asked.groups else "Nothing will be told")


async def tell_unasked(session: Session) -> None:
    """All that there is to tell between commands, or in IDLE."""
    await tell_of_open(session)
    watch = session.watch
    if watch is None or session.state is State.LOGOUT:
        return
    new = _new(session, watch.filters)
    if not await tell_followed(session, new) and new.uids:
        await fetch_unasked(session, new.items, _ranges(session, new.uids))
    if not watch.filters.groups:
        return
    looked = await _look(session, watch.filters, len(watch.look))
    if looked.too_much:
        _overflow(session)
        return
    told = watching.changes(watch.look, looked.look, watch.filters, _opened(session))
    lines = _lines(session, looked, told)
    for path, names in watching.annotated(watch.marks, looked.marks, looked.look, watch.filters):
        lines += changed_lines(session, path, names)
    watch.look, watch.owners, watch.marks = looked.look, looked.owners, looked.marks
    await session.write_lines(lines)


async def did(session: Session, *paths: str) -> None:
    """The client itself made, removed, named or subscribed the mailboxes at these paths: it is not
    told of that. RFC 5465 §5."""
    watch = session.watch
    if watch is None or not watch.filters.groups:
        return
    looked = await _look(session, watch.filters, len(watch.look))
    watch.look = watching.as_done(watch.look, looked.look, [canonical(path) for path in paths])


def _overflow(session: Session) -> None:
    """There is too much to follow: as after NOTIFY NONE. RFC 5465 §5.8."""
    _log.info("watches no more: too many mailboxes or annotations", session=session.id)
    session.tell(None, "OK", _TOO_MUCH, _OVERFLOW)
    session.watch = Watch(Filters(), {}, frozenset(), {})


def _new(session: Session, filters: Filters) -> Unasked:
    """The messages that came to the open mailbox, if the client asked to have them fetched: but
    for what it put there itself."""
    selected = session.selected
    if selected is None:
        return NOTHING_NEW
    start, selected.fetched = selected.fetched, selected.mailbox.uidnext
    own, selected.placed = selected.placed, set()
    items, view = filters.opened.items, selected.view
    if not items or start > view.last_uid or not selected.rights & Right.READ:
        return NOTHING_NEW
    came = view.uids(view.below(start) + 1, view.size)
    return Unasked(items, [uid for uid in came if uid not in own] if own else came)


def _ranges(session: Session, uids: Sequence[int]) -> list[Range]:
    return session.open.view.by_uid((uid, uid) for uid in uids)


def _opened(session: Session) -> int:
    return session.selected.mailbox.id if session.selected is not None else 0


# --- looking --------------------------------------------------------------------------------------


class Looked(NamedTuple):
    """What there is now, and whose it is."""

    tree: Tree
    look: Look
    owners: frozenset[int]
    marks: dict[int, Marks]

    @property
    def too_much(self) -> bool:
        annotations = sum(map(len, self.marks.values()))
        return len(self.look) > watching.WATCHED_MOST or annotations > watching.ANNOTATIONS_MOST


async def _look(session: Session, filters: Filters, known: int = MANY + 1) -> Looked:
    """Nothing where no mailbox but the open one is watched; `known` is how many there were."""
    if not filters.groups:
        return Looked(Tree(()), {}, frozenset(), {})
    mail = session.shared.house.mail
    read = mail.read if known <= MANY else mail.read_much
    looked = await read(_read, session.account, filters.asks(Happening.MAILBOX_METADATA_CHANGE))
    if filters.asks(Happening.SERVER_METADATA_CHANGE):
        looked.marks[watching.SERVER] = await mail.read(_server_marks, session)
    if session.selected is None:
        return looked
    view, box = session.selected.view, session.selected.mailbox
    told = watching.as_told(looked.look, box.id, view.stamp, box.uidnext, view.size)
    return looked._replace(look=told)


def _read(tx: Tx, viewer: int, annotations: bool) -> Looked:
    sight = sharing.sight(tx, viewer)
    boxes = sight.tree.by_id.values()
    owners = frozenset(box.account for box in boxes) - {0} | {viewer}
    marks: dict[int, Marks] = {}
    if annotations:
        told = [box for box in boxes if annotating.may_read(sight.rights_in(box))]
        marks = annotating.marks(tx, viewer, told, watching.ANNOTATIONS_MOST)
    return Looked(sight.tree, watching.look(sight), owners, marks)


def _server_marks(tx: Tx, session: Session) -> Marks:
    settings = session.policy(tx).of(MetadataSettings)
    return annotating.server_marks(tx, session.account, settings)


# --- telling --------------------------------------------------------------------------------------


def _lines(session: Session, looked: Looked, told: Sequence[Told]) -> list[bytes]:
    named = [
        Named(each.path, each.path.count(SEPARATOR) + 1, looked.tree.by_id[each.box])
        for each in told
        if each.how is Tell.NAMED
    ]
    listed = listing.list_answers(looked.tree, named, _ASKED) if named else iter(())
    lines: list[bytes] = []
    for each in told:
        match each.how:
            case Tell.NAMED:
                lines.append(_list_line(session, each, next(listed).attributes))
            case Tell.GONE:
                lines.append(_list_line(session, each, (b"\\NonExistent",)))
            case Tell.NO_ACCESS:
                lines.append(_list_line(session, each, (b"\\NoAccess",)))
            case Tell.COUNTED:
                lines.append(_status_line(session, each, looked.look[each.box]))
    return lines


def _list_line(session: Session, told: Told, attributes: Sequence[bytes]) -> bytes:
    """RFC 5465 §5.4, §5.5; OLDNAME: RFC 9051 §6.3.9.7."""
    parts = [b"LIST", b"(" + b" ".join(attributes) + b")", b'"/"', session.name(told.path)]
    if told.old:
        parts.append(b'("OLDNAME" (' + session.name(told.old) + b"))")
    return untagged(*parts)


def _status_line(session: Session, told: Told, row: bytes) -> bytes:
    """RFC 5465 §3.1, §5.1 to §5.3."""
    box = watching.seen(row)
    text = b"MESSAGES %d UIDNEXT %d UIDVALIDITY %d" % (box.total, box.uidnext, box.uidvalidity)
    if told.flags:
        text += b" UNSEEN %d" % box.unseen
    if session.condstore or told.modseq:
        text += b" HIGHESTMODSEQ %d" % max(1, box.modseq)
    return untagged(b"STATUS", session.name(told.path), b"(" + text + b")")
