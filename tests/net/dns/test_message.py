"""Questions and replies as octets, with dnspython as the other side and by hand."""

from __future__ import annotations

import random
import struct
import time
from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.net.dns.message import (
    Broken,
    Found,
    Match,
    Question,
    Unusable,
    make_question,
    match,
    read_reply,
)
from postroom.net.dns.names import to_wire
from postroom.net.dns.records import Caa, Kind, Mx, Record, Soa, Srv, Tlsa

SOA = "ns.a.example. hostmaster.a.example. 7 7200 900 1209600 60"


def question(name: str = "a.example", kind: Kind = Kind.MX) -> Question:
    return make_question(name, kind, random.Random(1))


def reply(
    asked: Question,
    *answer: str,
    authority: tuple[str, ...] = (),
    rcode: str = "NOERROR",
    flags: str = "QR RD RA",
    options: list[dns.edns.Option] | None = None,
) -> bytes:
    """A reply; its records are lines: `name ttl class kind text`."""
    message = dns.message.make_response(dns.message.from_wire(asked.octets))
    message.flags = dns.flags.Flag(dns.flags.from_text(flags))
    message.set_rcode(dns.rcode.from_text(rcode))
    for section, lines in ((message.answer, answer), (message.authority, authority)):
        for line in lines:
            name, ttl, klass, kind, text = line.split(" ", 4)
            section.append(dns.rrset.from_text(name + ".", int(ttl), klass, kind, text))
    message.use_edns(0, payload=1232, options=options)
    return message.to_wire(max_size=65535)


def read(octets: bytes, asked: Question) -> Found:
    assert match(octets, asked) is Match.YES
    return read_reply(octets, asked, 256)


# --- questions ----------------------------------------------------------------------------


def test_a_question_is_what_a_validating_server_wants() -> None:
    asked = question()
    message = dns.message.from_wire(asked.octets)
    assert message.id == asked.id
    assert message.flags == dns.flags.RD | dns.flags.AD
    assert (message.edns, message.payload, message.ednsflags) == (0, 1232, dns.flags.DO)
    assert message.question[0].to_text().lower() == "a.example. in mx"


def test_ids_and_letters_differ_from_question_to_question() -> None:
    rng = random.Random(2)
    made = [make_question("mail.a.example", Kind.A, rng) for _ in range(50)]
    assert len({asked.id for asked in made}) > 45
    assert len({asked.asked for asked in made}) > 45
    assert len({asked.asked.lower() for asked in made}) == 1


@given(st.integers(0, 2**32))
def test_only_letters_change_their_case(seed: int) -> None:
    name = r"_a-z0\001\255{~@`[.example"
    asked = make_question(name, Kind.CAA, random.Random(seed))
    assert asked.asked[:-4].lower() == to_wire(name)
    assert asked.asked[-4:] == b"\x01\x01\x00\x01"


# --- matching -----------------------------------------------------------------------------


def test_a_reply_must_repeat_id_and_question() -> None:
    asked = question("mail.a.example")
    right = reply(asked, "mail.a.example 60 IN MX 1 a.example.")
    end = 12 + len(asked.asked)
    assert match(right, asked) is Match.YES
    assert match(right[:11], asked) is Match.NO
    assert match(bytes((right[0] ^ 1,)) + right[1:], asked) is Match.NO
    assert match(asked.octets, asked) is Match.NO  # a question, no reply
    assert match(right[:2] + bytes((right[2] | 0x20,)) + right[3:], asked) is Match.NO  # UPDATE
    assert match(right[:12] + right[12:end].swapcase() + right[end:], asked) is Match.CASE
    assert match(right[: end - 1], asked) is Match.NO
    for at in range(12, end):
        changed = right[:at] + bytes((right[at] ^ 0x41,)) + right[at + 1 :]
        assert match(changed, asked) is Match.NO, at
    assert match(right[:4] + b"\0\2" + right[6:], asked) is Match.NO


def test_the_type_is_not_a_letter() -> None:
    """65 and 97 are types, though "A" and "a" are one letter."""
    asked = Question("a", Kind.A, 7, b"\1a\0\0\x41\0\1")
    there = b"\0\7\x80\0\0\1\0\0\0\0\0\0" + b"\1a\0\0\x61\0\1"
    assert match(there, asked) is Match.NO


