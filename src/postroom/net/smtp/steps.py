"""How a conversation is written without a socket: as a generator of steps.

A conversation yields what it wants done and is sent what came of it, so it reads top to bottom
as the RFC does, and the same code runs over a connection, in a test and in a fuzzer. Whoever
runs it throws ConnectionLost or BadReply into it where the step could not be done.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from postroom.net.smtp.values import Phase
from postroom.wire.smtp import Reply


@dataclass(frozen=True, slots=True)
class Write:
    """Send these octets; go on once the line takes more. Within the content of a message it is
    answered with the reply that came before the server had taken them, if one did."""

    octets: bytes
    phase: Phase


@dataclass(frozen=True, slots=True)
class Read:
    """Wait for the next reply, for as long as the phase allows."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Peek:
    """The reply that the server has given, or begun to give, although none was due; or None."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Work:
    """Something that takes milliseconds, such as deriving a key: where nothing waits for it."""

    run: Callable[[], None]
    phase: Phase


Step: TypeAlias = Write | Read | Peek | Work
T = TypeVar("T")
Steps: TypeAlias = Generator[Step, Reply | None, T]


def read(phase: Phase) -> Steps[Reply]:
    """The next reply."""
    reply = yield Read(phase)
    assert reply is not None  # Read is answered with one
    return reply


def ask(octets: bytes, phase: Phase) -> Steps[Reply]:
    """Send a command and wait for its reply."""
    yield Write(octets, phase)
    return (yield from read(phase))


def work(of: Callable[[], T], phase: Phase) -> Steps[T]:
    """What `of` returns."""
    done: list[T] = []
    yield Work(lambda: done.append(of()), phase)
    return done[0]
