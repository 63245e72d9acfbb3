"""The supervisor: keeps the sockets, keeps the workers alive, passes signals on. Nothing else.

It opens no store and runs no loop: what could hang or crash lives in a worker. Everything
that it waits for comes through one selector: signals through the wakeup descriptor, and what
workers say through a pipe each.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from types import FrameType
from typing import Final, TypeAlias

import structlog
from structlog.typing import FilteringBoundLogger

from postroom import __version__
from postroom.server.fork import (
    ALIVE,
    READY,
    RELOADED,
    RunWorker,
    WorkerContext,
    start_child,
    work,
)
from postroom.server.instance import Instance, ServerStatus, WorkerStatus
from postroom.server.notify import Notify
from postroom.server.sockets import Sockets

GRACE: Final = 29.0  # seconds to drain before the kill: the whole stop stays under 30
DEATHS: Final = 5  # so many deaths of a worker ...
WINDOW: Final = 60.0  # ... in so many seconds, and it is given up
AGAIN: Final = 1.0  # seconds until a status that could not be written is tried again
RELOAD: Final = 5.0  # seconds after which a reload counts as done whoever has not answered

OnDeath: TypeAlias = Callable[[int, int, int], None]
"""(worker's index, process id, exit status or negated signal): called in a child process."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

_log: FilteringBoundLogger = structlog.get_logger("postroom.server")


class _State(Enum):
    STARTING = "starting"
    READY = "ready"
    DEAD = "dead"


@dataclass(slots=True)
class _Worker:
    """One worker's place; its processes come and go."""

    index: int
    run: RunWorker
    serves: bool = True  # one that does not has no sockets, and nobody waits for it
    pid: int = 0
    pipe: int = -1  # our end
    state: _State = _State.DEAD
    given_up: bool = False
    reloading: bool = False
    heard: float = 0.0  # when it last said anything
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS))
    died: int = 0  # in all

    @property
    def name(self) -> str:
        return "worker" if self.serves else "background process"


