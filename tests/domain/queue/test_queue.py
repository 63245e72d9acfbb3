from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from itertools import product
from typing import Final

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain import queue
from postroom.domain.events import QueueReady
from postroom.domain.queue import (
    HOUR,
    MINUTE,
    Hop,
    Lease,
    LostLease,
    NewRecipient,
    Patience,
    QueuedMessage,
    Recipient,
    byhand,
)
from postroom.domain.queue.values import next_try
from postroom.store import blobs
from postroom.store.blobs import NewBlob, Place
from postroom.store.sql import Statement, Tx
from tests.domain.making import DAY, NOW, Direct

LEASE: Final = 60  # seconds
BOB: Final = Hop("out", "b.test")


def message(tx: Tx, number: int, reverse_path: str | None = "ann@a.test") -> QueuedMessage:
    content = b"%d" % number
    blob = NewBlob(number, hashlib.sha256(content).digest(), len(content), Place.ROW, content)
    blobs.insert(tx, blob, NOW)
    return QueuedMessage(
        number, number, number, len(content), reverse_path, None, None, NOW, Instant(NOW + 5 * DAY)
    )


def recipient(
    address: str = "bob@b.test", due: int = 0, attempts: int = 0, hop: Hop = BOB
) -> NewRecipient:
    flags = ("$Junk", 'o"dd')
    return NewRecipient(
        address, None, "", flags, ("NEVER",), None, Instant(NOW + due), attempts, "", hop
    )


def put(
    store: Direct, number: int, *recipients: NewRecipient, hop: str = "b.test", queued: str = "out"
) -> None:
    def unit(tx: Tx) -> None:
        at = Hop(queued, hop)
        these = [replace(each, hop=at) for each in recipients or (recipient(),)]
        queue.put(tx, message(tx, number), these, {at: 1_000 + number})

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
    assert store.events == [QueueReady(1_001)]
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
    store.write(queue.release, lease, NOW)
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
        store.write(queue.failed, [found], reply, Instant(NOW + at))
        store.write(queue.release, lease, NOW)
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
    store.write(queue.failed, [found], "", NOW)
    store.write(queue.release, lease, NOW)
    assert store.read(queue.next_due, "out") == NOW + 5


def test_a_message_waits_no_longer_than_it_lives(store: Direct) -> None:
    """Its last attempt is when it expires, so that its sender hears of it then."""
    put(store, 1)
    expires = 5 * DAY
    lease = must(store)
    (found,) = due(store, lease)
    tried = replace(found, attempts=20)
    store.write(queue.failed, [tried], "451 later", Instant(NOW + expires - HOUR))
    store.write(queue.release, lease, NOW)
    assert store.read(queue.next_due, "out") == NOW + expires


def test_a_host_that_is_down_costs_one_statement(store: Direct) -> None:
    for number in (1, 2, 3):
        put(store, number)
    put(store, 4, recipient(due=HOUR))
    lease = must(store)
    assert store.write(queue.failed_all, lease, "no answer", NOW) == (3, 1)
    store.write(queue.release, lease, NOW, 1)
    again = must(store, at=3 * MINUTE)
    assert again.failures == 1
    assert len(due(store, again, 3 * MINUTE)) == 3
    store.write(queue.failed_all, again, "no answer", Instant(NOW + 3 * MINUTE))
    store.write(queue.release, again, NOW, 2)
    assert store.read(queue.next_due, "out") == NOW + 18 * MINUTE
    assert {r.attempts for r in due(store, must(store, at=DAY), 18 * MINUTE)} == {2}


def test_what_comes_while_a_host_is_down_joins_those_who_wait(store: Direct) -> None:
    """How long it is left alone follows from how long it is down."""
    put(store, 1)
    for number in (2, 3, 4):
        lease = must(store, at=number * MINUTE)
        _, failures = store.write(queue.failed_all, lease, "no answer", Instant(NOW + 2 * MINUTE))
        store.write(queue.release, lease, NOW, failures)
        assert failures == 1
        assert store.read(queue.next_due, "out") == NOW + 5 * MINUTE
        put(store, number)


