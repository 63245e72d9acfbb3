"""Names that are made to be taken for others: addresses within a display name, domains alike.

Pure, linear, bounded. What is found is a likeness, never a proof: honest people have such names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from postroom.formats.folding import fold

NAME_MOST: Final = 1_000
"""Characters of a display name that are looked at."""
SHOWN_MOST: Final = 10
"""Addresses within it."""
_KNOWN_MOST: Final = 5_000
"""Domains of others of which it is remembered what they look like."""
_CLOSE_LEAST: Final = 6
"""Letters of a name before its last label that may differ in one: shorter ones differ by chance."""

# What a reader does not see, and what he takes for @: a message may be written to be misread.
_UNSEEN: Final = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_LOCAL: Final = r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}+"
_AT: Final = r" ?(?:@|\uff20|\ufe6b|\(at\)|\[at\]) ?"
_DOMAIN: Final = r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?[.\u3002\uff0e]){1,8}[^\W\d_]{2,24}"
_SHOWN: Final = re.compile(rf"(?<!\w)({_LOCAL}){_AT}({_DOMAIN})(?![\w-])", re.IGNORECASE)
_DOTS: Final = str.maketrans({"\u3002": ".", "\uff0e": "."})


class Misleading(StrEnum):
    """What in an author's name or address misleads, the gravest first."""

    LOOKALIKE = "lookalike"  # the domain looks like one of ours
    MISMATCH = "mismatch"  # the name shows an address of another domain
    IMPERSONATION = "impersonation"  # the name is that of somebody here
    NONE = "none"


class Shown(NamedTuple):
    """Text in a display name that reads as an address."""

    start: int
    end: int
    local: str
    domain: str  # in lower case


def visible(name: str) -> str:
    """A display name as it is seen, as far as it is looked at."""
    return _UNSEEN.sub("", name[:NAME_MOST])


def addresses_in(name: str) -> list[Shown]:
    """What reads as an address in a name, which is `visible`."""
    if not any(sign in name for sign in ("@", "\uff20", "\ufe6b", "at)", "at]", "AT)", "AT]")):
        return []
    found = []
    for match in _SHOWN.finditer(name):
        domain = unicodedata.normalize("NFKC", match[2]).translate(_DOTS).lower()
        found.append(Shown(match.start(), match.end(), match[1], domain))
        if len(found) == SHOWN_MOST:
            break
    return found


# --- domains ---------------------------------------------------------------------------------

# Letters of other scripts, and digits, that look like a Latin letter in most fonts; after folding,
# so in upper case. Unicode TR39 has thousands; these are those that domains may have.
_LIKE: Final = str.maketrans(
    {
        **dict.fromkeys("\u0410\u0391\u13aa", "A"),
        **dict.fromkeys("\u0412\u0392", "B"),
        **dict.fromkeys("\u0421\u03f9\u216d", "C"),
        **dict.fromkeys("\u0500\u216e", "D"),
        **dict.fromkeys("\u0415\u0395\u0404", "E"),
        **dict.fromkeys("\u03dc", "F"),
        **dict.fromkeys("\u050c", "G"),
        **dict.fromkeys("\u041d\u0397\u04ba", "H"),
        **dict.fromkeys("I\u0406\u0399\u04c0\u01311|!", "L"),
        **dict.fromkeys("\u0408", "J"),
        **dict.fromkeys("\u041a\u039a", "K"),
        **dict.fromkeys("\u041c\u039c", "M"),
        **dict.fromkeys("\u039d", "N"),
        **dict.fromkeys("\u041e\u039f\u0555\u06650\u00d8", "O"),
        **dict.fromkeys("\u0420\u03a1", "P"),
        **dict.fromkeys("\u051a", "Q"),
        **dict.fromkeys("\u0405\u054f5$", "S"),
        **dict.fromkeys("\u0422\u03a4", "T"),
        **dict.fromkeys("\u054d", "U"),
        **dict.fromkeys("\u0474", "V"),
        **dict.fromkeys("\u051c\u0461", "W"),
        **dict.fromkeys("\u0425\u03a7", "X"),
        **dict.fromkeys("\u0423\u03a5\u04ae", "Y"),
        **dict.fromkeys("\u0396", "Z"),
    }
)
_PAIRS: Final = (("RN", "M"), ("VV", "W"), ("CL", "D"), ("-", ""))


