"""What the server's input turns into, one event at a time. `receiver` says when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from postroom.wire.imap.cursor import Cursor


@dataclass(slots=True)
class Command:
    """A command with its arguments. With `more`, a literal that is streamed follows them:
    NeedLiteral is next, and CommandPart holds what comes after the literal.
    """

    tag: bytes
    name: bytes  # upper case, with its UID: b"UID FETCH"
    args: Cursor
    more: bool = False


@dataclass(slots=True)
class CommandPart:
    """What came between streamed literals or, with `more` False, after the last."""

    args: Cursor
    more: bool


@dataclass(frozen=True, slots=True)
class NeedLiteral:
    """A literal is announced: `accept()` or `reject()`, then ask for the next event.

    If `sync`, the client waits: accept with a continuation line, reject with the tagged
    reply. Otherwise the octets come anyway; rejected, they are dropped.
    """

    tag: bytes
    name: bytes
    size: int
    sync: bool
    streamed: bool
    binary: bool


@dataclass(frozen=True, slots=True)
class LiteralStart:
    size: int
    binary: bool  # `~{n}`: NUL is allowed


@dataclass(frozen=True, slots=True)
class LiteralChunk:
    """Octets of a streamed literal; a view, valid until it is dropped."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class LiteralEnd:
    pass


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was asked for by `expect_line`, without its CRLF."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BadLine:
    """Input that is no command. Answer BAD (`too_big`: NO [TOOBIG]) under the tag, or
    untagged; if `fatal`, say BYE and close: no later byte will be looked at.
    """

    tag: bytes | None
    sentence: str
    fatal: bool = False
    too_big: bool = False
    name: bytes = b""  # of the command whose literal is too big


Event: TypeAlias = (
    Command | CommandPart | NeedLiteral | LiteralStart | LiteralChunk | LiteralEnd | Line | BadLine
)
