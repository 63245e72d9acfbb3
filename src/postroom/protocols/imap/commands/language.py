"""LANGUAGE: what people are told is said in a language of theirs. RFC 5255 §3."""

from __future__ import annotations

from postroom.protocols.imap.commands.mailboxes import namespaces
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.languages import LANGUAGES, chosen
from postroom.protocols.imap.session import Session
from postroom.wire.imap import Command, parenthesised, parse_language, untagged


async def language(session: Session, command: Command) -> None:
    """RFC 5255 §3.2. Before sign-in as well: a refused password is told in it too."""
    asked = parse_language(command.args)
    if not asked.ranges:
        _told(session, [each.tag for each in LANGUAGES])
        await finish(session, command, "The languages told")
        return
    found = chosen(asked.ranges)
    if found is None:
        session.tell(command.tag, "NO", "None of these languages is spoken here")
        return
    before, session.language = session.language, found
    _told(session, [found.tag])
    if session.identity is not None and (found.catalogue or before.catalogue):
        session.write(namespaces(session))  # their prefixes have other names now: §3.4
    await finish(session, command, "This is the language now")


def _told(session: Session, tags: list[str]) -> None:
    """One language is spoken from here on; of several it may choose. RFC 5255 §3.3."""
    session.write(untagged(b"LANGUAGE", parenthesised(tag.encode("ascii") for tag in tags)))
