"""The command `postroom` where a server runs: the words go to it, and what it says is printed.

It imports next to nothing, so that a command is there at once. The form of a request is that of
`admin.client`; the one that is asked for is `admin.typed`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from postroom.core.errors import Malformed, Misuse, Unreachable
from postroom.core.terminal import (
    ANSWER_MAX,
    MISUSE,
    REFUSED,
    REQUEST_MAX,
    Answered,
    Typed,
    converse,
)
from postroom.net.unix import connect_unix

CONNECT: Final = 10.0  # seconds
PLACE: Final = "after"
"""The argument that says from where on, of an output that goes on."""


def told_by_server(control_socket: str, words: Sequence[str]) -> int | None:
    """Let the running server answer a command; the exit code.

    None if this process has to do it alone: there is no server, or it may not be asked, or it
    cannot do that. Nothing was done then.
    """
    try:
        talk = _Talk(control_socket)
    except OSError:
        return None
    try:
        return converse(talk.ask, words, sys.stdin, sys.stdout, sys.stderr)
    except (Misuse, Malformed, Unreachable) as error:
        _complain(str(error), str(error.status), as_json="--json" in words)
        return MISUSE if isinstance(error, Misuse) else REFUSED
    finally:
        talk.close()


class _Talk:
    """A connection to the running server; raises OSError if there is none."""

    def __init__(self, control_socket: str) -> None:
        self._path = control_socket
        self._connect()

    def _connect(self) -> None:
        self._sock = connect_unix(self._path, timeout=CONNECT)
        self._sock.settimeout(None)  # an operation takes as long as it takes
        self._answers = self._sock.makefile("rb")

    def close(self) -> None:
        self._answers.close()
        self._sock.close()

    def ask(self, typed: Typed) -> Answered:
        """One question; raises Misuse, Unreachable, Malformed."""
        line = json.dumps({"operation": "typed", "input": asdict(typed)}).encode() + b"\n"
        if len(line) > REQUEST_MAX:
            raise Misuse("These arguments are too long")
        try:
            return _understood(self._asked(line))
        except _Gone:
            if PLACE not in typed.read:
                raise
        # Who follows has asked for what comes after a place, so it may ask twice. The server lets
        # go of who was silent for a while, as a reader that paused is, and workers come and go.
        self.close()
        try:
            self._connect()
        except OSError as error:
            raise _Gone("The server went away", detail=str(error)) from error
        return _understood(self._asked(line))

    def _asked(self, line: bytes) -> bytes:
        try:
            self._sock.sendall(line)
            answer = self._answers.readline(ANSWER_MAX + 1)
        except OSError as error:
            raise _Gone("The server went away", detail=str(error)) from error
        if not answer.endswith(b"\n"):
            raise _Gone("The server went away in the middle of its answer")
        return answer


class _Gone(Unreachable):
    """The connection ended before there was an answer."""


def _understood(answer: bytes) -> Answered:
    try:
        told = json.loads(answer)
        if told["ok"]:
            return Answered(**told["output"])
        error: dict[str, Any] = told["error"]
        sentence, misuse = str(error["sentence"]), bool(error["misuse"])
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed("The server's answer could not be understood") from error
    raise Misuse(sentence) if misuse else Unreachable(sentence)


def _complain(sentence: str, status: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": {"status": status, "sentence": sentence}}))  # noqa: T201 - said
    else:
        print(f"postroom: {sentence}", file=sys.stderr)  # noqa: T201 - as above
