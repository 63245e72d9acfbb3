"""The small internet's DNS, asked by dnspython's own client."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from postroom.testing.dns import ANY, DnsServer, Fault, What, Zones


@pytest.fixture
def zones() -> Zones:
    made = Zones()
    made.zone("a.example", secure=True, minimum=60)
    made.add("a.example", "MX", "10 mx1.a.example")
    made.host("mx1.a.example", "192.0.2.1", "2001:db8::1")
    return made


def ask(
    server: DnsServer, name: str, kind: str, *, tcp: bool = False, flags: int = dns.flags.AD
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
    query.flags |= flags
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, server.ip, port=server.port, timeout=5)


def told(reply: dns.message.Message) -> list[str]:
    """The answer section; in lower case, for names are compressed onto the question's."""
    return sorted(line for rrset in reply.answer for line in rrset.to_text().lower().splitlines())


def test_it_answers_over_udp_and_tcp(zones: Zones) -> None:
    with DnsServer(zones) as server:
        for tcp in (False, True):
            reply = ask(server, "A.example", "MX", tcp=tcp)
            assert told(reply) == ["a.example. 300 in mx 10 mx1.a.example."]
            assert reply.rcode() == dns.rcode.NOERROR and reply.flags & dns.flags.RA
        first, second = server.asked
        assert (first.transport, second.transport) == ("udp", "tcp")
        assert (first.name, first.spelling, first.kind) == ("a.example", "A.example", "MX")
        assert (first.payload, first.wants_ad, first.dnssec_ok) == (1232, True, False)
        assert server.questions("a.example.", "MX") == [first, second]
        assert not server.questions("a.example", "A")


def test_hosts_have_names_both_ways(zones: Zones) -> None:
    with DnsServer(zones) as server:
        assert told(ask(server, "mx1.a.example", "AAAA")) == [
            "mx1.a.example. 300 in aaaa 2001:db8::1"
        ]
        reverse = ask(server, "1.2.0.192.in-addr.arpa", "PTR")
        assert told(reverse) == ["1.2.0.192.in-addr.arpa. 300 in ptr mx1.a.example."]


def test_denials_come_with_the_soa_of_their_zone(zones: Zones) -> None:
    with DnsServer(zones) as server:
        for name, rcode, apex in (
            ("no.a.example", dns.rcode.NXDOMAIN, "a.example."),
            ("mx1.a.example", dns.rcode.NOERROR, "a.example."),
            ("example", dns.rcode.NOERROR, "."),  # exists through what is below it
            ("elsewhere.test", dns.rcode.NXDOMAIN, "."),
        ):
            reply = ask(server, name, "TXT")
            assert (reply.rcode(), reply.answer) == (rcode, [])
            (soa,) = reply.authority
            assert (soa.name.to_text(), soa.rdtype) == (apex, dns.rdatatype.SOA)


def test_ad_is_for_secure_zones_and_for_those_who_ask(zones: Zones) -> None:
    zones.add("to.b.example", "CNAME", "mx1.a.example")
    with DnsServer(zones) as server:
        assert ask(server, "a.example", "MX").flags & dns.flags.AD
        assert ask(server, "no.a.example", "MX").flags & dns.flags.AD
        assert not ask(server, "a.example", "MX", flags=0).flags & dns.flags.AD
        assert not ask(server, "b.example", "MX").flags & dns.flags.AD
        assert not ask(server, "to.b.example", "A").flags & dns.flags.AD
        zones.zone("a.example", secure=False)
        assert not ask(server, "a.example", "MX").flags & dns.flags.AD


def test_cnames_are_followed_and_circles_end(zones: Zones) -> None:
    zones.add("www.a.example", "CNAME", "mx1.a.example")
    zones.add("x.a.example", "CNAME", "y.a.example")
    zones.add("y.a.example", "CNAME", "x.a.example")
    zones.add("gone.a.example", "CNAME", "no.a.example")
    with DnsServer(zones) as server:
        assert len(told(ask(server, "www.a.example", "A"))) == 2
        assert len(told(ask(server, "www.a.example", "CNAME"))) == 1
        assert len(told(ask(server, "x.a.example", "A"))) == 2
        gone = ask(server, "gone.a.example", "A")
        assert (len(told(gone)), gone.rcode()) == (1, dns.rcode.NXDOMAIN)