def skeleton(domain: str) -> str:
    """What a domain looks like: two domains with one skeleton may be taken for each other."""
    text = fold(".".join(map(_unicode, domain.split("."))))
    text = "".join(c for c in text if not unicodedata.combining(c)).translate(_LIKE)
    for pair, one in _PAIRS:
        text = text.replace(pair, one)
    return text


def _unicode(label: str) -> str:
    """An A-label as its letters; one that cannot be read stays as it is. RFC 3492."""
    if not label.lower().startswith("xn--") or len(label) > 63:
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except (UnicodeError, ValueError, OverflowError):
        return label


@dataclass(frozen=True, slots=True)
class Likeness:
    """A domain of ours that another one looks like."""

    domain: str
    how: str  # one plain sentence's end, such as "differs in one letter from"


class Lookalikes:
    """Our own domains, to be compared with others: a lookup costs the length of the name."""

    __slots__ = ("_by_edit", "_by_skeleton", "_known", "_names")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(names)
        self._known: dict[str, Likeness | None] = {}  # most mail comes from few domains
        self._by_skeleton = {skeleton(name): name for name in sorted(self._names, reverse=True)}
        self._by_edit: dict[str, str] = {}
        for name in sorted(self._names, reverse=True):
            for key in _edits(name):
                self._by_edit[key] = name

    def is_ours(self, domain: str) -> bool:
        """One of ours, or below one of ours."""
        return any(name in self._names for name in _above(domain))

    def of(self, names: Iterable[str]) -> bool:
        """Whether these are the domains."""
        return self._names == frozenset(names)

    def like(self, domain: str) -> Likeness | None:
        """The domain of ours that this one, or one above it, looks like; None for our own."""
        if domain not in self._known:
            if len(self._known) >= _KNOWN_MOST:
                self._known.clear()
            self._known[domain] = self._like(domain)
        return self._known[domain]

    def _like(self, domain: str) -> Likeness | None:
        if self.is_ours(domain):
            return None
        for name in _above(domain):
            same = self._by_skeleton.get(skeleton(name))
            if same is not None:
                return Likeness(same, "looks in some fonts like")
            close = next((self._by_edit[key] for key in _edits(name) if key in self._by_edit), None)
            if close is not None and _differ_by_one(name, close):
                return Likeness(close, "differs in one letter from")
        return None


def _above(domain: str) -> Iterator[str]:
    """The domain and those above it that have a dot, at most eight."""
    labels = domain.lower().rstrip(".").split(".")[-9:]
    for n in range(len(labels) - 1):
        yield ".".join(labels[n:])


def _edits(name: str) -> Iterator[str]:
    """The name, and the name without each one of its letters, if it is long enough; the last label
    stays: who has our name under another one is somebody else."""
    head, _, last = name.lower().rpartition(".")
    if not _CLOSE_LEAST <= len(head) <= 253:
        return
    yield name.lower()
    for n in range(len(head)):
        yield f"{head[:n]}{head[n + 1 :]}.{last}"


def _differ_by_one(some: str, other: str) -> bool:
    """One letter more, less or other, or two in the place of each other."""
    if some == other or abs(len(some) - len(other)) > 1:
        return False
    start = next(
        (n for n, (a, b) in enumerate(zip(some, other, strict=False)) if a != b),
        min(len(some), len(other)),
    )
    a, b = some[start:], other[start:]
    if len(a) == len(b):
        return a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
    return a[1:] == b if len(a) > len(b) else a == b[1:]
