"""The language of `sender.rules`: conditions over what was found, then what becomes of the message.

    spf=fail|softfail dkim!=pass junk
    dmarc=fail wish=none iprev=fail score 4
    peer=192.0.2.0/24 author!=example.org refuse "That network sends for others alone"

All conditions of a line have to hold. Reading is linear and bounded, and what was read is written
in one spelling, so that `parse(str(line)) == line`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_network
from typing import Final, NamedTuple

from postroom.core.errors import MailError, Malformed
from postroom.domain.mailboxes.flags import is_keyword
from postroom.formats.address import parse_mailbox
from postroom.formats.lookalike import Misleading
from postroom.mailflow.names import parse_domain_name
from postroom.trust.arc import ArcCode
from postroom.trust.dkim import DkimCode
from postroom.trust.dmarc import DmarcCode, Request
from postroom.trust.reverse import Iprev
from postroom.trust.spf import Result
from postroom.trust.vbr import VbrCode

LINES_MAX: Final = 200
"""Lines of a policy."""
LINE_MAX: Final = 500
"""Characters of a line."""
CONDITIONS_MAX: Final = 20
VALUES_MAX: Final = 50
POINTS_MAX: Final = 1_000
_TEXT_MAX: Final = 200
_SHOWN: Final = 40

UNKNOWN: Final = "unknown"
"""The result of a check that was not made, or not in time. It is neither good nor bad: but for
conditions that name it, none holds, whether it has = or !=."""
NOBODY: Final = "<>"
"""The null reverse-path among senders. RFC 5321 §4.5.5."""


class Verb(StrEnum):
    """What becomes of a message. All but the last two decide, and end the walk."""

    ACCEPT = "accept"
    JUNK = "junk"
    QUARANTINE = "quarantine"
    DEFER = "defer"
    REFUSE = "refuse"
    CLOSE = "close"
    TAG = "tag"
    SCORE = "score"

    @property
    def decides(self) -> bool:
        """Whether no further line is looked at."""
        return self not in (Verb.TAG, Verb.SCORE)


@dataclass(frozen=True, slots=True)
class Condition:
    """`spf=fail|softfail`, `author!=example.org`: one of the values, or none of them."""

    name: str
    values: tuple[str, ...]
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.name}{'!=' if self.negated else '='}{'|'.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a policy."""

    conditions: tuple[Condition, ...]
    verb: Verb
    tag: str = ""  # a keyword, or a header field such as `X-Doubt: yes`
    points: int = 0
    reason: str = ""

    def __str__(self) -> str:
        words = [*map(str, self.conditions), str(self.verb)]
        if self.verb is Verb.TAG:
            words.append(f'"{self.tag}"' if self.has_field else self.tag)
        elif self.verb is Verb.SCORE:
            words.append(str(self.points))
        if self.reason:
            words.append(f'"{self.reason}"')
        return " ".join(words)

    @property
    def has_field(self) -> bool:
        """Whether the tag is a header field."""
        return ": " in self.tag

    @property
    def names_wish(self) -> bool:
        """Whether it says what is done about a wish of the author's domain: then it decides in
        the place of dmarc.on_reject and dmarc.on_quarantine."""
        return any(
            each.name == "wish" and not each.negated and Request.NONE not in each.values
            for each in self.conditions
        )


# --- what may stand in a condition --------------------------------------------------------------


def _of(codes: Iterable[StrEnum]) -> tuple[str, ...]:
    return (*(each.value for each in codes), UNKNOWN)


RESULTS: Final[Mapping[str, tuple[str, ...]]] = {
    "spf": _of(Result),  # of the reverse-path, or of the HELO name if that is <>
    "helo": _of(Result),
    "iprev": _of(Iprev),
    "dkim": _of(DkimCode),  # the best of its signatures
    "dmarc": _of(DmarcCode),
    "wish": _of(Request),  # what the author's domain wants done with this message
    "arc": _of(ArcCode),
    "vbr": _of(VbrCode),  # none where nobody vouches whom we believe
    "from": _of(Misleading),  # what in the author's name or address misleads
}
"""Checks, with what they may say."""
PROBES: Final = ("spf", "iprev", "dkim", "dmarc", "vbr", "replay")
"""Checks that may be late."""


def _word_of(name: str, allowed: tuple[str, ...], text: str) -> str:
    word = text.lower()
    if word not in allowed:
        raise Malformed(f"{name} is one of {', '.join(allowed)}, not {_shown(text)}")
    return word


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError as error:
        raise Malformed(
            f"{_shown(text)} is no network: write 192.0.2.0/24, 192.0.2.1 or 2001:db8::/32"
        ) from error


def _domain(text: str) -> str:
    try:
        return parse_domain_name(text)
    except MailError as error:
        raise Malformed(f"{_shown(text)} is no domain, such as example.org") from error


def _party(text: str) -> str:
    """An address, or a domain with those below it."""
    if "@" not in text:
        return _domain(text)
    try:
        return str(parse_mailbox(text)).lower()
    except MailError as error:
        raise Malformed(f"{_shown(text)} is no address, such as ann@example.org") from error


def _sender(text: str) -> str:
    return text if text == NOBODY else _party(text)


def _number(text: str) -> str:
    if not _AT_LEAST(text):
        raise Malformed(f"{_shown(text)} is no number of copies: write 50+ for 50 or more")
    return text


def at_least(value: str) -> int:
    """Of `copies=50+`: 50."""
    return int(value.removesuffix("+"))


