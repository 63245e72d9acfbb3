"""Who has which maildrop: one POP3 session, and nobody else is in the way. RFC 1939 §4."""

from __future__ import annotations

import asyncio
import random

import pytest

from postroom.core.clock import Instant
from postroom.domain.mailboxes import maildrop
from postroom.domain.mailboxes.maildrop import MaildropInUse
from postroom.protocols.pop3.locks import KEEP, LEASE, Lock, Locks
from postroom.testing.clock import ManualClock
from postroom.testing.pop3 import Pop3Client
from postroom.wire.pop3 import Reply, command
from tests.protocols.imap.serving import ANN, BOB, PASSWORD, message
from tests.protocols.pop3.serving import WAIT, Pop3Room
from tests.stores import Stores, stores

__all__ = ["stores"]

IN_USE = Reply(False, "Another session has the maildrop open", "IN-USE")
PLAIN = message()


async def test_a_second_session_is_refused_on_every_worker(room_both: Pop3Room) -> None:
    room = room_both
    first = await room.client()
    for worker in (0, 1):
        client = await room.connect(worker=worker)
        assert await client.login(ANN, PASSWORD) == IN_USE
        # Its password was right: it may try again, and somebody else may come.
        assert await client.login(ANN, PASSWORD) == IN_USE
    assert (await client.login(BOB, PASSWORD)).ok
    assert (await first.ask("NOOP")).ok
    assert (await first.ask("QUIT")).ok
    assert (await (await room.connect()).login(ANN, PASSWORD)).ok


async def test_a_session_that_waits_has_its_turn_when_the_other_ends(room: Pop3Room) -> None:
    first = await room.client()
    waiting = asyncio.create_task(room.client(worker=1))
    await asyncio.sleep(WAIT / 2)
    assert not waiting.done()
    first.abort()  # without a word, as a telephone in a tunnel
    assert (await (await waiting).ask("NOOP")).ok


async def test_who_says_quit_can_come_back_at_once(room: Pop3Room) -> None:
    for n in range(20):
        client = await room.client(worker=n % 2)
        assert (await client.ask("QUIT")).ok


async def test_delivery_and_imap_go_on_while_it_is_locked(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN, PLAIN)
    client = await room.client()
    assert (await client.ask("DELE", 1)).ok
    await asyncio.wait_for(room.imap.deliver(PLAIN), 1)
    imap = await room.imap.client()
    assert (await imap.append("INBOX", PLAIN)).ok
    assert (await imap.command("STORE 2 +FLAGS (\\Deleted)")).ok
    assert (await imap.command("EXPUNGE")).numbers("EXPUNGE") == [2]
    assert await client.stat() == (1, len(PLAIN))
    assert (await client.ask("QUIT")).ok
    assert await room.uids() == [3, 4]


async def test_what_a_dead_worker_held_is_freed_by_its_supervisor(room: Pop3Room) -> None:
    await room.client(worker=0)
    state = room.house.state
    assert await state.write(maildrop.free_all_of, 2) == 0
    other = await room.connect(worker=1)
    assert await other.login(ANN, PASSWORD) == IN_USE
    assert await state.write(maildrop.free_all_of, 1) == 1
    assert (await other.login(ANN, PASSWORD)).ok


async def test_a_session_that_lost_its_lock_deletes_nothing(room: Pop3Room) -> None:
    await room.imap.deliver(PLAIN, PLAIN)
    first = await room.client(worker=0)
    assert (await first.ask("DELE", 1)).ok
    await room.house.state.write(maildrop.free_all_of, 1)
    second = await room.client(worker=1)
    await room.workers[0].locks.keep()
    reply = await first.ask("QUIT")
    assert (reply.ok, reply.code) == (False, "SYS/TEMP")
    assert await room.uids() == [1, 2]
    # And what the second one has is still its own.
    third = await room.connect(worker=0)
    assert await third.login(ANN, PASSWORD) == IN_USE
    assert (await second.ask("DELE", 2)).ok
    assert (await second.ask("QUIT")).ok
    assert await room.uids() == [1]


async def test_a_sign_in_that_is_cut_off_keeps_nobody_out(room: Pop3Room) -> None:
    """Whatever it was doing at that moment."""
    rng = random.Random(3)
    said = command("USER", ANN) + command("PASS", PASSWORD)
    for n in range(40):
        client = await room.connect(worker=n % 2)
        client.send(said)
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)
        await asyncio.sleep(rng.random() * 0.01)
        client.abort()
    assert (await (await room.client()).ask("QUIT")).ok


async def test_sign_ins_at_the_same_moment_let_one_in(room: Pop3Room) -> None:
    clients = [await room.connect(worker=n % 2) for n in range(8)]

    async def sign_in(client: Pop3Client) -> Reply:
        return await client.login(ANN, PASSWORD)

    heard = await asyncio.gather(*map(sign_in, clients))
    assert sorted(reply.code for reply in heard) == ["", *["IN-USE"] * 7]


# --- leases, without sockets -----------------------------------------------------------------


async def test_a_lease_that_is_kept_lasts_and_one_that_is_not_ends(stores: Stores) -> None:
    clock = ManualClock()
    alive, dead = (Locks(stores.state, clock, n, patience=0) for n in (1, 2))
    kept = await alive.take(10, 100)
    await dead.take(20, 200)
    for _ in range(3):
        clock.advance(LEASE / 2)
        await alive.keep()
    assert alive.is_ours(kept)
    with pytest.raises(MaildropInUse):
        await dead.take(10, 201)
    taken = await alive.take(20, 101)  # nobody kept it
    assert alive.is_ours(taken)
    await dead.free(_known(dead, 200))
    with pytest.raises(MaildropInUse):
        await dead.take(20, 202)  # an end that comes late frees nothing of others


def _known(locks: Locks, session: int) -> Lock:
    return locks._held[session]


async def test_a_lock_is_not_ours_once_its_time_is_over(stores: Stores) -> None:
    clock = ManualClock()
    locks = Locks(stores.state, clock, 1, patience=0)
    lock = await locks.take(10, 100)
    clock.advance(LEASE - 1)
    assert locks.is_ours(lock)
    clock.advance(1)
    assert not locks.is_ours(lock)
    await locks.keep()  # nobody took it meanwhile
    assert locks.is_ours(lock)
    await stores.state.write(maildrop.free, 10, 100)
    await locks.keep()
    assert lock.lost
    assert not locks.is_ours(lock)
    assert KEEP * 2 < LEASE  # a renewal may fail once


async def test_freed_is_free(stores: Stores) -> None:
    clock = ManualClock()
    locks = Locks(stores.state, clock, 1, patience=0)
    for session in range(1, 5):
        lock = await locks.take(10, session)
        await locks.free(lock)
        assert not await stores.state.read(maildrop.is_taken, 10, clock.now())
        await locks.keep()
        assert not lock.lost  # given back: that is no loss to warn of
    until = Instant(clock.now() + 1000)
    assert await stores.state.write(maildrop.keep, [1, 2, 3], until) == set()
