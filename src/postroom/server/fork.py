"""Child processes by fork: workers with their loop, and short errands.

The supervisor forks before it has a loop, a thread or an open store, so that a child starts
clean. A child never returns into its parent's code: it ends in `os._exit`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

import structlog
import uvloop
from structlog.typing import FilteringBoundLogger

from postroom.server.instance import Layout
from postroom.server.privileges import die_with_parent, drop_capabilities
from postroom.server.sockets import Bound

FAILED: Final = 70  # exit status of a child that raised: EX_SOFTWARE of sysexits.h

# What a worker says on its pipe, a byte each.
READY: Final = b"R"
RELOADED: Final = b"H"
ALIVE: Final = b"."

_log: FilteringBoundLogger = structlog.get_logger("postroom.server")


class WorkerContext:
    """What a worker is given. Made in the worker, after the fork, on its running loop."""

    def __init__(
        self,
        index: int,
        workers: int,
        layout: Layout,
        sockets: tuple[Bound, ...],
        pipe: int,
        background: int | None = None,
    ) -> None:
        self.index = index  # 0 .. workers - 1; a successor has its predecessor's
        self.workers = workers
        self.background = background  # the index of the process that serves nobody, if there is one
        self.layout = layout
        self.sockets = sockets  # listening; accept on all of them, then call ready()
        self.stopping = asyncio.Event()  # set by SIGTERM: drain, then return from run_worker
        self._pipe = pipe
        self._hooks: list[Callable[[], None]] = []

    def ready(self) -> None:
        """Every listener accepts."""
        self._tell(READY)

    def on_reload(self, hook: Callable[[], None]) -> None:
        """Call `hook` on the loop at every SIGHUP, in the order of these calls."""
        self._hooks.append(hook)

    def reload(self) -> None:
        """SIGHUP. A hook that fails is logged; the others are called all the same."""
        for hook in self._hooks:
            try:
                hook()
            except Exception:
                _log.exception("reload failed", worker=self.index)
        self._tell(RELOADED)

    async def beat(self, seconds: float) -> None:
        """Say every so often that the loop still turns, for the watchdog."""
        while True:
            self._tell(ALIVE)
            await asyncio.sleep(seconds)

    def _tell(self, what: bytes) -> None:
        try:
            os.write(self._pipe, what)
        except BlockingIOError:
            pass  # full of what the supervisor has yet to read: it will see that we live


RunWorker: TypeAlias = Callable[[WorkerContext], Awaitable[None]]
"""A worker's life: construct, accept, `context.ready()`, await `context.stopping`, drain."""


def work(run: RunWorker, context: Callable[[], WorkerContext], beat: float | None = None) -> int:
    """The whole of a worker process after the fork: its exit status.

    SIGTERM and SIGHUP are blocked on entry and let through once they have their handlers.
    """

    async def live() -> None:
        loop = asyncio.get_running_loop()
        mine = context()
        loop.add_signal_handler(signal.SIGTERM, mine.stopping.set)
        loop.add_signal_handler(signal.SIGHUP, mine.reload)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        heart = loop.create_task(mine.beat(beat)) if beat is not None else None
        try:
            await run(mine)
        finally:
            if heart is not None:
                heart.cancel()

    # Ctrl-C goes to the whole process group; the supervisor alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())
    return 0


def start_child(
    run: Callable[[], int | None],
    *,
    hand_over: Iterable[signal.Signals] = (),
    forget: Iterable[int] = (),
) -> int:
    """Fork a child that runs `run` and exits with what it returns; its process id.

    The child dies with us, has the default signal handlers and no capabilities. The signals
    of `hand_over` stay blocked: `run` lets them through. `forget` are descriptors to close.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid:
            return pid
        status = FAILED
        try:
            status = _child(run, parent, frozenset(hand_over), forget)
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else FAILED
        except BaseException:
            # Also KeyboardInterrupt: a child must never go on as a second supervisor.
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def in_child(run: Callable[[], int | None]) -> int:
    """Run in a child what must not leave a trace in this process, such as an open store.

    Waits for it: its exit status, the signal's negated number if it was killed.
    """
    pid = start_child(run)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _child(
    run: Callable[[], int | None],
    parent: int,
    hand_over: frozenset[signal.Signals],
    forget: Iterable[int],
) -> int:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, hand_over)
    drop_capabilities()
    if not die_with_parent(parent):
        return FAILED
    for descriptor in forget:
        os.close(descriptor)
    return run() or 0
