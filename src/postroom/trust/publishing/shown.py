"""What a mail exchanger shows to who asks for TLS: whether others would deliver to it.

DNS may be in order and the certificate that the host shows another one: of a machine that was
moved, of a renewal that failed. It is spoken to as a sender does, and nothing is sent.
RFC 3207, RFC 8461 §4.1, RFC 7672 §3.1.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from postroom.core.clock import Instant
from postroom.core.errors import CertificateRefused, DnsFailed
from postroom.formats.compose import printable
from postroom.net.dns import Kind, Mx, Tlsa
from postroom.net.egress import Egress
from postroom.net.smtp import OpenFailed, Phase, SmtpChannel, Target, Timeouts, TlsMode, TlsWish
from postroom.net.wheel import TimerWheel
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import asking
from postroom.trust.publishing.facts import DomainFacts, Ip
from postroom.trust.publishing.finding import Finding, error, warning

PATIENCE: Final = Timeouts(connect=5, tls=10, greeting=10, hello=10, quit=1)
"""Nobody who asks for a check waits for five minutes."""
MOST: Final = 5
"""Exchangers of one domain that are visited."""
SOON: Final = 14
"""Days before its end in which a certificate ought to have been renewed."""
_DAY: Final = 86_400_000
_KIND: Final = "port 25"
_CERTIFICATE: Final = {
    "certificate-expired": "has expired",
    "certificate-host-mismatch": "is for another name",
    "certificate-not-trusted": "is from nobody whom others trust",
}
"""By the words of RFC 8460 §4.3."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What one saw at an exchanger."""

    unreached: str = ""  # why nobody could speak to it
    tls: bool = True  # it offers TLS
    broken: str = ""  # why the handshake fails, whoever it is
    refused: str = ""  # what is wrong with the certificate: a word of RFC 8460 §4.3
    chain: tuple[bytes, ...] = ()  # DER, its own first


Speak: TypeAlias = Callable[[str, Ip], Coroutine[Any, Any, Shown]]
"""Speaks to the host of that name at that address. Raises nothing for what it does."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Speaks to exchangers as a sender does: a `Speak`."""

    hello: str
    wheel: TimerWheel
    anybody: ssl.SSLContext  # verifies nothing
    trusted: ssl.SSLContext
    egress: Egress
    port: int = 25
    timeouts: Timeouts = PATIENCE

    async def __call__(self, host: str, ip: Ip) -> Shown:
        if not self.egress.permits_mail(ip):
            return Shown(f"{ip} is an address to which no mail is sent from here")
        try:
            channel = await self._open(host, ip, TlsWish(TlsMode.VERIFY, self.trusted, host))
        except OpenFailed as failed:
            if failed.phase is Phase.STARTTLS and failed.reason is None:
                return Shown(tls=False)  # not offered, or refused
            if failed.phase in (Phase.STARTTLS, Phase.TLS):
                return await self._without_trust(host, ip, failed)
            return Shown(printable(str(failed.answer), 100).rstrip("."))
        await channel.quit()
        tls = channel.facts.tls
        return Shown(chain=tls.chain if tls is not None else ())

    async def _without_trust(self, host: str, ip: Ip, failed: OpenFailed) -> Shown:
        """The same for a sender who takes any certificate: what is left is wrong for all."""
        try:
            channel = await self._open(host, ip, TlsWish(TlsMode.MUST, self.anybody, host))
        except OpenFailed as again:
            return Shown(broken=printable(str(again.answer), 100).rstrip("."))
        await channel.quit()
        tls, why = channel.facts.tls, failed.reason
        refused = why.result if isinstance(why, CertificateRefused) else ""
        return Shown(refused=refused, chain=tls.chain if tls is not None else ())

    async def _open(self, host: str, ip: Ip, wish: TlsWish) -> SmtpChannel:
        target = Target(host, ip, self.port)
        return await SmtpChannel.open(
            target, hello=self.hello, wheel=self.wheel, tls=wish, timeouts=self.timeouts
        )


