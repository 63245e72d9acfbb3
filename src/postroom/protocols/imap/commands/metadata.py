"""GETMETADATA and SETMETADATA. RFC 5464 §4.2, §4.3.

Who asked for it by NOTIFY is told unasked which annotations changed (RFC 5465 §5.6, §5.7), and
nobody else: RFC 5464 §4.1 leaves that to the server, so ENABLE METADATA turns nothing on. Names
are told in lower case, as they are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from postroom.core.clock import Instant
from postroom.domain.mailboxes import annotating, sharing
from postroom.domain.mailboxes.annotated.settings import MetadataSettings
from postroom.domain.mailboxes.annotating import Found, Limits, Marks, Noted, Wanted
from postroom.protocols.imap import watching
from postroom.protocols.imap.filters import check_filters
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.session import Session
from postroom.store.sql import Tx
from postroom.wire.imap import (
    Command,
    astring,
    literal8,
    nstring,
    parenthesised,
    parse_getmetadata,
    parse_setmetadata,
    untagged,
)

_SERVER: Final = ""
_NAMES_MOST: Final = 25
"""Entries that are told in one response: of those without a value."""


async def getmetadata(session: Session, command: Command) -> None:
    """RFC 5464 §4.2; with MAXSIZE, how large the largest is that was left out: §4.2.1."""
    asked = parse_getmetadata(command.args)
    wanted = Wanted(annotating.names(asked.entries), asked.depth, asked.maxsize)
    mail = session.shared.house.mail
    if asked.mailbox == _SERVER:
        found = await mail.read(_of_server, session, wanted)
    else:
        found = await mail.read(annotating.of_mailbox, session.account, asked.mailbox, wanted)
    if found.values:
        session.write(metadata_line(session, asked.mailbox, found.values))
    code = None
    if found.longest is not None:
        code = b"METADATA LONGENTRIES %d" % found.longest
    await finish(session, command, "Annotations told", code)


def _of_server(tx: Tx, session: Session, wanted: Wanted) -> Found:
    settings = session.policy(tx).of(MetadataSettings)
    return annotating.of_server(tx, session.account, wanted, settings)


async def setmetadata(session: Session, command: Command) -> None:
    """RFC 5464 §4.3. All of it is done, or nothing."""
    asked = parse_setmetadata(command.args)
    values = {annotating.settable(name): value for name, value in asked.values}
    if asked.mailbox == _SERVER:
        check_filters(values)
    house = session.shared.house
    change = (session, asked.mailbox, values, house.clock.now())
    if session.watch is None:
        await house.mail.write(_set, *change)
    else:  # it is not to be told of what it does itself
        box, marks = await house.mail.write(_set_and_mark, *change)
        session.watch.annotates(box, values, marks)
    await finish(session, command, "Annotations set")


def limits(session: Session, tx: Tx, account: int) -> Limits:
    """What an account may note, which need not be the session's."""
    held = session.policy(tx, account).of(MetadataSettings)
    return Limits(held.entries, held.octets)


def _set(tx: Tx, session: Session, path: str, values: Noted, now: Instant) -> None:
    if path == _SERVER:
        mine = limits(session, tx, session.account)
        annotating.set_on_server(tx, session.account, values, mine, now)
    else:
        of = partial(limits, session)
        annotating.set_on_mailbox(tx, session.account, path, values, of, now)


def _set_and_mark(
    tx: Tx, session: Session, path: str, values: Noted, now: Instant
) -> tuple[int, Marks]:
    """With the id of what they were set on, and its marks right after."""
    _set(tx, session, path, values, now)
    if path == _SERVER:
        settings = session.policy(tx).of(MetadataSettings)
        return watching.SERVER, annotating.server_marks(tx, session.account, settings)
    box = sharing.reach(tx, session.account, path).mailbox
    marks = annotating.marks(tx, session.account, (box,), watching.ANNOTATIONS_MOST)
    return box.id, marks.get(box.id, {})


def metadata_line(session: Session, path: str, values: Noted) -> bytes:
    """The untagged response. RFC 5464 §4.4.1."""
    pairs = [astring(each.encode("ascii")) + b" " + _value(values[each]) for each in values]
    name = session.name(path) if path != _SERVER else b'""'
    return untagged(b"METADATA", name, parenthesised(pairs))


def changed_lines(session: Session, path: str, names: Sequence[str]) -> list[bytes]:
    """That annotations changed, without their values. RFC 5464 §4.4.2."""
    name = session.name(path) if path != _SERVER else b'""'
    entries = [astring(each.encode("ascii")) for each in names]
    return [
        untagged(b"METADATA", name, b" ".join(entries[at : at + _NAMES_MOST]))
        for at in range(0, len(entries), _NAMES_MOST)
    ]


def _value(value: bytes | None) -> bytes:
    """NUL stands in a literal8 alone. RFC 5464 §5."""
    return literal8(value) if value is not None and b"\0" in value else nstring(value)
