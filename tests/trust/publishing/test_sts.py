"""The policy behind an MTA-STS record: each fault of it, and of its host, is one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import pytest

from postroom.core.clock import Instant, SystemClock
from postroom.net.certificates import self_signed
from postroom.net.egress import Egress
from postroom.net.fetch import Fetcher
from postroom.net.tls import server_context
from postroom.net.wheel import TimerWheel
from postroom.testing.dns import Fault, What
from postroom.trust import mta_sts
from postroom.trust.publishing import Finding, Severity, look
from tests.net.web import Web
from tests.trust.publishing.town import DOMAIN, HOST, Look, Town, town

STS, RECORD = f"mta-sts.{DOMAIN}", "v=STSv1; id=20260101T000000"
OWNER = f"_mta-sts.{DOMAIN}"
POLICY = f"version: STSv1\r\nmode: enforce\r\nmx: {HOST}\r\nmax_age: 604800\r\n"
DAYS = 86_400_000


def answer(
    body: str | bytes = POLICY, status: str = "200 OK", kind: str = "text/plain", more: str = ""
) -> bytes:
    octets = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(octets)}\r\n{more}"
    if kind:
        head += f"Content-Type: {kind}\r\n"
    return f"{head}\r\n".encode() + octets


def policy(old: str, new: str) -> bytes:
    assert old in POLICY
    return answer(POLICY.replace(old, new))


@dataclass(slots=True)
class Served:
    """A domain in order, with the web server of its policy."""

    town: Town
    web: Web
    look: Look
    wheel: TimerWheel
    allowed: str = "127.0.0.1/32"

    async def __call__(self) -> tuple[Finding, ...]:
        """What is found, each question asked anew."""
        egress = Egress(allow=(ip_network(self.allowed),))
        fetcher = Fetcher(
            self.look.lookup,
            egress,
            self.wheel,
            https_port=self.web.port,
            ca_file=self.web.ca_file,
        )
        return await look(self.look.lookup, self.town.facts, None, fetcher)


@asynccontextmanager
async def served(folder: Path, *, certificate: str = "") -> AsyncIterator[Served]:
    """`certificate`: what is wrong with it."""
    now = SystemClock().now()
    name = "www.example.org" if certificate == "mismatch" else STS
    then = Instant(now - 500 * DAYS) if certificate == "expired" else now
    chain, key = self_signed([name], then)
    (folder / "both.pem").write_bytes(chain + key)
    authority = self_signed([STS], now)[0] if certificate == "untrusted" else chain
    (folder / "ca.pem").write_bytes(authority)
    context = server_context(str(folder / "both.pem"))
    async with town() as (there, looking):
        wheel = TimerWheel(asyncio.get_running_loop(), tick=0.02)
        dns = looking.lookup
        made = Web(there.zones, None, dns, wheel, str(folder / "ca.pem"))  # type: ignore[arg-type]  # the town has its own DNS
        made.answer = answer()
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
        made.port = server.sockets[0].getsockname()[1]
        there.text(OWNER, RECORD)
        there.both(STS, "A", "127.0.0.1")
        try:
            yield Served(there, made, looking, wheel)
        finally:
            server.close()
            wheel.close()


def only(found: tuple[Finding, ...], code: str) -> Finding:
    assert [each.code for each in found] == [code], found
    (one,) = found
    assert one.sentence.endswith(".") and ", " in one.sentence
    assert len(one.sentence) < 300 and one.sentence.isprintable() and one.sentence.isascii()
    return one


async def test_a_policy_in_order_yields_no_finding_and_is_asked_for_once(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        assert await there() == ()
        (request,) = there.web.requests
    assert request.startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.example.org")


@pytest.mark.parametrize(
    ("told", "code", "severity"),
    (
        (answer("", "404 Not Found"), "sts-no-policy", Severity.WARNING),
        (answer(POLICY, "500 Oh"), "sts-no-policy", Severity.WARNING),
        (
            answer("", "301 Moved", more=f"Location: https://{STS}/x\r\n"),
            "sts-redirect",
            Severity.WARNING,
        ),
        (answer(kind="text/html; charset=utf-8"), "sts-type", Severity.WARNING),
        (answer(kind="text/plain\x7fx" * 30), "sts-type", Severity.WARNING),
        (answer(kind=""), "sts-type", Severity.WARNING),
        (answer("x" * (mta_sts.LARGEST + 1)), "sts-too-large", Severity.WARNING),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "sts-too-large", Severity.WARNING),
        (b"220 ready\r\n", "sts-answer", Severity.WARNING),
        (b"", "sts-answer", Severity.WARNING),
        (answer()[:-20], "sts-answer", Severity.WARNING),
        (policy("STSv1", "STSv9"), "sts-policy", Severity.WARNING),
        (policy("enforce", "\x1b[31m" * 50), "sts-policy", Severity.WARNING),
        (policy("enforce", "z" * 9_000), "sts-policy", Severity.WARNING),
        (answer(b"\xff\xfe"), "sts-policy", Severity.WARNING),
        (answer(""), "sts-policy", Severity.WARNING),
        (policy(HOST, "mx.example.net"), "sts-mx", Severity.ERROR),
        (policy(HOST, f"*.{HOST}"), "sts-mx", Severity.ERROR),
        (policy("604800", "3600"), "sts-max-age", Severity.WARNING),
        (policy("enforce", "none"), "sts-none", Severity.ADVICE),
        (policy("enforce", "testing"), "sts-testing", Severity.ADVICE),
    ),
)
async def test_one_fault_of_the_policy_yields_its_one_sentence(
    tmp_path: Path, told: bytes, code: str, severity: Severity
) -> None:
    async with served(tmp_path) as there:
        there.web.answer = told
        found = only(await there(), code)
    assert found.severity is severity and found.owner == STS


@pytest.mark.parametrize(
    ("certificate", "said"),
    (
        ("mismatch", "is for another name"),
        ("expired", "has expired"),
        ("untrusted", "is from nobody whom others trust"),
    ),
)
async def test_a_certificate_that_is_not_good_is_told(
    tmp_path: Path, certificate: str, said: str
) -> None:
    async with served(tmp_path, certificate=certificate) as there:
        found = only(await there(), "sts-certificate")
        assert not there.web.requests
    assert found.sentence.startswith(f"The certificate of {STS} {said}, so ")


async def test_a_host_that_nobody_reaches_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        there.town.both(STS, "A", "127.0.0.3")
        there.allowed = "127.0.0.0/8"
        only(await there(), "sts-unreachable")


async def test_a_host_in_a_private_network_is_told_and_not_asked(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        there.allowed = "192.0.2.0/24"
        only(await there(), "sts-private")
        assert not there.web.connections


async def test_one_who_never_ends_his_answer_takes_no_longer_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mta_sts, "SECONDS", 0.5)

    async def dripping(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with served(tmp_path) as there, asyncio.timeout(20):
        there.web.answering = dripping
        only(await there(), "sts-unreachable")


async def test_a_policy_of_which_no_record_tells_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        there.town.text(OWNER)
        assert only(await there(), "sts-no-record").severity is Severity.WARNING


@pytest.mark.parametrize(
    "told", (policy("enforce", "none"), answer("hello"), answer("", "404 Not Found"))
)
async def test_without_a_record_anything_else_there_is_nobodys_business(
    tmp_path: Path, told: bytes
) -> None:
    async with served(tmp_path) as there:
        there.town.text(OWNER)
        there.web.answer = told
        assert await there() == ()


@pytest.mark.parametrize("texts", ((RECORD + "; x",), (RECORD, RECORD + "1"), ("v=STSv1",)))
async def test_a_record_that_is_wrong_is_told_without_a_fetch(
    tmp_path: Path, texts: tuple[str, ...]
) -> None:
    async with served(tmp_path) as there:
        there.town.text(OWNER, *texts)
        only(await there(), "sts-syntax")
        assert not there.web.connections


async def test_exchangers_that_are_wrong_themselves_are_not_told_twice(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        there.town.both(DOMAIN, "MX", "10 mx.example.net.")
        there.town.zones.host("mx.example.net", "192.0.2.9")
        assert [each.code for each in await there()] == ["mx-elsewhere"]


async def test_each_exchanger_has_to_be_named(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        there.town.both(DOMAIN, "MX", f"10 {HOST}.", "20 mx.example.net.")
        there.town.zones.host("mx.example.net", "192.0.2.9")
        found = only(await there(), "sts-mx")
        assert "does not name its MX mx.example.net, so senders" in found.sentence
        there.web.answer = policy(f"mx: {HOST}", f"mx: {HOST}\r\nmx: *.example.net")
        assert await there() == ()


async def test_several_faults_of_a_test_are_several_sentences(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        body = (
            POLICY.replace("enforce", "testing").replace("604800", "1").replace(HOST, "x.example")
        )
        there.web.answer = answer(body)
        found = await there()
    assert [(each.code, each.severity) for each in found] == [
        ("sts-mx", Severity.WARNING),
        ("sts-testing", Severity.ADVICE),
        ("sts-max-age", Severity.WARNING),
    ]


async def test_dns_that_does_not_tell_the_host_is_one_finding(tmp_path: Path) -> None:
    async with served(tmp_path) as there:
        there.town.zones.fault(STS, "A", Fault(What.SERVFAIL))
        assert [each.code for each in await there()] == ["dns-servfail"]
