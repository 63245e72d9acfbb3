"""What is wanted, and as which text: read back by a library that others use."""

from __future__ import annotations

from dataclasses import replace

import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.update
import dns.zone
import pytest
from dns.rdtypes.ANY.TXT import TXT
from hypothesis import given
from hypothesis import strategies as st

from postroom.trust.publishing import (
    Need,
    Service,
    Wanted,
    quoted,
    update_text,
    wanted,
    wanted_of_host,
    zone_text,
)
from tests.trust.publishing.town import DOMAIN, HOST, facts, key_record


def read(text: str) -> dict[tuple[str, str], list[str]]:
    """The records of a zone file, TXT joined, by owner and type."""
    zone = dns.zone.from_text(text, origin=".", relativize=False, check_origin=False)
    found: dict[tuple[str, str], list[str]] = {}
    for name, _, rdata in zone.iterate_rdatas():
        owner = name.to_text().rstrip(".")
        kind = dns.rdatatype.to_text(rdata.rdtype)
        said = _joined(rdata) if isinstance(rdata, TXT) else rdata.to_text()
        found.setdefault((owner, kind), []).append(said)
    return found


def _joined(rdata: TXT) -> str:
    return b"".join(rdata.strings).decode()


def test_the_zone_text_holds_every_record_and_long_texts_in_one_piece() -> None:
    known = replace(facts(), bimi_logo="https://example.org/logo.svg")
    found = read(zone_text((*wanted(known), *wanted_of_host(known.host))))
    assert found[DOMAIN, "MX"] == [f"10 {HOST}."]
    assert found[DOMAIN, "TXT"] == [f"v=spf1 a:{HOST} -all"]
    assert found[f"r._domainkey.{DOMAIN}", "TXT"] == [key_record("rsa")]
    assert len(key_record("rsa")) > 255
    assert found[f"_dmarc.{DOMAIN}", "TXT"] == [
        "v=DMARC1; p=quarantine; rua=mailto:dmarc@example.org"
    ]
    assert found[f"_smtp._tls.{DOMAIN}", "TXT"] == ["v=TLSRPTv1; rua=mailto:tls@example.org"]
    assert found[f"_submissions._tcp.{DOMAIN}", "SRV"] == [f"0 1 465 {HOST}."]
    assert found[f"_submission._tcp.{DOMAIN}", "SRV"] == [f"10 1 587 {HOST}."]
    assert found[HOST, "A"] == ["192.0.2.1"] and found[HOST, "AAAA"] == ["2001:db8::1"]
    assert found[HOST, "CAA"] == ['0 issue "ca.example"']
    assert found["1.2.0.192.in-addr.arpa", "PTR"] == [f"{HOST}."]
    assert sorted(found[f"_25._tcp.{HOST}", "TLSA"]) == [
        f"3 1 1 {'01' * 32}",
        f"3 1 1 {'02' * 32}",
    ]
    assert found[f"default._bimi.{DOMAIN}", "TXT"] == [
        "v=BIMI1; l=https://example.org/logo.svg; a="
    ]


def test_only_what_is_offered_is_published() -> None:
    known = facts()
    bare = replace(known, host=replace(known.host, services=(), tls_keys=(), authority=""), keys=())
    found = read(
        zone_text(
            (*wanted(replace(bare, dmarc_reports="", tls_reports="")), *wanted_of_host(bare.host))
        )
    )
    assert {kind for _, kind in found} == {"MX", "TXT", "A", "AAAA", "PTR"}
    assert found[f"_dmarc.{DOMAIN}", "TXT"] == ["v=DMARC1; p=quarantine"]


def test_tls_from_the_first_octet_is_what_is_advised() -> None:
    needs = {each.owner: each.need for each in wanted(facts()) if each.kind == "SRV"}
    assert needs[f"_{Service.SUBMISSIONS}._tcp.{DOMAIN}"] is Need.ADVISED
    assert needs[f"_{Service.SUBMISSION}._tcp.{DOMAIN}"] is Need.OPTIONAL


@pytest.mark.parametrize("state", ["made", "published", "active", "retired"])
def test_a_key_is_wanted_in_every_state(state: str) -> None:
    known = replace(facts(), keys=(replace(facts().keys[0], state=state),))
    (only,) = [each for each in wanted(known) if "_domainkey" in each.owner]
    assert only.need is Need.NEEDED and only.why.startswith("DKIM: ")


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=1_000))
def test_a_text_comes_back_as_it_was(value: str) -> None:
    record = Wanted("a.example", "TXT", quoted(value), Need.NEEDED, "It is wanted.")
    assert read(zone_text([record])) == {("a.example", "TXT"): [value]}


def test_an_update_adds_only_where_nothing_is_and_never_in_zones_of_others() -> None:
    known = facts()
    said = update_text((*wanted(known), *wanted_of_host(known.host)))
    messages = [each.strip().splitlines() for each in said.split("send") if each.strip()]
    added = 0
    for first, *rest in messages:
        prerequisite, rule, owner, class_, kind = first.split()
        assert (prerequisite, rule, class_) == ("prereq", "nxrrset", "IN")
        for line in rest:
            add, name, ttl, _, type_, data = line.removeprefix("update ").split(" ", 5)
            assert (add, name, type_) == ("add", owner, kind)
            message = dns.update.UpdateMessage(DOMAIN)
            message.add(dns.name.from_text(name), int(ttl), type_, data)
            added += len(message.update)
    ours = [each for each in (*wanted(known), *wanted_of_host(known.host)) if not each.elsewhere]
    assert added == len(ours)
    assert "in-addr.arpa" not in said and "delete" not in said
    assert len(messages) == len({(each.owner, each.kind) for each in ours})
