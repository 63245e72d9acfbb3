"""How a question reaches the other workers of a machine, and how their answers come back.

Each worker listens on DIR/run/ask-<index>.sock. A question is one connection: it is asked, it is
answered, and it is over. So an answer may be long, belongs to its question, and comes once; a
worker that dies ends its connection, and who comes too late finds it closed.

Both begin with a head: magic (1 octet), version (1), tag of the question or fate of the answer
(1), octets that follow (4, network order). They are JSON of the declared types.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from postroom.admin import codec
from postroom.admin.questions import (
    CloseSession,
    Closing,
    FindLines,
    FindMetrics,
    FindSessions,
    LinesFound,
    MetricsFound,
    SessionsFound,
)
from postroom.core.bus import Missing, NoAnswer, Question
from postroom.core.errors import Misuse
from postroom.net.unix import listen_unix, peer_user, short_path

A = TypeVar("A")

MAGIC: Final = 0x51
VERSION: Final = 1
QUESTION_MAX: Final = 64 * 1024
ANSWER_MAX: Final = 16 * 1024 * 1024
"""Octets of what follows a head."""
PATIENCE: Final = 30.0
"""Seconds after which a question that is not whole, or whose answer nobody takes, is let go."""
AT_ONCE: Final = 32
"""Questions that one worker answers at a time."""
_SHORT: Final = 32 * 1024  # octets that are JSON in no time
_HEAD: Final = struct.Struct("!BBBI")

_FATES: Final = (Missing.FAILED, Missing.TOO_LARGE, Missing.STRANGE)  # 1, 2, 3; 0 is an answer

_log: Final = structlog.get_logger("postroom.bus")


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of question, and what answers it."""

    tag: int  # 1..255; never given to another kind: workers of two releases may ask each other
    question: type[Question[Any]]
    answer: type


FORMS: Final = (
    Form(1, FindSessions, SessionsFound),
    Form(2, CloseSession, Closing),
    Form(3, FindMetrics, MetricsFound),
    Form(4, FindLines, LinesFound),
)

Respond = Callable[[Question[Any]], Awaitable[Any]]
"""Answers here; raises NoAnswer."""


def ask_path(run: str, index: int) -> str:
    """The socket on which a worker is asked."""
    return os.path.join(run, f"ask-{index}.sock")


class Asker:
    """Asks other workers, and answers them. `start` on the loop; `close` may be called twice."""

    def __init__(
        self, run: str, index: int, respond: Respond, forms: Sequence[Form] = FORMS
    ) -> None:
        self._run = run
        self._index = index
        self._respond = respond
        self._by_kind: Mapping[type, Form] = {form.question: form for form in forms}
        self._by_tag: Mapping[int, Form] = {form.tag: form for form in forms}
        self._loop = asyncio.get_running_loop()
        self._listening: socket.socket | None = None
        self._talks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen, in place of a predecessor."""
        sock = listen_unix(ask_path(self._run, self._index))
        sock.setblocking(False)
        self._listening = sock
        self._loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Answer nothing more."""
        if self._listening is None:
            return
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()
        self._listening = None
        for talk in self._talks:
            talk.cancel()
        try:
            os.unlink(ask_path(self._run, self._index))
        except FileNotFoundError:
            pass

    # --- asking ------------------------------------------------------------------------------

    async def ask(self, worker: int, question: Question[A]) -> A:
        """The answer of another worker, however long it takes; raises NoAnswer."""
        form = self._form(question)
        body = json.dumps(codec.encode(question)).encode()
        if len(body) > QUESTION_MAX:
            raise Misuse("A question is too long")
        try:
            with short_path(ask_path(self._run, worker)) as path:
                reader, writer = await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoAnswer(Missing.GONE) from error
        except OSError as error:  # EAGAIN: it accepts nobody
            raise NoAnswer(Missing.LATE) from error
        try:
            writer.write(_HEAD.pack(MAGIC, VERSION, form.tag, len(body)) + body)
            head = await reader.readexactly(_HEAD.size)
            magic, version, fate, size = _HEAD.unpack(head)
            if magic != MAGIC or version != VERSION or fate > len(_FATES):
                raise NoAnswer(Missing.STRANGE)
            if fate:
                raise NoAnswer(_FATES[fate - 1])
            if size > ANSWER_MAX:
                raise NoAnswer(Missing.TOO_LARGE)
            octets = await reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise NoAnswer(Missing.GONE) from error  # it died over the question
        finally:
            writer.close()
        answer: A = await _read(form, octets, worker)
        return answer

    def _form(self, question: Question[Any]) -> Form:
        form = self._by_kind.get(type(question))
        if form is None:
            raise TypeError(f"{type(question).__name__} has no form: it cannot leave the worker")
        return form

    # --- answering ---------------------------------------------------------------------------

    def _accept(self) -> None:
        """Take who waits, as far as there is room; others wait on."""
        while self._listening is not None:
            if len(self._talks) >= AT_ONCE:
                self._loop.remove_reader(self._listening.fileno())
                return
            try:
                sock, _ = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:  # out of descriptors: who asks learns that we are late
                _log.warning("cannot be asked", reason=str(error))
                return
            if peer_user(sock) not in (0, os.geteuid()):
                sock.close()
                continue
            sock.setblocking(False)
            talk = self._loop.create_task(self._talk(sock))
            self._talks.add(talk)
            talk.add_done_callback(self._ended)

    def _ended(self, talk: asyncio.Task[None]) -> None:
        self._talks.discard(talk)
        if not talk.cancelled() and (error := talk.exception()) is not None:
            _log.error("a question broke", exc_info=error)
        if self._listening is not None:
            self._loop.add_reader(self._listening.fileno(), self._accept)

    async def _talk(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._answer(await reader.readexactly(_HEAD.size), reader)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return  # whoever asked waits no longer
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        magic, version, tag, size = _HEAD.unpack(head)
        form = self._by_tag.get(tag)
        if magic != MAGIC or version != VERSION or form is None or size > QUESTION_MAX:
            return _nothing(Missing.STRANGE)
        octets = await reader.readexactly(size)
        try:
            question = codec.decode(form.question, json.loads(octets))
        except (ValueError, RecursionError, Misuse):
            return _nothing(Missing.STRANGE)
        try:
            body = await _written(await self._respond(question))
        except NoAnswer as error:
            return _nothing(error.why)
        if len(body) > ANSWER_MAX:
            return _nothing(Missing.TOO_LARGE)
        return _HEAD.pack(MAGIC, VERSION, 0, len(body)) + body


def _nothing(why: Missing) -> bytes:
    fate = _FATES.index(why) + 1 if why in _FATES else 1
    return _HEAD.pack(MAGIC, VERSION, fate, 0)


async def _written(answer: object) -> bytes:
    """JSON of an answer. Off the loop: it may be long."""
    return await asyncio.to_thread(lambda: json.dumps(codec.encode(answer)).encode())


async def _read(form: Form, octets: bytes, worker: int) -> Any:
    """The answer in its declared type; raises NoAnswer."""

    def parsed() -> Any:
        return codec.decode(form.answer, json.loads(octets))

    try:
        return parsed() if len(octets) <= _SHORT else await asyncio.to_thread(parsed)
    except (ValueError, RecursionError, Misuse) as error:
        _log.warning("an answer could not be read", worker=worker, reason=str(error))
        raise NoAnswer(Missing.STRANGE) from error
