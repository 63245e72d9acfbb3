"""The writer of one store file in one worker: units in groups, each group one commit.

Under the store's lock, between processes: one BEGIN IMMEDIATE, a savepoint for each unit, one
COMMIT (synchronous=FULL: on disk when it returns), unlock, and all callers are answered at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import apsw

from postroom.core.errors import MailError, StoreFailed
from postroom.store.lanes import Lanes
from postroom.store.sqlite_engine import (
    BUSY_MS,
    FileLock,
    SqliteTx,
    connect,
    engine_error,
    house_errors,
)
from postroom.store.units import (
    BATCH_SECONDS,
    BATCH_UNITS,
    LOOP_LATE,
    LOOP_SECONDS,
    NOTES_SECONDS,
    WAL_FORCED_CHECKPOINT,
    Lane,
    answerable,
)

Listener = Callable[[list[object]], None]


class Waiting:
    """A unit in line, and then its answer."""

    __slots__ = ("error", "future", "heavy", "result", "run")

    def __init__(
        self,
        run: Callable[[SqliteTx], object],
        future: asyncio.Future[Any] | None,
        *,
        heavy: bool = False,
    ) -> None:
        self.run = run
        self.future = future
        self.heavy = heavy  # takes longer than the loop may be held
        self.result: object = None
        self.error: BaseException | None = None


class _Turn:
    """The loop's part of a batch."""

    __slots__ = ("_claim", "done", "ends", "events", "heavy", "over", "sound")

    def __init__(self, done: list[Waiting], events: list[object], ends: float) -> None:
        self.done = done
        self.ends = ends  # of the batch, by time.monotonic()
        self.events = events
        self.heavy: Waiting | None = None  # taken, and left to the thread
        self.sound = True  # the engine is still in the transaction
        self.over = threading.Event()
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """True for the first who asks: it is his to run."""
        return self._claim.acquire(blocking=False)


class _Bell:
    """What the writer's thread waits for: a turn to finish, a word that units wait, the end."""

    __slots__ = ("_asked", "_begun", "_closed", "_ring")

    def __init__(self) -> None:
        self._ring = threading.Condition()
        self._begun: _Turn | None = None
        self._asked = False
        self._closed = False

    def finish(self, begun: _Turn) -> None:
        """The loop began this batch; the thread is to finish it."""
        with self._ring:
            self._begun = begun
            self._ring.notify()

    def ask(self) -> None:
        """Units wait that the loop does not take."""
        with self._ring:
            self._asked = True
            self._ring.notify()

    def close(self) -> None:
        """Finish what waits, then end."""
        with self._ring:
            self._closed = True
            self._ring.notify()

    def wait(self) -> tuple[_Turn | None, bool]:
        """The turn to finish, if that is what is wanted, and whether this is the end."""
        with self._ring:
            while self._begun is None and not self._asked and not self._closed:
                self._ring.wait()
            begun, self._begun = self._begun, None
            if begun is None:
                self._asked = False
            return begun, self._closed


