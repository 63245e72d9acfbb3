"""The command `postroom` where a server runs: the words go to it, and what it says is printed.

It imports next to nothing, so that a command is there at once. The form of a request is that of
`admin.client`; the one that is asked for is `admin.typed`.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any, Final

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


def told_by_server(control_socket: str, words: Sequence[str]) -> int | None:
    """Let the running server answer a command; the exit code.

    None if this process has to do it alone: there is no server, or it may not be asked, or it
    cannot do that. Nothing was done then.
    """
    try:
        sock = connect_unix(control_socket, timeout=CONNECT)
    except OSError:
        return None
    sock.settimeout(None)  # an operation takes as long as it takes
    with sock, sock.makefile("rb") as answers:
        try:
            return converse(
                lambda typed: _ask(sock, answers, typed), words, sys.stdin, sys.stdout, sys.stderr
            )
        except (Misuse, Malformed, Unreachable) as error:
            _complain(str(error), str(error.status), as_json="--json" in words)
            return MISUSE if isinstance(error, Misuse) else REFUSED


def _ask(sock: socket.socket, answers: IO[bytes], typed: Typed) -> Answered:
    """One question; raises Misuse, Unreachable, Malformed."""
    line = json.dumps({"operation": "typed", "input": asdict(typed)}).encode() + b"\n"
    if len(line) > REQUEST_MAX:
        raise Misuse("These arguments are too long")
    try:
        sock.sendall(line)
        answer = answers.readline(ANSWER_MAX + 1)
    except OSError as error:
        raise Unreachable("The server went away", detail=str(error)) from error
    if not answer.endswith(b"\n"):
        raise Unreachable("The server went away in the middle of its answer")
    return _understood(answer)


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
