"""check_host(): a domain's records, judged for one client. RFC 7208 §4, §5, §6.

What a stranger can make us spend is bounded four times: ten terms that ask DNS, two that find
nothing, ten names of each `mx` and `ptr`, and one deadline for all of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from postroom.core.errors import DnsFailed
from postroom.formats.address import Address
from postroom.formats.compose import printable
from postroom.net.dns import Kind, Mx
from postroom.trust import reverse
from postroom.trust.lookups import Lookup
from postroom.trust.spf import macros, record
from postroom.trust.spf.macros import Text
from postroom.trust.spf.record import Mechanism
from postroom.trust.spf.result import BadRecord, Identity, Result, SpfResult

MOST_TERMS: Final = 10
MOST_VOID: Final = 2
MOST_MX: Final = 10
"""RFC 7208 §4.6.4."""
DEADLINE: Final = 20.0
"""Seconds. RFC 7208 §4.6.4: at least 20."""
LONGEST_EXPLANATION: Final = 500
_LONGEST_TOLD: Final = 200

Ip: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends, and who asks. `receiver` and `now` are for explanations alone."""

    ip: Ip
    helo: str = ""
    receiver: str = "unknown"
    now: int = 0  # seconds since 1970


async def check_mail_from(
    lookup: Lookup, client: Client, reverse_path: Address | None, seconds: float = DEADLINE
) -> SpfResult:
    """Whether the client may use this reverse-path. For `<>` that is its HELO: RFC 7208 §2.4."""
    if reverse_path is None:
        domain, local = client.helo, "postmaster"
    else:
        domain, local = reverse_path.domain, reverse_path.local
    return await check_host(lookup, client, domain, local, Identity.MAIL_FROM, seconds)


async def check_helo(lookup: Lookup, client: Client, seconds: float = DEADLINE) -> SpfResult:
    """Whether the client may call itself what it does. RFC 7208 §2.3."""
    return await check_host(lookup, client, client.helo, "postmaster", Identity.HELO, seconds)


async def check_host(
    lookup: Lookup,
    client: Client,
    domain: str,
    local: str,
    identity: Identity,
    seconds: float = DEADLINE,
) -> SpfResult:
    """RFC 7208 §4. Takes `seconds` at most, and never raises."""
    shown = printable(domain)
    name = _full_name(domain)
    if name is None:
        return SpfResult(Result.NONE, shown, identity, why=f"{shown or 'nothing'} is no domain")
    check = _Check(lookup, client, domain.removesuffix("."), local or "postmaster")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    found = None
    try:
        async with asyncio.timeout_at(deadline):
            found = await check.evaluate(check.domain)
    except BadRecord as error:
        result, why = Result.PERMERROR, error.detail
    except DnsFailed as error:
        result, why = Result.TEMPERROR, error.detail or str(error)
    except TimeoutError:
        result, why = Result.TEMPERROR, f"not done within {seconds:g} s"
    else:
        result = Result.NONE if found is None else found.result
        why = f"{shown} has no SPF record" if found is None else found.why
    explanation = await check.explain(found, deadline) if found is not None else ""
    return SpfResult(
        result,
        shown,
        identity,
        mechanism=found.mechanism if found is not None else "",
        explanation=explanation,
        lookups=check.terms,
        why=printable(why, 2 * _LONGEST_TOLD),
        personal=check.personal,
    )


def _full_name(domain: str) -> str | None:
    """The name to ask for, if it is one of several labels and no address. RFC 7208 §4.3."""
    if domain.startswith("["):
        return None
    labels = domain.removesuffix(".").split(".")
    if len(labels) < 2 or labels[-1].isdecimal():
        return None
    return macros.dns_name(".".join(labels))


@dataclass(frozen=True, slots=True)
class _Found:
    """What decided, and in whose record."""

    result: Result
    mechanism: str
    domain: str
    exp: Text

    @property
    def why(self) -> str:
        shown = printable(self.domain, _LONGEST_TOLD)
        if self.mechanism == _DEFAULT:
            return f"no mechanism of {shown} matched"
        return f"{self.mechanism} of {shown} matched"


