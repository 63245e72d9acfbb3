"""The zones of a small internet: what its DNS says, and what shall go wrong with it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

ANY: Final = "*"
"""In a fault: every name. It must not be confused with a wildcard record, `*.a.example`."""
LONGEST_CHAIN: Final = 16
_IN: Final = dns.rdataclass.IN
_FORGED: Final = (
    ("victim.example", "A", "203.0.113.66"),
    ("victim.example", "MX", "0 evil.example"),
)


class What(StrEnum):
    """How an answer goes wrong."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    FORMERR = "formerr"
    SILENT = "silent"  # no answer at all
    SLOW = "slow"  # right, after `seconds`
    TRUNCATED = "truncated"  # UDP says TC; TCP is right
    WRONG_ID = "wrong id"
    WRONG_QUESTION = "wrong question"
    WRONG_CASE = "wrong case"  # UDP folds the question's case, as some forwarders do
    GARBAGE = "garbage"  # the id is right, the rest is noise
    FORGED = "forged"  # right, with `records` of other names beside
    LOOP = "loop"  # CNAMEs in a circle
    HUGE = "huge"  # `number` records of the kind asked
    BOGUS = "bogus"  # DNSSEC fails: SERVFAIL with the reason, unless CD is set
    CUT_OFF = "cut off"  # UDP says TC; TCP closes half-way
    HALF_CHAIN = "half chain"  # stops at the first CNAME and leaves the rest to the asker
    LAME = "lame"  # refers to other servers


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and for how long."""

    what: What
    times: int | None = None
    """Only that many answers, then all is well (flapping). None: always."""
    seconds: float = 0.0
    """SLOW: the delay."""
    right_after: float | None = None
    """WRONG_ID, WRONG_QUESTION and GARBAGE over UDP: the right answer follows, so much later."""
    records: tuple[tuple[str, str, str], ...] = _FORGED
    """FORGED: name, kind, text."""
    number: int = 2000
    """HUGE: how many."""


@dataclass(slots=True)
class _Zone:
    apex: dns.name.Name
    secure: bool
    soa: dns.rrset.RRset


@dataclass(slots=True)
class Result:
    """What the zones say: the answer section, how it ends, who vouches."""

    answer: list[dns.rrset.RRset]
    rcode: dns.rcode.Rcode
    authority: list[dns.rrset.RRset]
    secure: bool


class Zones:
    """The world's zones. All names are absolute, with or without a dot at the end."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._zones: dict[dns.name.Name, _Zone] = {}
        self._records: dict[dns.name.Name, dict[dns.rdatatype.RdataType, dns.rrset.RRset]] = {}
        self._above: dict[dns.name.Name, int] = {}  # names that exist through those below
        self._faults: dict[tuple[dns.name.Name | None, str | None], tuple[Fault, list[int]]] = {}
        self.zone(".")

    # --- what is true -----------------------------------------------------------------------

    def zone(self, apex: str, *, secure: bool = False, minimum: int = 300) -> None:
        """Declare a zone, or change it. `minimum`: seconds that a denial may be kept."""
        name = name_of(apex)
        text = f". hostmaster.invalid. 1 7200 900 1209600 {minimum}"
        soa = dns.rrset.from_rdata(name, minimum, rdata_of("SOA", text))
        with self._lock:
            self._zones[name] = _Zone(name, secure, soa)
            self._put(soa, replace=True)

    def add(self, name: str, kind: str, text: str, *, ttl: int = 300) -> None:
        """One more record; `text` as in a zone file: `10 mx1.a.example`, `"v=spf1 -all"`."""
        with self._lock:
            self._put(dns.rrset.from_rdata(name_of(name), ttl, rdata_of(kind, text)))

    def text(self, name: str, value: str | bytes, *, ttl: int = 300) -> None:
        """A TXT record of any length, cut into character-strings of 255 octets."""
        octets = value.encode() if isinstance(value, str) else value
        pieces = [octets[at : at + 255] for at in range(0, len(octets), 255)] or [b""]
        wire = b"".join(bytes((len(piece),)) + piece for piece in pieces)
        rdata = dns.rdata.from_wire(_IN, dns.rdatatype.TXT, wire, 0, len(wire))
        with self._lock:
            self._put(dns.rrset.from_rdata(name_of(name), ttl, rdata))

    def host(self, name: str, *addresses: str, ttl: int = 300, reverse: bool = True) -> None:
        """A or AAAA for each address, and PTR back."""
        for address in addresses:
            ip = ip_address(address)
            self.add(name, "A" if ip.version == 4 else "AAAA", address, ttl=ttl)
            if reverse:
                self.add(ip.reverse_pointer, "PTR", f"{name.rstrip('.')}.", ttl=ttl)

    def load(self, text: str, origin: str, *, secure: bool = False, ttl: int = 300) -> None:
        """Records of a zone file; names in it are relative to `origin`, which becomes a zone."""
        self.zone(origin, secure=secure)
        read = dns.zone.from_text(
            f"$TTL {ttl}\n{text}", origin=name_of(origin), relativize=False, check_origin=False
        )
        with self._lock:
            for name, rdataset in read.iterate_rdatasets():
                rrset = dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset))
                soa = rrset.rdtype == dns.rdatatype.SOA
                self._put(rrset, replace=soa)
                if soa and name in self._zones:
                    self._zones[name].soa = rrset

    def remove(self, name: str, kind: str | None = None) -> None:
        """Forget the records of a name, all or of one kind; a zone keeps its SOA."""
        owner = name_of(name)
        with self._lock:
            held = self._records.get(owner)
            if held is None:
                return
            kinds = list(held) if kind is None else [dns.rdatatype.from_text(kind)]
            for number in kinds:
                if number != dns.rdatatype.SOA or owner not in self._zones:
                    held.pop(number, None)
            if not held:
                del self._records[owner]
                self._count_above(owner, -1)

    # --- what goes wrong --------------------------------------------------------------------

    def fault(self, name: str, kind: str | None, fault: Fault | None) -> None:
        """From now on this goes wrong at `name` (ANY: everywhere) for `kind` (None: for all).

        The most exact one counts: name and kind, name, kind everywhere, everything. None ends it.
        """
        key = (None if name == ANY else name_of(name), None if kind is None else kind.upper())
        with self._lock:
            if fault is None:
                self._faults.pop(key, None)
            else:
                self._faults[key] = (fault, [0])

    def next_fault(self, name: dns.name.Name, kind: str) -> Fault | None:
        """What goes wrong with this answer; counts it."""
        with self._lock:
            for key in ((name, kind), (name, None), (None, kind), (None, None)):
                fault, count = self._faults.get(key, (None, [0]))
                if fault is not None and (fault.times is None or count[0] < fault.times):
                    count[0] += 1
                    return fault
        return None

    # --- what is said -----------------------------------------------------------------------

    def look_up(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, *, hops: int = LONGEST_CHAIN
    ) -> Result:
        """Records of `kind` at `name`, following at most `hops` CNAMEs."""
        result = Result([], dns.rcode.NOERROR, [], secure=True)
        with self._lock:
            for left in range(hops, -1, -1):
                zone = self._zone_of(name)
                result.secure = result.secure and zone.secure
                held = self._held(name)
                if held is None:
                    result.rcode = dns.rcode.NXDOMAIN
                    result.authority = [zone.soa]
                    break
                found = held.get(kind)
                if found is not None:
                    result.answer.append(found)
                    break
                alias = held.get(dns.rdatatype.CNAME)
                if alias is None:
                    result.authority = [zone.soa]
                    break
                result.answer.append(alias)
                target = target_of(alias)
                if not left or target in {rrset.name for rrset in result.answer}:
                    break  # cut short, or back where it was: the asker sees what there is
                name = target
        return result

    def _held(self, name: dns.name.Name) -> dict[dns.rdatatype.RdataType, dns.rrset.RRset] | None:
        """Records at a name, made from a wildcard if need be. None: it does not exist."""
        held = self._records.get(name)
        if held is not None:
            return held
        if name in self._above:
            return {}
        encloser = name
        while encloser != dns.name.root:
            encloser = encloser.parent()
            if encloser in self._records or encloser in self._above:
                break
        # RFC 4592 §3.3.1: only the wildcard right below the closest encloser counts.
        source = self._records.get(dns.name.Name((b"*", *encloser.labels)))
        if source is None:
            return None
        return {
            kind: dns.rrset.from_rdata_list(name, rrset.ttl, list(rrset))
            for kind, rrset in source.items()
        }

    def _zone_of(self, name: dns.name.Name) -> _Zone:
        while name not in self._zones:
            name = name.parent()
        return self._zones[name]

    def _put(self, rrset: dns.rrset.RRset, *, replace: bool = False) -> None:
        held = self._records.get(rrset.name)
        if held is None:
            held = self._records[rrset.name] = {}
            self._count_above(rrset.name, 1)
        old = held.get(rrset.rdtype)
        if old is None or replace:
            held[rrset.rdtype] = rrset
        else:
            # A new set: an answer that is being written may hold the old one.
            merged = dns.rrset.from_rdata_list(rrset.name, rrset.ttl, [*old, *rrset])
            held[rrset.rdtype] = merged

    def _count_above(self, name: dns.name.Name, change: int) -> None:
        while name != dns.name.root:
            name = name.parent()
            number = self._above.get(name, 0) + change
            if number:
                self._above[name] = number
            else:
                del self._above[name]


# --- names and records ------------------------------------------------------------------------


def name_of(text: str) -> dns.name.Name:
    return dns.name.from_text(text, origin=dns.name.root).canonicalize()


def rdata_of(kind: str | dns.rdatatype.RdataType, text: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text(_IN, kind, text, origin=dns.name.root, relativize=False)


def target_of(alias: dns.rrset.RRset) -> dns.name.Name:
    return name_of(alias[0].to_text())