# --- what follows -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Visit:
    """Visits to exchangers, of which each is spoken to once. `now` is when."""

    speak: Speak
    now: Instant
    _seen: dict[tuple[str, Ip], asyncio.Task[Shown]] = field(default_factory=dict)

    async def check(
        self, lookup: Lookup, host: str, whom: str, *, dane: bool = True
    ) -> list[Finding]:
        """What is wrong with what a host shows; `whom`: to what no mail comes then. `dane`: its
        TLSA records are compared. Raises DnsFailed."""
        return await _check(lookup, host, self._once, self.now, whom=whom, dane=dane)

    async def others(self, lookup: Lookup, facts: DomainFacts) -> list[Finding]:
        """The same of a domain's exchangers but this server; where DNS is silent about one, the
        others are looked at. Raises DnsFailed."""
        held = await asking.ask(lookup, facts.name, Kind.MX, Mx)
        hosts = sorted({each.host for each in held} - {facts.host.name, "."})[:MOST]
        found = await asyncio.gather(*(self._other(lookup, each, facts.name) for each in hosts))
        return [finding for of_one in found for finding in of_one]

    async def _other(self, lookup: Lookup, host: str, whom: str) -> list[Finding]:
        try:
            return await self.check(lookup, host, whom)
        except DnsFailed as failed:
            return [asking.unanswered(_tlsa_of(host), "TLSA", failed)]  # its addresses were found

    async def _once(self, host: str, ip: Ip) -> Shown:
        task = self._seen.get((host, ip))
        if task is None:
            speaking = self.speak(host, ip)
            task = self._seen[host, ip] = asyncio.ensure_future(speaking)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what nobody waits for any more."""
        for task in self._seen.values():
            task.cancel()
        await asyncio.gather(*self._seen.values(), return_exceptions=True)


async def _check(
    lookup: Lookup, host: str, speak: Speak, now: Instant, *, whom: str, dane: bool
) -> list[Finding]:
    ips = await asking.addresses(lookup, host)
    if not ips:
        return []  # that was told
    # IPv6 may not lead out of here; whoever sends us mail mostly has both.
    ip = next((each for each in ips if isinstance(each, IPv4Address)), ips[0])
    shown = await speak(host, ip)
    if shown.unreached:
        said = (
            f"{host} cannot be reached on port 25 from here ({shown.unreached}), so others may not "
            f"bring mail to {whom} either."
        )
        remedy = "See whether a firewall or the provider closes port 25, and try from elsewhere."
        return [warning("mx-unreachable", host, _KIND, said, remedy)]
    if not shown.tls:
        said = (
            f"{host} offers no TLS (STARTTLS), so mail to {whom} can be read on its way, and "
            "senders that insist on TLS bring none."
        )
        return [warning("mx-no-tls", host, _KIND, said, f"Give {host} a certificate.")]
    if shown.broken:
        said = (
            f"TLS with {host} fails ({shown.broken}), so mail to {whom} comes in the clear or not "
            "at all."
        )
        return [error("mx-tls", host, _KIND, said)]
    found = await _dane(lookup, host, shown.chain, whom) if dane else []
    return found or _certificate(host, shown, now, whom)


def _certificate(host: str, shown: Shown, now: Instant, whom: str) -> list[Finding]:
    if shown.refused:
        how = _CERTIFICATE.get(shown.refused, "is not good")
        said = (
            f"The certificate that {host} shows {how}, so senders that heed MTA-STS, or ask for a "
            f"good one, bring no mail to {whom}."
        )
        remedy = f"Give {host} a certificate for that name from a public authority."
        return [warning("mx-certificate", host, _KIND, said, remedy)]
    ends = _ends(shown.chain)
    days = (ends - now) // _DAY if ends is not None else SOON
    if days >= SOON:
        return []
    when = "today" if days < 1 else f"in {days} days" if days > 1 else "tomorrow"
    said = (
        f"The certificate that {host} shows ends {when} and was not renewed, and after that "
        f"senders that heed MTA-STS bring no mail to {whom}."
    )
    return [warning("mx-certificate-ends", host, _KIND, said, f"Renew the certificate of {host}.")]


def _ends(chain: Sequence[bytes]) -> int | None:
    """Milliseconds since 1970 at which the host's own certificate ends."""
    if not chain:
        return None
    try:
        ends = x509.load_der_x509_certificate(chain[0]).not_valid_after_utc
    except ValueError:
        return None
    return int(ends.timestamp() * 1000)


async def _dane(lookup: Lookup, host: str, chain: Sequence[bytes], whom: str) -> list[Finding]:
    """Whether TLSA records match what is shown. RFC 7672 §3.1.

    Senders heed those of signed zones; a resolver that does not validate cannot tell which are.
    """
    owner = _tlsa_of(host)
    answer = await lookup.query(owner, Kind.TLSA)
    held = [each for each in answer.records if isinstance(each, Tlsa)]
    usable = [each for each in held if each.usage in (2, 3) and each.matching in (0, 1, 2)]
    if not usable or not chain:
        return []
    if await asyncio.to_thread(_any_matches, usable, chain):
        return []
    said = (
        f"The TLSA records of {host} match nothing of the certificate that it shows, so servers "
        f"that check DANE bring no mail to {whom}"
    )
    remedy = "Publish the key that is shown, before the old one goes."
    if answer.secure:
        return [error("mx-tlsa", owner, "TLSA", f"{said}.", remedy)]
    return [warning("mx-tlsa", owner, "TLSA", f"{said} if that zone is signed.", remedy)]


def _tlsa_of(host: str) -> str:
    """Where the TLSA records of an exchanger are. RFC 7672 §2.2.3."""
    return f"_25._tcp.{host}"


def _any_matches(records: Sequence[Tlsa], chain: Sequence[bytes]) -> bool:
    """DANE-EE speaks of the host's own certificate, DANE-TA of one above it. RFC 7671 §5."""
    for record in records:
        for certificate in chain[:1] if record.usage == 3 else chain[1:]:
            if _digest(record, certificate) == record.data:
                return True
    return False


def _digest(record: Tlsa, certificate: bytes) -> bytes:
    """RFC 6698 §2.1.2, §2.1.3."""
    octets = certificate
    if record.selector == 1:
        try:
            key = x509.load_der_x509_certificate(certificate).public_key()
        except ValueError:
            return b""
        octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if record.matching == 0:
        return octets
    return (hashlib.sha256 if record.matching == 1 else hashlib.sha512)(octets).digest()
