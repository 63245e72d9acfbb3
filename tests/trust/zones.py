"""DNS for checks without a socket: records in a dict, failures, and a count of questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from postroom.core.errors import DnsFailed
from postroom.net.dns import Answer, Kind, Mx, Record, from_labels

Held = dict[str, dict[str, list[Record]]]


def dns_name(text: str) -> str:
    """The name as the resolver gives it."""
    return from_labels(text.removesuffix(".").encode("latin-1").split(b"."))


def record(kind: str, value: object) -> Record:
    """A record from what a test writes: text, or (preference, host)."""
    if kind == "MX":
        assert isinstance(value, Sequence)
        preference, host = value
        return Mx(int(preference), dns_name(host) if host else ".")
    if kind == "TXT":
        pieces = [value] if isinstance(value, str) else value
        assert isinstance(pieces, Iterable)
        return "".join(str(piece) for piece in pieces).encode("latin-1")
    assert isinstance(value, str)
    return ip_address(value) if kind in ("A", "AAAA") else dns_name(value)


class Dns:
    """Answers from memory, as `postroom.trust.lookups.Lookup` wants it."""

    def __init__(self, records: Mapping[str, Sequence[tuple[str, object]]] | None = None) -> None:
        self.held: Held = {}
        self.failing: set[tuple[str, str]] = set()  # name and kind; * is every kind
        self.asked: list[tuple[str, str]] = []
        for name, each in (records or {}).items():
            for kind, value in each:
                self.add(name, kind, value)

    def add(self, name: str, kind: str, value: object) -> None:
        self.held.setdefault(dns_name(name), {}).setdefault(kind, []).append(record(kind, value))

    def fail(self, name: str, kind: str = "*") -> None:
        self.failing.add((dns_name(name), kind))

    async def query(self, name: str, kind: Kind) -> Answer[Record]:
        self.asked.append((name, kind.value))
        for _ in range(9):
            if (name, kind.value) in self.failing or (name, "*") in self.failing:
                raise DnsFailed(detail=f"{kind} {name}: timeout", reason="timeout")
            here = self.held.get(name, {})
            found = here.get(kind.value)
            if found is not None or "CNAME" not in here:
                records = tuple(found or ())
                return Answer(records, bool(here), False, name, 300, 1e9)
            target = here["CNAME"][0]
            assert isinstance(target, str)
            name = target
        raise DnsFailed(detail=f"{kind} {name}: cname-chain", reason="cname-chain")