def test_one_and_all_wait_alike(store: Direct) -> None:
    """What is computed for one recipient is what SQL computes for all of a destination."""
    moments = (0, MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 5 * DAY - 2 * HOUR, 5 * DAY, 6 * DAY)
    cases = product((0, HOUR, 3 * HOUR, 5 * DAY), (False, True), (0, 3, 9), moments)
    for number, (notice, warned, tries, moment) in enumerate(cases, 1):
        now, patience = Instant(NOW + moment), Patience(notice=notice)
        put(store, number)
        lease = replace(must(store, at=50 * DAY), failures=tries)
        (found,) = due(store, lease, 50 * DAY)
        if warned:
            store.write(queue.warned, [found])
        store.write(queue.failed_all, lease, "", now, patience)
        (after,) = store.read(queue.waiting, 10)
        expected = next_try(replace(found, attempts=tries, warned=warned), now, patience)
        assert after.due == expected, (notice, warned, tries, moment)
        store.write(queue.done, [after])
        store.write(queue.release_all_of, 1)


def test_what_was_deleted_held_or_moved_is_wanted_no_more(store: Direct) -> None:
    put(store, 1, recipient("a@b.test"), recipient("b@b.test"), recipient("c@b.test"))
    put(store, 2)
    lease = must(store)
    *mine, other = due(store, lease)
    assert store.read(queue.still_wanted, lease, mine) == mine
    store.write(queue.done, [mine[0]])
    store.write(queue.move, [mine[1]], Hop("out", "c.test"), 77, NOW)
    assert store.read(queue.still_wanted, lease, mine) == [mine[2]]
    store.write(byhand.hold_back, 1)
    assert store.read(queue.still_wanted, lease, mine) == []
    assert store.read(queue.still_wanted, lease, [other]) == [other]
    assert store.read(queue.still_wanted, lease, []) == []


def test_who_is_gone_already_is_not_counted_as_dealt_with(store: Direct) -> None:
    put(store, 1, recipient("a@b.test"), recipient("b@b.test"))
    found = due(store, must(store))
    assert store.write(queue.done, found[:1]) == 1
    assert store.write(queue.done, found) == 1
    assert store.write(queue.done, found) == 0
    assert store.read(queue.counts) == {"messages": 0, "recipients": 0}


def test_what_expired_is_found_by_its_destination(store: Direct) -> None:
    put(store, 1)
    put(store, 2, hop="c.test")
    lease = must(store)
    assert store.read(queue.expired, lease, Instant(NOW + 5 * DAY - 1), 10) == []
    (found,) = store.read(queue.expired, lease, Instant(NOW + 5 * DAY), 10)
    assert found.message.id == 1


def test_what_is_late_is_told_once_and_only_after_a_try(store: Direct) -> None:
    put(store, 1)
    lease = must(store)
    before = Instant(NOW + HOUR)
    assert store.read(queue.late, lease, before, 10) == []
    store.write(queue.failed, due(store, lease), "451 later", NOW)
    (found,) = store.read(queue.late, lease, before, 10)
    assert found.last_reply == "451 later"
    assert store.read(queue.late, lease, Instant(NOW - 1), 10) == []
    store.write(queue.warned, [found])
    assert store.read(queue.late, lease, before, 10) == []


def test_recipients_move_to_another_next_hop(store: Direct) -> None:
    put(store, 1, recipient("a@b.test"), recipient("b@b.test"))
    lease = must(store)
    first, _ = due(store, lease)
    store.write(queue.move, [first], Hop("out", "relay.test"), 5_000, NOW)
    assert [r.address for r in due(store, lease)] == ["b@b.test"]
    other = must(store, 2)
    assert (other.next_hop, other.destination) == ("relay.test", 5_000)
    assert [r.address for r in due(store, other)] == ["a@b.test"]


