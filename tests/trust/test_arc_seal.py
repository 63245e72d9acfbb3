"""What we seal: as the published signing tests have it, and as dkimpy judges it. RFC 8617 §5.1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dkim
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from postroom.formats import headers
from postroom.trust import arc
from postroom.trust.arc.chain import results_number
from postroom.trust.arc.seal import instance, seal
from postroom.trust.dkim import SigningKey, tags
from postroom.trust.dkim.sign import hash_body, load, make_key, record
from tests.trust.chains import verify
from tests.trust.zones import Dns

SUITE = Path(__file__).parents[1] / "vectors" / "arc" / "sign-tests.yml"
NOW = 1_700_000_000


@dataclass(frozen=True)
class Case:
    """One test of the suite with the key of its section."""

    name: str
    said: dict[str, Any]
    section: dict[str, Any]

    @property
    def content(self) -> bytes:
        text: str = self.said["message"]
        return text.replace("\n", "\r\n").encode()

    @property
    def key(self) -> SigningKey:
        private = load_pem_private_key(self.section["privatekey"].encode(), None)
        assert isinstance(private, RSAPrivateKey)
        return SigningKey(self.section["domain"], self.section["sel"], "rsa", private)

    def results(self) -> str:
        """Those of this server in one: to gather them is the server's task, not the sealer's."""
        found = headers.scan(self.content).all(b"authentication-results")
        values = [value.decode().partition(";") for value in found]
        own = [rest.strip() for server, _, rest in values if server == self.said["srv-id"]]
        return "; ".join([self.said["srv-id"], *own])


def suite() -> list[Case]:
    with SUITE.open(encoding="utf-8") as file:
        sections = list(yaml.safe_load_all(file))
    return [
        Case(name, said, section) for section in sections for name, said in section["tests"].items()
    ]


CASES = suite()


def test_the_suite_is_the_one_we_know() -> None:
    assert len(CASES) == 17


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_suite(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signature of it is ours, octet for octet, once tags are ordered as it wants them.

    It has i= among the others, where the grammar of RFC 8617 §4.1.2 has it first, as we do.
    """
    monkeypatch.setattr("postroom.trust.arc.seal._place", str)
    dns = Dns()
    for name, text in case.section["txt-records"].items():
        dns.add(name, "TXT", text.replace("\n", ""))
    judged = await verify(case.content, dns, case.said["t"])
    found = headers.scan(case.content)
    names = case.said["sig-headers"].split(":")
    chain = arc.read(found, case.said["t"])
    body = hash_body([case.content[found.end :]])
    made = headers.scan(
        seal(found, chain, judged.code, body, case.key, case.results(), names, case.said["t"])
        + b"\r\n"
    )
    for ours, theirs in (("arc-seal", "AS"), ("arc-message-signature", "AMS")):
        values = [each.raw_value(made.source) for each in made.find(ours.encode())]
        wanted = [case.said[theirs]] if case.said[theirs] else []
        assert [_tags(each) for each in values] == [_tags(each.encode()) for each in wanted]
    told = [b" ".join(each.split()).decode() for each in made.all(b"arc-authentication-results")]
    assert told == [" ".join(case.said["AAR"].split())] * bool(case.said["AAR"])


def _tags(value: bytes) -> dict[str, str]:
    flat = b" ".join(value.split())
    return {name: text.replace(" ", "") for name, text in tags.read(flat).items()}


# --- what others say of it -----------------------------------------------------------------------

MESSAGE = (
    b"From: Ann <ann@author.example>\r\nTo: bob@hop1.example\r\nSubject: Apples\r\n"
    b"Message-ID: <1@author.example>\r\n\r\nApples  are red. \r\n\r\n"
)
NAMES = (
    "From",
    "From",
    "To",
    "To",
    "Subject",
    "Subject",
    "Message-ID",
    "Message-ID",
    "Cc",
    "Reply-To",
)
PRIVATE = make_key("rsa")


def zone(hops: int) -> Dns:
    dns = Dns()
    for n in range(1, hops + 1):
        dns.add(f"s._domainkey.hop{n}.example", "TXT", record("rsa", PRIVATE))
    return dns


async def sent_on(content: bytes, n: int, dns: Dns, old: bytes = b"", new: bytes = b"") -> bytes:
    """The message as the n-th hop seals it, once it has judged and then changed it."""
    judged = await verify(content, dns, NOW)
    content = content.replace(old, new) if old else content
    found = headers.scan(content)
    key = load(f"hop{n}.example", "s", "rsa", PRIVATE)
    body = hash_body([content[found.end :]])
    results = f"hop{n}.example; dmarc=pass header.from=author.example; arc={judged.code.value}"
    chain = arc.read(found, NOW)
    return seal(found, chain, judged.code, body, key, results, NAMES, NOW) + content


def theirs(content: bytes) -> str:
    said = dkim.arc_verify(content, dnsfunc=lambda name, timeout=5: record("rsa", PRIVATE).encode())
    return said[0].decode() if said[0] is not None else str(said[2])