def test_only_an_error_may_leave_the_question_out() -> None:
    asked = question()
    header = asked.id.to_bytes(2)
    assert match(header + b"\x80\x81" + bytes(8), asked) is Match.YES
    assert match(header + b"\x80\x80" + bytes(8), asked) is Match.NO
    assert match(header + b"\x80\x83" + bytes(8), asked) is Match.NO
    with pytest.raises(Unusable, match="formerr"):
        read(header + b"\x80\x81" + bytes(8), asked)


# --- values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "record"),
    [
        (Kind.A, "192.0.2.1", ip_address("192.0.2.1")),
        (Kind.AAAA, "2001:db8::1", ip_address("2001:db8::1")),
        (Kind.MX, "10 MX1.a.example.", Mx(10, "mx1.a.example")),
        (Kind.MX, "0 .", Mx(0, ".")),
        (Kind.TXT, '"v=spf1 " "" "-all"', b"v=spf1 -all"),
        (Kind.TXT, '""', b""),
        (Kind.TXT, r'"\255;\000"', b"\xff;\x00"),
        (Kind.TLSA, "3 1 0 00ff", Tlsa(3, 1, 0, b"\x00\xff")),
        (Kind.PTR, r"a\.b\032c.example.", r"a\.b\032c.example"),
        (Kind.NS, "ns.a.example.", "ns.a.example"),
        (Kind.CNAME, "b.example.", "b.example"),
        (Kind.SRV, "1 2 5222 xmpp.a.example.", Srv(1, 2, 5222, "xmpp.a.example")),
        (Kind.CAA, '128 Issue "ca.example"', Caa(128, "issue", b"ca.example")),
        (
            Kind.SOA,
            SOA,
            Soa("ns.a.example", "hostmaster.a.example", 7, 7200, 900, 1209600, 60),
        ),
    ],
)
def test_every_kind_has_its_value(kind: Kind, text: str, record: Record) -> None:
    asked = question("a.example", kind)
    found = read(reply(asked, f"A.example 77 IN {kind} {text}"), asked)
    assert found.records == (record,)
    assert (found.exists, found.complete, found.ttl, found.chain) == (True, True, 77, ())


@pytest.mark.parametrize(
    ("kind", "rdata"),
    [
        (Kind.A, b"\x7f\0\0"),
        (Kind.A, b"\x7f\0\0\1\0"),
        (Kind.AAAA, bytes(15)),
        (Kind.MX, b"\0"),
        (Kind.MX, b"\0\1"),
        (Kind.MX, b"\0\1\1"),
        (Kind.MX, b"\0\1\0\0"),
        (Kind.MX, b"\0\1\xc0\xff"),
        (Kind.MX, b"\0\1\x40"),
        (Kind.TXT, b""),
        (Kind.TXT, b"\5abcd"),
        (Kind.TLSA, b"\1\1"),
        (Kind.SOA, b"\0\0" + bytes(19)),
        (Kind.SRV, bytes(6)),
        (Kind.CAA, b"\0\0"),
        (Kind.CAA, b"\0\5iss e"),
        (Kind.CAA, b"\0\4iss\xe9"),
        (Kind.PTR, b"\x3f" + b"a" * 62),
    ],
)
def test_a_broken_value_breaks_the_reply(kind: Kind, rdata: bytes) -> None:
    asked = question("a.example", kind)
    good = reply(asked)[: 12 + len(asked.asked)]
    number = asked.asked[-4:-2]
    record = b"\xc0\x0c" + number + b"\0\1" + bytes(4) + len(rdata).to_bytes(2) + rdata
    octets = good[:6] + b"\0\1\0\0\0\0" + good[12:] + record
    with pytest.raises(Broken):
        read(octets, asked)


def test_a_ttl_beyond_31_bits_is_none() -> None:
    asked = question("a.example", Kind.A)
    good = reply(asked)[: 12 + len(asked.asked)]
    record = b"\xc0\x0c\0\1\0\1\x80\0\0\0\0\4\x7f\0\0\1"
    assert read(good[:6] + b"\0\1\0\0\0\0" + good[12:] + record, asked).ttl == 0


# --- what answers, and what only lies beside ----------------------------------------------------


def test_cnames_are_followed_in_any_order() -> None:
    asked = question("www.a.example", Kind.A)
    found = read(
        reply(
            asked,
            "c.example 90 IN A 192.0.2.3",
            "b.example 30 IN CNAME c.example.",
            "www.a.example 60 IN CNAME b.example.",
            flags="QR RD RA AD",
        ),
        asked,
    )
    assert found.records == (ip_address("192.0.2.3"),)
    assert (found.chain, found.ttl, found.vouched) == (("b.example", "c.example"), 30, True)


