"""Updates as a name server sees them: signed, one set each, and nothing replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update
import pytest

from postroom.core.errors import DnsFailed, Malformed
from postroom.domain import signing
from postroom.net.dns.update import read_key
from postroom.testing.dns import Zones
from tests.admin.housing import Admin

SECRET = "c2VjcmV0IG9mIHR3byBzZXJ2ZXJz"
KEY = f'key "ours" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'
OTHER = KEY.replace(SECRET, "b3RoZXIgc2VjcmV0IG9mIG90aGVycw==")
KEYS = dns.tsigkeyring.from_text({"ours": ("hmac-sha256", SECRET)})
DOMAIN = "example.org"


@dataclass(slots=True)
class NameServer:
    """Serves zones over TCP and UDP, and takes signed updates of them."""

    zones: Zones
    port: int = 0
    updates: list[dns.update.UpdateMessage] = field(default_factory=list)

    def answer(self, octets: bytes) -> bytes:
        try:
            asked = dns.message.from_wire(octets, keyring=KEYS)
        except dns.exception.DNSException:
            asked = dns.message.from_wire(octets, keyring=False)
            refused = dns.message.make_response(asked)
            refused.set_rcode(dns.rcode.NOTAUTH)
            return refused.to_wire()
        reply = dns.message.make_response(asked)
        if isinstance(asked, dns.update.UpdateMessage):
            reply.set_rcode(self.update(asked))
            return reply.to_wire()
        question = asked.question[0]
        found = self.zones.look_up(question.name.canonicalize(), question.rdtype)
        reply.flags |= dns.flags.AA
        reply.set_rcode(found.rcode)
        reply.answer, reply.authority = list(found.answer), list(found.authority)
        return reply.to_wire()

    def update(self, asked: dns.update.UpdateMessage) -> dns.rcode.Rcode:
        """RFC 2136 §3, as far as it is used here."""
        self.updates.append(asked)
        if not asked.had_tsig:
            return dns.rcode.REFUSED
        for wanted in asked.prerequisite:
            assert wanted.rdclass == dns.rdataclass.IN and wanted.deleting is not None
            if self.zones.look_up(wanted.name, wanted.rdtype).answer:
                return dns.rcode.YXRRSET
        for rrset in asked.update:
            for rdata in rrset:
                kind = dns.rdatatype.to_text(rrset.rdtype)
                self.zones.add(rrset.name.to_text(), kind, rdata.to_text(), ttl=rrset.ttl)
        return dns.rcode.NOERROR


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self.server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is no subclass

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(self.server.answer(data), addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    made = NameServer(Zones())
    made.zones.load("@ IN SOA ns.example.net. h.example.net. 1 7200 900 1209600 300", DOMAIN)

    async def line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2))
        octets = made.answer(await reader.readexactly(size))
        writer.write(len(octets).to_bytes(2) + octets)
        await writer.drain()
        writer.close()

    tcp = await asyncio.start_server(line, "127.0.0.1", 0)
    made.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Udp(made), local_addr=("127.0.0.1", made.port)
    )
    try:
        yield made
    finally:
        udp.close()
        tcp.close()


async def ready(admin: Admin) -> None:
    await admin.do("settings set", name="server.hostname", value="mail.example.org")
    await admin.do("settings set", name="dns.addresses", value="192.0.2.1")
    await admin.do("dkim key create", domain=DOMAIN, kind="rsa", selector="s")


async def test_what_is_missing_is_published_and_the_rest_left_alone(admin: Admin) -> None:
    await ready(admin)
    async with name_server() as there:
        there.zones.text(DOMAIN, "site-verification=1")
        asked = {"domain": DOMAIN, "server": f"127.0.0.1:{there.port}", "key_file": KEY}
        dry = await admin.json("dns update", **asked)
        assert there.updates == []
        assert [(each.name, each.type, each.did) for each in dry.sets] == [
            (DOMAIN, "MX", "would be added"),
            (DOMAIN, "TXT", "there already"),
            (f"s._domainkey.{DOMAIN}", "TXT", "would be added"),
            (f"_dmarc.{DOMAIN}", "TXT", "would be added"),
            ("mail.example.org", "A", "would be added"),
            ("mail.example.org", "TXT", "would be added"),
        ]
        assert dry.told().endswith("5 sets of records would be added: --apply does it.")
        done = await admin.do("dns update", apply=True, **asked)
        assert [each.did for each in done.sets].count("added") == 5 and not done.problems
        again = await admin.do("dns update", apply=True, **asked)
        assert {each.did for each in again.sets} == {"there already"}
        assert len(there.updates) == 5
        found = there.zones.look_up(dns.name.from_text(f"s._domainkey.{DOMAIN}"), dns.rdatatype.TXT)
        (record,) = [key.record for key in await _keys(admin)]
        assert "".join(found.answer[0][0].to_text().split('"')[1::2]) == record
        kept = there.zones.look_up(dns.name.from_text(DOMAIN), dns.rdatatype.TXT)
        assert [each.to_text() for each in kept.answer[0]] == ['"site-verification=1"']


async def _keys(admin: Admin) -> list[signing.SigningKey]:
    return list(await admin.house.flow.mail.read(signing.of_domain, DOMAIN))


async def test_a_server_that_refuses_is_told_for_each_set(admin: Admin) -> None:
    await ready(admin)
    async with name_server() as there:
        done = await admin.do(
            "dns update", domain=DOMAIN, server=f"127.0.0.1:{there.port}", apply=True
        )
    assert len(done.problems) == 6 and "REFUSED" in done.problems[0]


async def test_a_server_that_does_not_know_the_key_publishes_nothing(admin: Admin) -> None:
    await ready(admin)
    async with name_server() as there:
        with pytest.raises(DnsFailed, match="took no update"):
            await admin.do(
                "dns update",
                domain=DOMAIN,
                server=f"127.0.0.1:{there.port}",
                key_file=OTHER,
                apply=True,
            )
        assert there.updates == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        KEY.replace("hmac-sha256", "hmac-md5"),
        KEY.replace(SECRET, "c2"),
        KEY.replace("secret", "secrets"),
        "key x {" * 2_000,
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        read_key(text)


def test_a_key_keeps_its_secret() -> None:
    assert SECRET not in repr(read_key(KEY))
