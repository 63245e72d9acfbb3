from __future__ import annotations

import hashlib
import threading
from typing import Final

import pytest

from postroom.core.clock import Instant
from postroom.domain import queue
from postroom.domain.events import QueueReady
from postroom.domain.queue import (
    HOUR,
    MINUTE,
    Lease,
    LostLease,
    NewRecipient,
    QueuedMessage,
    Recipient,
)
from postroom.store import blobs
from postroom.store.blobs import NewBlob, Place
from postroom.store.sql import Statement, Tx
from tests.domain.making import DAY, NOW, Direct

LEASE: Final = 60  # seconds


def message(tx: Tx, number: int, reverse_path: str | None = "ann@a.test") -> QueuedMessage:
    content = b"%d" % number
    blob = NewBlob(number, hashlib.sha256(content).digest(), len(content), Place.ROW, content)
    blobs.insert(tx, blob, NOW)
    return QueuedMessage(
        number, number, len(content), reverse_path, None, None, NOW, Instant(NOW + 5 * DAY)
    )


def recipient(address: str = "bob@b.test", due: int = 0, attempts: int = 0) -> NewRecipient:
    return NewRecipient(
        address, None, "", ("$Junk", 'o"dd'), ("NEVER",), None, Instant(NOW + due), attempts
    )


def put(
    store: Direct, number: int, *recipients: NewRecipient, hop: str = "b.test", queued: str = "out"
) -> None:
    def unit(tx: Tx) -> None:
        queue.put(
            tx, message(tx, number), queued, hop, recipients or (recipient(),), 1_000 + number
        )

    store.write(unit)


def take(store: Direct, holder: int = 1, at: int = 0, queued: str = "out") -> Lease | None:
    return store.write(queue.lease, queued, holder, Instant(NOW + at), LEASE)


def must(store: Direct, holder: int = 1, at: int = 0) -> Lease:
    found = take(store, holder, at)
    assert found is not None
    return found


def due(store: Direct, lease: Lease, at: int = 0, limit: int = 100) -> list[Recipient]:
    return store.read(queue.due, lease, Instant(NOW + at), limit)


# --- times --------------------------------------------------------------------------------


