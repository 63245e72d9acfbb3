"""STORE and UID STORE. RFC 3501 §6.4.6, RFC 7162 §3.1.3."""

from __future__ import annotations

from typing import Final

from postroom.core.errors import NotAllowed
from postroom.domain.mailboxes import messages
from postroom.domain.mailboxes.flags import registry as read_registry
from postroom.domain.mailboxes.messages import FlagChange, Flagged, Pick
from postroom.protocols.imap.session import Selected, Session, picks
from postroom.wire.imap import Command, Store, StoreMode, compress, parse_store

PIECE: Final = 10_000
"""Messages in one unit: a set statement for each combination of flags, whatever their number."""


async def store(session: Session, command: Command) -> None:
    """Change flags and tell the new ones, unless .SILENT was asked for."""
    uid = command.name.startswith(b"UID ")
    asked = parse_store(command.args)
    selected = session.open
    if selected.read_only:
        raise NotAllowed("The mailbox is open for reading only")
    if asked.unchanged_since is not None:
        session.condstore = True  # RFC 7162 §3.1: a CONDSTORE enabling command
    wanted = _change(asked)
    ranges = session.ranges(asked.messages, uid=uid)
    failed: list[int] = []
    mail = session.shared.house.mail
    for _, pick in picks(selected.view, ranges, PIECE):
        done = await mail.write(
            messages.set_flags,
            selected.mailbox.account,
            selected.mailbox.id,
            pick,
            wanted,
            session.shared.clock.now(),
            session.actor,
            unchanged_since=asked.unchanged_since,
        )
        if done.groups:
            selected.own.add(done.modseq)
        await _new_keywords(session, selected, wanted)
        if session.condstore or not asked.silent:
            await _tell(session, selected, pick, done, asked, uid=uid)
        failed += done.failed
    code = None
    if failed:
        numbers = failed if uid else [n for n in map(selected.view.number, failed) if n]
        code = b"MODIFIED " + compress(numbers)  # RFC 7162 §3.1.3
    await session.finish(command, "Stored" if not failed else "Some were changed meanwhile", code)


def _change(asked: Store) -> FlagChange:
    kept = tuple(flag for flag in asked.flags if flag.lower() != "\\recent")
    match asked.mode:
        case StoreMode.ADD:
            return FlagChange(add=kept)
        case StoreMode.REMOVE:
            return FlagChange(remove=kept)
        case StoreMode.REPLACE:
            return FlagChange(add=kept, replace=True)


async def _new_keywords(session: Session, selected: Selected, wanted: FlagChange) -> None:
    """A keyword that is new to the account has to be announced before it is used."""
    if selected.registry.missing(wanted.add):
        mail = session.shared.house.mail
        registry = await mail.read(read_registry, selected.mailbox.account)
        session.announce(selected, registry)


async def _tell(
    session: Session, selected: Selected, pick: Pick, done: Flagged, asked: Store, *, uid: bool
) -> None:
    """The untagged FETCH of each message; with .SILENT only its modseq: RFC 7162 §3.1.3."""
    view = selected.view
    for group, changed in ((done.groups, True), (done.same, False)):
        for bits, uids in group:
            if asked.silent and not changed:
                continue
            lines = []
            for each in uids:
                number = view.number(each)
                if not number:
                    continue
                parts = []
                if uid or session.condstore:
                    parts.append(b"UID %d" % each)
                if not asked.silent:
                    parts.append(b"FLAGS " + selected.flags_of(bits, each))
                if session.condstore and changed:
                    parts.append(b"MODSEQ (%d)" % done.modseq)
                lines.append(b"* %d FETCH (%b)\r\n" % (number, b" ".join(parts)))
            session.write(b"".join(lines))
            await session.output.drain()