_DEFAULT: Final = "default"


class _Check:
    """One check_host() and what it has spent."""

    def __init__(self, lookup: Lookup, client: Client, domain: str, local: str) -> None:
        ip = client.ip
        if isinstance(ip, IPv6Address):
            # An IPv4 client over IPv6 is an IPv4 client: RFC 7208 §5.
            ip = ip.ipv4_mapped or ip
        self.domain = domain
        self.terms = 0
        self.personal = False
        self._void = 0
        self._lookup = lookup
        self._client = client
        self._ip = ip
        self._number = int(ip)
        self._local_ascii = local.isascii()
        self._names: tuple[str, ...] | None = None  # of the address, validated
        self._values = {
            "s": f"{local}@{domain}",
            "l": local,
            "o": domain,
            "h": client.helo,
            "i": _dotted(ip),
            "v": "in-addr" if ip.version == 4 else "ip6",
        }

    # --- records --------------------------------------------------------------------------

    async def evaluate(self, domain: str) -> _Found | None:
        """What the record of a domain says, or None without one. RFC 7208 §4.4 to §4.7.

        Raises BadRecord and DnsFailed. It calls itself for `include` and `redirect`, so ten deep
        at most.
        """
        name = _full_name(domain)
        if name is None:
            return None
        answer = await self._lookup.query(name, Kind.TXT)
        texts = [text for text in answer.records if isinstance(text, bytes)]
        try:
            octets = record.select(texts)
            if octets is None:
                return None
            read = record.read(octets)
        except BadRecord as error:
            told = f"{printable(domain, _LONGEST_TOLD)}: {error.detail}"
            raise BadRecord(detail=told) from error
        for mechanism in read.mechanisms:
            if await self._matches(mechanism, domain):
                told = mechanism.text[:_LONGEST_TOLD]
                return _Found(mechanism.outcome, told, domain, read.exp)
        if read.redirect:
            self._spend()
        target = await self._target(read.redirect, domain) if read.redirect else None
        if target is None:
            return _Found(Result.NEUTRAL, _DEFAULT, domain, read.exp)
        found = await self.evaluate(target)
        if found is None:
            raise BadRecord(detail=f"redirect to {printable(target)}, which has no SPF record")
        return found

    def _spend(self) -> None:
        if self.terms == MOST_TERMS:
            raise BadRecord(detail=f"more than {MOST_TERMS} terms ask DNS")
        self.terms += 1

    def _found_nothing(self) -> None:
        self._void += 1
        if self._void > MOST_VOID:
            raise BadRecord(detail=f"more than {MOST_VOID} terms ask DNS for what is not there")

    # --- mechanisms: RFC 7208 §5 -----------------------------------------------------------

    async def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        match mechanism.kind:
            case "all":
                return True
            case "ip4":
                return self._ip.version == 4 and self._within(mechanism, mechanism.network)
            case "ip6":
                return self._ip.version == 6 and self._within(mechanism, mechanism.network)
        self._spend()
        target = await self._target(mechanism.domain, domain) if mechanism.domain else domain
        if target is None:
            return False
        if mechanism.kind == "include":
            return await self._include(target)
        name = macros.dns_name(macros.shortened(target))
        if name is None:
            return False  # no such name can be: RFC 7208 §4.8 leaves it to us
        match mechanism.kind:
            case "a":
                return await self._a(mechanism, name)
            case "mx":
                return await self._mx(mechanism, name)
            case "ptr":
                return await self._ptr(name)
        return await self._exists(name)

    def _within(self, mechanism: Mechanism, network: int) -> bool:
        """Whether the client's first bits are those of `network`, which is cut to them."""
        if self._ip.version == 4:
            return self._number >> (32 - mechanism.bits4) == network
        return self._number >> (128 - mechanism.bits6) == network

    async def _addresses(self, name: str) -> list[int]:
        """Of the client's family."""
        kind = Kind.A if self._ip.version == 4 else Kind.AAAA
        answer = await self._lookup.query(name, kind)
        return [int(ip) for ip in answer.records if isinstance(ip, (IPv4Address, IPv6Address))]

    def _hit(self, mechanism: Mechanism, addresses: list[int]) -> bool:
        cut = 32 - mechanism.bits4 if self._ip.version == 4 else 128 - mechanism.bits6
        return any(self._within(mechanism, address >> cut) for address in addresses)

    async def _include(self, target: str) -> bool:
        found = await self.evaluate(target)
        if found is None:
            raise BadRecord(detail=f"include of {printable(target)}, which has no SPF record")
        return found.result is Result.PASS

    async def _a(self, mechanism: Mechanism, name: str) -> bool:
        addresses = await self._addresses(name)
        if not addresses:
            self._found_nothing()
        return self._hit(mechanism, addresses)

    async def _mx(self, mechanism: Mechanism, name: str) -> bool:
        answer = await self._lookup.query(name, Kind.MX)
        hosts = [mx.host for mx in answer.records if isinstance(mx, Mx)]
        if not hosts:
            self._found_nothing()
        if len(hosts) > MOST_MX:
            raise BadRecord(detail=f"{name} has more than {MOST_MX} mail exchangers")
        for host in hosts:
            if host != "." and self._hit(mechanism, await self._addresses(host)):
                return True
        return False

    async def _ptr(self, name: str) -> bool:
        return any(reverse.is_below(each, name) for each in await self._validated())

    async def _exists(self, name: str) -> bool:
        answer = await self._lookup.query(name, Kind.A)  # whatever the client's family
        if not answer.records:
            self._found_nothing()
        return bool(answer.records)

    async def _validated(self) -> tuple[str, ...]:
        """The client's own names. DNS errors make them fewer, never the check fail: §5.5."""
        if self._names is None:
            self._names = (await reverse.look_up(self._lookup, self._ip)).names
        return self._names

    # --- macros: RFC 7208 §7 ----------------------------------------------------------------

    async def _target(self, text: Text, domain: str) -> str | None:
        """The target-name. None if it is to be made of a local part that is not ASCII: such a
        term matches nothing. RFC 8616 §4.
        """
        if not self._local_ascii and macros.uses(text, "sl"):
            self.personal = True
            return None
        return macros.shortened(macros.expand(text, await self._meant(text, domain)))

    async def _meant(self, text: Text, domain: str) -> dict[str, str]:
        values = self._values | {"d": domain}
        self.personal = self.personal or macros.uses(text, "slht")
        if macros.uses(text, "p"):
            values["p"] = await self._own_name(domain)
        return values

    async def _own_name(self, domain: str) -> str:
        """The macro p: the domain itself, a name below it, any name, or `unknown`."""
        names = await self._validated()
        wanted = macros.dns_name(domain) or domain
        below = [name for name in names if reverse.is_below(name, wanted)]
        if wanted in below:
            return wanted
        return (below or [*names, "unknown"])[0]

    async def explain(self, found: _Found, deadline: float) -> str:
        """What the domain says about a fail; nothing if that cannot be learnt. RFC 7208 §6.2."""
        if found.result is not Result.FAIL or not found.exp:
            return ""
        try:
            async with asyncio.timeout_at(deadline):
                target = await self._target(found.exp, found.domain)
                name = macros.dns_name(target) if target is not None else None
                if name is None:
                    return ""
                texts = (await self._lookup.query(name, Kind.TXT)).records
                if len(texts) != 1 or not isinstance(texts[0], bytes) or not texts[0].isascii():
                    return ""
                said = texts[0].decode("ascii")
                text = macros.parse(said, macros.IN_TEXTS, blanks=True)
                values = await self._meant(text, found.domain)
        except (BadRecord, DnsFailed, TimeoutError):
            return ""
        values |= {
            "c": str(self._ip),
            "r": self._client.receiver,
            "t": str(self._client.now),
        }
        return printable(macros.expand(text, values), LONGEST_EXPLANATION)


def _dotted(ip: Ip) -> str:
    """The macro i: an IPv6 address as nibbles. RFC 7208 §7.3."""
    return str(ip) if ip.version == 4 else ".".join(f"{int(ip):032X}")
