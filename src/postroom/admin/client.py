"""Asking a running server for one operation, over its local socket. Blocking. What somebody typed
goes another way: `server.terminal`.

A request is one line of JSON, {"operation", "input", "reason"}; the answer is one too, {"ok": true,
"output"} or {"ok": false, "error": {"status", "sentence", "misuse"}}.
"""

from __future__ import annotations

import json
from typing import Any, Final

from postroom.core.errors import MailError, Malformed, Misuse, Unreachable
from postroom.core.terminal import ANSWER_MAX, REQUEST_MAX
from postroom.net.unix import connect_unix

__all__ = [
    "ANSWER_MAX",
    "CONNECT",
    "REQUEST_MAX",
    "NotRunning",
    "Refused",
    "call",
    "output",
    "request",
]

CONNECT: Final = 10.0  # seconds


class NotRunning(Unreachable):
    """Nobody listens: the server is stopped."""

    sentence = "The server is not running"


class Refused(MailError):
    """What the server answered; `status_text` is its enhanced status code."""

    def __init__(self, sentence: str, status_text: str) -> None:
        super().__init__(sentence)
        self.status_text = status_text


def request(operation: str, asked: Any, reason: str = "") -> bytes:
    """The line that asks for an operation; raises Misuse if it is too long."""
    told = {"operation": operation, "input": asked, "reason": reason}
    line = json.dumps(told).encode() + b"\n"
    if len(line) > REQUEST_MAX:
        raise Misuse("These arguments are too long")
    return line


def call(socket_path: str, operation: str, asked: Any, reason: str = "") -> Any:
    """Ask and wait for the output as JSON values, however long it takes.

    Raises NotRunning, Unreachable, Misuse as the server found it, Refused for its other errors.
    """
    line = request(operation, asked, reason)
    try:
        sock = connect_unix(socket_path, timeout=CONNECT)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunning from error
    except PermissionError as error:
        raise Unreachable("Only the owner of the data directory may do this") from error
    except OSError as error:
        raise Unreachable(detail=str(error)) from error
    with sock:
        sock.settimeout(None)
        try:
            sock.sendall(line)
            with sock.makefile("rb") as answers:
                answer = answers.readline(ANSWER_MAX + 1)
        except OSError as error:
            raise Unreachable("The server went away", detail=str(error)) from error
    return output(answer)


def output(answer: bytes) -> Any:
    """The output in an answer; raises as `call` does."""
    if not answer.endswith(b"\n"):
        raise Unreachable("The server went away in the middle of its answer")
    try:
        told = json.loads(answer)
        if told["ok"]:
            return told["output"]
        error = told["error"]
        sentence, status, misuse = error["sentence"], error["status"], error["misuse"]
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed("The server's answer could not be understood") from error
    if misuse:
        raise Misuse(sentence)
    raise Refused(sentence, status)