def test_a_destination_that_is_not_used_is_forgotten_and_made_anew(store: Direct) -> None:
    put(store, 1)
    put(store, 2, hop="c.test")
    lease = must(store)
    store.write(queue.done, due(store, lease))
    store.write(queue.release, lease, Instant(NOW + HOUR))
    assert store.write(queue.forget_idle, Instant(NOW + HOUR)) == 0
    assert store.write(queue.forget_idle, Instant(NOW + HOUR + 1)) == 1
    put(store, 3, hop=lease.next_hop)
    assert must(store, 2) is not None


def test_what_we_compose_waits_for_intake(store: Direct) -> None:
    content = b"Subject: x\r\n\r\n"
    blob = NewBlob(77, hashlib.sha256(content).digest(), len(content), Place.ROW, content)
    composed = queue.Composed(70, blob, None, ("ann@a.test",), "dsn", 71)
    store.write(queue.submit, composed, NOW)
    lease = take(store, queued=queue.COMPOSED)
    assert lease is not None
    (found,) = due(store, lease)
    assert (found.address, found.message.id, found.message.origin) == ("ann@a.test", 70, "dsn")
    assert found.message.reverse_path is None
    assert found.message.expires_at == NOW + 2 * DAY


# --- by an administrator ------------------------------------------------------------------


def test_a_message_is_held_back_and_let_go(store: Direct) -> None:
    put(store, 1, recipient("a@b.test"), recipient("b@b.test"))
    assert store.write(byhand.hold_back, 1) == 2
    lease = must(store)
    assert due(store, lease, DAY) == []
    assert store.read(queue.expired, lease, Instant(NOW + 9 * DAY), 10) == []
    store.write(queue.release, lease, NOW)
    assert take(store, at=DAY) is None
    assert [w.recipient.held for w in store.read(byhand.of_trace, 1)] == [True, True]
    assert store.write(byhand.let_go, 1, NOW) == 2
    assert len(due(store, must(store))) == 2


def test_a_message_that_was_held_while_it_was_tried_stays_held(store: Direct) -> None:
    put(store, 1)
    lease = must(store)
    tried = due(store, lease)
    store.write(byhand.hold_back, 1)
    store.write(queue.failed, tried, "451 later", NOW)
    assert due(store, lease, DAY) == []


def test_a_message_and_a_destination_are_tried_at_once(store: Direct) -> None:
    put(store, 1, recipient(due=HOUR))
    put(store, 2, recipient(due=HOUR))
    assert take(store) is None
    assert store.write(byhand.retry, 1, NOW) == 1
    lease = must(store)
    assert [r.message.id for r in due(store, lease)] == [1]
    assert store.write(byhand.retry_destination, Hop("out", "b.test"), NOW) == 1
    assert len(due(store, lease)) == 2
    (busy,) = store.read(byhand.destinations, 10)
    assert (busy.hop, busy.recipients) == (Hop("out", "b.test"), 2)


def test_a_message_is_deleted(store: Direct) -> None:
    put(store, 1, recipient("a@b.test"), recipient("b@b.test"))
    assert store.write(byhand.delete, 1) == 2
    assert store.read(queue.counts) == {"messages": 0, "recipients": 0}
    for act in (byhand.delete, byhand.hold_back):
        with pytest.raises(NotFound):
            store.write(act, 1)
    for at_once in (byhand.retry, byhand.let_go):
        with pytest.raises(NotFound):
            store.write(at_once, 1, NOW)
    with pytest.raises(NotFound):
        store.write(byhand.retry_destination, Hop("out", "nowhere"), NOW)


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
    store.write(queue.release, old, NOW)  # of no effect: it is not his to give back
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
        queue.put(tx, message(tx, 2), [recipient()], {Hop("out", "b.test"): 2_000})
        written.set()
        released.wait(0.5)  # on PostgreSQL the release waits for us, and does not return

    def runner() -> None:
        written.wait(10)
        other.write(queue.release, lease, NOW)
        released.set()

    thread = threading.Thread(target=runner)
    thread.start()
    store.write(arrive)
    thread.join(20)
    other.close()
    assert store.read(queue.next_due, "out") == NOW, "nobody would ever look at it"
    assert [r.message.id for r in due(store, must(store, 2))] == [2]
