"""LIST responses that nobody asked for: what a mailbox that was named is called here.

RFC 9051 §6.3.2, §6.3.4 to §6.3.6, §6.3.9.7. Only who enabled IMAP4rev2 is told.
"""

from __future__ import annotations

from postroom.domain.mailboxes import folders, sharing
from postroom.domain.mailboxes.folders import SEPARATOR
from postroom.protocols.imap import listing
from postroom.protocols.imap.listing import Named
from postroom.protocols.imap.session import Session
from postroom.wire.imap import List, ListReturn, untagged


async def announce(session: Session, path: str, old: str = "") -> None:
    """The mailbox at a path with its attributes; `old` is what else it was called, if anything."""
    if not session.rev2:
        return
    path = folders.canonical(path)
    tree = (await session.shared.house.mail.read(sharing.sight, session.account)).tree
    box = tree.by_path.get(path)
    attributes: tuple[bytes, ...] = ()
    if box is not None:
        named = Named(path, path.count(SEPARATOR) + 1, box)
        asked = List("", (path,), returns=frozenset({ListReturn.SUBSCRIBED}))
        for told in listing.list_answers(tree, [named], asked):
            attributes = told.attributes
    _write(session, path, attributes, old)


async def announce_written(session: Session, path: str) -> None:
    """`announce`, if the client wrote the name in another way than it is kept."""
    if folders.canonical(path) != path:
        await announce(session, path, path)


def announce_gone(session: Session, path: str) -> None:
    """That a mailbox was deleted, if the client wrote its name in another way. RFC 9051 §6.3.5."""
    known = folders.canonical(path)
    if session.rev2 and known != path:
        _write(session, known, (b"\\NonExistent",), path)


def _write(session: Session, path: str, attributes: tuple[bytes, ...], old: str) -> None:
    parts = [b"LIST", b"(" + b" ".join(attributes) + b")", b'"/"', session.name(path)]
    if old and old != path:
        parts.append(b'("OLDNAME" (' + session.name(old) + b"))")
    session.write(untagged(*parts))
