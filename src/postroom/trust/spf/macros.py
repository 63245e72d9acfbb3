"""Macro strings: parsed once, expanded for each message. RFC 7208 §7.

What is expanded is a stranger's twice over, the record's and the sender's. Time and size are
linear in the product of a bounded record and bounded values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from postroom.core.errors import Malformed
from postroom.net.dns import from_labels
from postroom.trust.spf.result import BadRecord

IN_NAMES: Final = frozenset("slodiphv")
IN_TEXTS: Final = IN_NAMES | frozenset("crt")
"""The letters that a domain-spec, and those that an explanation may hold. RFC 7208 §7.2."""
LONGEST_NAME: Final = 253
"""Characters of a name that is asked for; more are cut from its left. RFC 7208 §7.3."""

_PIECE: Final = re.compile(
    r"%\{([slodiphcrtv])([0-9]*)(r?)([.\-+,/_=]*)\}"  # a macro-expand
    r"|%([%_-])"  # an escape
    r"|([!-$&-~]+)",  # macro-literals
    re.IGNORECASE | re.ASCII,
)
_ESCAPES: Final = {"%": "%", "_": " ", "-": "%20"}
_ESCAPED: Final = frozenset(_ESCAPES.values())
_BLANKS: Final = re.compile(r" +")
_MOST_DIGITS: Final = 3  # no value has 1000 parts


@dataclass(frozen=True, slots=True)
class Macro:
    """One macro-expand."""

    letter: str
    right: int  # how many right-hand parts stay; 0: all
    reverse: bool
    delimiters: str  # each once; empty: dots
    escape: bool  # the letter was upper case: the value goes into a URL

    def of(self, value: str) -> str:
        """The value, transformed. RFC 7208 §7.3."""
        if self.right or self.reverse or self.delimiters:
            parts = _split(value, self.delimiters)
            if self.reverse:
                parts.reverse()
            value = ".".join(parts[-self.right :])
        return quote(value, safe="") if self.escape else value


def _split(value: str, delimiters: str) -> list[str]:
    if not delimiters:
        return value.split(".")
    return re.split(f"[{re.escape(delimiters)}]", value)


Text = tuple[str | Macro, ...]
"""A macro-string: literals and macros in turn."""


def parse(text: str, letters: frozenset[str], *, blanks: bool = False) -> Text:
    """A macro-string of ASCII; with `blanks` an explain-string. Raises BadRecord."""
    pieces: list[str | Macro] = []
    at = 0
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None and blanks:
            found = _BLANKS.match(text, at)
            if found is not None:
                pieces.append(found[0])
                at = found.end()
                continue
        if found is None:
            raise BadRecord(detail=f"{text[at : at + 20]!a} is no macro and no text")
        letter, digits, reverse, delimiters, escape, literal = found.groups()
        if literal:
            pieces.append(literal)
        elif escape:
            pieces.append(_ESCAPES[escape])
        else:
            pieces.append(_macro(letter, digits, reverse, delimiters, letters))
        at = found.end()
    return tuple(pieces)


def _macro(
    letter: str, digits: str, reverse: str, delimiters: str, letters: frozenset[str]
) -> Macro:
    lower = letter.lower()
    if lower not in letters:
        raise BadRecord(detail=f"the macro %{{{letter}}} may stand in explanations only")
    number = digits.lstrip("0")
    if digits and not number:
        raise BadRecord(detail=f"the macro %{{{letter}{digits[:20]}}} keeps no part")
    right = int(number) if 0 < len(number) <= _MOST_DIGITS else 0
    once = "".join(sorted(set(delimiters)))
    return Macro(lower, right, bool(reverse), once, letter != lower)


def parse_domain(text: str) -> Text:
    """A domain-spec: it ends in a macro or in a top label. RFC 7208 §7.1. Raises BadRecord."""
    pieces = parse(text, IN_NAMES)
    # Literals hold neither blank nor percent: what does is an escape, and a macro-expand too.
    expanded = bool(pieces) and (isinstance(pieces[-1], Macro) or pieces[-1] in _ESCAPED)
    if not expanded and not _ends_in_label(text):
        raise BadRecord(detail=f"{text[:60]!a} is no domain")
    return pieces


def _ends_in_label(text: str) -> bool:
    _, dot, label = text.removesuffix(".").rpartition(".")
    return (
        bool(dot)
        and label.replace("-", "").isalnum()
        and not label.isdecimal()
        and not label.startswith("-")
        and not label.endswith("-")
    )


def uses(text: Text, letters: str) -> bool:
    """Whether any of these letters would be expanded."""
    return any(isinstance(piece, Macro) and piece.letter in letters for piece in text)


def expand(text: Text, values: Mapping[str, str]) -> str:
    """The string. `values` has what each letter stands for."""
    if len(text) == 1 and isinstance(text[0], str):
        return text[0]
    return "".join([p if isinstance(p, str) else p.of(values[p.letter]) for p in text])


def shortened(name: str) -> str:
    """A name without the dot at its end and, if it is too long, without its first labels.

    RFC 7208 §7.3.
    """
    name = name.removesuffix(".")
    if len(name) <= LONGEST_NAME:
        return name
    dot = name.find(".", len(name) - LONGEST_NAME - 1)
    return name[dot + 1 :] if dot >= 0 else name


def dns_name(name: str) -> str | None:
    """The name as DNS is asked for it; None if it can have no such name."""
    try:
        return from_labels(name.encode("utf-8", "replace").split(b"."))
    except Malformed:
        return None