def test_only_the_end_of_the_chain_answers() -> None:
    asked = question("a.example", Kind.A)
    found = read(
        reply(
            asked,
            "evil.example 60 IN A 203.0.113.66",
            "sub.a.example 60 IN A 203.0.113.67",
            "other.example 60 IN CNAME a.example.",
            "a.example 60 CH A a.example. 42",
            "a.example 60 IN AAAA 2001:db8::66",
            "a.example 60 IN A 192.0.2.1",
        ),
        asked,
    )
    assert found.records == (ip_address("192.0.2.1"),)


def test_twice_the_same_is_once() -> None:
    asked = question("a.example", Kind.PTR)
    lines = ("a.example 9 IN PTR B.example.", "a.example 5 IN PTR b.example.")
    found = read(reply(asked, *lines), asked)
    assert (found.records, found.ttl) == (("b.example",), 5)


def test_two_cnames_contradict_each_other() -> None:
    lines = ("a.example 60 IN CNAME b.example.", "A.example 60 IN CNAME c.example.")
    for kind in (Kind.A, Kind.CNAME):
        asked = question("a.example", kind)
        octets = bytearray(reply(asked, lines[0]))
        target = to_wire("c.example")
        octets[6:8] = b"\0\2"
        second = b"\xc0\x0c\0\5\0\1\0\0\0\x3c" + len(target).to_bytes(2) + target
        at = 12 + len(asked.asked)
        with pytest.raises(Broken, match="two CNAMEs"):
            read(bytes(octets[:at]) + second + bytes(octets[at:]), asked)


def test_a_chain_ends_after_eight() -> None:
    asked = question("n0.example", Kind.A)
    chain = [f"n{i}.example 60 IN CNAME n{i + 1}.example." for i in range(9)]
    found = read(reply(asked, *chain[:8], "n8.example 60 IN A 192.0.2.1"), asked)
    assert len(found.chain) == 8 and found.records
    with pytest.raises(Unusable, match="cname-chain") as caught:
        read(reply(asked, *chain, "n9.example 60 IN A 192.0.2.1"), asked)
    assert caught.value.final
    with pytest.raises(Unusable, match="cname-chain"):
        read(reply(asked, "n0.example 60 IN CNAME n0.example."), asked)


# --- denials ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rcode", "exists"), [("NOERROR", True), ("NXDOMAIN", False)])
def test_a_denial_lasts_as_its_soa_says(rcode: str, exists: bool) -> None:
    asked = question("no.a.example")
    for ttl, least in ((900, 60), (30, 30)):
        authority = (f"a.example {ttl} IN SOA {SOA}",)
        found = read(reply(asked, authority=authority, rcode=rcode), asked)
        assert (found.records, found.exists, found.ttl, found.complete) == ((), exists, least, True)


def test_a_denial_behind_cnames() -> None:
    asked = question("www.b.example")
    found = read(
        reply(
            asked,
            "www.b.example 20 IN CNAME no.a.example.",
            authority=(f"a.example 60 IN SOA {SOA}",),
            rcode="NXDOMAIN",
        ),
        asked,
    )
    assert (found.exists, found.ttl, found.chain) == (False, 20, ("no.a.example",))


def test_a_soa_from_elsewhere_does_not_count() -> None:
    asked = question("no.a.example")
    for zone in ("b.example", "no.no.a.example", "o.a.example"):
        found = read(reply(asked, authority=(f"{zone} 60 IN SOA {SOA}",)), asked)
        assert found.ttl is None


def test_a_chain_without_an_end_is_incomplete() -> None:
    asked = question("www.b.example")
    found = read(reply(asked, "www.b.example 20 IN CNAME a.example."), asked)
    assert (found.complete, found.records, found.chain) == (False, (), ("a.example",))


def test_a_referral_is_no_denial() -> None:
    asked = question()
    with pytest.raises(Unusable, match="lame"):
        read(reply(asked, authority=("example 60 IN NS ns.example.",)), asked)
    with pytest.raises(Unusable, match="lame"):
        read(reply(asked, flags="QR RD"), asked)
    assert read(reply(asked, flags="QR AA"), asked).exists


def test_nxdomain_with_records_is_broken() -> None:
    asked = question()
    with pytest.raises(Broken):
        read(reply(asked, "a.example 60 IN MX 1 b.example.", rcode="NXDOMAIN"), asked)


