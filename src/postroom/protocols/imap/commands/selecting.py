"""SELECT, EXAMINE, CLOSE, UNSELECT. RFC 3501 §6.3.1, §6.3.2, §6.4.2, RFC 3691, RFC 7162 §3.2.5."""

from __future__ import annotations

from typing import Final

from postroom.core.errors import MailError
from postroom.core.ids import MAILBOX, external
from postroom.domain.mailboxes import folders, reading, rights, sharing
from postroom.domain.mailboxes.flags import Registry
from postroom.domain.mailboxes.flags import registry as read_registry
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.sharing import Reached
from postroom.protocols.imap.announcing import announce
from postroom.protocols.imap.commands.copy import expunge_deleted
from postroom.protocols.imap.commands.urlauth import tell_mechanisms
from postroom.protocols.imap.resync import resynchronise
from postroom.protocols.imap.selected import Selected
from postroom.protocols.imap.session import Session, State
from postroom.protocols.imap.view import Of, View
from postroom.store.sql import Tx
from postroom.wire.imap import BadSyntax, Command, flags, parse_nothing, parse_select, untagged


async def select(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.1."""
    await _open(session, command, read_only=False)


async def examine(session: Session, command: Command) -> None:
    """RFC 3501 §6.3.2."""
    await _open(session, command, read_only=True)


async def _open(session: Session, command: Command, *, read_only: bool) -> None:
    asked = parse_select(command.args)
    if asked.qresync is not None and not session.qresync:
        raise BadSyntax("QRESYNC was not enabled")  # RFC 7162 §3.2.5
    if asked.qresync is not None and asked.qresync.sequence_match is not None:
        session.need_uids()  # RFC 9586 §3
    if session.selected is not None:
        session.close_mailbox()  # even if this fails: RFC 3501 §6.3.1
        session.tell(None, "OK", "That mailbox is closed", b"CLOSED")  # RFC 7162 §3.2.11
    house, views = session.shared.house, session.shared.views
    reached, opened = await house.mail.read(_find, session, asked.mailbox)
    if opened is None:
        opened = await house.mail.read_much(_read, reached.mailbox.id, None)
    mailbox, view, registry = opened
    read_only = read_only or not reached.rights & CHANGES
    view = views.keep(Of(mailbox.id, session.actor), view)
    selected = Selected(mailbox, view, registry, read_only, reached.rights, path=asked.mailbox)
    floor = await house.state.read(reading.recent_floor, mailbox.id)
    if floor < mailbox.uidnext and not session.rev2:
        selected.recent.append((floor, mailbox.uidnext - 1))
        if not read_only:
            house.state.note(reading.raise_recent, mailbox.id, mailbox.uidnext)
    if asked.condstore:
        session.condstore = True
    session.selected = selected
    session.state = State.SELECTED
    _tell(session, selected)
    try:
        await announce(session, asked.mailbox, asked.mailbox)
        if asked.qresync is not None and asked.qresync.uidvalidity == mailbox.uidvalidity:
            await resynchronise(session, asked.qresync)
    except MailError:
        session.close_mailbox()  # NO means that nothing is open
        raise
    if read_only:
        session.tell(command.tag, "OK", f"Examined {asked.mailbox}", b"READ-ONLY")
    else:
        session.tell(command.tag, "OK", f"Selected {asked.mailbox}", b"READ-WRITE")


# Without any of these a mailbox opens for reading only. RFC 4314 §5.2.
CHANGES: Final = Right.SEEN | Right.WRITE | Right.INSERT | Right.DELETE_MESSAGES | Right.EXPUNGE

MANY: Final = 10_000
"""Messages whose UIDs and flags are read on the loop. Of more, the UIDs are read in a thread, and
flags as they are asked for."""


Opened = tuple[Mailbox, View, Registry]


def _find(tx: Tx, session: Session, path: str) -> tuple[Reached, Opened | None]:
    """The mailbox at a path and, in the same snapshot, what there is to know of it; None where that
    takes long. Raises NotFound, MissingRight."""
    reached = sharing.reach(tx, session.account, path)
    rights.check(reached.rights, Right.READ)
    found = reached.mailbox
    known = session.shared.views.peek(Of(found.id, session.actor))
    if known is not None and known.stamp != found.modseq:
        known = None
    if known is None and found.total > MANY:
        return reached, None
    return reached, _read(tx, found.id, known)


def _read(tx: Tx, box: int, known: View | None) -> Opened:
    """One snapshot; UIDs and flags only if no view of this very state is at hand: `known`."""
    mailbox = folders.get(tx, box)
    if known is not None:
        view = known
    elif mailbox.total > MANY:
        view = View.of(reading.uids(tx, box), mailbox.modseq)
    else:
        view = View.of_flagged(reading.flag_sets(tx, box, 1, mailbox.uidnext), mailbox.modseq)
    if view.first_unseen is None:
        view.first_unseen = (reading.first_unseen(tx, box) if mailbox.unseen else None) or 0
    return mailbox, view, read_registry(tx, mailbox.account)


def _tell(session: Session, selected: Selected) -> None:
    """What must be said of a mailbox that opens. RFC 3501 §6.3.1, RFC 9051 §6.3.2, RFC 7162
    §3.1.2."""
    mailbox, view, registry = selected.mailbox, selected.view, selected.registry
    session.write(untagged(b"FLAGS", flags(registry.names)))
    session.tell_permanent(selected)
    session.write(b"* %d EXISTS\r\n" % view.size)
    if not session.rev2:  # RFC 9051 Appendix E: neither RECENT nor UNSEEN
        session.write(b"* %d RECENT\r\n" % selected.recent_count())
    numbers = not session.rev2 and not session.uidonly
    if view.first_unseen and numbers and (number := view.number(view.first_unseen)):
        session.tell(None, "OK", "The first unseen message", b"UNSEEN %d" % number)
    session.tell(None, "OK", "UIDs are valid", b"UIDVALIDITY %d" % mailbox.uidvalidity)
    session.tell(None, "OK", "The next UID", b"UIDNEXT %d" % mailbox.uidnext)
    session.tell(None, "OK", "The highest modseq", b"HIGHESTMODSEQ %d" % max(1, mailbox.modseq))
    name = external(MAILBOX, mailbox.id).encode("ascii")
    session.tell(None, "OK", "The mailbox's id", b"MAILBOXID (" + name + b")")  # RFC 8474 §4.2
    tell_mechanisms(session)


async def close(session: Session, command: Command) -> None:
    """RFC 3501 §6.4.2: expunges without saying so, unless the mailbox was examined or the right to
    is not there (RFC 4314 §4).

    Nor does it say the modseq after it: a client that kept that would never hear what went.
    RFC 7162 §3.2.8.
    """
    parse_nothing(command.args)
    selected = session.open
    needs = Right.READ | Right.EXPUNGE
    if not selected.read_only and selected.rights & needs == needs:
        await expunge_deleted(session)
    session.close_mailbox()
    session.tell(command.tag, "OK", "Closed")


async def unselect(session: Session, command: Command) -> None:
    """RFC 3691 §2: CLOSE that expunges nothing."""
    parse_nothing(command.args)
    session.close_mailbox()
    session.tell(command.tag, "OK", "Unselected")
