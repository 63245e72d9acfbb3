"""MTA-STS: what a domain says over https about TLS to its mail exchangers. RFC 8461.

The record in DNS says that there is a policy, and by its id when it changed; the policy is a small
text at a fixed address. Reading is strict, linear and bounded: what one reader would understand
and another not is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from postroom.core.errors import Malformed
from postroom.formats.address import BadAddress, canonical_domain
from postroom.formats.compose import printable
from postroom.net.fetch import Fetcher, Response

LARGEST: Final = 64 * 1024
"""Octets of a policy. RFC 8461 §3.3"""
SECONDS: Final = 10.0
"""For a fetch, however many addresses the host has."""
MOST_PATTERNS: Final = 500
MAX_AGE_MOST: Final = 31_557_600
"""Seconds: a year. RFC 8461 §3.2"""
VERSION: Final = "STSv1"

_IS_RECORD: Final = re.compile(
    rb"v=STSv1[ \t]*+;[ \t]*+id=([A-Za-z0-9]{1,32})[ \t]*+(?:;[ \t]*+(?:"
    rb"[A-Za-z0-9][A-Za-z0-9_\-.]{0,31}=[!-:<>-~]++[ \t]*+(?:;[ \t]*+|\Z))*+)?"
).fullmatch
_IS_AGE: Final = re.compile(r"[0-9]{1,10}").fullmatch
_NEWLINE: Final = re.compile(r"\r?\n")


class Mode(StrEnum):
    """What a sender does with an exchanger that is not as the policy says. RFC 8461 §5."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, read. RFC 8461 §3.2."""

    mode: Mode
    max_age: int  # seconds
    patterns: tuple[str, ...]  # names of hosts, or `*.` and a name; A-labels, lower case

    def names(self, host: str) -> bool:
        """Whether it names an exchanger, given in A-labels. RFC 8461 §4.1: a star is one label."""
        above = f"*.{host.partition('.')[2]}"
        return any(each in (host, above) for each in self.patterns)


def where(domain: str) -> str:
    """The address of a domain's policy. RFC 8461 §3.3."""
    return f"https://mta-sts.{domain}/.well-known/mta-sts.txt"


async def fetch(fetcher: Fetcher, domain: str) -> Response:
    """The answer at that address, whatever its status. Raises as `Fetcher.fetch`.

    The host's certificate has to be good, and no redirect is followed: RFC 8461 §3.3.
    """
    return await fetcher.fetch(
        where(domain),
        headers={"Accept": "text/plain"},
        max_size=LARGEST,
        deadline=SECONDS,
    )


def record_id(texts: Iterable[bytes]) -> str | None:
    """The id of the one record among the TXT records of a domain; None: there is none that counts.

    RFC 8461 §3.1. Several are as good as none.
    """
    found = [text for text in texts if text.startswith(b"v=STSv1")]
    read = _IS_RECORD(found[0]) if len(found) == 1 else None
    return read[1].decode("ascii") if read is not None else None


def parse(body: bytes) -> Policy:
    """A policy; raises Malformed, whose sentence says what is wrong with it. RFC 8461 §3.2.

    Of a field that stands twice the first counts, but for `mx`; unknown ones say nothing.
    """
    if len(body) > LARGEST:
        raise Malformed("it is larger than 64 KiB")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("it is not UTF-8") from error
    told: dict[str, str] = {}
    patterns: dict[str, None] = {}
    for number, line in enumerate(_NEWLINE.split(text), 1):
        if not line.strip(" \t"):
            continue
        key, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not key or not value or not value.isprintable():
            raise Malformed(f"line {number} is no field and value")
        if key == "mx":
            patterns.setdefault(_pattern(value, number))
            if len(patterns) > MOST_PATTERNS:
                raise Malformed(f"it names more than {MOST_PATTERNS} hosts")
        else:
            told.setdefault(key, value)
    return _policy(told, tuple(patterns))


def _policy(told: dict[str, str], patterns: tuple[str, ...]) -> Policy:
    if told.get("version") != VERSION:
        raise Malformed(f"it has no `version: {VERSION}`")
    mode, age = told.get("mode", ""), told.get("max_age", "")
    if mode not in _MODES:
        raise Malformed(f"its mode is {printable(mode, 30)}" if mode else "it has no mode")
    if not _IS_AGE(age) or int(age) > MAX_AGE_MOST:
        raise Malformed(f"its max_age is {printable(age, 30)}" if age else "it has no max_age")
    if not patterns and mode != Mode.NONE:
        raise Malformed("it names no mx")
    return Policy(Mode(mode), int(age), patterns)


_MODES: Final = frozenset(each.value for each in Mode)


def _pattern(value: str, number: int) -> str:
    star, rest = ("*.", value[2:]) if value.startswith("*.") else ("", value)
    try:
        name = canonical_domain(rest)
    except BadAddress as error:
        raise Malformed(f"its mx in line {number} is no name of a host") from error
    if name.startswith("[") or not rest.isascii():
        raise Malformed(f"its mx in line {number} is no name of a host")
    return star + name
