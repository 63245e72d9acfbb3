"""Authentication-Results: composed, read, and found where somebody claims to be us. RFC 8601.

What is composed is one field, whatever strangers chose of its values, and reads back as it was.
The reader is linear and bounded. Who removes forged fields (RFC 8601 §5) asks `claimed`, which
would rather take one too many: a field that some reader might take for ours is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import Misuse
from postroom.formats import address_list, headers
from postroom.formats.address import BadAddress, canonical_domain

VALUE_MAX: Final = 16_384
"""Octets of one field that are read; a longer one is not understood."""
RESULTS_MAX: Final = 100
PROPERTIES_MAX: Final = 100
TEXT_MAX: Final = 320
"""Characters of one composed value: the longest mailbox and its quotes."""
_OCTETS_MAX: Final = 480  # of the same, so that it fits a line with every one escaped

NAME: Final = b"authentication-results"

_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNFIT_IN_COMMENT: Final = re.compile(r"[^ -'*-\[\]-~]")
_TO_ESCAPE: Final = re.compile(r'(["\\])')
_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/?^_`{|}~\-\x80-\U0010ffff"  # without =, which parts values
_IS_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+").fullmatch  # RFC 2045 §5.1
_IS_MAILBOX: Final = re.compile(
    rf"([{_ATEXT}.]++|\"(?:[^\"\\]++|\\.)*+\")@([A-Za-z0-9.\-]++)"
).fullmatch
_KEYWORD: Final = r"(?![A-Za-z0-9-]{65})([A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+)"
_IS_KEYWORD: Final = re.compile(_KEYWORD).fullmatch


@dataclass(frozen=True, slots=True)
class Property:
    """Of what a result speaks: `smtp.mailfrom=ann@a.example`. RFC 8601 §2.2 `propspec`."""

    kind: str  # smtp, header, body, policy
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class MethodResult:
    """What one method found. RFC 8601 §2.2 `resinfo`."""

    method: str
    result: str
    reason: str = ""
    properties: tuple[Property, ...] = ()
    comment: str = ""  # for people; not read back


@dataclass(frozen=True, slots=True)
class AuthenticationResults:
    """One field. No results say `none`: nothing was checked."""

    server: str  # the authserv-id
    results: tuple[MethodResult, ...] = ()


# --- composing -----------------------------------------------------------------------------


def compose(found: AuthenticationResults, *, utf8: bool = False) -> bytes:
    """The field, folded. Characters that no field can hold become question marks, and, without
    `utf8`, what is not ASCII (RFC 8616 §5). Raises Misuse for a keyword that is none.
    """
    told = [word(found.server, utf8=utf8)]
    told += [_composed(each, utf8) for each in found.results] or ["none"]
    return headers.field("Authentication-Results", "; ".join(told), utf8=utf8)


def _composed(result: MethodResult, utf8: bool) -> str:
    told = [f"{_keyword(result.method)}={_keyword(result.result)}"]
    if result.comment:
        told.append(f"({comment(result.comment)})")
    if result.reason:
        told.append(f"reason={word(result.reason, utf8=utf8)}")
    for each in result.properties:
        value = _shown(each.value, utf8)
        if not _IS_MAILBOX(value):
            value = word(value, utf8=utf8)
        told.append(f"{_keyword(each.kind)}.{_keyword(each.name)}={value}")
    return " ".join(told)


def _keyword(text: str) -> str:
    if not _IS_KEYWORD(text):
        raise Misuse("This is no keyword", detail=f"{text[:100]!a}")
    return text


def word(text: str, *, utf8: bool = False) -> str:
    """A token as it is, anything else quoted. RFC 2045 §5.1 `value`."""
    shown = _shown(text, utf8)
    return shown if _IS_TOKEN(shown) else _in_quotes(shown)


def quoted(text: str, *, utf8: bool = False) -> str:
    """A value as a quoted string, whatever it is. RFC 5322 §3.2.4."""
    return _in_quotes(_shown(text, utf8))


def _shown(text: str, utf8: bool) -> str:
    """What of a text a field can hold on one line."""
    shown = _UNFIT.sub("?", text[:TEXT_MAX])
    if not utf8 and not shown.isascii():
        shown = shown.encode("ascii", "replace").decode("ascii")
    elif len(shown) > _OCTETS_MAX // 4:
        shown = shown.encode("utf-8")[:_OCTETS_MAX].decode("utf-8", "ignore")
    return shown


def _in_quotes(shown: str) -> str:
    return '"' + _TO_ESCAPE.sub(r"\\\1", shown) + '"'


def comment(text: str, limit: int = TEXT_MAX) -> str:
    """The inside of a comment: no parenthesis, backslash or control, ASCII alone."""
    return _UNFIT_IN_COMMENT.sub("?", text[:limit])


# --- reading -------------------------------------------------------------------------------

_PIECES: Final = re.compile(r'("(?:[^"\\]++|\\.)*+")|([;(])|[^";(]++', re.DOTALL)
_STRING: Final = r'"(?:[^"\\]++|\\.)*+"'
_BLANKS: Final = r"[ \t\r\n]*+"
_HEAD: Final = re.compile(
    rf"{_BLANKS}({_STRING}|[^ \t\r\n\"=]++)(?:[ \t\r\n]++([0-9]++))?{_BLANKS}", re.DOTALL
).fullmatch
_ENDS: Final = r"(?![^ \t\r\n])"
_METHOD: Final = re.compile(
    rf"{_BLANKS}{_KEYWORD}{_BLANKS}(?:/{_BLANKS}[0-9]++{_BLANKS})?={_BLANKS}{_KEYWORD}{_ENDS}"
)
_VALUE: Final = rf"((?:{_STRING})?(?:[^ \t\r\n\"]++)?){_ENDS}"
_REASON: Final = re.compile(rf"{_BLANKS}reason{_BLANKS}={_BLANKS}{_VALUE}", re.DOTALL | re.I)
_PROPERTY: Final = re.compile(
    rf"{_BLANKS}{_KEYWORD}{_BLANKS}\.{_BLANKS}{_KEYWORD}{_BLANKS}={_BLANKS}{_VALUE}", re.DOTALL
)
_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def parse(value: bytes) -> AuthenticationResults | None:
    """The value of a field, its folds and comments gone; None if it breaks the grammar.

    RFC 8601 §2.2. A version other than 1 is none that we know. At most 100 results of 100
    properties, of 16 KiB.
    """
    segments = _segments(value)
    if segments is None:
        return None
    head = _HEAD(segments[0])
    if head is None or (head[2] is not None and head[2].lstrip("0") != "1"):
        return None
    server = _plain(head[1])
    rest = segments[1:]
    if len(rest) == 1 and rest[0].strip(" \t\r\n").lower() == "none":
        return AuthenticationResults(server)
    if rest and not rest[-1].strip(" \t\r\n"):
        rest = rest[:-1]  # many end with a semicolon
    if not rest or len(rest) > RESULTS_MAX:
        return None
    results = [_result(segment) for segment in rest]
    known = tuple(each for each in results if each is not None)
    return AuthenticationResults(server, known) if len(known) == len(results) else None


def _segments(value: bytes) -> list[str] | None:
    """The parts between semicolons, each comment a blank; None for what never closes.

    A character is an octet here: so comments are found where they lie.
    """
    if len(value) > VALUE_MAX:
        return None
    octets = headers.unfold(value)
    text = octets.decode("latin-1")
    parts: list[list[str]] = [[]]
    at = 0
    while at < len(text):
        found = _PIECES.match(text, at)
        if found is None:
            return None  # a string without its end
        at = found.end()
        if found[2] == "(":
            at = address_list.comment_end(octets, at)
            if at < 0:
                return None
            parts[-1].append(" ")
        elif found[2] == ";":
            parts.append([])
        else:
            parts[-1].append(found[0])
    return ["".join(part) for part in parts]


def _result(segment: str) -> MethodResult | None:
    method = _METHOD.match(segment)
    if method is None:
        return None
    at = method.end()
    reason = ""
    said = _REASON.match(segment, at)
    if said is not None:
        reason, at = _plain(said[1]), said.end()
    properties: list[Property] = []
    while segment[at:].strip(" \t\r\n"):
        found = _PROPERTY.match(segment, at)
        if found is None or len(properties) == PROPERTIES_MAX:
            return None
        properties.append(Property(found[1].lower(), found[2].lower(), _plain(found[3])))
        at = found.end()
    return MethodResult(method[1].lower(), method[2].lower(), reason, tuple(properties))


def _plain(value: str) -> str:
    """A value of octets as text, without quotes; a mailbox keeps those of its local part."""
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        value = _PAIR.sub(r"\1", value[1:-1])
    return value if value.isascii() else value.encode("latin-1").decode("utf-8", "replace")


# --- those that claim to be ours -------------------------------------------------------------

_LAST_LINE_END: Final = re.compile(rb"\n(?![ \t])")
_COLON: Final = re.compile(rb"[ \t]*+:")
_OPENING: Final = re.compile(rf"{_BLANKS}\(")
_FIRST_WORD: Final = re.compile(rf"{_BLANKS}({_STRING}|[^\x00-\x20\x7f\";=(,/]++)", re.DOTALL)


def claimed(head: bytes, ours: Callable[[str], bool]) -> tuple[tuple[int, int], ...]:
    """Where in a header block fields lie whose authserv-id is ours, in order. RFC 8601 §5.

    `ours` is asked with names in lower case without a dot at their end. What has no readable
    authserv-id counts as well: another reader may find one. `head` is all of the header, also
    beyond what `headers.scan` looks at.
    """
    lower = head.lower()
    if NAME not in lower:
        return ()
    found = _fields(lower)
    return tuple([(start, end) for start, at, end in found if _is_ours(lower[at:end], ours)])


def _fields(lower: bytes) -> Iterator[tuple[int, int, int]]:
    """Start, start of the value and end of each such field."""
    at = lower.find(NAME)
    while at >= 0:
        colon = _COLON.match(lower, at + len(NAME))
        after = at + len(NAME)
        if colon is not None and (at == 0 or lower[at - 1 : at] == b"\n"):
            end = _LAST_LINE_END.search(lower, colon.end())
            after = end.end() if end is not None else len(lower)
            yield at, colon.end(), after
        at = lower.find(NAME, after)


def _is_ours(value: bytes, ours: Callable[[str], bool]) -> bool:
    if len(value) > VALUE_MAX:
        return True  # nobody writes such a field for us to read
    octets = headers.unfold(value)
    text = octets.decode("latin-1")
    at = 0
    while opening := _OPENING.match(text, at):
        at = address_list.comment_end(octets, opening.end())
        if at < 0:
            return True
    found = _FIRST_WORD.match(text, at)
    if found is None:
        return True
    return ours(_plain(found[1]).strip(" \t\r\n").removesuffix("."))


def below_any(names: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name is one of these or lies below one, however it is spelt; or is none at all."""
    exact = frozenset(name.lower() for name in names if name)
    ends = tuple(f".{name}" for name in exact)

    def ours(name: str) -> bool:
        if not name.isascii():
            try:
                name = canonical_domain(name)
            except BadAddress:
                return True
        return name in exact or name.endswith(ends)

    return ours
