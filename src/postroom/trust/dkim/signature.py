"""One DKIM-Signature field, read. RFC 6376 §3.5, RFC 8301, RFC 8463, RFC 8616.

What it says is judged here as far as that needs neither the message nor DNS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from postroom.core.errors import Malformed
from postroom.formats.address import BadAddress, canonical_domain
from postroom.trust.dkim import tags
from postroom.trust.dkim.canon import RELAXED, SIMPLE, Part
from postroom.trust.dkim.result import DkimCode

ALGORITHMS: Final = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
"""What may vouch for a message, and the kind of its key."""
SKEW: Final = 3600
"""Seconds that a signer's clock may be ahead of ours."""
GRACE: Final = 300
"""Seconds that it may be behind ours when a signature ends: a replay is to gain no more."""
FIELDS_MAX: Final = 500
"""Names in h=."""
SHOWN: Final = 8  # characters of b=: RFC 6008 §4
_LOOKED: Final = 1_000  # characters of it in which they are, or are not
_NAME_MAX: Final = 253  # characters of a name of DNS

_FORMS: Final = (RELAXED, SIMPLE)
_NUMBER: Final = re.compile(r"[0-9]{1,12}").fullmatch
_LENGTH: Final = re.compile(r"[0-9]{1,76}").fullmatch
_FIELD: Final = re.compile(r"[!-9;-~]{1,100}").fullmatch
_BLANK: Final = re.compile(r"[ \t\r\n]++")
_WORD: Final = re.compile(r"[A-Za-z0-9-]{1,40}").fullmatch
_REQUIRED: Final = ("v", "a", "b", "bh", "d", "h", "s")


class Unusable(Malformed):
    """A signature that need not be checked: the word for it and the reason."""

    def __init__(self, code: DkimCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Names:
    """What a signature says of itself, as far as it can be read and told."""

    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that may be checked."""

    names: Names
    kind: str  # of the key
    octets: bytes
    body_hash: bytes
    part: Part  # of the body
    header: str  # how it was made canonical
    fields: tuple[bytes, ...]  # h=, in lower case
    below: bool  # i= is below d=, not in it

    @property
    def query(self) -> str:
        """The name of the key record."""
        return key_name(self.names.domain, self.names.selector)


def key_name(domain: str, selector: str) -> str:
    """Where in DNS a key is. RFC 6376 §3.6.2.1."""
    return f"{selector}._domainkey.{domain}"


def names(found: dict[str, str]) -> Names:
    """What can be told of a signature, be it good or not."""
    domain = host(found.get("d", ""))
    algorithm = found.get("a", "").lower()
    return Names(
        domain,
        selector_of(found.get("s", "")),
        _printable(found.get("i", f"@{domain}" if domain else "")[:1000])[:320],
        algorithm if _WORD(algorithm) else "",
        _shown(found.get("b", "")),
    )


def _shown(octets: str) -> str:
    """The first characters of b=, which tell one signature from another. RFC 6008 §4."""
    first = octets[:SHOWN]
    if not first.isalnum():
        first = _BLANK.sub("", octets[:_LOOKED])
    return _printable(first[:SHOWN])


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else "?" for c in text])


def host(text: str) -> str:
    """A name of DNS as A-labels; empty if it is none. RFC 8616 §4."""
    return _short_host(text) if len(text) <= _NAME_MAX else _host(text)


def _host(text: str) -> str:
    try:
        name = canonical_domain(text)
    except BadAddress:
        return ""
    return "" if name.startswith("[") else name


_short_host = lru_cache(maxsize=1024)(_host)


def selector_of(text: str) -> str:
    """A selector likewise; some have underscores, which harm nobody."""
    name = host(text.replace("_", "-"))
    return text.lower() if name and "_" in text and text.isascii() else name


def judge(found: dict[str, str], of: Names, now: int) -> Signature:
    """The signature that these tags are; `now` in seconds since 1970. Raises Unusable."""
    for name in _REQUIRED:
        if not found.get(name):
            raise _permanent(f"The tag {name}= is missing")
    if found["v"] != "1":
        raise _permanent("The signature is of another version")
    kind = ALGORITHMS.get(of.algorithm)
    if kind is None:
        raise _permanent(f"The algorithm {of.algorithm or 'named'} vouches for nothing")
    if not of.domain or not of.selector:
        raise _permanent("d= or s= is no name of DNS")
    if len(key_name(of.domain, of.selector)) > _NAME_MAX:
        raise _permanent("The name of the key is too long for DNS")
    if "q" in found and "dns/txt" not in tags.listed(found["q"]):
        raise _permanent("The key is not in DNS")
    header, part = forms(found)
    fields = signed_fields(found["h"])
    below = _below(found.get("i"), of.domain)
    timely(found, now)
    try:
        octets, body_hash = tags.base64_of(found["b"]), tags.base64_of(found["bh"])
    except tags.BadTags as error:
        raise Unusable(DkimCode.NEUTRAL, "b= or bh= is no base64") from error
    return Signature(of, kind, octets, body_hash, part, header, fields, below)


def _permanent(reason: str) -> Unusable:
    return Unusable(DkimCode.PERMERROR, reason)


def forms(found: dict[str, str]) -> tuple[str, Part]:
    """How the header was made canonical, and what of the body counts. Raises Unusable."""
    header, _, body = found.get("c", "simple/simple").lower().partition("/")
    body = body or SIMPLE
    if header not in _FORMS or body not in _FORMS:
        raise _permanent("c= names an unknown canonical form")
    limit = found.get("l")
    if limit is not None and not _LENGTH(limit):
        raise Unusable(DkimCode.NEUTRAL, "l= is no number")
    return header, Part(body, int(limit) if limit is not None else None)


def signed_fields(value: str) -> tuple[bytes, ...]:
    """The names in h=, in lower case. Raises Unusable."""
    return _short_list(value) if len(value) <= _SHORT else _signed_fields(value)


_SHORT: Final = 1_000
"""Characters of an h= that is remembered: most signers always name the same fields."""


def _signed_fields(value: str) -> tuple[bytes, ...]:
    listed = tags.listed(value)
    if len(listed) > FIELDS_MAX:
        raise _permanent("h= names too many fields")
    if not all(_FIELD(name) for name in listed):
        raise Unusable(DkimCode.NEUTRAL, "h= holds what is no name of a field")
    fields = tuple([name.lower().encode("ascii") for name in listed])
    if b"from" not in fields:
        raise _permanent("The author is not signed: h= lacks From")
    return fields


_short_list = lru_cache(maxsize=128)(_signed_fields)


def _below(identity: str | None, domain: str) -> bool:
    """Whether i= is below d=; raises Unusable if it is elsewhere. RFC 6376 §3.5."""
    if identity is None:
        return False
    its = host(identity.rpartition("@")[2]) if "@" in identity else ""
    if its == domain:
        return False
    if not its.endswith(f".{domain}"):
        raise _permanent("The identity in i= is not in the domain in d=")
    return True


def timely(found: dict[str, str], now: int) -> None:
    """Raises Unusable of a signature that is not yet made, or has ended."""
    made, ends = found.get("t"), found.get("x")
    if not all(each is None or _NUMBER(each) for each in (made, ends)):
        raise Unusable(DkimCode.NEUTRAL, "t= or x= is no time")
    if made is not None and int(made) > now + SKEW:
        raise Unusable(DkimCode.POLICY, "The signature is from the future")
    if ends is None:
        return
    if made is not None and int(ends) <= int(made):
        raise _permanent("The signature ended before it was made")
    if int(ends) + GRACE < now:
        raise Unusable(DkimCode.FAIL, "The signature has expired")