class Writer:
    """Writes to one store file: a thread blocks on lock and fsync, the loop runs light units.

    Where the lock is free, the loop takes it, begins the batch with the units that wait, and
    leaves the commit to the thread. Where it is not, the thread waits for it and then has the
    loop run them. `_mine` says which of the two has the connection: it is passed on with a batch.
    """

    def __init__(
        self,
        path: str,
        *,
        durable: bool,
        vfs: str | None,
        loop: asyncio.AbstractEventLoop,
        listener: Listener,
    ) -> None:
        self._path = path
        self._durable = durable
        self._vfs = vfs
        self._loop = loop
        self._listener = listener
        self._lanes: Lanes[Waiting] = Lanes()
        self._bell = _Bell()
        self._mine = threading.Lock()
        self._called = False  # the loop will look soon
        self._notes: asyncio.TimerHandle | None = None  # notes wait, and nobody else
        self._lock = FileLock(path + ".lock")
        self._db = connect(path, durable=durable, vfs=vfs)
        self._usable = True
        self.batches = 0
        self.units = 0
        self.failed_notes = 0
        self._thread = threading.Thread(target=self._work, name=f"writer {path}", daemon=True)
        self._thread.start()

    def put(self, lane: Lane, waiting: Waiting) -> None:
        """Put a unit in line, on the loop; raises Busy if the lane is full, ShuttingDown after
        `close`."""
        self._lanes.put(lane, waiting, wake=False)
        if not self._called:
            # Not at once: what the loop does in this turn may bring more, for one commit.
            self._called = True
            self._loop.call_soon(self._look)

    def put_note(self, lane: Lane, waiting: Waiting) -> None:
        """The same for what nobody waits for: it goes with the next batch, or soon by itself."""
        self._lanes.put(lane, waiting, wake=False)
        if not self._called and self._notes is None:
            self._notes = self._loop.call_later(NOTES_SECONDS, self._look)

    def waiting(self) -> tuple[int, ...]:
        """How many units wait in each lane."""
        return self._lanes.waiting()

    def close(self) -> None:
        """Finish what waits and stop. Blocks; call it from a thread."""
        self._lanes.close()
        self._bell.close()
        self._thread.join()

    # --- on the loop ---------------------------------------------------------------------

    def _look(self) -> None:
        """Begin a batch if the connection and the lock are free, or have the thread do it."""
        self._called = False
        if self._notes is not None:
            self._notes.cancel()
            self._notes = None
        if not self._mine.acquire(blocking=False):
            return  # a batch is under way: at its end we look again
        turn: _Turn | None = None
        try:
            heads = self._lanes.heads()
            if not heads:
                return
            if not any(head.heavy for head in heads) and self._take_lock():
                turn = self._begun()
            if turn is None:
                self._bell.ask()
        finally:
            if turn is None:
                self._mine.release()
            else:
                self._bell.finish(turn)

    def _take_lock(self) -> bool:
        """The lock, if it is free and holding it will not take long."""
        try:
            return not self._wal_is_long() and self._lock.try_hold()
        except OSError:
            return False  # the thread will meet it, and say it

    def _begun(self) -> _Turn | None:
        """A batch with the light units that wait; None if the engine cannot begin."""
        try:
            self._begin()
        except MailError:
            self._lock.let_go()
            return None
        self._lanes.next_round()
        turn = _Turn([], [], time.monotonic() + BATCH_SECONDS)
        self._light_units(turn)
        return turn

    # --- in the thread -------------------------------------------------------------------

    def _work(self) -> None:
        ending = False
        while not ending or self._lanes.heads():
            turn, ending = self._bell.wait()
            if turn is None and not self._mine.acquire(blocking=False):
                continue  # the loop was faster, and will have us finish its batch
            done: list[Waiting] = turn.done if turn is not None else []
            events: list[object] = turn.events if turn is not None else []
            try:
                if turn is not None:
                    self._finish(turn)
                else:
                    self._alone(done, events)
            finally:
                self._mine.release()
                self._answer(done, events)
        self._db.close()
        self._lock.close()

    def _finish(self, turn: _Turn) -> None:
        """End the batch that the loop began under the lock."""
        try:
            sound = turn.sound
            if sound and turn.heavy is not None:
                turn.done.append(turn.heavy)
                sound = self._try(turn.heavy, turn.events)
            self._end(turn.done, turn.events, sound=sound)
        finally:
            self._lock.let_go()

    def _alone(self, done: list[Waiting], events: list[object]) -> None:
        """A batch from its beginning: wait for the lock, then have the loop run its part."""
        try:
            with self._lock.held():
                self._shorten_wal()
                self._batch(done, events)
        except OSError as refused:  # the lock itself failed: nothing was begun
            self._fail_waiting(done, StoreFailed(detail=f"the lock: {refused}"))

    def _batch(self, done: list[Waiting], events: list[object]) -> None:
        ends = time.monotonic() + BATCH_SECONDS
        try:
            self._begin()
        except MailError as error:
            self._fail_waiting(done, error)
            return
        self._lanes.next_round()
        while True:
            turn = _Turn(done, events, ends)
            self._on_loop(turn)
            sound, heavy = turn.sound, turn.heavy
            if sound and heavy is not None:
                done.append(heavy)
                sound = self._try(heavy, events)
            if not sound or heavy is None:
                break
            if len(done) >= BATCH_UNITS or time.monotonic() > ends:
                break
        self._end(done, events, sound=sound)

    def _end(self, done: list[Waiting], events: list[object], *, sound: bool) -> None:
        if sound:
            self._commit(done, events)
        else:
            # The engine gave up the whole batch (full, I/O error): each unit alone.
            events.clear()
            self._each_alone(done, events)

    def _on_loop(self, turn: _Turn) -> None:
        """Have the loop run the light units of the batch, and wait until it has.

        Here in the thread each statement would let go of the interpreter's lock and wait for
        it again, twenty times for a delivery, while the loop is busy: that cost more than the
        units. A loop that is late or gone must not keep the other workers from the store: then
        they run here after all.
        """
        try:
            self._loop.call_soon_threadsafe(self._claimed_units, turn)
        except RuntimeError:
            self._light_units(turn)
            return
        if turn.over.wait(LOOP_LATE):
            return
        if turn.claim():
            self._light_units(turn)
        else:
            turn.over.wait()

    def _claimed_units(self, turn: _Turn) -> None:
        """On the loop: the units, unless the thread has taken them back."""
        if turn.claim():
            self._light_units(turn)

    def _light_units(self, turn: _Turn) -> None:
        """Run units for as long as the loop may be held; stop at a heavy one."""
        ends = min(turn.ends, time.monotonic() + LOOP_SECONDS)
        try:
            while len(turn.done) < BATCH_UNITS and (waiting := self._lanes.take()) is not None:
                if waiting.heavy:
                    turn.heavy = waiting
                    break
                turn.done.append(waiting)
                if not self._try(waiting, turn.events):
                    turn.sound = False
                    break
                if time.monotonic() > ends:
                    break
        finally:
            turn.over.set()

    def _begin(self) -> None:
        if not self._usable:
            self._db = connect(self._path, durable=self._durable, vfs=self._vfs)
            self._usable = True
        with house_errors():
            self._db.execute("BEGIN IMMEDIATE")

    def _try(self, waiting: Waiting, events: list[object]) -> bool:
        """Run one unit under a savepoint; False if the engine left the transaction."""
        db = self._db
        tx = SqliteTx(db)
        try:
            db.execute("SAVEPOINT unit")
            waiting.result = waiting.run(tx)
            db.execute("RELEASE unit")
        except BaseException as error:  # the unit's own error goes to its caller, whatever it is
            waiting.error = (
                engine_error(error) if isinstance(error, apsw.Error) else answerable(error)
            )
            try:
                if not db.in_transaction:
                    return False
                db.execute("ROLLBACK TO unit")
                db.execute("RELEASE unit")
            except apsw.Error:
                return False
            return True
        events += tx.events
        return True

    def _commit(self, done: list[Waiting], events: list[object]) -> None:
        try:
            self._db.execute("COMMIT")
        except apsw.Error as error:
            self._roll_back()
            events.clear()
            for waiting in done:
                waiting.error = waiting.error or engine_error(error)
            self._bury()
        self.batches += 1
        self.units += len(done)

    def _bury(self) -> None:
        """Write something harmless over a commit that failed.

        If only its sync failed, it lies in the WAL whole, and whoever opens the store after a
        crash would take it for kept, although its units were told otherwise. Any later commit
        overwrites it; this one does so at once, as far as the disk lets it.
        """
        try:
            self._begin()
            version = self._db.pragma("user_version")
            self._db.pragma("user_version", 1 - min(version, 1))
            self._db.execute("COMMIT")
        except (apsw.Error, MailError):
            self._roll_back()  # those who were here were told already, and the next will be

    def _each_alone(self, done: list[Waiting], events: list[object]) -> None:
        self._roll_back()
        for waiting in done:
            waiting.error = None
            own: list[object] = []
            try:
                self._begin()
            except MailError as error:
                waiting.error = error
                continue
            if self._try(waiting, own):
                self._commit([waiting], own)
                events += own
            else:
                self._roll_back()

    def _fail_waiting(self, done: list[Waiting], failure: MailError) -> None:
        """Answer a batch of those who wait: the store cannot even begin."""
        while len(done) < BATCH_UNITS and (waiting := self._lanes.take()) is not None:
            waiting.error = type(failure)(detail=failure.detail)  # each caller raises its own
            done.append(waiting)

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error:
            # A connection that cannot even roll back is given up; the next unit opens another.
            self._db.close(True)
            self._usable = False

    def _shorten_wal(self) -> None:
        """Past the bound, the lock holder restarts the WAL itself.

        It does not wait for readers, as all who write wait for it: the next holder tries again.
        """
        if not self._wal_is_long():
            return
        with contextlib.suppress(apsw.Error):  # readers, or a disk that fails: the WAL keeps all
            try:
                self._db.set_busy_timeout(0)
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                self._db.set_busy_timeout(BUSY_MS)

    def _wal_is_long(self) -> bool:
        try:
            return os.stat(self._path + "-wal").st_size > WAL_FORCED_CHECKPOINT
        except OSError:
            return False  # there is no WAL yet; what else is wrong with it, the commit will say

    def _answer(self, done: list[Waiting], events: list[object]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, done, events)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _deliver(self, done: list[Waiting], events: list[object]) -> None:
        for waiting in done:
            future = waiting.future
            if future is None:
                self.failed_notes += waiting.error is not None
            elif future.done():
                continue
            elif waiting.error is not None:
                future.set_exception(waiting.error)
            else:
                future.set_result(waiting.result)
        if events:
            self._listener(events)
        if not self._called:
            self._look()  # what came meanwhile is the next batch