@pytest.mark.parametrize("rcode", ["FORMERR", "SERVFAIL", "NOTIMP", "REFUSED", "NOTAUTH"])
def test_an_error_is_no_denial(rcode: str) -> None:
    asked = question()
    with pytest.raises(Unusable, match=rcode.lower()) as caught:
        read(reply(asked, "a.example 60 IN MX 1 b.example.", rcode=rcode), asked)
    assert not caught.value.final


def test_an_extended_error_is_no_denial() -> None:
    """BADVERS is 16: its lower bits look like NOERROR. RFC 6891 §9."""
    asked = question()
    octets = bytearray(reply(asked))
    assert octets[-11:-8] == b"\0\0\x29"  # OPT is last, without options
    octets[-6] = 1
    with pytest.raises(Unusable, match="badvers"):
        read(bytes(octets), asked)


def test_a_failure_of_dnssec_says_so() -> None:
    asked = question()
    bogus: list[dns.edns.Option] = [dns.edns.EDEOption(dns.edns.EDECode.SIGNATURE_EXPIRED)]
    with pytest.raises(Unusable, match="bogus") as caught:
        read(reply(asked, rcode="SERVFAIL", options=bogus), asked)
    assert caught.value.final
    other: list[dns.edns.Option] = [dns.edns.EDEOption(dns.edns.EDECode.NO_REACHABLE_AUTHORITY)]
    with pytest.raises(Unusable, match="servfail") as caught:
        read(reply(asked, rcode="SERVFAIL", options=other), asked)
    assert not caught.value.final and "22" in caught.value.detail


# --- bounds ---------------------------------------------------------------------------------------


def test_records_are_capped() -> None:
    asked = question("a.example", Kind.A)
    lines = [f"a.example 60 IN A 10.0.{i >> 8}.{i & 255}" for i in range(257)]
    assert len(read(reply(asked, *lines[:256]), asked).records) == 256
    with pytest.raises(Unusable, match="too-large") as caught:
        read(reply(asked, *lines), asked)
    assert caught.value.final


def test_entries_are_counted_before_they_are_read() -> None:
    asked = question()
    octets = reply(asked)
    for counts in (b"\x02\x01\0\0\0\0", b"\0\0\x02\x01\0\0", b"\0\0\0\0\x02\x01"):
        with pytest.raises(Unusable, match="too-large"):
            read(octets[:6] + counts + octets[12:], asked)


def test_compression_cannot_make_much_of_little() -> None:
    """Long names by pointer, hundreds of times, in well under the time that a try has."""
    asked = question("a.example", Kind.PTR)
    head = reply(asked)[: 12 + len(asked.asked)]
    long = b"\1x" * 120 + b"\xc0\x0c"
    at = len(head) + 12
    record = b"\xc0\x0c\0\x0c\0\1" + bytes(4)
    octets = head + record + len(long).to_bytes(2) + long
    for number in range(500):
        label = b"\3%03d" % number + (0xC000 + at).to_bytes(2)
        octets += record + len(label).to_bytes(2) + label
    octets = octets[:6] + struct.pack("!3H", 501, 0, 0) + octets[12:]
    began = time.process_time()
    with pytest.raises(Broken, match="Costly"):
        read(octets, asked)
    assert time.process_time() - began < 0.5


@given(st.binary(max_size=200), st.integers(0, 6), st.sampled_from(list(Kind)))
def test_noise_is_unusable_or_harmless(noise: bytes, entries: int, kind: Kind) -> None:
    asked = question("a.example", kind)
    counts = struct.pack("!3H", entries, entries // 2, entries // 3)
    octets = reply(asked)[: 12 + len(asked.asked)] + noise
    try:
        found = read(octets[:6] + counts + octets[12:], asked)
    except Unusable:
        return
    assert found.size == len(octets)


@given(st.data())
def test_one_changed_octet_is_unusable_or_harmless(data: st.DataObject) -> None:
    asked = question("www.a.example", Kind.MX)
    good = reply(
        asked,
        "www.a.example 60 IN CNAME a.example.",
        "a.example 60 IN MX 10 mx.a.example.",
        authority=(f"a.example 60 IN SOA {SOA}",),
    )
    at = data.draw(st.integers(2, len(good) - 1))
    octet = data.draw(st.integers(0, 255))
    changed = good[:at] + bytes((octet,)) + good[at + 1 :]
    if match(changed, asked) is not Match.YES:
        return
    try:
        found = read_reply(changed, asked, 256)
    except Unusable:
        return
    assert all(isinstance(record, Mx) for record in found.records)
