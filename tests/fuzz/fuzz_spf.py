"""SPF records, explanations and senders: any octets end in one of seven results, in bounds."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from postroom.formats import headers
from postroom.net.dns import Answer, Kind, Mx, Record
from postroom.trust.spf import Client, Identity, Result, check_host, received_spf

SEEDS: list[bytes] = [
    b"v=spf1 +a:%{d}/24//64 ?MX ~ptr:b.example exists:%{ir}.%{v}.c.example -all",
    b"v=spf1 ip4:192.0.2.0/28 ip6:2001:db8::/32 include:%{d2}.example redirect=e.example",
    b"v=spf1 exists:%{l1r-+}.%{o}.%{h} mx/8 exp=%{s}.example -all",
    b"%{s} is not %{p}, said %{R} at %{t}: %{c} %% %_ %-",
    b"v=spf1 moo=%{D127R.-+,/_=} a:b.xn--zckzah -exists:%{L}.example ?all",
    b"ann@a.example\0v=spf1 redirect=%{h}",
]
TOKENS: list[bytes] = [
    *(b"v=spf1 ", b"include:", b"redirect=", b"exp=", b"exists:", b"ip4:", b"ip6:", b"ptr", b"mx"),
    *(b"%{d}", b"%{l1r-}", b"%{ir}", b"%{p}", b"%{h", b"}", b"/24", b"//64", b"-all", b"?", b"~"),
    *(b".example", b"192.0.2.1", b"2001:db8::1", b" "),
]
CLIENTS = (ip_address("192.0.2.1"), ip_address("2001:db8::1"))


class World:
    """Every name has these octets as its record, one address, one mail exchanger, one name."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.asked = 0

    async def query(self, name: str, kind: Kind) -> Answer[Record]:
        self.asked += 1
        assert 0 < len(name) <= 4 * 255 and name.isascii() and name.isprintable()
        records: tuple[Record, ...] = ()
        match kind:
            case Kind.TXT:
                records = (self.octets,)
            case Kind.A:
                records = (CLIENTS[0],)
            case Kind.MX:
                records = (Mx(0, "mx.example"), Mx(1, "."))
            case Kind.PTR:
                records = ("h.a.example",)
        return Answer(records, True, False, name, 60, 60.0)


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for octets, local, helo in (
        (data, "ann", "mail.example"),
        (b"v=spf1 exists:%{s}.%{h} include:%{l2r-}.%{o} -all exp=%{i}.x", text, text),
        (b"v=spf1 -all exp=%{d}" if b"v=spf1" in data else b"v=spf1 " + data, "ann", text),
    ):
        for ip in CLIENTS:
            world = World(octets)
            client = Client(ip, helo)
            found = asyncio.run(check_host(world, client, "a.example", local, Identity.MAIL_FROM))
            assert found.result in Result
            assert world.asked <= 1 + 10 * 3 + 2 + 1
            assert (found.mechanism + found.explanation + found.why + found.domain).isprintable()
            field = received_spf(found, client, None)
            assert len(headers.scan(field).fields) == 1