_AT_LEAST: Final = re.compile(r"[1-9][0-9]{0,6}\+").fullmatch
_NAMES: Final[Mapping[str, Callable[[str], str]]] = {
    "peer": _network,
    "host": _domain,  # the peer's own name, if it leads back to it
    "sender": _sender,
    "author": _party,
    "signer": _domain,  # whose signature holds
    "copies": _number,  # times that this signed message came within an hour
    "late": lambda text: _word_of("late", PROBES, text),
}
CONDITIONS: Final = (*RESULTS, *_NAMES)
"""The words before = and !=."""


# --- reading --------------------------------------------------------------------------------------

_WORD: Final = re.compile(r'[ \t]*+(?:"([^"]*+)("?)|([^ \t"]++))')
_UNFIT: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN: Final = re.compile(r"[ -~]*+")
_POINTS: Final = re.compile(r"[+-]?[0-9]{1,4}")
_FIELD: Final = re.compile(r"[Xx]-[A-Za-z0-9-]{1,60}: [!-~][ -~]*+")
RESERVED: Final = "x-postroom-"
"""How names of header fields begin that are ours."""


class _Word(NamedTuple):
    text: str
    quoted: bool


@lru_cache(maxsize=1024)
def parse(text: str) -> Line:
    """One line. Raises Malformed with a sentence that names the word and says what is right."""
    words = _words(text)
    others = (n for n, word in enumerate(words) if word.quoted or "=" not in word.text)
    count = next(others, len(words))
    if count > CONDITIONS_MAX:
        raise Malformed(f"A line has at most {CONDITIONS_MAX} conditions")
    conditions = tuple([parse_condition(word.text) for word in words[:count]])
    if not conditions:
        raise Malformed("A line begins with conditions, such as spf=fail")
    named = {(each.name, each.negated) for each in conditions}
    if len(named) < count:
        raise Malformed("A condition stands twice: write spf=fail|softfail for either of them")
    if count == len(words):
        raise Malformed(f"What is to be done is missing: {_choices()}")
    return _line(conditions, words[count:])


def canonical(text: str) -> str:
    """A line in its one spelling; raises Malformed."""
    return str(parse(text))


def _words(text: str) -> list[_Word]:
    if len(text) > LINE_MAX:
        raise Malformed(f"A line has at most {LINE_MAX} characters")
    if _UNFIT.search(text):
        raise Malformed("A line has no control characters")
    words, at, text = [], 0, text.rstrip(" \t")
    while at < len(text):
        found = _WORD.match(text, at)
        assert found is not None  # one of the two takes any character
        if found[3] is None and not found[2]:
            raise Malformed("The quotes are not closed")
        words.append(_Word(found[1] if found[3] is None else found[3], found[3] is None))
        at = found.end()
    return words


def parse_condition(text: str) -> Condition:
    """One condition, without blanks; raises Malformed."""
    name, _, rest = text.partition("=")
    negated = name.endswith("!")
    name = name.removesuffix("!").lower()
    if name not in RESULTS and name not in _NAMES:
        raise Malformed(f"There is no condition {_shown(name)}: write {', '.join(CONDITIONS)}")
    pieces = rest.split("|")
    if len(pieces) > VALUES_MAX:
        raise Malformed(f"{name} has at most {VALUES_MAX} values")
    if "" in pieces:
        raise Malformed(f"A value of {name} is missing")
    allowed = RESULTS.get(name)
    if allowed is not None:
        values = [_word_of(name, allowed, each) for each in pieces]
    else:
        values = [_NAMES[name](each) for each in pieces]
    return Condition(name, tuple(dict.fromkeys(values)), negated)


def _line(conditions: tuple[Condition, ...], words: list[_Word]) -> Line:
    """What stands behind the conditions; there is at least a word."""
    first = words.pop(0)
    if first.quoted or first.text.lower() not in tuple(Verb):
        raise Malformed(
            f"{_shown(first.text)} is neither a condition nor what is to be done: {_choices()}"
        )
    verb = Verb(first.text.lower())
    tag = _tag(words) if verb is Verb.TAG else ""
    points = _points(words) if verb is Verb.SCORE else 0
    reason = ""
    if words and words[0].quoted:
        reason = words.pop(0).text.strip()
        if not _PLAIN.fullmatch(reason) or not 0 < len(reason) <= _TEXT_MAX:
            raise Malformed(f"A reason has 1 to {_TEXT_MAX} printable characters of ASCII")
    if words:
        raise Malformed(
            f"After {verb} nothing but a reason in quotes may stand, not {_shown(words[0].text)}"
        )
    return Line(conditions, verb, tag, points, reason)


def _tag(words: list[_Word]) -> str:
    right = 'write tag Doubtful for a keyword, or tag "X-Doubt: yes" for a header field'
    if not words:
        raise Malformed(f"The tag is missing: {right}")
    word = words.pop(0)
    if not word.quoted:
        if not is_keyword(word.text):
            raise Malformed(f"{_shown(word.text)} is no keyword: {right}")
        return word.text
    field = word.text.strip()
    if len(field) > _TEXT_MAX or not _FIELD.fullmatch(field):
        raise Malformed(f"{_shown(field)} is no header field whose name begins with X-: {right}")
    if field.lower().startswith(RESERVED):
        raise Malformed(f"Names that begin with {RESERVED} are the server's own: {right}")
    return field


def _points(words: list[_Word]) -> int:
    right = f"write score 3 or score -3, up to {POINTS_MAX}"
    if not words or words[0].quoted:
        raise Malformed(f"The points are missing: {right}")
    text = words.pop(0).text
    points = int(text) if _POINTS.fullmatch(text) else 0
    if not 0 < abs(points) <= POINTS_MAX:
        raise Malformed(f"{_shown(text)} is no number of points: {right}")
    return points


def _choices() -> str:
    return ", ".join(Verb)


def _shown(text: str) -> str:
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return f'"{cut}"'