def test_wildcards_stand_for_what_is_not_there(zones: Zones) -> None:
    zones.add("*.list.example", "A", "127.0.0.2")
    zones.add("deep.known.list.example", "A", "127.0.0.3")
    with DnsServer(zones) as server:
        assert told(ask(server, "1.2.list.example", "A")) == [
            "1.2.list.example. 300 in a 127.0.0.2"
        ]
        assert ask(server, "x.list.example", "MX").rcode() == dns.rcode.NOERROR
        # A name that exists shadows the wildcard, also for those below it: RFC 4592 §3.3.1.
        assert not told(ask(server, "known.list.example", "A"))
        assert ask(server, "x.known.list.example", "A").rcode() == dns.rcode.NXDOMAIN


def test_zone_text_is_read(zones: Zones) -> None:
    zones.load(
        """
$TTL 120
@       SOA  ns1 hostmaster 1 2 3 4 55
        MX   5 mail
        TXT  "v=spf1 mx -all"
mail    A    192.0.2.7
mail    A    192.0.2.8
www 60  IN   CNAME mail.c.example.
""",
        "c.example",
        secure=True,
    )
    with DnsServer(zones) as server:
        assert told(ask(server, "c.example", "MX")) == ["c.example. 120 in mx 5 mail.c.example."]
        assert len(told(ask(server, "www.c.example", "A"))) == 3
        denied = ask(server, "no.c.example", "A")
        assert denied.flags & dns.flags.AD
        assert denied.authority[0].to_text().endswith(" 1 2 3 4 55")


def test_zones_change_while_it_runs(zones: Zones) -> None:
    with DnsServer(zones) as server:
        zones.add("new.a.example", "A", "192.0.2.5")
        zones.add("new.a.example", "A", "192.0.2.6")
        assert len(told(ask(server, "new.a.example", "A"))) == 2
        zones.text("new.a.example", "x" * 300)
        (text,) = ask(server, "new.a.example", "TXT").answer[0]
        assert text.to_text() == f'"{"x" * 255}" "{"x" * 45}"'
        zones.remove("new.a.example", "A")
        assert ask(server, "new.a.example", "A").rcode() == dns.rcode.NOERROR
        zones.remove("new.a.example")
        zones.remove("new.a.example")
        assert ask(server, "new.a.example", "A").rcode() == dns.rcode.NXDOMAIN
        zones.remove("mx1.a.example")
        zones.remove("a.example")
        reply = ask(server, "a.example", "MX")
        assert (reply.rcode(), len(reply.authority)) == (dns.rcode.NOERROR, 1)


def test_what_does_not_fit_is_truncated(zones: Zones) -> None:
    zones.text("large.a.example", b"x" * 2000)
    with DnsServer(zones) as server:
        short = ask(server, "large.a.example", "TXT")
        assert short.flags & dns.flags.TC and not short.answer
        assert len(told(ask(server, "large.a.example", "TXT", tcp=True))) == 1
        zones.text("middle.a.example", b"x" * 800)
        assert not ask(server, "middle.a.example", "TXT").flags & dns.flags.TC
        plain = dns.message.make_query("middle.a.example", "TXT")
        reply = dns.query.udp(plain, server.ip, port=server.port, timeout=5)
        assert reply.flags & dns.flags.TC and reply.edns == -1


# --- faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [What.SERVFAIL, What.REFUSED, What.FORMERR])
def test_codes(zones: Zones, what: What) -> None:
    zones.fault("a.example", "MX", Fault(what))
    with DnsServer(zones) as server:
        assert dns.rcode.to_text(ask(server, "a.example", "MX").rcode()).lower() == what
        assert ask(server, "a.example", "A").rcode() == dns.rcode.NOERROR


