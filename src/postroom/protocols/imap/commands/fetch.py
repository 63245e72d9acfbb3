"""FETCH and UID FETCH: choose, mark as seen, then stream piece by piece. RFC 3501 §6.4.5."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import messages, reading
from postroom.domain.mailboxes.messages import FlagChange, Pick
from postroom.protocols.imap.fetching import Rendering, render
from postroom.protocols.imap.session import Session, picks
from postroom.protocols.imap.view import Range
from postroom.store.sql import Row, Tx
from postroom.wire.imap import (
    BadSyntax,
    Command,
    Fetch,
    FetchAttribute,
    FetchBody,
    parse_fetch,
    parse_uid_fetch,
)

PIECE: Final = 256
"""Messages in one read: what a peer that stops reading may make us hold."""


async def fetch(session: Session, command: Command) -> None:
    """Answer in pieces; the peer's reading sets the pace."""
    uid = command.name == b"UID FETCH"
    asked = parse_uid_fetch(command.args) if uid else parse_fetch(command.args)
    if asked.vanished:
        raise BadSyntax("QRESYNC was not enabled")  # RFC 7162 §3.2.6
    selected = session.open
    ranges = session.ranges(asked.messages, uid=uid)
    if asked.changed_since is not None:
        ranges = await _changed(session, ranges, asked.changed_since)
    if asked.changed_since is not None or FetchAttribute.MODSEQ in asked.items:
        session.condstore = True  # RFC 7162 §3.1: CONDSTORE enabling commands
    rendering = render(asked, session, uid=uid)
    missing = 0
    for (first, last), pick in picks(selected.view, ranges, PIECE):
        seen = await _mark_seen(session, asked, pick)
        missing += await _piece(session, rendering, (first, last), pick, seen)
        await session.output.drain()
        await asyncio.sleep(0)
    if rendering.damaged:
        await session.catch_up(expunge=session.may_expunge)
        session.tell(command.tag, "NO", "Some messages could not be read", b"SERVERBUG")
        return
    if missing and not uid and asked.changed_since is None:
        # RFC 5530 §3: what another session removed cannot be told before this command ends.
        await session.catch_up(expunge=False)
        session.tell(command.tag, "NO", "Some messages are gone already", b"EXPUNGEISSUED")
        return
    await session.finish(command, "Fetched")


async def _changed(session: Session, ranges: Sequence[Range], since: int) -> list[Range]:
    """Of the chosen messages those that changed after `since`: by the index of changes, so that
    a client which comes back pays for what happened and not for what it has. RFC 7162 §3.1.4.1.
    """
    view, box = session.open.view, session.open.mailbox.id
    changes = await session.shared.house.mail.read_much(reading.changes, box, since)
    found: list[Range] = []
    chosen = iter(ranges)
    lo, hi = next(chosen, (0, 0))
    for uid, _, _ in changes.flags:
        number = view.number(uid)
        while lo and hi < number:
            lo, hi = next(chosen, (0, 0))
        if not lo:
            break
        if not lo <= number:
            continue
        if found and found[-1][1] + 1 == number:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


async def _mark_seen(session: Session, asked: Fetch, pick: Pick) -> frozenset[int]:
    """Reading a body without PEEK sets \\Seen; returns whose flags that changed."""
    selected = session.open
    if selected.read_only or not any(_marks(item) for item in asked.items):
        return frozenset()
    mail, box = session.shared.house.mail, selected.mailbox
    unseen = await mail.read(_unseen, box.id, pick)
    if not unseen:
        return frozenset()
    write = mail.write if len(unseen) <= messages.FEW else mail.write_much
    done = await write(
        messages.set_flags,
        box.account,
        box.id,
        Pick.of(unseen),
        FlagChange(add=("\\Seen",)),
        session.shared.clock.now(),
        session.actor,
    )
    if done.groups:
        selected.own.add(done.modseq)
        # Told with the content: so a keyword that another session made is announced before.
        session.announce(selected, await mail.read(bits.registry, box.account))
    return frozenset(uid for _, uids in done.groups for uid in uids)


def _marks(item: object) -> bool:
    if isinstance(item, FetchBody):
        return not item.peek
    return item in (FetchAttribute.RFC822, FetchAttribute.RFC822_TEXT)


def _unseen(tx: Tx, box: int, pick: Pick) -> list[int]:
    return [uid for uid, set_, _ in reading.flags(tx, box, pick) if not set_ & bits.SEEN]


async def _piece(
    session: Session, rendering: Rendering, span: Range, pick: Pick, seen: frozenset[int]
) -> int:
    """One piece of the answer; returns how many messages were not there any more."""
    mail, box = session.shared.house.mail, session.open.mailbox.id
    rows: Sequence[Row]
    if rendering.needs_flags_alone:
        rows = await mail.read(reading.flags, box, pick)
    elif rendering.needs_meta:
        rows = await mail.read(reading.meta_rows, box, pick)
    elif rendering.needs_parse:
        rows = await mail.read(reading.full_rows, box, pick)
    else:
        rows = await mail.read(reading.brief_rows, box, pick)
    wanted = len(pick.uids) if pick.uids is not None else span[1] - span[0] + 1
    if rendering.needs_threads:
        rendering.threads = await mail.read(reading.threads_of, [row[6] for row in rows])
    if rendering.needs_content:
        await rendering.write_content(rows, seen)
    else:
        session.write(rendering.lines(rows))
    return wanted - len(rows)
