"""The language of `dkim.rules`: which of our keys sign which mail, and what is not signed.

    author=news@example.org sign news
    list=announce.lists.example.org sign lists|lists-ed
    author=example.org header=x-campaign:spring|x-campaign:summer sign marketing
    sender=robots.example.org author=robot@example.org unsigned

All conditions of a line have to hold, and the first line of which they do decides. Without one,
every key of the author's domain signs that is active and does not stand apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from postroom.core.errors import Malformed
from postroom.formats.address import Address, parse_mailbox
from postroom.formats.headers import Headers
from postroom.mailflow.names import parse_domain_name

Reader: TypeAlias = Callable[[str], str]

LINES_MAX: Final = 200
LINE_MAX: Final = 500
"""Characters of a line."""
VALUES_MAX: Final = 50
NOBODY: Final = "<>"
"""The null reverse-path among senders. RFC 5321 §4.5.5."""
_NAMES: Final = ("author", "sender", "list", "header")
_WRITE: Final = "write author=, sender=, list= or header="
_UNSIGNED: Final = "unsigned"
_SIGN: Final = "sign"
_SHOWN: Final = 40
_IS_SELECTOR: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?").fullmatch
_IS_LIST: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?").fullmatch
_IS_HEADER: Final = re.compile(r"[a-z0-9-]{1,64}(?::[!-{}~]{1,100})?").fullmatch
_LIST_ID: Final = re.compile(rb"<([^<>]{1,255})>[ \t]*\Z")


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the values is that of the message: an address, a domain or one above it; a field of
    its header, or a text within such a field."""

    name: str  # author, sender, list, header
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}={'|'.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Line:
    """Conditions, and the selectors that sign; none: it is not signed."""

    conditions: tuple[Condition, ...]
    selectors: tuple[str, ...]

    def __str__(self) -> str:
        done = f"{_SIGN} {'|'.join(self.selectors)}" if self.selectors else _UNSIGNED
        return f"{' '.join(map(str, self.conditions))} {done}"


@dataclass(frozen=True, slots=True)
class About:
    """What the lines ask of a message."""

    author: Address
    sender: Address | None
    header: Headers


def list_id(value: bytes | None) -> str:
    """What a List-Id field names. RFC 2919 §3."""
    found = _LIST_ID.search(value[-300:].rstrip(b" \t")) if value else None
    return found[1].decode("ascii", "replace").lower() if found is not None else ""


def decides(lines: Sequence[str], about: About) -> tuple[int, Line] | None:
    """The first line that holds, and its number from 1; None if none does."""
    for number, text in enumerate(lines, 1):
        line = parse(text)
        if all(_holds(each, about) for each in line.conditions):
            return number, line
    return None


def _holds(asked: Condition, about: About) -> bool:
    if asked.name == "list":
        named = list_id(about.header.first(b"list-id"))
        return any(_within(named, each) for each in asked.values)
    if asked.name == "header":
        return any(_has(about.header, each) for each in asked.values)
    who = about.author if asked.name == "author" else about.sender
    if who is None:
        return NOBODY in asked.values
    address = f"{who.local}@{who.domain}".lower()
    return any(
        address == each if "@" in each else _within(who.domain.lower(), each)
        for each in asked.values
    )


def _has(header: Headers, asked: str) -> bool:
    """A field of that name, with that text in it if one is asked for; in whatever case."""
    name, _, text = asked.partition(":")
    wanted = text.encode("ascii")
    return any(wanted in value.lower() for value in header.all(name.encode("ascii")))


def _within(name: str, other: str) -> bool:
    """The same name, or one below it."""
    return name == other or name.endswith(f".{other}")


# --- reading ------------------------------------------------------------------------------------


def canonical(text: str) -> str:
    """A line in its one spelling; raises Malformed."""
    return str(_read(text))


@lru_cache(maxsize=1024)
def parse(text: str) -> Line:
    """A line that was kept. Raises Malformed."""
    return _read(text)


def _read(text: str) -> Line:
    if len(text) > LINE_MAX:
        raise Malformed("It is too long")
    words = text.split()
    selectors: tuple[str, ...] = ()
    if words and words[-1].lower() == _UNSIGNED:
        conditions = words[:-1]
    elif len(words) > 1 and words[-2].lower() == _SIGN:
        conditions, selectors = words[:-2], _values(words[-1], _selector)
    else:
        raise Malformed("A line ends in `sign SELECTOR` or in `unsigned`")
    if not conditions:
        raise Malformed(f"It says of no mail: {_WRITE}")
    return Line(tuple(map(_condition, conditions)), selectors)


def _condition(word: str) -> Condition:
    name, equals, value = word.partition("=")
    name = name.lower()
    if not equals or name not in _NAMES:
        raise Malformed(f"`{word[:_SHOWN]}` is no condition: {_WRITE}")
    return Condition(name, _values(value, _READERS.get(name, _party)))


def _values(text: str, read: Reader) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(map(read, text.split("|", VALUES_MAX))))
    if len(found) > VALUES_MAX:
        raise Malformed("It names too many")
    return found


def _selector(text: str) -> str:
    if not _IS_SELECTOR(text.lower()):
        raise Malformed(f"`{text[:_SHOWN]}` is no selector")
    return text.lower()


def _list(text: str) -> str:
    if not _IS_LIST(text.lower()):
        raise Malformed(f"`{text[:_SHOWN]}` is no List-Id")
    return text.lower()


def _header(text: str) -> str:
    if not _IS_HEADER(text.lower()):
        raise Malformed(f"`{text[:_SHOWN]}` is no field: write NAME or NAME:TEXT")
    return text.lower()


def _sender(text: str) -> str:
    return NOBODY if text == NOBODY else _party(text)


def _party(text: str) -> str:
    if "@" in text:
        return str(parse_mailbox(text)).lower()
    return parse_domain_name(text)


_READERS: Final = {"list": _list, "sender": _sender, "header": _header}
