"""The DNS tree walk: whose policy applies to a domain, and whose organisation it is of.

RFC 9989 §4.10. No list of public suffixes is needed; DNS says it all. A name is asked for once
for each message, and a walk asks for eight at most, all but the first at the same time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import Malformed
from postroom.net.dns import Kind, from_labels
from postroom.trust.dmarc.record import Record, acceptance, select
from postroom.trust.lookups import Lookup

MOST_QUERIES: Final = 8
"""Of one walk. RFC 9989 §4.10."""
_PREFIX: Final = b"_dmarc"


@dataclass(frozen=True, slots=True)
class Policy:
    """The record that applies to an author's domain. RFC 9989 §4.10.1."""

    domain: str  # where it was found
    record: Record
    below: bool  # the author's domain lies below that one


def targets(domain: str) -> tuple[str, ...]:
    """The names of a walk, the longest first: RFC 9989 §4.10, steps 1, 4 and 7."""
    labels = domain.split(".")
    parents = labels[1:] if len(labels) < MOST_QUERIES else labels[1 - MOST_QUERIES :]
    return (domain, *(".".join(parents[n:]) for n in range(len(parents))))


def is_below(domain: str, other: str) -> bool:
    """Whether a domain lies below another one, which does not lie below itself."""
    return domain.endswith(f".{other}")


class Walks:
    """The walks of one message. Domains are in lower case, in A-labels, without a dot at the end.

    All raise DnsFailed where DNS says neither that a record is there nor that there is none.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._asked: dict[str, asyncio.Task[Record | None]] = {}
        self._organisations: dict[str, str] = {}
        self._told: dict[str, Policy | None] = {}
        self._policies: dict[str, Policy | None] = {}

    def knows(self, domain: str, policy: Policy | None) -> None:
        """Another message has asked whose policy applies to this domain, and that still holds."""
        self._told[domain] = policy

    def found(self) -> dict[str, Policy | None]:
        """Whose policy applies, by domain, as far as DNS said it to this message."""
        return self._policies

    async def record(self, domain: str) -> Record | None:
        """The DMARC record of exactly this domain."""
        asked = self._asked.get(domain)
        if asked is None:
            asked = self._asked[domain] = asyncio.ensure_future(self._record(domain))
        # One who gives up must not take the answer from others who wait for it.
        return await asyncio.shield(asked)

    async def _record(self, domain: str) -> Record | None:
        try:
            name = from_labels((_PREFIX, *domain.encode("utf-8", "replace").split(b".")))
        except Malformed:
            return None  # there can be no such name, hence no record
        answer = await self._lookup.query(name, Kind.TXT)
        return select(text for text in answer.records if isinstance(text, bytes))

    def close(self) -> None:
        """Let go of questions that nobody waits for any more."""
        for asked in self._asked.values():
            asked.cancel()
            if asked.done() and not asked.cancelled():
                asked.exception()  # it was told already, or nobody needed to know

    async def policy(self, domain: str) -> Policy | None:
        """Whose policy applies to mail of this author domain; None: it is nobody's.

        RFC 9989 §4.10.1: its own, else that of its organisation, else that of the suffix.
        """
        if domain in self._told:
            return self._told[domain]
        if domain not in self._policies:
            self._policies[domain] = await self._policy(domain)
        return self._policies[domain]

    async def _policy(self, domain: str) -> Policy | None:
        own = await self.record(domain)
        if own is not None:
            return Policy(domain, own, below=False)
        found = await self._walk(domain)
        if not found:
            return None
        organisation = _organisation(domain, found)
        for name, record in found:
            if name == organisation:
                return Policy(name, record, below=True)
        # The organisation says nothing. Its suffix, where the walk ended, may.
        name, record = found[-1]
        return Policy(name, record, below=True) if _is_suffix(name, record) else None

    async def organisation(self, domain: str) -> str:
        """The Organizational Domain of a domain. RFC 9989 §4.10.2."""
        known = self._organisations.get(domain)
        if known is None:
            known = _organisation(domain, await self._walk(domain))
            self._organisations[domain] = known
        return known

    async def exists(self, domain: str) -> bool:
        """Whether there is such a domain: any question tells. RFC 9989 §3.2.13, RFC 8020 §2."""
        try:
            name = from_labels(domain.encode("utf-8", "replace").split(b"."))
        except Malformed:
            return False
        return (await self._lookup.query(name, Kind.A)).exists

    async def _walk(self, domain: str) -> list[tuple[str, Record]]:
        """The records on the way up, up to the first that says what it is. RFC 9989 §4.10."""
        names = targets(domain)
        first = await self.record(names[0])
        if first is not None and first.psd != "u":
            return [(names[0], first)]
        above = await asyncio.gather(*map(self.record, names[1:]), return_exceptions=True)
        found = [(names[0], first)] if first is not None else []
        for name, record in zip(names[1:], above, strict=True):
            if isinstance(record, BaseException):
                raise record  # what lies above is not reached, and what is below did not end it
            if record is not None:
                found.append((name, record))
                if record.psd != "u":
                    break
        return found

    async def accepts_reports(self, domain: str, destination: str) -> bool:
        """Whether reports about `domain` may go to the domain `destination`. RFC 9990 §4.

        Somebody of the same organisation is not asked.
        """
        return await self.acceptance(domain, destination) is not None

    async def acceptance(self, domain: str, destination: str) -> Record | None:
        """By which record reports about `domain` may go to the domain `destination`; None: they
        may not. RFC 9990 §4.

        Its `rua` takes the place of addresses there that the policy of `domain` names. It says
        nothing if it is of the same organisation, which is not asked.
        """
        if destination == domain:
            return Record("")
        if await self.organisation(destination) == await self.organisation(domain):
            return Record("")
        name = f"{domain}._report._dmarc.{destination}"
        try:
            asked = from_labels(name.encode("utf-8", "replace").split(b"."))
        except Malformed:
            return None
        answer = await self._lookup.query(asked, Kind.TXT)
        return acceptance(text for text in answer.records if isinstance(text, bytes))


def _is_suffix(name: str, record: Record) -> bool:
    """Whether organisations begin below this name.

    RFC 9989 §4.10.2 believes psd=y alone. A top-level domain that published its record before
    there was that tag (RFC 9091) would make one organisation of all that is registered below it.
    """
    return record.psd == "y" or (record.psd == "u" and "." not in name)


def _organisation(domain: str, found: list[tuple[str, Record]]) -> str:
    """RFC 9989 §4.10.2, from the records of a walk."""
    chosen = domain
    for name, record in found:
        if record.psd == "n":
            return name
        if name != domain and _is_suffix(name, record):
            kept = domain.split(".")[-(name.count(".") + 2) :]
            return ".".join(kept)
        chosen = name
    return chosen