def test_bogus_is_servfail_unless_the_asker_checks(zones: Zones) -> None:
    zones.fault("a.example", None, Fault(What.BOGUS))
    with DnsServer(zones) as server:
        reply = ask(server, "a.example", "MX")
        assert reply.rcode() == dns.rcode.SERVFAIL
        (reason,) = reply.options
        assert isinstance(reason, dns.edns.EDEOption)
        assert reason.code == dns.edns.EDECode.DNSSEC_BOGUS
        unchecked = ask(server, "a.example", "MX", flags=dns.flags.CD | dns.flags.AD)
        assert told(unchecked) and not unchecked.flags & dns.flags.AD


def test_silence_and_slowness(zones: Zones) -> None:
    zones.fault("a.example", "MX", Fault(What.SILENT))
    zones.fault("a.example", "A", Fault(What.SLOW, seconds=0.15))
    with DnsServer(zones) as server:
        for send in (dns.query.udp, dns.query.tcp):
            query = dns.message.make_query("a.example", "MX")
            with pytest.raises(dns.exception.Timeout):
                send(query, server.ip, port=server.port, timeout=0.1)
            began = time.monotonic()
            ask(server, "a.example", "A", tcp=send is dns.query.tcp)
            assert time.monotonic() - began >= 0.15


def test_forgeries_come_before_the_truth(zones: Zones) -> None:
    """Every distortion is refused by dnspython's client, which then takes the right answer."""
    with DnsServer(zones) as server:
        for what in (What.WRONG_ID, What.WRONG_QUESTION, What.GARBAGE):
            zones.fault("a.example", "MX", Fault(what, right_after=0.02))
            query = dns.message.make_query("a.example", "MX")
            # What fits neither id nor question is passed over too, or it would be taken.
            with pytest.raises((dns.query.BadResponse, dns.exception.FormError)):
                dns.query.udp(
                    query, server.ip, port=server.port, timeout=5, raise_on_truncation=True
                )
            reply = dns.query.udp(query, server.ip, port=server.port, timeout=5, ignore_errors=True)
            assert len(reply.answer) == 1
            with pytest.raises((dns.query.BadResponse, dns.exception.FormError)):
                dns.query.tcp(query, server.ip, port=server.port, timeout=5)


def test_twisted_answers(zones: Zones) -> None:
    zones.add("www.a.example", "CNAME", "mx1.a.example")
    with DnsServer(zones) as server:
        zones.fault("www.a.example", None, Fault(What.HALF_CHAIN))
        half = ask(server, "www.a.example", "A")
        assert (len(told(half)), half.authority) == (1, [])
        zones.fault("www.a.example", None, Fault(What.FORGED))
        forged = ask(server, "www.a.example", "A")
        assert len(told(forged)) == 4 and forged.additional
        zones.fault("www.a.example", None, Fault(What.LOOP))
        assert told(ask(server, "www.a.example", "A")) == [
            "loop.www.a.example. 300 in cname www.a.example.",
            "www.a.example. 300 in cname loop.www.a.example.",
        ]
        zones.fault("www.a.example", None, Fault(What.LAME))
        lame = ask(server, "www.a.example", "A")
        assert not lame.answer and not lame.flags & dns.flags.RA
        assert lame.authority[0].rdtype == dns.rdatatype.NS


@pytest.mark.parametrize("kind", ["A", "AAAA", "MX", "TXT", "PTR", "NS"])
def test_huge_answers(zones: Zones, kind: str) -> None:
    zones.fault("a.example", None, Fault(What.HUGE, number=300))
    with DnsServer(zones) as server:
        assert ask(server, "a.example", kind).flags & dns.flags.TC
        assert len(told(ask(server, "a.example", kind, tcp=True))) == 300


def test_truncation_and_cut_lines(zones: Zones) -> None:
    zones.fault("a.example", "MX", Fault(What.TRUNCATED))
    zones.fault("mx1.a.example", "A", Fault(What.CUT_OFF))
    with DnsServer(zones) as server:
        for name, kind in (("a.example", "MX"), ("mx1.a.example", "A")):
            assert ask(server, name, kind).flags & dns.flags.TC
        assert told(ask(server, "a.example", "MX", tcp=True))
        with pytest.raises(EOFError):
            ask(server, "mx1.a.example", "A", tcp=True)


