"""What an exchanger shows to who calls: each fault of it is one sentence."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from postroom.core.clock import Instant, SystemClock
from postroom.net.certificates import self_signed
from postroom.net.egress import Egress
from postroom.net.smtp import Timeouts
from postroom.net.tls import client_context, server_context
from postroom.net.wheel import TimerWheel
from postroom.testing.dns import Fault, What
from postroom.trust.publishing import Caller, Finding, Severity, Shown, Visit, look, look_at_host
from postroom.trust.publishing.facts import Ip
from tests.trust.publishing.town import DOMAIN, HOST, Look, Town, town

LOOPBACK = ip_address("127.0.0.1")
OTHER = "mx2.example.net"
DAY = 86_400_000
QUICK = Timeouts(connect=1, tls=1, greeting=0.5, hello=0.5, quit=0.2)


@dataclass(slots=True)
class Exchanger:
    """An SMTP server that says what a test wants said, and what others see of it."""

    town: Town
    look: Look
    caller: Caller
    greeting: bytes = b"220 mx ESMTP\r\n"
    offers: bytes = b"250-mx\r\n250 STARTTLS\r\n"
    context: ssl.SSLContext | None = None
    now: Instant = Instant(0)
    calls: list[tuple[str, Ip]] = field(default_factory=list)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def speak(self, host: str, ip: Ip) -> Shown:
        """To whichever address DNS has: the server is on loopback."""
        self.calls.append((host, ip))
        return await self.caller(host, LOOPBACK)

    async def __call__(self) -> tuple[Finding, ...]:
        """All that is found, of two domains that share their exchangers."""
        visit = Visit(self.speak, self.now)
        lookup, facts = self.look.lookup, self.town.facts
        try:
            return (
                *await look_at_host(lookup, facts.host, validating=True, visit=visit),
                *await look(lookup, facts, visit=visit),
                *await look(lookup, facts, visit=visit),
            )
        finally:
            await visit.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            writer.write(self.greeting)
            while line := await reader.readline():
                if line.startswith(b"EHLO"):
                    writer.write(self.offers)
                elif line.startswith(b"STARTTLS"):
                    writer.write(b"220 go\r\n")
                    if self.context is None:
                        writer.write(b"this is no TLS\r\n")
                    else:
                        await writer.start_tls(self.context)
                else:
                    writer.write(b"221 bye\r\n")
                    break
        except (OSError, ssl.SSLError):
            pass  # who called has seen enough
        finally:
            self.writers.discard(writer)
            writer.close()


def certificate(folder: Path, name: str, at: Instant) -> tuple[Path, Path]:
    """The files of a certificate for a name, made at that time, and of its key."""
    files = folder / f"{name}.{at}.pem", folder / f"{name}.{at}.key"
    for path, octets in zip(files, self_signed([name], at), strict=True):
        path.write_bytes(octets)
    return files


@asynccontextmanager
async def exchanger(
    folder: Path, *, name: str = HOST, made: int = 0, trusted: bool = True
) -> AsyncIterator[Exchanger]:
    """An exchanger with a certificate that is so many days old, and whom its callers trust."""
    now = SystemClock().now()
    file, key = certificate(folder, name, Instant(now - made * DAY))
    wheel = TimerWheel(asyncio.get_running_loop())
    trust = client_context(verify=True, ca_file=str(file) if trusted else None)
    async with town() as (there, looking):
        caller = Caller(
            "client.example.net",
            wheel,
            client_context(verify=False),
            trust,
            Egress(allow=(ip_network("127.0.0.1/32"),)),
            timeouts=QUICK,
        )
        told = Exchanger(there, looking, caller, now=now)
        told.context = server_context(str(file), str(key))
        # The key of the zone is another one: what DNS alone says of it is tested elsewhere.
        there.host(tls_keys=())
        there.both(f"_25._tcp.{HOST}", "TLSA")
        server = await asyncio.start_server(told.serve, "127.0.0.1", 0)
        object.__setattr__(caller, "port", server.sockets[0].getsockname()[1])
        try:
            yield told
        finally:
            server.close()
            for writer in tuple(told.writers):
                writer.close()
            await server.wait_closed()
            wheel.close()


def only(found: tuple[Finding, ...], code: str) -> Finding:
    assert [each.code for each in found] == [code]
    return found[0]


def spki(folder: Path) -> bytes:
    """The SHA-256 of the public key in the one certificate there."""
    (file,) = folder.glob("*.pem")
    key = x509.load_pem_x509_certificate(file.read_bytes()).public_key()
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).digest()


async def test_an_exchanger_in_order_is_called_once_and_nothing_is_said(tmp_path: Path) -> None:
    async with exchanger(tmp_path) as mx:
        assert await mx() == ()
        assert len(mx.calls) == 1  # for its name, and for two domains


@pytest.mark.parametrize(
    ("how", "said"),
    (
        ({"name": OTHER}, "is for another name"),
        ({"made": 500}, "has expired"),
        ({"trusted": False}, "is from nobody whom others trust"),
    ),
)
async def test_a_certificate_that_is_not_good_is_told(
    tmp_path: Path, how: dict[str, object], said: str
) -> None:
    async with exchanger(tmp_path, **how) as mx:  # type: ignore[arg-type]  # names of arguments
        found = only(await mx(), "mx-certificate")
    assert found.severity is Severity.WARNING
    assert found.sentence == (
        f"The certificate that {HOST} shows {said}, so senders that heed MTA-STS, or ask for a "
        f"good one, bring no mail to {HOST}."
    )


async def test_a_certificate_that_ends_soon_is_told(tmp_path: Path) -> None:
    async with exchanger(tmp_path, made=390) as mx:
        found = only(await mx(), "mx-certificate-ends")
    assert " ends in 6 days and was not renewed" in found.sentence


async def test_one_that_offers_no_tls_is_told(tmp_path: Path) -> None:
    async with exchanger(tmp_path) as mx:
        mx.offers = b"250 mx\r\n"
        assert "offers no TLS" in only(await mx(), "mx-no-tls").sentence


async def test_one_whose_tls_is_none_is_told(tmp_path: Path) -> None:
    async with exchanger(tmp_path) as mx:
        mx.context = None
        assert only(await mx(), "mx-tls").severity is Severity.ERROR


@pytest.mark.parametrize("greeting", (b"554 go away\r\n", b"", b"220 " + b"x" * 100_000))
async def test_one_with_whom_nobody_can_speak_is_told(tmp_path: Path, greeting: bytes) -> None:
    async with exchanger(tmp_path) as mx, asyncio.timeout(20):
        mx.greeting = greeting
        found = only(await mx(), "mx-unreachable")
    assert len(found.sentence) < 300


async def test_where_mail_may_not_go_nobody_is_called(tmp_path: Path) -> None:
    async with exchanger(tmp_path) as mx:
        object.__setattr__(mx.caller, "egress", Egress())
        assert "127.0.0.1 is an address to which no mail is sent" in (
            only(await mx(), "mx-unreachable").sentence
        )


async def test_another_exchanger_of_a_domain_is_looked_at_with_it(tmp_path: Path) -> None:
    async with exchanger(tmp_path) as mx:
        mx.town.both(DOMAIN, "MX", f"10 {HOST}.", f"20 {OTHER}.")
        mx.town.zones.host(OTHER, "192.0.2.9")
        found = [each for each in await mx() if each.code == "mx-certificate"]
    assert len(mx.calls) == 2
    assert len({each.sentence for each in found}) == 1  # once for each of the two domains
    assert found[0].owner == OTHER and found[0].sentence.endswith(f"bring no mail to {DOMAIN}.")


@pytest.mark.parametrize(
    ("usage", "right", "codes"),
    ((3, True, []), (3, False, ["mx-tlsa"]), (2, True, ["mx-tlsa"]), (1, False, [])),
)
async def test_tlsa_records_are_compared_with_what_is_shown(
    tmp_path: Path, usage: int, right: bool, codes: list[str]
) -> None:
    """DANE-EE is of the host's own certificate, DANE-TA of one above; others say nothing of SMTP:
    RFC 7672 §3.1."""
    async with exchanger(tmp_path) as mx:
        digest = spki(tmp_path) if right else b"\x07" * 32
        mx.town.both(f"_25._tcp.{HOST}", "TLSA", f"{usage} 1 1 {digest.hex()}")
        found = await mx()
    assert [each.code for each in found] == codes
    assert all(each.severity is Severity.ERROR for each in found)


async def test_tlsa_records_for_which_nobody_vouches_here_are_compared_too(tmp_path: Path) -> None:
    """Whether the zone is signed, a resolver that does not validate cannot tell."""
    async with exchanger(tmp_path) as mx:
        mx.town.both(DOMAIN, "MX", f"10 {HOST}.", f"20 {OTHER}.")
        mx.town.zones.host(OTHER, "192.0.2.9")
        mx.town.zones.add(f"_25._tcp.{OTHER}", "TLSA", f"3 1 1 {'07' * 32}")
        told = {each for each in await mx() if each.kind == "TLSA"}
    (found,) = told
    assert (found.code, found.severity) == ("mx-tlsa", Severity.WARNING)
    assert found.sentence.endswith(
        f"so servers that check DANE bring no mail to {DOMAIN} if that zone is signed."
    )


async def test_a_silent_zone_of_one_exchanger_is_told_by_its_name(tmp_path: Path) -> None:
    """And the others are looked at all the same."""
    third = "mx3.example.com"
    async with exchanger(tmp_path) as mx:
        mx.town.both(DOMAIN, "MX", f"10 {HOST}.", f"20 {OTHER}.", f"30 {third}.")
        for name in (OTHER, third):
            mx.town.zones.host(name, "192.0.2.9")
        mx.town.zones.fault(f"_25._tcp.{OTHER}", "TLSA", Fault(What.SERVFAIL))
        found = {(each.code, each.owner) for each in await mx()}
    assert found == {("dns-servfail", f"_25._tcp.{OTHER}"), ("mx-certificate", third)}


@pytest.mark.parametrize("right", (True, False))
async def test_dane_ta_is_compared_with_who_signed(tmp_path: Path, right: bool) -> None:
    async with exchanger(tmp_path) as mx:
        files, digest = issued(tmp_path, HOST, mx.now)
        mx.context = server_context(*files)
        data = digest if right else b"\x07" * 32
        mx.town.both(f"_25._tcp.{HOST}", "TLSA", f"2 0 1 {data.hex()}")
        codes = [each.code for each in await mx()]
    assert codes == (["mx-certificate"] if right else ["mx-tlsa"])  # no public authority


def issued(folder: Path, name: str, at: Instant) -> tuple[tuple[str, str], bytes]:
    """Files of a chain of two and of its key, and the SHA-256 of who signed."""
    begins = datetime.fromtimestamp(at // 1000, UTC) - timedelta(days=1)
    made, above = [], None
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    for subject, key in zip(("Authority", name), keys, strict=True):
        called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        built = (
            x509.CertificateBuilder()
            .subject_name(called)
            .issuer_name(above or called)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=above is None, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        )
        made.append(built.sign(keys[0], hashes.SHA256()))
        above = called
    files = str(folder / "chain.pem"), str(folder / "chain.key")
    pem = (each.public_bytes(Encoding.PEM) for each in reversed(made))
    Path(files[0]).write_bytes(b"".join(pem))
    Path(files[1]).write_bytes(
        keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return files, made[0].fingerprint(hashes.SHA256())