def test_the_waits_grow_as_declared() -> None:
    """RFC 5321 §4.5.4.1: 30 minutes at least on the whole, give up after 4 to 5 days."""
    waits = [(queue.later(NOW, n) - NOW) // MINUTE for n in range(1, 12)]
    assert waits == [3, 15, 30, 60, 120, 240, 240, 240, 240, 240, 240]
    assert queue.later(NOW, 1_000_000) == NOW + 4 * HOUR


def test_a_bounce_is_given_up_sooner() -> None:
    assert queue.expiry(NOW, "ann@a.test") == NOW + 5 * DAY
    assert queue.expiry(NOW, None) == NOW + 2 * DAY


# --- what is queued -----------------------------------------------------------------------


def test_what_was_put_is_what_is_due(store: Direct) -> None:
    put(store, 1, recipient("a@b.test"), recipient("later@b.test", due=MINUTE))
    assert store.events == [QueueReady()]
    lease = must(store)
    assert (lease.queue, lease.next_hop, lease.until) == ("out", "b.test", NOW + LEASE * 1000)
    (found,) = due(store, lease)
    assert (found.address, found.n, found.flags, found.attempts, found.account) == (
        "a@b.test",
        0,
        ("$Junk", 'o"dd'),
        0,
        None,
    )
    assert found.message.reverse_path == "ann@a.test"
    assert found.message.expires_at == NOW + 5 * DAY
    assert len(due(store, lease, MINUTE)) == 2
    assert len(due(store, lease, MINUTE, 1)) == 1
    assert store.read(queue.counts) == {"messages": 1, "recipients": 2}
    assert [r.address for r in store.read(queue.waiting, 10)] == ["a@b.test", "later@b.test"]


def test_one_destination_serves_all_that_goes_there(store: Direct) -> None:
    put(store, 1)
    put(store, 2)
    put(store, 3, hop="c.test")
    lease = must(store)
    assert {r.message.id for r in due(store, lease)} == {1, 2}
    other = must(store, 2)
    assert other.next_hop == "c.test"
    assert take(store, 3) is None


def test_queues_do_not_mix(store: Direct) -> None:
    put(store, 1, queued="local", hop="")
    assert take(store) is None
    assert store.read(queue.next_due, "out") is None
    assert store.read(queue.next_due, "local") == NOW
    assert take(store, queued="local") is not None


def test_who_is_due_longest_goes_first(store: Direct) -> None:
    for number, at in ((1, 30), (2, 10), (3, 20)):
        put(store, number, recipient(due=at), hop=f"h{number}")
    assert take(store, at=5) is None
    assert [must(store, at=60).next_hop for _ in range(3)] == ["h2", "h3", "h1"]
    assert store.read(queue.next_due, "out") == NOW + 60 + LEASE * 1000


# --- outcomes -----------------------------------------------------------------------------


def test_who_was_reached_leaves_and_the_message_with_the_last(store: Direct) -> None:
    put(store, 1, recipient("a@b.test"), recipient("b@b.test"))
    lease = must(store)
    first, second = due(store, lease)

    def outcome(tx: Tx, who: list[Recipient]) -> None:
        queue.hold(tx, lease)
        queue.done(tx, who)

    store.write(outcome, [first])
    assert store.read(queue.counts) == {"messages": 1, "recipients": 1}
    store.write(outcome, [second])
    assert store.read(queue.counts) == {"messages": 0, "recipients": 0}
    store.write(queue.release, lease)
    assert take(store, at=DAY) is None
    put(store, 2)
    assert must(store).destination == lease.destination


def test_who_was_not_reached_is_tried_again(store: Direct) -> None:
    put(store, 1)
    at = 0
    for attempt in range(1, 8):
        lease = must(store, at=at)
        (found,) = due(store, lease, at)
        assert found.attempts == attempt - 1
        reply = f"451 4.7.1 later, {attempt}\x00 \udcff"
        store.write(queue.failed, found, reply, Instant(NOW + at))
        store.write(queue.release, lease)
        next_due = store.read(queue.next_due, "out")
        assert next_due == queue.later(Instant(NOW + at), attempt)
        assert take(store, at=next_due - NOW - 1) is None
        at = next_due - NOW
    (waits,) = store.read(queue.waiting, 1)
    assert waits.last_reply.startswith("451 4.7.1 later, 7")


def test_a_message_that_comes_during_a_lease_is_due_after_it(store: Direct) -> None:
    put(store, 1, recipient(due=0))
    lease = must(store)
    put(store, 2, recipient(due=5))
    (found,) = due(store, lease)
    store.write(queue.failed, found, "", NOW)
    store.write(queue.release, lease)
    assert store.read(queue.next_due, "out") == NOW + 5


# --- leases -------------------------------------------------------------------------------


def test_one_destination_has_one_holder(store: Direct) -> None:
    put(store, 1)
    held = must(store, 1)
    assert take(store, 2) is None
    assert take(store, 2, at=LEASE * 1000 - 1) is None
    again = must(store, 2, at=LEASE * 1000)
    assert again.destination == held.destination
    assert again.fence > held.fence


def test_an_outcome_of_an_old_lease_is_refused(store: Direct) -> None:
    """Its worker was thought dead: what it delivered, another may be delivering now."""
    put(store, 1)
    old = must(store, 1)
    (found,) = due(store, old)
    new = must(store, 2, at=LEASE * 1000)

    def outcome(tx: Tx, lease: Lease) -> None:
        queue.hold(tx, lease)
        queue.done(tx, [found])

    with pytest.raises(LostLease):
        store.write(outcome, old)
    store.write(queue.release, old)  # of no effect: it is not his to give back
    assert take(store, 3, at=LEASE * 1000) is None
    assert store.read(queue.counts) == {"messages": 1, "recipients": 1}
    store.write(outcome, new)
    assert store.read(queue.counts) == {"messages": 0, "recipients": 0}
    gone = Statement("DELETE FROM destination WHERE id = :id")
    store.write(lambda tx: tx.run(gone, id=new.destination))
    with pytest.raises(LostLease):
        store.write(queue.hold, new)


def test_a_lease_that_ran_out_unnoticed_still_counts(store: Direct) -> None:
    put(store, 1)
    lease = must(store, 1)
    (found,) = due(store, lease, LEASE * 2000)
    store.write(queue.hold, lease)
    store.write(queue.done, [found])


def test_the_leases_of_a_dead_worker_are_free_at_once(store: Direct) -> None:
    for number in (1, 2, 3):
        put(store, number, hop=f"h{number}")
    dead = [must(store, 1), must(store, 1)]
    alive = must(store, 2)
    assert store.write(queue.release_all_of, 1) == 2
    assert store.write(queue.release_all_of, 1) == 0
    for lease in dead:
        with pytest.raises(LostLease):
            store.write(queue.hold, lease)
    store.write(queue.hold, alive)
    assert {must(store, 3).next_hop for _ in dead} == {lease.next_hop for lease in dead}


def test_many_workers_never_hold_one_destination_together(store: Direct) -> None:
    for number in range(1, 5):
        put(store, number, hop=f"h{number}")
    taken: list[tuple[int, str]] = []
    lock = threading.Lock()
    together = threading.Barrier(4, timeout=20)

    def worker(holder: int) -> None:
        own = Direct(store.engine, store.place, migrated=True)
        try:
            together.wait()
            for _ in range(3):
                lease = take(own, holder)
                if lease is not None:
                    with lock:
                        taken.append((lease.destination, lease.next_hop))
        finally:
            own.close()

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(hop for _, hop in taken) == ["h1", "h2", "h3", "h4"]


# --- beside each other --------------------------------------------------------------------


def test_what_is_put_while_its_destination_is_given_back_is_due(store: Direct) -> None:
    """The runner gives back an empty destination as a new message arrives for it."""
    put(store, 1)
    lease = must(store)
    store.write(queue.done, due(store, lease))
    other = Direct(store.engine, store.place, migrated=True)
    written, released = threading.Event(), threading.Event()

    def arrive(tx: Tx) -> None:
        queue.put(tx, message(tx, 2), "out", "b.test", [recipient()], 2_000)
        written.set()
        released.wait(0.5)  # on PostgreSQL the release waits for us, and does not return

    def runner() -> None:
        written.wait(10)
        other.write(queue.release, lease)
        released.set()

    thread = threading.Thread(target=runner)
    thread.start()
    store.write(arrive)
    thread.join(20)
    other.close()
    assert store.read(queue.next_due, "out") == NOW, "nobody would ever look at it"
    assert [r.message.id for r in due(store, must(store, 2))] == [2]
