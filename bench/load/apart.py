"""Runs a load in a process of its own, so that a server and its client never share a GIL."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Generic, TypeVar

from bench.model import BenchError

Plan = TypeVar("Plan")
Result = TypeVar("Result")

_PATIENCE = 600.0  # s; a run that takes longer hangs


@dataclass(frozen=True, slots=True)
class Signals:
    """How a load without an end of its own and its parent speak while it runs."""

    ready: Event  # the load: all is under way
    stop: Event  # the parent: enough


class Apart(Generic[Plan, Result]):
    """A child that runs `function(plan)` at once; leaving the block ends it."""

    def __init__(self, function: Callable[[Plan], Result], plan: Plan) -> None:
        # spawn, not fork: the child must not inherit the parent's heap or its descriptors.
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(theirs, function, plan), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Apart[Plan, Result]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ours.close()
        self._process.join(0 if kind is not None else 5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def ended(self, seconds: float) -> bool:
        """Whether the load ends within so many seconds."""
        return self._ours.poll(seconds)

    def result(self) -> Result:
        """Wait for the result. Raises BenchError with what went wrong in the child."""
        try:
            if not self._ours.poll(_PATIENCE):
                raise BenchError("the load did not end")
            outcome: Result | str = self._ours.recv()
        except EOFError:
            raise BenchError("the load's process died") from None
        if isinstance(outcome, str):
            raise BenchError(outcome)
        return outcome


def signals() -> Signals:
    """A fresh pair, to be put into the plan of a child."""
    context = multiprocessing.get_context("spawn")
    return Signals(context.Event(), context.Event())


def run_apart(function: Callable[[Plan], Result], plan: Plan) -> Result:
    """Run `function(plan)` in a process of its own and return its result."""
    with Apart(function, plan) as child:
        return child.result()


def _child(pipe: Connection, function: Callable[[Plan], Result], plan: Plan) -> None:
    try:
        pipe.send(function(plan))
    except (BenchError, OSError) as error:
        pipe.send(f"{type(error).__name__}: {error}")


def own_cpu() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