def test_folded_case(zones: Zones) -> None:
    zones.fault("a.example", "MX", Fault(What.WRONG_CASE))
    with DnsServer(zones) as server:
        reply = ask(server, "A.Example", "MX")
        assert reply.question[0].name.to_text() == "a.example."
        reply = ask(server, "A.Example", "MX", tcp=True)
        assert reply.question[0].name.to_text() == "A.Example."


def test_flapping_and_the_most_exact_fault(zones: Zones) -> None:
    zones.fault(ANY, None, Fault(What.REFUSED))
    zones.fault(ANY, "A", Fault(What.FORMERR))
    zones.fault("a.example", None, Fault(What.BOGUS))
    zones.fault("a.example", "MX", Fault(What.SERVFAIL, times=2))
    with DnsServer(zones) as server:
        assert ask(server, "b.example", "MX").rcode() == dns.rcode.REFUSED
        assert ask(server, "b.example", "A").rcode() == dns.rcode.FORMERR
        assert ask(server, "a.example", "A").options
        for _ in range(2):
            assert not ask(server, "a.example", "MX").options
        assert ask(server, "a.example", "MX").options  # used up: the next in order counts
        for name, kind in (("a.example", None), (ANY, "A"), (ANY, None)):
            zones.fault(name, kind, None)
        assert told(ask(server, "a.example", "MX"))


# --- robustness -----------------------------------------------------------------------------


def test_noise_does_not_stop_it(zones: Zones) -> None:
    with DnsServer(zones) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect((server.ip, server.port))
            for octets in (b"", b"x", b"\xff" * 40, bytes(12), b"\0\7\0\0\0\1" + bytes(6)):
                sock.send(octets)
            replies = [sock.recv(512) for _ in range(2)]
        assert sorted(reply[:2] for reply in replies) == [b"\0\0", b"\0\7"]
        assert sorted(reply[3] & 0xF for reply in replies) == [1, 4]  # FORMERR, NOTIMP
        with socket.create_connection((server.ip, server.port), timeout=5) as line:
            line.sendall(b"\xff\xff\0")
        for linger in (b"", b"\0"):
            line = socket.create_connection((server.ip, server.port), timeout=5)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.send(linger)
            line.close()  # a reset
        assert told(ask(server, "a.example", "MX"))
        assert len(server.asked) == 1


def test_many_questions_on_one_line(zones: Zones) -> None:
    with (
        DnsServer(zones) as server,
        socket.create_connection((server.ip, server.port), timeout=5) as line,
    ):
        queries = [dns.message.make_query("a.example", "MX") for _ in range(20)]
        for query in queries:
            wire = query.to_wire()
            line.sendall(len(wire).to_bytes(2) + wire)
        file = line.makefile("rb")
        for query in queries:
            reply = dns.message.from_wire(file.read(int.from_bytes(file.read(2))))
            assert query.is_response(reply) and told(reply)
        file.close()


async def test_it_runs_in_the_loop_of_what_it_serves(zones: Zones) -> None:
    async with DnsServer(zones) as server:
        zones.fault("a.example", "A", Fault(What.SLOW, seconds=30))
        late = dns.message.make_query("a.example", "A")
        with pytest.raises(dns.exception.Timeout):
            await asyncio.to_thread(dns.query.udp, late, server.ip, port=server.port, timeout=0.05)
        reply = await asyncio.to_thread(ask, server, "a.example", "MX")
        assert told(reply)
        _, writer = await asyncio.open_connection(server.ip, server.port)
        await asyncio.sleep(0.02)
    # It ended at once, though an answer was late and a line open.
    writer.close()
    assert len(asyncio.all_tasks()) == 1
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(server.ip, server.port)


def test_its_thread_ends_with_it(zones: Zones) -> None:
    before = threading.active_count()
    with DnsServer(zones) as server:
        assert threading.active_count() == before + 1
        with pytest.raises(OSError):
            DnsServer(zones, port=server.port)
    assert threading.active_count() == before
    with DnsServer(zones, port=server.port) as again:
        assert str(again) == str(server) == f"127.0.0.1:{server.port}"
