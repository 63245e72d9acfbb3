"""ESEARCH: a search of many mailboxes, one after the other. RFC 7377.

The open mailbox is searched as the client knows it, any other one as it is when its turn comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from postroom.core.errors import LimitReached, NotFound
from postroom.domain.mailboxes import folders, reading, rights, sharing
from postroom.domain.mailboxes.flags import registry as read_registry
from postroom.domain.mailboxes.folders import canonical
from postroom.domain.mailboxes.rights import Right
from postroom.protocols.imap.commands import context
from postroom.protocols.imap.commands.search import (
    by_number,
    enough_for,
    extended,
    find,
    heed_numbers,
    reading_search,
    save,
    saving,
)
from postroom.protocols.imap.filters import expanded
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.selected import Selected
from postroom.protocols.imap.session import Session, State
from postroom.protocols.imap.sources import Found, readable
from postroom.protocols.imap.view import Of, View
from postroom.store.sql import Tx
from postroom.wire.imap import (
    BadSyntax,
    Command,
    MultiSearch,
    Partial,
    SearchKey,
    SearchReturn,
    Which,
    parse_esearch,
)

SEARCHED_MOST: Final = 2_000
"""Mailboxes that one command may search."""

MANY: Final = 10_000
"""Messages whose UIDs are read on the loop; more of them in a thread."""

_ALL: Final = frozenset({SearchReturn.ALL})
_SAVE: Final = frozenset({SearchReturn.SAVE})


async def esearch(session: Session, command: Command) -> None:
    """RFC 7377 §2. A mailbox in which nothing is found is not told of."""
    with reading_search(session):
        asked = parse_esearch(command.args)
    returns = _ALL if asked.search.returns is None else asked.search.returns
    with saving(session, SearchReturn.SAVE in returns):
        key = await expanded(session, asked.search.key)
    asked = replace(asked, search=replace(asked.search, key=key))
    _check(session, asked)
    heed_numbers(session, asked.search.key, uid=True)
    if asked.search.update is not None:
        context.refuse(session, command.tag, "Only SEARCH and SORT are followed")
    wanted = Wanted(command.tag, key, returns, asked.search.partial)
    with saving(session, SearchReturn.SAVE in returns):
        opened, others = await _places(session, asked)
        if opened is not None:
            await _search(session, wanted, opened, await _name_of_open(session))
        await _search_each(session, wanted, others)
    await finish(session, command, "Searched")


class Wanted(NamedTuple):
    """What to look for in each mailbox, and what to tell of it."""

    tag: bytes
    key: SearchKey
    returns: frozenset[SearchReturn]
    partial: Partial | None


def _check(session: Session, asked: MultiSearch) -> None:
    if asked.search.charset_given and session.utf8_accept:
        raise BadSyntax("All strings are UTF-8")  # RFC 6855 §3
    follows = asked.search.update is not None
    if (asked.opened or follows) and session.selected is None:
        raise BadSyntax("No mailbox is open")  # RFC 7377 §2.2
    if not asked.alone and by_number(asked.search.key, saved=True):
        raise BadSyntax("What was saved lies in the open mailbox")  # RFC 5182 §2.1
    if asked.alone:
        rights.check(session.open.rights, Right.READ)  # as SEARCH needs: RFC 4314 §4


# --- where to look --------------------------------------------------------------------------------


async def _places(session: Session, asked: MultiSearch) -> tuple[Selected | None, list[Found]]:
    """The open mailbox, if it is to be searched, and the others that are. Raises LimitReached."""
    selected, opened, others = session.selected, asked.opened, list[Found]()
    if not asked.alone:
        others = await session.shared.house.mail.read_much(_readable, session.account, asked)
    if selected is not None:
        left = [each for each in others if each.box != selected.mailbox.id]
        opened = opened or len(left) < len(others)
        others = left
    if len(others) > SEARCHED_MOST:
        raise LimitReached("These are too many mailboxes to search at once")
    if selected is None or not opened or not selected.rights & Right.READ:
        return None, others
    return selected, others


def _readable(tx: Tx, viewer: int, asked: MultiSearch) -> list[Found]:
    """The mailboxes that sources mean beside the open one. Who may read one without looking it up
    has to name it. RFC 7377 §2.2."""
    sources = [each for each in asked.sources if each.which is not Which.SELECTED]
    sight = sharing.sight(tx, viewer)
    found = readable(sight, sources)
    boxes = {each.box for each in found}
    names = {canonical(name) for each in sources for name in each.names}
    for name in sorted(filter(sharing.is_beyond, names - sight.tree.by_path.keys())):
        try:
            reached = sharing.reach(tx, viewer, name)
        except NotFound:
            continue
        if reached.rights & Right.READ and reached.mailbox.id not in boxes:
            boxes.add(reached.mailbox.id)
            found.append(Found(name, reached.mailbox.id, reached.mailbox.total))
    return found


async def _name_of_open(session: Session) -> str:
    """Its name now; if it is not to be seen among the others, the one under which it was opened."""
    box = session.open.mailbox.id
    sight = await session.shared.house.mail.read_much(sharing.sight, session.account)
    return sight.tree.path(box) or session.open.path


async def _search_each(session: Session, wanted: Wanted, others: Sequence[Found]) -> None:
    """Each mailbox as it is now, but for those that are gone, closed to us by now, or empty."""
    mail, views = session.shared.house.mail, session.shared.views
    for done, each in enumerate(others):
        session.come_so_far(done, len(others))  # RFC 9585
        if not each.total:
            continue
        if session.state is State.LOGOUT:
            return
        known = views.get(Of(each.box, session.actor))
        read = mail.read if each.total <= MANY else mail.read_much
        place = await read(_read, session.account, each.box, known)
        if place is not None:
            if not session.rev2:
                await _know_recent(session, place)
            await _search(session, wanted, place, each.path)
        await session.output.drain()  # raises if nobody waits for the answer any more
        await asyncio.sleep(0)


def _read(tx: Tx, viewer: int, box: int, known: View | None) -> Selected | None:
    """One snapshot of a mailbox; None if it is not to be read any more."""
    try:
        mailbox = folders.get(tx, box)
    except NotFound:
        return None
    held = rights.of(tx, viewer, mailbox)
    if not held & Right.READ:
        return None
    if known is None or known.stamp != mailbox.modseq:
        known = View.of(reading.uids(tx, box), mailbox.modseq)
    registry = read_registry(tx, mailbox.account)
    return Selected(mailbox, known, registry, read_only=True, rights=held)


async def _know_recent(session: Session, place: Selected) -> None:
    """What no session was told of yet; nothing is claimed, as by STATUS. RFC 3501 §2.3.2."""
    floor = await session.shared.house.state.read(reading.recent_floor, place.mailbox.id)
    if floor < place.mailbox.uidnext:
        place.recent.append((floor, place.mailbox.uidnext - 1))


# --- one of them ----------------------------------------------------------------------------------


async def _search(session: Session, wanted: Wanted, place: Selected, path: str) -> None:
    tag, key, returns, partial = wanted
    enough = enough_for(returns, partial)
    hits = await find(session, key, uid=True, enough=enough, place=place)
    if SearchReturn.SAVE in returns:
        save(session, hits.numbers, returns, partial)
    if not hits.numbers or (returns == _SAVE and partial is None):
        return
    about = b" MAILBOX %b UIDVALIDITY %d" % (session.name(path), place.mailbox.uidvalidity)
    session.write(await extended(tag, hits, returns, partial, uid=True, place=about))
