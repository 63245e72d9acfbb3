"""SPF records: which one counts, and what it says. Pure and linear. RFC 7208 §4.5, §4.6.1, §12.

A record is read whole before any of it is judged: a mistake anywhere spoils it (§4.6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from postroom.trust.spf.macros import IN_TEXTS, Text, parse, parse_domain
from postroom.trust.spf.result import BadRecord, Result

CACHED_OCTETS: Final = 2048
"""Records up to this size are remembered parsed. RFC 7208 §3.4 wants them to be a quarter of it."""

_IS_SPF: Final = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE).match
_VERSION: Final = len(b"v=spf1")
_MODIFIER: Final = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)", re.IGNORECASE | re.ASCII | re.DOTALL)
_DIRECTIVE: Final = re.compile(
    r"([+?~-]?)([a-z][a-z0-9_.-]*)(.*)", re.IGNORECASE | re.ASCII | re.DOTALL
)
_CIDR: Final = r"/(0|[1-9][0-9]{0,2})"
_DUAL_CIDR: Final = re.compile(rf"(?:{_CIDR})?(?:/{_CIDR})?\Z")
_LONGEST_CIDR: Final = len("/32//128")
_OUTCOMES: Final = {
    "": Result.PASS,
    "+": Result.PASS,
    "-": Result.FAIL,
    "~": Result.SOFTFAIL,
    "?": Result.NEUTRAL,
}
_NO_DOMAIN: Final[Text] = ()


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One directive. What does not apply to its kind stays at its default."""

    kind: str  # all, include, a, mx, ptr, ip4, ip6, exists
    outcome: Result  # if it matches
    text: str  # as published
    domain: Text = _NO_DOMAIN  # empty: the domain of the record
    bits4: int = 32  # of an address that count
    bits6: int = 128
    network: int = 0  # of ip4 and ip6: those bits


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose syntax is right."""

    mechanisms: tuple[Mechanism, ...]
    redirect: Text = _NO_DOMAIN
    exp: Text = _NO_DOMAIN


def select(texts: Iterable[bytes]) -> bytes | None:
    """The one SPF record among the TXT records of a name, or None. RFC 7208 §4.5.

    Raises BadRecord if there are several.
    """
    found = [text for text in texts if _IS_SPF(text)]
    if len(found) > 1:
        raise BadRecord(detail=f"{len(found)} SPF records")
    return found[0] if found else None


def read(octets: bytes) -> Record:
    """What a selected record says. Raises BadRecord."""
    return _remembered(octets) if len(octets) <= CACHED_OCTETS else _read(octets)


def _read(octets: bytes) -> Record:
    if not octets.isascii():
        raise BadRecord(detail="it holds octets above 127")
    mechanisms: list[Mechanism] = []
    once: dict[str, Text] = {}
    for term in octets[_VERSION:].decode("ascii").split(" "):
        if not term:
            continue
        modifier = _MODIFIER.fullmatch(term)
        if modifier is None:
            mechanisms.append(_mechanism(term))
            continue
        name = modifier[1].lower()
        if name not in ("redirect", "exp"):
            parse(modifier[2], IN_TEXTS)  # unknown, but its syntax must be right
            continue
        if name in once:
            raise BadRecord(detail=f"{name}= stands twice")
        once[name] = parse_domain(modifier[2])
    return Record(tuple(mechanisms), once.get("redirect", _NO_DOMAIN), once.get("exp", _NO_DOMAIN))


_remembered: Final = lru_cache(maxsize=512)(_read)


def _mechanism(term: str) -> Mechanism:
    found = _DIRECTIVE.fullmatch(term)
    kind = found[2].lower() if found is not None else ""
    if found is None or kind not in _KINDS:
        raise BadRecord(detail=f"{term[:60]!a} is no mechanism")
    outcome, rest = _OUTCOMES[found[1]], found[3]
    match kind:
        case "ip4":
            return _ip4(term, outcome, rest)
        case "ip6":
            return _ip6(term, outcome, rest)
        case "all":
            if rest:
                raise _unfit(term)
            return Mechanism(kind, outcome, term)
        case "a" | "mx":
            return _addresses(kind, term, outcome, rest)
        case "ptr" if not rest:
            return Mechanism(kind, outcome, term)
    return Mechanism(kind, outcome, term, _argument(term, rest))


_KINDS: Final = frozenset({"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"})


def _unfit(term: str) -> BadRecord:
    return BadRecord(detail=f"{term[:60]!a} has an argument that does not fit")


def _argument(term: str, rest: str) -> Text:
    if not rest.startswith(":"):
        raise _unfit(term)
    return parse_domain(rest[1:])


def _addresses(kind: str, term: str, outcome: Result, rest: str) -> Mechanism:
    """`a` or `mx` with a domain, a dual-cidr-length, both or neither."""
    found = _DUAL_CIDR.search(rest, max(0, len(rest) - _LONGEST_CIDR))
    assert found is not None  # it matches the empty end too
    bits4, bits6 = int(found[1] or 32), int(found[2] or 128)
    if bits4 > 32 or bits6 > 128:
        raise _unfit(term)
    rest = rest[: found.start()]
    domain = _argument(term, rest) if rest else _NO_DOMAIN
    return Mechanism(kind, outcome, term, domain, bits4, bits6)


def _ip4(term: str, outcome: Result, rest: str) -> Mechanism:
    address, bits = _network(term, rest, 32)
    try:
        network = int(IPv4Address(address)) >> (32 - bits)
    except ValueError as error:
        raise _unfit(term) from error
    return Mechanism("ip4", outcome, term, bits4=bits, network=network)


def _ip6(term: str, outcome: Result, rest: str) -> Mechanism:
    address, bits = _network(term, rest, 128)
    try:
        if "%" in address:  # an interface of this machine
            raise ValueError(address)
        network = int(IPv6Address(address)) >> (128 - bits)
    except ValueError as error:
        raise _unfit(term) from error
    return Mechanism("ip6", outcome, term, bits6=bits, network=network)


def _network(term: str, rest: str, most: int) -> tuple[str, int]:
    address, slash, length = rest[1:].partition("/")
    if not rest.startswith(":") or len(address) > _LONGEST_ADDRESS:
        raise _unfit(term)
    if not slash:
        return address, most
    if not _IS_LENGTH(length) or int(length) > most:
        raise _unfit(term)
    return address, int(length)


_IS_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,2}").fullmatch
_LONGEST_ADDRESS: Final = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")
