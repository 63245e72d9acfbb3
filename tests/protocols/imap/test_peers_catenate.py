"""What CATENATE makes here is what Dovecot makes of the same commands. RFC 4469."""

from __future__ import annotations

import pytest

from postroom.testing.imap import ImapClient, Literal, Part
from tests.protocols.imap.dovecot import IMAP, dovecot_home, dovecot_session
from tests.protocols.imap.serving import SMALL, Room
from tests.protocols.imap.test_append import bodies
from tests.protocols.imap.test_catenate import HEAD, PICTURE

pytestmark = pytest.mark.skipif(not IMAP.exists(), reason="dovecot is not installed")

START: Part = Literal(HEAD + b"\r\n")
# Of a section that is not there Dovecot makes nothing and goes on; here it is a bad URL.
LISTS: list[list[Part]] = [
    ["TEXT ", START, ' URL "/INBOX/;UID=1/;SECTION=1")'],
    ["TEXT ", START, ' URL "/INBOX/;UID=1/;SECTION=2.MIME" URL "/INBOX/;UID=1/;SECTION=2")'],
    ["TEXT ", START, ' URL "/INBOX/;UID=1/;SECTION=TEXT/;PARTIAL=3.20" TEXT ', START, ")"],
    ["TEXT ", START, ' URL "/INBOX/;UID=2/;SECTION=HEADER.FIELDS%20(SUBJECT%20TO)")'],
    ["URL /INBOX/;UID=2 URL /INBOX/;UID=2/;SECTION=TEXT)"],
    ["URL /INBOX/;UID=1/;PARTIAL=30)"],
    ['URL "/INBOX/;UID=1") CATENATE (URL "/INBOX/;UID=2")'],
    ['URL "/INBOX/;UID=9")'],
    ['URL "/Nowhere/;UID=1")'],
    ['URL "/INBOX;UIDVALIDITY=1/;UID=1")'],
    ['URL "/%2e%2e/;UID=1")'],
    ['URL "imap://elsewhere.example/INBOX/;UID=1")'],
    ["FILE x)"],
]


async def play(client: ImapClient) -> tuple[list[tuple[str, str | None]], list[object]]:
    """How each command ended, and every message that was made."""
    for raw in (PICTURE, SMALL):
        assert (await client.append("INBOX", raw)).ok
    await client.command("CREATE Drafts")
    heard: list[tuple[str, str | None]] = []
    for said in LISTS:
        reply = await client.command("APPEND Drafts CATENATE (", *said)
        heard.append((reply.kind, reply.code))
    assert (await client.command("EXAMINE Drafts")).ok
    return heard, await bodies(client)


async def test_the_same_messages_are_made_and_the_same_urls_refused(room: Room) -> None:
    ours = await play(await room.client(mailbox=None))
    async with dovecot_home() as folder, dovecot_session(folder) as client:
        theirs = await play(client)
    assert ours[1] == theirs[1]
    assert ours[0] == theirs[0]
