"""DMARC policy records: found among TXT records and read. RFC 9989 §4.7, §4.8.

What is wrong in a record counts as not written, so reading never fails; a record without its
version is no record. `pct`, `rf` and `ri` of RFC 7489 are unknown tags now and say nothing: who
published `pct=0` to test has `t=y` for it (RFC 9989 Appendix A.6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from postroom.formats.address import Address, BadAddress, parse_mailbox
from postroom.trust.dmarc.result import Request

LONGEST: Final = 16_384
"""Octets of a record; a longer one is none."""
MOST_URIS: Final = 10
"""Of each kind; who wants more reports than that is not answered at the others."""
CACHED_OCTETS: Final = 1_024

_IS_DMARC: Final = re.compile(rb"[vV][ \t]*+=[ \t]*+DMARC1[ \t]*+(?:;|\Z)").match
_IS_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*+:[!-~]++").fullmatch
_SIZE: Final = re.compile(r"![0-9]++[kmgtKMGT]?\Z")
_LONGEST_SIZE: Final = 24
_FAILURES: Final = frozenset("01ds")


@dataclass(frozen=True, slots=True)
class Record:
    """A policy record, its defaults filled in."""

    text: str  # as published, printable
    p: Request = Request.NONE
    sp: Request | None = None
    np: Request | None = None
    psd: str = "u"  # y: a public suffix; n: an organisation; u: it does not say
    strict_dkim: bool = False
    strict_spf: bool = False
    testing: bool = False
    failures: tuple[str, ...] = ("0",)  # `fo`; without `ruf` it says nothing: RFC 9989 §4.7
    rua: tuple[str, ...] = ()  # URIs
    ruf: tuple[str, ...] = ()
    usable: bool = True  # False: no valid wish and nobody to tell. RFC 9989 §4.10.1

    def request(self, *, below: bool, exists: bool) -> tuple[str, Request]:
        """The tag that applies to the domain itself, or to one below it, and what it says."""
        if below and not exists and self.np is not None:
            return "np", self.np
        if below and self.sp is not None:
            return "sp", self.sp
        return "p", self.p


def select(texts: Iterable[bytes]) -> Record | None:
    """The one DMARC record among the TXT records of a name. RFC 9989 §4.10, steps 2 and 6.

    Several are as good as none.
    """
    found = [text for text in texts if len(text) <= LONGEST and _IS_DMARC(text)]
    if len(found) != 1:
        return None
    text = found[0]
    return _remembered(text) if len(text) <= CACHED_OCTETS else _read(text)


def acceptance(texts: Iterable[bytes]) -> Record | None:
    """The TXT record that accepts another domain's reports: RFC 9990 §4 needs but `v=DMARC1`.

    Of several, the first that names addresses of its own.
    """
    found = [_read(text) for text in texts if len(text) <= LONGEST and _IS_DMARC(text)]
    return next((each for each in found if each.rua), found[0] if found else None)


def _read(octets: bytes) -> Record:
    text = octets.decode("latin-1")
    tags, seen = _tags(text)
    rua, ruf = _uris(tags.get("rua", "")), _uris(tags.get("ruf", ""))
    p = _request(tags.get("p"))
    # A wish that cannot be understood voids the others too: RFC 9989 §4.10.1.
    broken = p is None or any(tag in seen and _request(tags.get(tag)) is None for tag in _BELOW)
    shown = "".join(c if " " <= c <= "~" else "?" for c in text)
    failures = tuple(dict.fromkeys(tags.get("fo", "").lower().replace(" ", "").split(":")))
    return Record(
        shown,
        Request.NONE if broken or p is None else p,
        None if broken else _request(tags.get("sp")),
        None if broken else _request(tags.get("np")),
        psd=_one_of("ynu", tags.get("psd"), "u"),
        strict_dkim=_one_of("rs", tags.get("adkim"), "r") == "s",
        strict_spf=_one_of("rs", tags.get("aspf"), "r") == "s",
        testing=_one_of("yn", tags.get("t"), "n") == "y",
        failures=failures if ruf and _are_failures(failures) else ("0",),
        rua=rua,
        ruf=ruf,
        usable=not broken or bool(rua),
    )


_BELOW: Final = ("sp", "np")
_KNOWN: Final = frozenset(("p", "sp", "np", "psd", "adkim", "aspf", "fo", "rua", "ruf", "t"))
_remembered: Final = lru_cache(maxsize=1024)(_read)


def _tags(text: str) -> tuple[dict[str, str], set[str]]:
    """The known tags and their values, and the names of all that stand there.

    One that stands twice says nothing: no reader may take the first and another the last
    (RFC 6376 §3.2, whose syntax this is).
    """
    tags: dict[str, str] = {}
    seen: set[str] = set()
    for piece in text.split(";")[1:]:
        name, equals, value = piece.partition("=")
        name = name.strip(" \t").lower()
        if not equals or name not in _KNOWN:
            continue
        if name in seen:
            tags.pop(name, None)
        else:
            seen.add(name)
            tags[name] = value.strip(" \t")
    return tags, seen


def _request(value: str | None) -> Request | None:
    return _REQUESTS.get(value.lower()) if value is not None else None


_REQUESTS: Final = {each.value: each for each in Request}


def _one_of(choices: str, value: str | None, default: str) -> str:
    if value is None or len(value) != 1:
        return default
    return value.lower() if value.lower() in choices else default


def _are_failures(found: tuple[str, ...]) -> bool:
    return _FAILURES.issuperset(found) and not {"0", "1"}.issubset(found)


def _uris(value: str) -> tuple[str, ...]:
    """The valid URIs of a list, each once. Sizes such as `!10m`, of RFC 7489 §6.2, say nothing any
    more: RFC 9989 §4.8.
    """
    found: dict[str, None] = {}
    for piece in value.split(",", 4 * MOST_URIS):
        uri = piece.strip(" \t")
        size = _SIZE.search(uri, max(0, len(uri) - _LONGEST_SIZE))
        if size is not None:
            uri = uri[: size.start()]
        if _IS_URI(uri):
            found[uri] = None
            if len(found) == MOST_URIS:
                break
    return tuple(found)


def mailbox(uri: str) -> Address | None:
    """Whom a `mailto:` URI names; None for another scheme, or what is no address. RFC 6068 §2."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() != "mailto":
        return None
    try:
        return parse_mailbox(unquote(rest.partition("?")[0], errors="surrogateescape"))
    except BadAddress:
        return None
