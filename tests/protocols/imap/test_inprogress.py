"""INPROGRESS: how far a long command has come. RFC 9585."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.protocols.imap import progress
from postroom.protocols.imap.commands import copy, search, store
from postroom.protocols.imap.progress import EVERY, Progress
from postroom.protocols.imap.saying import Saying
from postroom.protocols.imap.session import Session
from postroom.testing.clock import ManualClock
from postroom.testing.imap import ImapClient, Reply
from tests.protocols.imap.serving import Room


def test_nothing_is_told_of_a_short_command_and_then_from_time_to_time(clock: ManualClock) -> None:
    made = Progress(clock)
    made.begin(b"a1")
    clock.advance(EVERY - 1)
    assert made.due(5, 10) == b""
    clock.advance(1)
    assert made.due(6, 10) == b'INPROGRESS ("a1" 6 10)'
    assert made.due(7, 10) == b""
    clock.advance(EVERY)
    made.begin(b"a2")
    assert made.due(0, 10) == b""
    clock.advance(EVERY)
    assert b'("a2" 1 10)' in made.due(1, 10)


def test_a_tag_that_would_end_the_code_is_not_told(clock: ManualClock) -> None:
    made = Progress(clock)
    made.begin(b"a]b")
    clock.advance(EVERY)
    assert made.due(1, 2) == b"INPROGRESS (NIL 1 2)"


def test_what_is_done_is_not_told_as_in_progress(clock: ManualClock) -> None:
    """RFC 9585 §4: the goal is greater than the progress, and a positive number."""
    made = Progress(clock)
    made.begin(b"a1")
    clock.advance(EVERY)
    assert made.due(10, 10) == b""
    assert made.due(0, 0) == b""
    assert b'("a1" 9 10)' in made.due(9, 10)


def told(reply: Reply) -> list[tuple[Any, ...]]:
    """What INPROGRESS said, in order."""
    return [code.data[0] for code in reply.codes() if code.name == b"INPROGRESS"]  # type: ignore[misc]  # a list


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told at every piece, and pieces are small."""
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(copy, "PIECE", 10)
    monkeypatch.setattr(store, "PIECE", 10)


async def of_its_own(client: ImapClient, line: str) -> list[tuple[Any, ...]]:
    reply = await client.command(line)
    assert reply.ok
    found = told(reply)
    assert {bytes(each[0]) for each in found} == {reply.tagged.tag}
    return [each[1:] for each in found]


async def test_long_commands_tell(room: Room, at_once: None) -> None:
    await room.fill(40)
    client = await room.client()
    quarters = [(10, 40), (20, 40), (30, 40)]  # of the last, the tagged reply tells
    assert await of_its_own(client, "STORE 1:* +FLAGS.SILENT (\\Deleted)") == quarters
    assert await of_its_own(client, "COPY 1:* Sent") == quarters
    assert await of_its_own(client, "EXPUNGE") == quarters
    assert (await client.command("SELECT Sent")).ok
    assert await of_its_own(client, "UID MOVE 1:* Trash") == quarters


async def test_a_long_search_tells(
    room: Room, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PIECE", 10)
    await room.fill(40)
    client = await room.client()
    quarters = [(10, 40), (20, 40), (30, 40)]
    for line in ("SEARCH BODY nothing", "UID SORT (SIZE) UTF-8 BODY nothing"):
        assert await of_its_own(client, line) == quarters


async def test_short_commands_do_not(room: Room) -> None:
    await room.fill(40)
    client = await room.client()
    for line in ("STORE 1:* +FLAGS (\\Seen)", "COPY 1:* Sent", "SEARCH SUBJECT x", "EXPUNGE"):
        assert told(await client.command(line)) == []


async def test_what_is_told_does_not_wait_for_the_end_of_its_command(
    room: Room, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_so_far, waiting = Session.come_so_far, []

    def come_so_far(session: Session, done: int, goal: int) -> None:
        told_so_far(session, done, goal)
        assert isinstance(session.output, Saying)
        waiting.append(len(session.output._gathered))

    monkeypatch.setattr(Session, "come_so_far", come_so_far)
    await room.fill(40)
    client = await room.client()
    await of_its_own(client, "COPY 1:* Sent")
    assert waiting == [0, 0, 0, 0]
