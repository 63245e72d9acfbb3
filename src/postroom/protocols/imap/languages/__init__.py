"""The languages in which the server speaks to people, and how one is chosen. RFC 5255 §3.

The code has its sentences in English. A catalogue has them in another language, keyed by the
English; what it does not know is said in English. Called by the session as it writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from postroom.protocols.imap.languages import german

_PLACE: Final = re.compile(r"\{(\w+)\}")


class Catalogue:
    """What is said in one language: of the English sentence, and of namespaces their `prefixes`.

    The `templates` are sentences with places: `{name}` stands at the end and takes all that is
    left, any other takes a number or a letter. So matching is linear, and what fills a place is
    copied and never looked at again.
    """

    __slots__ = ("_patterns", "_told", "prefixes")

    def __init__(
        self, told: Mapping[str, str], templates: Mapping[str, str], prefixes: Mapping[str, str]
    ) -> None:
        self._told = told
        self._patterns = [(_pattern(english), said) for english, said in templates.items()]
        self.prefixes = prefixes

    def say(self, sentence: str) -> str:
        """An English sentence in this language; itself if it is not known here."""
        found = self._told.get(sentence)
        if found is not None:
            return found
        for pattern, template in self._patterns:
            if (match := pattern.fullmatch(sentence)) is not None:
                return template.format_map(match.groupdict())
        return sentence


def _pattern(template: str) -> re.Pattern[str]:
    words = _PLACE.split(template)  # text and names of places in turn
    made = [re.escape(words[0])]
    for name, text in zip(words[1::2], words[2::2], strict=True):
        made += (f"(?P<{name}>{'.*' if name == 'name' else '[0-9A-Za-z]{1,20}'})", re.escape(text))
    return re.compile("".join(made), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Language:
    """A language tag (RFC 5646) and its catalogue; none: sentences are said as they are."""

    tag: str
    catalogue: Catalogue | None = None


ENGLISH: Final = Language("EN")
GERMAN: Final = Language("DE", Catalogue(german.TOLD, german.TEMPLATES, german.PREFIXES))
I_DEFAULT: Final = Language("i-default")  # RFC 2277 §4.5: English, and ASCII
LANGUAGES: Final = (ENGLISH, GERMAN, I_DEFAULT)

_BY_TAG: Final = {each.tag.lower(): each for each in LANGUAGES}
_PREFERRED: Final = "default"  # by the server: RFC 5255 §3.2
_ANY: Final = "*"


def chosen(ranges: Sequence[str]) -> Language | None:
    """The language of the first range that one fits; None if none does.

    `*` takes what the server prefers, if no range follows it: RFC 4647 §3.4.
    """
    for each in ranges:
        found = _lookup(each.lower())
        if found is not None:
            return found
    return I_DEFAULT if ranges and ranges[-1] == _ANY else None


def _lookup(wanted: str) -> Language | None:
    """From the most special to the most general: `de-CH-1996`, `de-CH`, `de`. RFC 4647 §3.4."""
    if wanted == _PREFERRED:
        return I_DEFAULT
    subtags = wanted.split("-")
    while subtags:
        found = _BY_TAG.get("-".join(subtags))
        if found is not None:
            return found
        subtags.pop()
        if subtags and len(subtags[-1]) == 1:
            subtags.pop()  # an extension's mark goes with what it marked
    return None
