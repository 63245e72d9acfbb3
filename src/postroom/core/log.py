"""The log: structured lines on stderr, JSON for machines or text for people.

Rooms take a logger at import, `_log = structlog.get_logger("postroom.net")`; the first line
after `configure` finds it set up. A session binds its id: `log.bind(session=...)`. What is
below the level costs one call that does nothing. A value under a secret's name is hidden, a
hostile one is escaped, a long one is cut: a line stays one line. The last lines of a process are
kept in memory, `RECENT`, for whoever administers it without the right to read its stderr.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TextIO, TypeAlias, get_args

import structlog
from structlog.typing import FilteringBoundLogger

Format: TypeAlias = Literal["json", "text"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

LONGEST: Final = 4_096
"""Characters of one value; what is beyond is cut."""
HIDDEN: Final = "[hidden]"

# A name that ends in one of these holds what nobody may read in a log.
_SECRET: Final = ("password", "passwd", "secret", "token", "credential", "credentials", "verifier")
_FIRST: Final = ("time", "level", "logger", "event")
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode

Event: TypeAlias = MutableMapping[str, Any]


Entry: TypeAlias = str | Mapping[str, Any]
"""A finished line as JSON, or what makes one: who asks pays for the rendering."""


class Recent:
    """The last lines of a process: so many, and so many characters in all."""

    __slots__ = ("_added", "_entries", "_held", "_most", "_room")

    def __init__(self, lines: int = 2_000, characters: int = 2 * 1024 * 1024) -> None:
        self._entries: deque[tuple[Entry, int, int]] = deque()  # with size and number
        self._added = 0
        self._held = 0
        self._most = lines
        self._room = characters

    def add(self, entry: Entry, size: int) -> None:
        """Keep a line of `size` characters, and let go of the oldest where there is no room."""
        self._added += 1
        self._entries.append((entry, size, self._added))
        self._held += size
        while self._held > self._room or len(self._entries) > self._most:
            _, gone, _ = self._entries.popleft()
            self._held -= gone

    def entries(self) -> tuple[Entry, ...]:
        """What is kept now, the oldest first."""
        return tuple(entry for entry, _, _ in tuple(self._entries))

    def after(self, number: int) -> tuple[tuple[Entry, ...], int, int]:
        """What came after the entry of that number (from 1) and is kept, the oldest first; the
        number of the last entry; and how many came after it too, but are gone already."""
        kept = tuple(self._entries)
        if not kept:
            return (), self._added, max(0, self._added - number)
        first, last = kept[0][2], kept[-1][2]
        lost = max(0, first - number - 1)
        return tuple(entry for entry, _, n in kept if n > number), last, lost

    def clear(self) -> None:
        """Forget all: after a fork they are another process's."""
        self._entries.clear()
        self._held = 0


RECENT: Final = Recent()
"""Of this process."""


def last_lines(entries: Sequence[Entry], count: int, *holding: str) -> list[str]:
    """The last `count` of the lines, as JSON, that hold every one of these texts; the oldest
    first. Takes a few microseconds for each that it looks at."""
    found: list[str] = []
    for entry in reversed(entries):
        if len(found) >= count:
            break
        line = entry if isinstance(entry, str) else _rendered(entry)
        if all(text in line for text in holding):
            found.append(line)
    found.reverse()
    return found


class _Sink:
    """Where finished lines go. One write for a line: workers share stderr."""

    __slots__ = ("_write", "name")

    def __init__(self, write: Callable[[str], object], name: str) -> None:
        self._write = write
        self.name = name

    def msg(self, line: str) -> None:
        self._write(line + "\n")

    debug = info = warning = error = critical = exception = msg


class _Sinks:
    """Makes the sink of a logger; the stream is asked for at each line, as tests replace it."""

    __slots__ = ("_stream",)

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __call__(self, *names: str) -> _Sink:
        return _Sink(self._write, names[0] if names else "postroom")

    def _write(self, line: str) -> None:
        stream = self._stream if self._stream is not None else sys.stderr
        stream.write(line)
        stream.flush()


def configure(
    form: Format = "text",
    *,
    level: str = "info",
    stream: TextIO | None = None,
    once: bool = True,
) -> None:
    """Set up the log of this process. `stream` is stderr by default.

    With `once`, a logger keeps what it finds at its first line: that makes it cheap. Without,
    `configure` may be called again and all follow, as tests need it.
    """
    if form not in FORMATS:
        raise ValueError(f"a log format is one of {', '.join(FORMATS)}")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _stamp,
            structlog.processors.format_exc_info,
            _clean,
            _json if form == "json" else _kept_and_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Sinks(stream),
        cache_logger_on_first_use=once,
    )


def logger(name: str, **bound: object) -> FilteringBoundLogger:
    """A logger with values that each of its lines carries, such as `session=...`."""
    made: FilteringBoundLogger = structlog.get_logger(name, **bound)
    return made


# --- processors -----------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _stamp(sink: _Sink, method: str, event: Event) -> Event:
    # The machine's own clock: a log line tells when it was written, whatever a test's clock says.
    seconds, below = divmod(time.time_ns() // 1_000_000, 1_000)
    event["time"] = f"{_second(seconds)}.{below:03d}Z"
    event["level"] = "error" if method == "exception" else method
    event["logger"] = sink.name
    return event


def _clean(sink: _Sink, method: str, event: Event) -> Event:
    for name, value in event.items():
        event[name] = HIDDEN if _is_hidden(name) else clean(value)
    return event


def _is_secret(name: str) -> bool:
    return name.lower().endswith(_SECRET)


_is_hidden = lru_cache(maxsize=1024)(_is_secret)  # the names of a line's values: ours, and few


def clean(value: object, depth: int = 4) -> Any:
    """The value as plain JSON types: secrets hidden, long texts and deep nesting cut."""
    if type(value) is str and len(value) <= LONGEST:
        return value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value[: LONGEST + 1]).decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping) and depth:
        return {
            str(k): HIDDEN if _is_secret(str(k)) else clean(v, depth - 1) for k, v in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [clean(item, depth - 1) for item in value]
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def _json(sink: _Sink, method: str, event: Event) -> str:
    line = _rendered(event)
    RECENT.add(line, len(line))
    return line


def _rendered(event: Mapping[str, Any]) -> str:
    ordered = {name: event[name] for name in _FIRST if name in event}
    return _ENCODE({**ordered, **event})


def _kept_and_text(sink: _Sink, method: str, event: Event) -> str:
    kept = dict(event)
    line = _text(sink, method, event)
    RECENT.add(kept, len(line))
    return line


def _text(sink: _Sink, method: str, event: Event) -> str:
    """The line for people; takes the event apart."""
    at, level, name, said = (event.pop(key, "") for key in _FIRST)
    trace = event.pop("exception", None)
    pieces = [f"{at} {level:<7} {name}: {_plain(said)}"]
    pieces += [f"{key}={_quoted(value)}" for key, value in event.items()]
    line = " ".join(pieces)
    # The stack is ours and not the peer's, and for people: the one thing on lines of its own.
    return line if trace is None else f"{line}\n" + "\n".join(map(_plain, trace.splitlines()))


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else json.dumps(text)[1:-1]


_NOT_BARE: Final = re.compile(r'[ "=\\]').search


def _quoted(value: object) -> str:
    if isinstance(value, str):
        printable = value.isprintable()
        if value and printable and not _NOT_BARE(value):
            return value
        return json.dumps(value, ensure_ascii=not printable)
    return str(value) if type(value) is int else json.dumps(value)
