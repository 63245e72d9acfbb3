"""The control socket: operations for whoever may open the data directory.

Each worker accepts on the one listening socket DIR/run/control.sock. Only its owner and root
are heard: the socket's mode says so, and the kernel's word on who connected again. The form of
requests and answers is in `admin.client`.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any, Final

import structlog

from postroom.admin import AdminHouse, codec, perform
from postroom.admin.client import ANSWER_MAX, REQUEST_MAX
from postroom.admin.house import named
from postroom.core.errors import MailError, Malformed, Misuse, TooLarge
from postroom.net.unix import peer_user

IDLE: Final = 60.0  # seconds that a connection may say nothing
CONNECTIONS: Final = 64
"""Open at once in a worker; further ones wait to be accepted."""

_log: Final = structlog.get_logger("postroom.control")


class ControlServer:
    """Performs operations that come over a local socket."""

    def __init__(self, listening: socket.socket, house: AdminHouse) -> None:
        """`house` is given with the right of whoever is let in: the owner's."""
        self._listening = listening
        self._house = house
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._talks: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()  # in the middle of an operation
        self._accepting: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Accept from now on."""
        self._listening.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def close(self) -> None:
        """Accept no more, and let operations that run end; cancel it to cut them off."""
        self._closing = True
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        try:
            for talk in self._talks - self._busy:
                talk.cancel()
            await asyncio.gather(*self._talks, return_exceptions=True)
        finally:
            for talk in self._talks:
                talk.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                sock, _ = await loop.sock_accept(self._listening)
            except OSError as error:
                self._room.release()
                _log.warning("cannot accept", reason=str(error))
                await asyncio.sleep(1)
                continue
            except asyncio.CancelledError:
                self._room.release()
                raise
            user = peer_user(sock)
            if user not in (0, os.geteuid()):
                _log.warning("refused a user", user=user)
                sock.close()
                self._room.release()
                continue
            talk = loop.create_task(self._talk(sock))
            self._talks.add(talk)
            talk.add_done_callback(self._ended)

    def _ended(self, talk: asyncio.Task[None]) -> None:
        self._talks.discard(talk)
        self._room.release()
        if not talk.cancelled() and (error := talk.exception()) is not None:
            _log.error("a control connection failed", exc_info=error)

    async def _talk(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=REQUEST_MAX)
        me = asyncio.current_task()
        assert me is not None  # a coroutine of a task
        try:
            while not self._closing:
                line = await self._line(reader)
                if not line:
                    return
                self._busy.add(me)
                try:
                    writer.write(await self._answer(line))
                    await writer.drain()
                finally:
                    self._busy.discard(me)
        except ConnectionError:
            return  # whoever asked has gone; what they asked for is done
        finally:
            writer.close()

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        """The next request, or nothing if none comes."""
        try:
            async with asyncio.timeout(IDLE):
                line = await reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, TimeoutError):
            return b""
        except asyncio.LimitOverrunError:
            # The rest of the line cannot be told from the next request: the talk is over.
            _log.warning("a request was too long")
            return b""
        return line

    async def _answer(self, line: bytes) -> bytes:
        try:
            # Off the loop: a list may have 10,000 rows.
            answer = await asyncio.to_thread(_accepted, await self._perform(line))
            if len(answer) > ANSWER_MAX:
                raise TooLarge("The answer is too long: ask for less")
        except MailError as error:
            return _refusal(str(error.status), str(error), isinstance(error, Misuse | Malformed))
        except Exception:
            _log.exception("an operation failed")
            return _refusal(str(MailError.status), "The server failed; its log says how", False)
        return answer

    async def _perform(self, line: bytes) -> Any:
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Malformed("A request is a line of JSON") from error
        if not isinstance(told, dict) or not isinstance(told.get("operation"), str):
            raise Malformed("A request names an operation")
        operation = named(told["operation"])
        asked = codec.decode(operation.input, told.get("input", {}))
        reason = codec.decode(str, told.get("reason", ""), "reason")
        return await perform(self._house, operation.name, asked, reason)


def _accepted(output: object) -> bytes:
    return _line_of({"ok": True, "output": codec.encode(output)})


def _refusal(status: str, sentence: str, misuse: bool) -> bytes:
    error = {"status": status, "sentence": sentence, "misuse": misuse}
    return _line_of({"ok": False, "error": error})


def _line_of(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"