class Supervisor:
    """Runs the workers until it is told to stop."""

    def __init__(
        self,
        instance: Instance,
        sockets: Sockets,
        run_worker: RunWorker,
        *,
        background: RunWorker | None = None,
        notify: Notify | None = None,
        on_worker_death: OnDeath | None = None,
        grace: float = GRACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """As many workers as `sockets` were opened for, and a process for `background` work."""
        self._instance = instance
        self._sockets = sockets
        self._notify = notify if notify is not None else Notify()
        self._on_worker_death = on_worker_death
        self._grace = grace
        self._clock = clock
        self._workers = [_Worker(index, run_worker) for index in range(len(sockets.workers))]
        self._background: int | None = None
        if background is not None:
            self._background = len(self._workers)
            self._workers.append(_Worker(self._background, background, serves=False))
        self._errands: set[int] = set()  # process ids of on_worker_death's children
        self._selector = selectors.DefaultSelector()
        self._announced = False  # READY=1 was said
        self._failed = False
        self._kill_at: float | None = None  # set while stopping
        self._killed = False
        self._reloaded_by: float | None = None  # set while reloading
        self._publish_at: float | None = None  # set while the disk refuses the status
        self._beat = self._notify.watchdog / 4 if self._notify.watchdog is not None else None
        self._beat_at = 0.0
        self._listeners = sockets.describe()

    def run(self) -> int:
        """Until SIGTERM, SIGINT or the last worker is given up: 0, or 1 for the last.

        To be called in the main thread, as the only thread.
        """
        wakeup, wakeup_writer = socket.socketpair()
        with wakeup, wakeup_writer, self._selector:
            for end in (wakeup, wakeup_writer):
                end.setblocking(False)
            self._selector.register(wakeup, selectors.EVENT_READ, None)
            before = {number: signal.signal(number, _noticed) for number in _SIGNALS}
            old_wakeup = signal.set_wakeup_fd(wakeup_writer.fileno(), warn_on_full_buffer=False)
            try:
                # What exists now is shared with the children: a collection in one of them
                # would copy its pages.
                gc.collect()
                gc.freeze()
                _log.info("starting", version=__version__, **_doors(self._listeners))
                for worker in self._workers:
                    self._start(worker)
                self._publish()
                while not self._ended():
                    self._turn(wakeup)
            finally:
                signal.set_wakeup_fd(old_wakeup)
                for number, handler in before.items():
                    signal.signal(number, handler)
                gc.unfreeze()
                self._sockets.close()
        self._remove_unix_sockets()
        _log.info("stopped")
        return 1 if self._failed else 0

    # --- the loop --------------------------------------------------------------------------

    def _turn(self, wakeup: socket.socket) -> None:
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                self._signals(wakeup.recv(4096))
            else:
                self._hear(key.data)
        self._reap()
        self._serve_deadlines(self._clock())

    def _patience(self) -> float | None:
        """Seconds until something is due; None: nothing is."""
        kill_at = None if self._killed else self._kill_at
        due = [at for at in (kill_at, self._reloaded_by, self._publish_at) if at is not None]
        if self._beat is not None:
            due.append(self._beat_at)
        return max(0.0, min(due) - self._clock()) if due else None

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                if self._kill_at is None:
                    self._stop()
                elif number == signal.SIGINT:
                    self._kill_at = self._clock()  # Ctrl-C again: the person will not wait
            elif number == signal.SIGHUP and self._kill_at is None:
                self._reload()

    def _serve_deadlines(self, now: float) -> None:
        if self._kill_at is not None and now >= self._kill_at and not self._killed:
            self._killed = True
            left = [worker for worker in self._workers if worker.pid]
            _log.warning("killing workers that did not drain", workers=[w.index for w in left])
            for pid in (*(worker.pid for worker in left), *self._errands):
                _send_signal(pid, signal.SIGKILL)
        if self._reloaded_by is not None and (
            now >= self._reloaded_by or not any(w.reloading and w.pid for w in self._workers)
        ):
            self._reloaded_by = None
            self._announce()
        if self._publish_at is not None and now >= self._publish_at:
            self._publish()
        if self._beat is not None and now >= self._beat_at:
            self._beat_at = now + self._beat
            if self._all_answer(now, 2 * self._beat):
                self._notify.alive()

    def _all_answer(self, now: float, within: float) -> bool:
        """True if each worker that serves has said something lately."""
        return all(now - w.heard <= within for w in self._workers if w.state is _State.READY)

    def _ended(self) -> bool:
        if self._kill_at is None and self._nobody():
            _log.error("no worker is left")
            self._failed = True
            self._stop()
        return (
            self._kill_at is not None
            and not self._errands
            and not any(worker.pid for worker in self._workers)
        )

    # --- workers ---------------------------------------------------------------------------

    def _start(self, worker: _Worker) -> None:
        ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        index, sockets = worker.index, self._sockets
        make = partial(
            WorkerContext,
            index,
            len(sockets.workers),
            self._instance.layout,
            sockets.of(index),
            theirs,
            self._background,
        )
        others = [
            bound.sock.fileno()
            for other, bounds in enumerate(sockets.workers)
            for bound in bounds
            # A copy would keep the door open when its worker is given up.
            if other != index and bound.sock.fileno() != -1
        ]
        if not worker.serves:
            others += [bound.sock.fileno() for bound in sockets.shared if bound.sock.fileno() != -1]
        pipes = [other.pipe for other in self._workers if other.pipe != -1]
        try:
            worker.pid = start_child(
                partial(work, worker.run, make, self._beat),
                hand_over=(signal.SIGTERM, signal.SIGHUP),
                forget=(*others, *pipes, ours),
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        worker.state = _State.STARTING
        worker.pipe = ours
        worker.heard = self._clock()
        worker.reloading = False
        self._selector.register(ours, selectors.EVENT_READ, worker)
        _log.info(f"{worker.name} started", worker=index, pid=worker.pid)

    def _hear(self, worker: _Worker) -> None:
        try:
            said = os.read(worker.pipe, 4096)
        except BlockingIOError:
            return
        if not said:
            self._selector.unregister(worker.pipe)  # it ended, or is about to
            os.close(worker.pipe)
            worker.pipe = -1
            return
        worker.heard = self._clock()
        if RELOADED in said:
            worker.reloading = False
        if READY in said and worker.state is _State.STARTING:
            worker.state = _State.READY
            self._announce()
        assert not said.strip(READY + RELOADED + ALIVE)

    def _reap(self) -> None:
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            status = os.waitstatus_to_exitcode(raw)
            worker = next((w for w in self._workers if w.pid == pid), None)
            if worker is not None:
                self._died(worker, status)
            elif pid in self._errands:
                self._errands.discard(pid)
                if status:
                    _log.error("clearing up after a worker failed", pid=pid, status=status)

    def _died(self, worker: _Worker, status: int) -> None:
        pid, worker.pid = worker.pid, 0
        worker.state = _State.DEAD
        if worker.pipe != -1:
            self._selector.unregister(worker.pipe)
            os.close(worker.pipe)
            worker.pipe = -1
        stopping = self._kill_at is not None
        if not stopping:
            _log.error(f"{worker.name} died", worker=worker.index, pid=pid, status=status)
            self._replace(worker)
        if self._on_worker_death is not None and (status or not stopping):
            # After the successor's start, which is what the peers wait for.
            self._errands.add(
                start_child(
                    partial(self._on_worker_death, worker.index, pid, status),
                    forget=[b.sock.fileno() for b in self._sockets if b.sock.fileno() != -1],
                )
            )
        self._publish()

    def _replace(self, worker: _Worker) -> None:
        now = self._clock()
        worker.deaths.append(now)
        worker.died += 1
        if len(worker.deaths) < DEATHS or now - worker.deaths[0] > WINDOW:
            self._start(worker)
            return
        worker.given_up = True
        if worker.serves:
            for bound in self._sockets.workers[worker.index]:
                bound.sock.close()  # the kernel gives its share to the other workers
        _log.error(
            f"{worker.name} given up", worker=worker.index, deaths=DEATHS, within=f"{WINDOW:.0f} s"
        )
        self._announce()

    # --- stop, reload, status --------------------------------------------------------------

    def _stop(self) -> None:
        self._kill_at = self._clock() + self._grace
        self._notify.stopping()
        self._publish()
        _log.info("draining", seconds=self._grace)
        # Workers close theirs too: from now on connections are refused, not left waiting.
        self._sockets.close()
        for worker in self._workers:
            if worker.pid:
                _send_signal(worker.pid, signal.SIGTERM)

    def _reload(self) -> None:
        _log.info("reloading")
        self._notify.reloading()
        self._reloaded_by = self._clock() + RELOAD
        for worker in self._workers:
            if worker.pid:
                worker.reloading = True
                _send_signal(worker.pid, signal.SIGHUP)
        self._publish()

    def _announce(self) -> None:
        """Say READY once all serve, and again after a reload."""
        self._publish()
        if self._starting() or self._kill_at is not None or self._nobody():
            return
        if not self._announced:
            self._announced = True
            _log.info("ready", workers=len(self._serving()))
        if self._reloaded_by is None:
            self._notify.ready(self._text())

    def _starting(self) -> bool:
        """True until each worker that is not given up has been ready once."""
        return not self._announced and any(
            worker.state is not _State.READY for worker in self._serving() if not worker.given_up
        )

    def _serving(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.serves]

    def _nobody(self) -> bool:
        return all(worker.given_up for worker in self._serving())

    def _state(self) -> str:
        if self._kill_at is not None or self._nobody():
            return "stopping"
        if self._starting():
            return "starting"
        if self._reloaded_by is not None:
            return "reloading"
        return "degraded" if any(worker.given_up for worker in self._workers) else "ready"

    def _text(self) -> str:
        workers = self._serving()
        ready = sum(worker.state is _State.READY for worker in workers)
        return f"{ready} of {len(workers)} workers serve"

    def _publish(self) -> None:
        """Tell who asks. A disk that refuses it is no reason to end: it is tried again."""
        told = [WorkerStatus(w.index, w.pid, w.state.value, w.died) for w in self._workers]
        apart = told.pop() if self._background is not None else None
        status = ServerStatus(os.getpid(), self._state(), self._listeners, tuple(told), apart)
        try:
            self._instance.publish(status)
        except OSError as error:
            if self._publish_at is None:
                _log.error("status not written", error=str(error))
            self._publish_at = self._clock() + AGAIN
        else:
            self._publish_at = None

    def _remove_unix_sockets(self) -> None:
        for bound in self._sockets.shared:
            try:
                os.unlink(bound.address[0])
            except FileNotFoundError:
                pass


def _doors(listeners: Iterable[tuple[str, str, int]]) -> dict[str, str]:
    """Where each listener is reached, by its name: `[::1]:20025`, or a path."""
    doors: dict[str, list[str]] = {}
    for name, address, port in listeners:
        host = f"[{address}]" if ":" in address else address
        doors.setdefault(name, []).append(f"{host}:{port}" if port else address)
    return {name: " ".join(places) for name, places in doors.items()}


def _noticed(number: int, frame: FrameType | None) -> None:
    """Nothing: the wakeup descriptor tells the loop."""


def _send_signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended by itself; the loop will bury it
