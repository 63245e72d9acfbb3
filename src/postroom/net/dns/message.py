"""Questions and replies as octets (RFC 1035 §4, RFC 6891 §6); pure, and no reply is believed.

Only what answers the question is taken: records at the end of the CNAMEs that start at the
name asked, and the SOA of a denial. The rest of a reply is walked past, unread.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Final

import dns.exception
import dns.name
import dns.rcode
import dns.wire

from postroom.core.errors import Malformed
from postroom.net.dns.names import from_labels, to_wire
from postroom.net.dns.records import NUMBER, Caa, Kind, Mx, Record, Soa, Srv, Tlsa

MOST_CHAIN: Final = 8
"""CNAMEs from the name asked to the one that answers."""
MOST_ENTRIES: Final = 512
"""Records of all sections together, as the header counts them."""
MOST_LABELS: Final = 4096
"""Labels of all names read: compression makes 65,000 octets into millions."""
PAYLOAD: Final = 1232
"""Octets of a reply that needs no fragments on any path; RFC 9715 §3.1 says at most 1400."""
LONGEST_TTL: Final = 0x7FFF_FFFF  # what has the top bit set is 0: RFC 2181 §8

_HEADER: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHIH")
_IN: Final = 1
_NS, _CNAME, _SOA, _OPT = 2, 5, 6, 41
_QR, _OPCODE, _AA, _TC, _RD, _RA, _AD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020
_NOERROR, _NXDOMAIN, _SERVFAIL = 0, 3, 2

# OPT of every question: root, type, payload, extended code and version 0, DO, no options.
_OPTIONS: Final = struct.pack("!BHHIH", 0, _OPT, PAYLOAD, 0x8000, 0)

_EDE: Final = 15  # RFC 8914 §2
_BOGUS: Final = frozenset({5, 6, 7, 8, 9, 10, 11, 12, 25})
"""Extended errors that say "DNSSEC failed": asking again elsewhere would only downgrade."""


class Unusable(Exception):  # it never leaves the room: the resolver turns it into DnsFailed
    """A server gave nothing that can be used; `reason` is of a fixed set."""

    def __init__(self, reason: str, detail: str = "", *, final: bool = False) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.final = final  # another server or another try would say the same


class Broken(Unusable):
    """A reply that breaks the grammar or contradicts itself: perhaps not by the server at all."""

    def __init__(self, detail: str) -> None:
        super().__init__("malformed", detail)


class Match(Enum):
    """Whether octets answer a question."""

    NO = auto()
    CASE = auto()  # but for the case of the letters
    YES = auto()


@dataclass(frozen=True, slots=True)
class Question:
    """One question as it goes out: id and case are random, new for each try."""

    name: str
    kind: Kind
    id: int
    asked: bytes
    """The question section; the reply must repeat it octet by octet."""

    @property
    def octets(self) -> bytes:
        # AD asks for the AD bit in the reply (RFC 6840 §5.7), DO for all of DNSSEC.
        header = _HEADER.pack(self.id, _RD | _AD, 1, 0, 0, 1)
        return header + self.asked + _OPTIONS


@dataclass(frozen=True, slots=True)
class Found:
    """What one reply says."""

    records: tuple[Record, ...]
    exists: bool
    vouched: bool
    """AD is set."""
    chain: tuple[str, ...]
    """The names that CNAMEs led to, in order."""
    ttl: int | None
    """Seconds; None: a denial without SOA, not to be kept (RFC 2308 §5)."""
    complete: bool
    """False: it stops at a CNAME and does not say what is there."""
    size: int
    """Octets of the reply."""


def make_question(name: str, kind: Kind, rng: Random) -> Question:
    """A question about a canonical name, with a random id and letters in random case.

    The case (0x20) adds a bit of doubt for each letter to those of id and port.
    """
    lower = to_wire(name)
    # Length octets are below "A", so upper() leaves them alone.
    letters = int.from_bytes(lower) ^ int.from_bytes(lower.upper())
    mixed = int.from_bytes(lower) ^ (letters & rng.getrandbits(8 * len(lower)))
    asked = mixed.to_bytes(len(lower)) + struct.pack("!HH", NUMBER[kind], _IN)
    return Question(name, kind, rng.getrandbits(16), asked)


def match(octets: bytes, question: Question) -> Match:
    """Whether this is a reply to that question, by its header and question section."""
    if len(octets) < _HEADER.size:
        return Match.NO
    number, flags, questions, *_ = _HEADER.unpack_from(octets)
    if number != question.id or not flags & _QR or flags & _OPCODE:
        return Match.NO
    asked = question.asked
    seen = octets[_HEADER.size : _HEADER.size + len(asked)]
    if questions == 0:
        # Who could not read the question may not repeat it. An answer must.
        return Match.YES if flags & 0xF not in (_NOERROR, _NXDOMAIN) else Match.NO
    if questions != 1:
        return Match.NO
    if seen == asked:
        return Match.YES
    name = len(asked) - 4
    same = seen[:name].lower() == asked[:name].lower() and seen[name:] == asked[name:]
    return Match.CASE if same else Match.NO


def truncated(octets: bytes) -> bool:
    """The TC bit of a reply that matches."""
    return bool(octets[2] & (_TC >> 8))


def read_reply(octets: bytes, question: Question, most_records: int) -> Found:
    """Read a reply that matches. Raises Unusable; Broken if its octets make no sense."""
    try:
        return _read(octets, question, most_records)
    except (dns.exception.DNSException, struct.error, Malformed, ValueError) as error:
        raise Broken(f"{type(error).__name__}: {error}") from error


def _read(octets: bytes, question: Question, most_records: int) -> Found:
    _, flags, questions, answers, authorities, extras = _HEADER.unpack_from(octets)
    if answers + authorities + extras > MOST_ENTRIES:
        raise Unusable("too-large", f"{answers + authorities + extras} entries", final=True)
    parser = _Parser(octets, _HEADER.size + (len(question.asked) if questions else 0))
    code = flags & 0xF
    held, aliases = _answers(parser, question.kind, answers)
    chain = _chain(question.name, held, aliases)
    end = chain[-1] if chain else question.name
    found = held.get(end, [])
    passed = (question.name, *chain)[:-1]
    ttl = min((aliases[name].ttl for name in passed), default=None)
    vouched = bool(flags & _AD)
    if code == _NOERROR and found:
        if len(found) > most_records:
            raise Unusable("too-large", f"{len(found)} records", final=True)
        least = min(entry.ttl for entry in found)
        ttl = least if ttl is None else min(ttl, least)
        records = tuple(dict.fromkeys(entry.record for entry in found))
        if question.kind is Kind.CNAME and len(records) > 1:
            raise Broken(f"{end} has two CNAMEs")  # RFC 2181 §10.1
        return Found(records, True, vouched, chain, ttl, True, len(octets))

    soa, referral = _denial(parser, end, authorities)
    extended, reasons = _extended(parser, extras)
    code |= extended << 4
    if code not in (_NOERROR, _NXDOMAIN):
        bogus = code == _SERVFAIL and not _BOGUS.isdisjoint(reasons)
        text = dns.rcode.to_text(dns.rcode.Rcode.make(code)).lower()
        raise Unusable("bogus" if bogus else text, _told(reasons), final=bogus)
    if found:
        raise Broken("NXDOMAIN with records")
    if soa is not None:
        ttl = soa if ttl is None else min(ttl, soa)
        return Found((), code == _NOERROR, vouched, chain, ttl, True, len(octets))
    if code == _NOERROR and chain:
        return Found((), True, vouched, chain, ttl, False, len(octets))
    if referral or not flags & (_RA | _AA):
        # "Ask somebody else" is not "there is none".
        raise Unusable("lame", "the server refers elsewhere: it does not recurse")
    return Found((), code == _NOERROR, vouched, chain, None, True, len(octets))


def _chain(
    start: str, held: dict[str, list[_Entry]], aliases: dict[str, _Alias]
) -> tuple[str, ...]:
    """The names that the CNAMEs lead to from `start`, up to one that holds records."""
    chain: list[str] = []
    name = start
    while name not in held and name in aliases:
        name = aliases[name].target
        chain.append(name)
        if len(chain) > MOST_CHAIN:
            raise Unusable("cname-chain", "it loops or is too long", final=True)
    return tuple(chain)


@dataclass(slots=True)
class _Entry:
    record: Record
    ttl: int


@dataclass(slots=True)
class _Alias:
    target: str
    ttl: int


class _Costly(dns.exception.FormError):
    """Names that are small on the wire and huge when read."""


class _Parser(dns.wire.Parser):
    """A parser with a budget of labels."""

    def __init__(self, wire: bytes, current: int) -> None:
        super().__init__(wire, current)
        self._labels = MOST_LABELS
        self._seen: dict[bytes, str] = {}

    def text(self) -> str:
        """The name that comes next, perhaps compressed."""
        head = self.wire[self.current : self.current + 2]
        if head in self._seen:
            return self._seen[self.get_bytes(2)]
        name = self._text()
        if head >= b"\xc0":  # all of it was a pointer, as most owners are
            self._seen[head] = name
        return name

    def _text(self) -> str:
        name = self.get_name(decompress=True)
        self._labels -= len(name)
        if self._labels < 0:
            raise _Costly
        return from_labels(name.labels[:-1])

    def head(self) -> tuple[str, int, int, int, int]:
        """Owner, type, class, TTL and length of the record that comes next."""
        owner = self.text()
        number, klass, ttl, length = _RECORD.unpack(self.get_bytes(_RECORD.size))
        return owner, number, klass, ttl if ttl <= LONGEST_TTL else 0, length


def _answers(
    parser: _Parser, kind: Kind, count: int
) -> tuple[dict[str, list[_Entry]], dict[str, _Alias]]:
    """Records of the kind asked and CNAMEs, by owner; the class must be IN."""
    held: dict[str, list[_Entry]] = {}
    aliases: dict[str, _Alias] = {}
    wanted, read = NUMBER[kind], _READERS[kind]
    for _ in range(count):
        owner, number, klass, ttl, length = parser.head()
        if klass == _IN and number == wanted:
            with parser.restrict_to(length):
                held.setdefault(owner, []).append(_Entry(read(parser), ttl))
        elif klass == _IN and number == _CNAME:
            with parser.restrict_to(length):
                target = parser.text()
            known = aliases.setdefault(owner, _Alias(target, ttl))
            if known.target != target:
                raise Broken(f"{owner} has two CNAMEs")  # RFC 2181 §10.1
            known.ttl = min(known.ttl, ttl)
        else:
            parser.get_bytes(length)
    return held, aliases


def _denial(parser: _Parser, name: str, count: int) -> tuple[int | None, bool]:
    """Seconds for which the SOA lets a denial of `name` be kept (RFC 2308 §5); and whether
    this is a referral: NS records without a SOA (RFC 2308 §2.2).
    """
    keep: int | None = None
    referral = False
    for _ in range(count):
        owner, number, klass, ttl, length = parser.head()
        if number == _SOA and klass == _IN and _below(name, owner):
            with parser.restrict_to(length):
                keep = min(ttl, _soa(parser).minimum)
        else:
            referral = referral or number == _NS
            parser.get_bytes(length)
    return keep, referral and keep is None


def _below(name: str, zone: str) -> bool:
    return zone in (".", name) or name.endswith("." + zone)


def _extended(parser: _Parser, count: int) -> tuple[int, frozenset[int]]:
    """The upper bits of the code (RFC 6891 §6.1.3) and the extended errors (RFC 8914)."""
    code = 0
    reasons: set[int] = set()
    for _ in range(count):
        parser.text()
        number, _, ttl, length = _RECORD.unpack(parser.get_bytes(_RECORD.size))
        if number != _OPT:
            parser.get_bytes(length)
            continue
        code = ttl >> 24
        with parser.restrict_to(length):
            while parser.remaining():
                option, value = parser.get_uint16(), parser.get_counted_bytes(2)
                if option == _EDE and len(value) >= 2:
                    reasons.add(int.from_bytes(value[:2]))
    return code, frozenset(reasons)


def _told(reasons: frozenset[int]) -> str:
    return "extended errors " + ", ".join(map(str, sorted(reasons))) if reasons else ""


# --- values -------------------------------------------------------------------------------


def _a(parser: _Parser) -> Record:
    return IPv4Address(parser.get_bytes(4))


def _aaaa(parser: _Parser) -> Record:
    return IPv6Address(parser.get_bytes(16))


def _name(parser: _Parser) -> Record:
    return parser.text()


def _mx(parser: _Parser) -> Record:
    return Mx(parser.get_uint16(), parser.text())


def _txt(parser: _Parser) -> Record:
    """Character-strings are joined without spaces: RFC 7208 §3.3, RFC 6376 §3.6.2.2."""
    strings = [parser.get_counted_bytes()]  # one at least: RFC 1035 §3.3.14
    while parser.remaining():
        strings.append(parser.get_counted_bytes())
    return b"".join(strings)


def _tlsa(parser: _Parser) -> Record:
    usage, selector, matching = parser.get_bytes(3)
    return Tlsa(usage, selector, matching, parser.get_remaining())


def _soa(parser: _Parser) -> Soa:
    primary, contact = parser.text(), parser.text()
    return Soa(primary, contact, *struct.unpack("!5I", parser.get_bytes(20)))


def _srv(parser: _Parser) -> Record:
    priority, weight, port = struct.unpack("!3H", parser.get_bytes(6))
    return Srv(priority, weight, port, parser.text())


def _caa(parser: _Parser) -> Record:
    flags, tag = parser.get_uint8(), parser.get_counted_bytes()
    if not tag.isalnum():  # RFC 8659 §4.1; ASCII only, these are bytes
        raise Broken("a CAA tag is not made of letters and digits")
    return Caa(flags, tag.decode("ascii").lower(), parser.get_remaining())


_READERS: Final[dict[Kind, Callable[[_Parser], Record]]] = {
    Kind.A: _a,
    Kind.AAAA: _aaaa,
    Kind.CAA: _caa,
    Kind.CNAME: _name,
    Kind.MX: _mx,
    Kind.NS: _name,
    Kind.PTR: _name,
    Kind.SOA: _soa,
    Kind.SRV: _srv,
    Kind.TLSA: _tlsa,
    Kind.TXT: _txt,
}
