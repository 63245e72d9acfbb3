"""Publishing what DNS is to say, at a name server that takes updates. RFC 2136."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from postroom.admin.house import AdminHouse
from postroom.admin.publishing import records_of
from postroom.core.errors import NotFound
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain.directory.spelling import named_domain
from postroom.net.dns import Kind, Resolver, parse_server
from postroom.net.dns.update import Outcome, add_set, read_key
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import Wanted

WOULD: Final = "would be added"


@dataclass(frozen=True, slots=True)
class UpdateOf:
    """Where the records of a domain are to be published."""

    domain: str = argument("The domain's name, such as example.org")
    server: str = argument("The name server's address, with a port or without", option=True)
    key_file: str = argument(
        "The key that it knows us by (TSIG, RFC 8945), as tsig-keygen writes it",
        default="",
        document=True,
    )
    apply: bool = argument("Publish; without it, only say what would be", default=False)


@dataclass(frozen=True, slots=True)
class UpdateLine:
    """A set of records, and what became of it."""

    name: str
    type: str
    did: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class UpdateView:
    """What was published, or would be."""

    sets: tuple[UpdateLine, ...]
    applied: bool

    @property
    def problems(self) -> tuple[str, ...]:
        """Sets that the server refused."""
        return tuple(
            [
                f"{each.name} {each.type}: refused ({each.code})"
                for each in self.sets
                if each.did == Outcome.REFUSED
            ]
        )

    def told(self) -> str:
        lines = [f"{each.did}: {each.name} {each.type}" + _coded(each) for each in self.sets]
        if not self.applied:
            ready = sum(each.did == WOULD for each in self.sets)
            lines.append(f"{counted(ready, 'set')} of records would be added: --apply does it.")
        return "\n".join(lines)


def _coded(each: UpdateLine) -> str:
    return f" ({each.code})" if each.did == Outcome.REFUSED else ""


@operation("dns update", Role.ADMIN)
async def dns_update(house: AdminHouse, asked: UpdateOf) -> UpdateView:
    """Publish the records of a domain at a name server that takes updates (RFC 2136), or say
    what would be published. A set is added where the name has none of its kind; what is there
    already is left as it is, right or wrong: `dns check` tells."""
    server = parse_server(asked.server)
    key = read_key(asked.key_file) if asked.key_file else None
    wanted = await records_of(house, named_domain(asked.domain))
    resolver = Resolver(house.flow.clock, servers=[server])
    lines: list[UpdateLine] = []
    try:
        for (owner, kind), records in _sets(wanted).items():
            if (await resolver.query(owner, kind)).records:
                lines.append(UpdateLine(owner, kind, Outcome.THERE))
            elif not asked.apply:
                lines.append(UpdateLine(owner, kind, WOULD))
            else:
                zone = await _zone(resolver, owner)
                added = [(each.ttl, each.data) for each in records]
                did, code = await add_set(server, zone, owner, kind, added, key)
                lines.append(UpdateLine(owner, kind, did, code))
    finally:
        await resolver.close()
    return UpdateView(tuple(lines), asked.apply)


def _sets(wanted: Iterable[Wanted]) -> dict[tuple[str, str], list[Wanted]]:
    """What is published together. Reverse zones are kept by whoever lends the address."""
    found: dict[tuple[str, str], list[Wanted]] = {}
    for each in wanted:
        if not each.elsewhere:
            found.setdefault((each.owner, each.kind), []).append(each)
    return found


async def _zone(lookup: Lookup, owner: str) -> str:
    """The zone of that server in which a name lies. Raises NotFound, DnsFailed."""
    labels = owner.split(".")
    for at in range(len(labels)):
        name = ".".join(labels[at:])
        if (await lookup.query(name, Kind.SOA)).records:
            return name
    raise NotFound(f"The server has no zone with {owner}")