@pytest.mark.parametrize("changed", (0, 2, 4))
async def test_another_finds_that_our_chains_hold(changed: int) -> None:
    """Also where a hop changes the message before it seals."""
    dns, content = zone(5), MESSAGE
    for n in range(1, 6):
        old, new = (b": Apples", b": [list] Apples") if n == changed else (b"", b"")
        content = await sent_on(content, n, dns, old, new)
        assert theirs(content) == "pass"
        assert (await verify(content, dns, NOW)).code == "pass"
    head = headers.scan(content)
    tops = head.all(b"arc-seal") + head.all(b"arc-message-signature")
    assert [value.split(b";")[0] for value in tops] == [b"i=%d" % n for n in (5, 4, 3, 2, 1)] * 2
    found = await verify(content, dns, NOW)
    assert found.sealers == tuple([f"hop{n}.example" for n in range(1, 6)])
    assert found.oldest_pass == changed


@pytest.mark.parametrize(
    ("old", "new"),
    (
        (b"red", b"blue"),
        (b"Subject: Apples", b"Subject: Pears"),
        (b"From: Ann", b"From: Eve <e@e.example>\r\nFrom: Ann"),
        (b"To: bob", b"Cc: eve@e.example\r\nTo: bob"),
        (b"dmarc=pass", b"dmarc=fail"),
    ),
)
async def test_what_is_changed_or_added_below_breaks_the_chain(old: bytes, new: bytes) -> None:
    content = (await sent_on(MESSAGE, 1, zone(1))).replace(old, new, 1)
    assert (await verify(content, zone(1), NOW)).code == "fail"
    assert theirs(content) != "pass"


async def test_a_broken_chain_is_sealed_once_as_failing_and_never_again() -> None:
    dns = zone(3)
    content = (await sent_on(MESSAGE, 1, dns)).replace(b"red", b"blue")
    once = await sent_on(content, 2, dns)
    assert once.count(b"cv=fail") == 1
    assert instance(headers.scan(once)) == 0
    assert await sent_on(once, 3, dns) == once


@pytest.mark.parametrize(("highest", "next_"), ((1, 2), (49, 50), (50, 0), (51, 0), (99, 0)))
def test_there_are_fifty_sets_at_most(highest: int, next_: int) -> None:
    for name in (b"ARC-Authentication-Results", b"ARC-Seal", b"ARC-Message-Signature"):
        content = b"%b: i=%d; d=a.example\r\n\r\n" % (name, highest)
        assert instance(headers.scan(content)) == next_


async def test_a_header_of_many_fields_is_sealed_in_lines_that_everybody_takes() -> None:
    found = headers.scan(MESSAGE)
    key = load("hop1.example", "s", "rsa", PRIVATE)
    body = hash_body([MESSAGE[found.end :]])
    chain = arc.read(found, NOW)
    made = seal(found, chain, arc.ArcCode.NONE, body, key, "hop1.example; none", NAMES * 20, NOW)
    assert max(map(len, made.split(b"\r\n"))) < 998
    assert theirs(made + MESSAGE) == "pass"


@pytest.mark.parametrize(
    ("value", "number"),
    (
        (b" i=1; mx.a.example; spf=pass", "1"),
        (b"\r\n\t(of; ours (=2)) i (\\)) = (three;) 12 (x)\r\n ; mx.a.example", "12"),
        (b" i=07;", "07"),
        (b" i=1 mx.a.example; spf=pass", ""),
        (b" I=1;", ""),
        (b" (i=1; mx.a.example", ""),
        (b" i=;", ""),
        (b" x=1; i=2;", ""),
        (b"", ""),
    ),
)
def test_comments_may_stand_around_the_instance_of_the_results(value: bytes, number: str) -> None:
    """RFC 8617 §3.9: `instance`, with its CFWS."""
    assert results_number(value) == number


def test_the_next_instance_follows_one_among_comments() -> None:
    found = headers.scan(b"ARC-Authentication-Results: (a; b) i=4 (c); mx.a.example; none\r\n\r\n")
    assert instance(found) == 5


async def test_no_message_signature_is_over_what_others_take_away() -> None:
    """RFC 8617 §4.1.2, whatever names the settings add."""
    content = b"From: a@a.example\r\nAuthentication-Results: x; none\r\n\r\nhello\r\n"
    found, dns = headers.scan(content), Dns()
    private = make_key("rsa")
    dns.add("s._domainkey.a.example", "TXT", record("rsa", private))
    asked = ("From", "authentication-results", "ARC-Seal", "ARC-Message-Signature", "Subject")
    key, body = load("a.example", "s", "rsa", private), hash_body([content[found.end :]])
    chain, said = arc.read(found, NOW), "mx.a.example; spf=pass"
    made = seal(found, chain, arc.ArcCode.NONE, body, key, said, asked, NOW)
    (signature,) = headers.scan(made + content).all(b"arc-message-signature")
    assert tags.read(signature)["h"].replace(" ", "") == "From:Subject"
    assert (await verify(made + content, dns, NOW)).code is arc.ArcCode.PASS
