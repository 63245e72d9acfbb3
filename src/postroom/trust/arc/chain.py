"""The sets of a header, read, and whether they make a chain. RFC 8617 §4.1, §4.2, §5.2.

What the fields say is judged here as far as that needs neither the body nor DNS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import Malformed
from postroom.formats.address_list import comment_end
from postroom.formats.headers import Field, Headers
from postroom.trust.dkim import tags
from postroom.trust.dkim.canon import Part
from postroom.trust.dkim.signature import (
    Unusable,
    forms,
    host,
    key_name,
    selector_of,
    signed_fields,
    timely,
)

RESULTS: Final = b"arc-authentication-results"
MESSAGE: Final = b"arc-message-signature"
SEAL: Final = b"arc-seal"
MOST_SETS: Final = 50
"""RFC 8617 §4.2.1: instances go from 1 to 50."""
ALGORITHM: Final = "rsa-sha256"
KIND: Final = "rsa"

_NAME_MAX: Final = 253  # characters of a name of DNS
_INSTANCE: Final = re.compile(r"[0-9]{1,3}").fullmatch
_TIME: Final = re.compile(r"[0-9]{1,12}").fullmatch
_PIECE: Final = re.compile(rb"[ \t\r\n]*+([=;(]|[a-z0-9]++)")


class BadChain(Malformed):
    """The fields make no chain; the sentence says why."""

    sentence = "The ARC fields make no chain"


@dataclass(frozen=True, slots=True)
class Signed:
    """What an AMS and an AS have in common."""

    field: Field
    domain: str
    query: str  # the name of the key record
    octets: bytes


@dataclass(frozen=True, slots=True)
class MessageSignature:
    """An ARC-Message-Signature that may be checked. RFC 8617 §4.1.2."""

    by: Signed
    body_hash: bytes
    part: Part  # of the body
    header: str  # how it was made canonical
    fields: tuple[bytes, ...]  # h=, in lower case


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One instance. `message` is a reason where an AMS cannot be used."""

    results: Field
    message_field: Field
    message: MessageSignature | str
    seal: Signed


_Held = dict[int, tuple[Field, dict[str, str]]]
"""Fields and their tags by instance."""


def collect(found: Headers, now: int) -> tuple[ArcSet, ...]:
    """The sets from the first to the last; empty if there are none. Raises BadChain.

    `now` is in seconds since 1970. RFC 8617 §5.2 steps 1 to 3.
    """
    named = [(name, found.find(name)) for name in (RESULTS, MESSAGE, SEAL)]
    count = max(len(fields) for _, fields in named)
    if not count:
        return ()
    if found.over_cap:
        raise BadChain("The header is too large to be checked")
    if count > MOST_SETS:
        raise BadChain(f"There are more than {MOST_SETS} ARC sets")
    results: _Held = {}
    for each in named[0][1]:
        _put(results, _results_instance(each.raw_value(found.source)), (each, {}), RESULTS)
    messages = _tagged(found, named[1][1], MESSAGE)
    seals = _tagged(found, named[2][1], SEAL)
    last = max([*results, *messages, *seals])
    for n in range(1, last + 1):
        for name, held in ((RESULTS, results), (MESSAGE, messages), (SEAL, seals)):
            if n not in held:
                raise BadChain(f"The set {n} has no {name.decode('ascii').title()}")
    if seals[last][1].get("cv") == "fail":
        raise BadChain("The last sealer found the chain to fail")
    chain = []
    for n in range(1, last + 1):
        field, listed = seals[n]
        seal = _seal(field, listed, n)
        field, listed = messages[n]
        chain.append(ArcSet(results[n][0], field, _message(field, listed, now), seal))
    return tuple(chain)


def _tagged(found: Headers, fields: list[Field], name: bytes) -> _Held:
    held: _Held = {}
    for each in fields:
        try:
            listed = tags.read(each.raw_value(found.source))
        except tags.BadTags as error:
            raise BadChain(f"An {name.decode('ascii').title()} is malformed: {error}") from error
        _put(held, _instance(listed.get("i", "")), (each, listed), name)
    return held


def _put(held: _Held, n: int, what: tuple[Field, dict[str, str]], name: bytes) -> None:
    if n in held:
        raise BadChain(f"The set {n} has two {name.decode('ascii').title()} fields")
    held[n] = what


def _instance(text: str) -> int:
    n = int(text) if _INSTANCE(text) else 0
    if not 1 <= n <= MOST_SETS:
        raise BadChain(f"An instance is no number from 1 to {MOST_SETS}")
    return n


def _results_instance(value: bytes) -> int:
    number = results_number(value)
    if not number:
        raise BadChain("An Arc-Authentication-Results begins with no instance")
    return _instance(number)


def results_number(value: bytes) -> str:
    """The number that an ARC-Authentication-Results begins with, as it stands there; empty if it
    begins with none. Comments may stand between. RFC 8617 §3.9, §4.1.1."""
    read: list[bytes] = []
    at = 0
    while at >= 0 and len(read) < len(_BEGINNING):
        found = _PIECE.match(value, at)
        if found is None:
            return ""
        at = found.end()
        if found[1] == b"(":
            at = comment_end(value, at)
        else:
            read.append(found[1])
    begins = at >= 0 and all(want in (b"", got) for want, got in zip(_BEGINNING, read, strict=True))
    return read[2].decode("ascii") if begins else ""


_BEGINNING: Final = (b"i", b"=", b"", b";")  # the empty one is the number


def _signed(field: Field, listed: dict[str, str]) -> Signed:
    """What both need. Raises BadChain, BadTags."""
    if listed.get("a") != ALGORITHM:
        raise BadChain("a= names another algorithm than rsa-sha256")
    domain, selector = host(listed.get("d", "")), selector_of(listed.get("s", ""))
    if not domain or not selector or len(key_name(domain, selector)) > _NAME_MAX:
        raise BadChain("d= or s= is no name of DNS")
    octets = tags.base64_of(listed.get("b", ""))
    if not octets:
        raise BadChain("The tag b= is missing")
    return Signed(field, domain, key_name(domain, selector), octets)


def _message(field: Field, listed: dict[str, str], now: int) -> MessageSignature | str:
    """An AMS, or why it cannot be used: that of an older set fails no chain."""
    try:
        by = _signed(field, listed)
        header, part = forms(listed)
        fields = signed_fields(listed.get("h", ""))
        if SEAL in fields:
            raise BadChain("h= names Arc-Seal")  # RFC 8617 §4.1.2
        timely(listed, now)
        return MessageSignature(by, tags.base64_of(listed.get("bh", "")), part, header, fields)
    except (BadChain, Unusable, tags.BadTags) as error:
        return str(error)


def _seal(field: Field, listed: dict[str, str], n: int) -> Signed:
    """RFC 8617 §4.1.3, §5.2 step 3."""
    wanted = "none" if n == 1 else "pass"
    if listed.get("cv") != wanted:
        raise BadChain(f"The seal {n} does not say cv={wanted}")
    if "h" in listed:
        raise BadChain(f"The seal {n} has an h=, which it may not")
    if not _TIME(listed.get("t", "0")):
        raise BadChain(f"The t= of the seal {n} is no time")
    try:
        return _signed(field, listed)
    except (BadChain, tags.BadTags) as error:
        raise BadChain(f"The seal {n} cannot be used: {error}") from error
