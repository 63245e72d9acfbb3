"""Signatures of others: which hold, which do not, and the word for each."""

from __future__ import annotations

import asyncio
import base64
import itertools
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from postroom.net.dns import Answer, Kind, Record
from tests.trust.signed import DOMAIN, MESSAGE, NOW, code, other, ours, record, verify, zone
from tests.trust.zones import Dns

VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "dkim").glob("*.txt"))
KEY = f"k-ed25519._domainkey.{DOMAIN}"


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
async def test_published_messages_pass(path: Path) -> None:
    zone_text, _, message = path.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    dns = Dns()
    for line in zone_text.decode().splitlines():
        name, _, text = line.partition(" ")
        dns.add(name, "TXT", text)
    now = 1_667_900_000  # one of them ends on the day after
    found = await verify(message.replace(b"\n", b"\r\n"), dns, now)
    assert found
    assert {each.code.value for each in found} == {"pass"}


async def test_one_changed_octet_of_a_published_message_fails() -> None:
    zone_text, _, message = VECTORS[0].read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    dns = Dns()
    for line in zone_text.decode().splitlines():
        dns.add(line.partition(" ")[0], "TXT", line.partition(" ")[2])
    content = message.replace(b"\n", b"\r\n")
    for was, is_ in ((b"We lost", b"We tost"), (b"Joe SixPack", b"Joe Sixpack")):
        found = await verify(content.replace(was, is_), dns)
        assert [each.code.value for each in found] == ["fail", "fail"]


async def test_a_message_without_a_signature_is_none() -> None:
    (found,) = await verify(MESSAGE)
    assert found.code == "none"
    assert found.domain == ""


@pytest.mark.parametrize("form", ["simple", "relaxed", "simple/relaxed", "relaxed/simple"])
@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
async def test_every_form_and_kind_passes(form: str, kind: str) -> None:
    (found,) = await verify(other(tags={"c": form}, kind=kind))
    assert found.code == "pass"
    assert (found.domain, found.selector) == (DOMAIN, f"k-{kind}")
    assert (found.algorithm, found.identity) == (f"{kind}-sha256", f"@{DOMAIN}")
    assert len(found.signature) == 8


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({"v": "2"}, "permerror"),
        ({"v": ""}, "permerror"),
        ({"d": ""}, "permerror"),
        ({"h": "to:subject"}, "permerror"),
        ({"a": "rsa-sha1"}, "permerror"),
        ({"a": "ed25519-sha1"}, "permerror"),
        ({"c": "nofws"}, "permerror"),
        ({"q": "dns/spf"}, "permerror"),
        ({"q": "x : dns/txt"}, "pass"),
        ({"i": f"ann@{DOMAIN}"}, "pass"),
        ({"i": f"ann@sub.{DOMAIN}"}, "pass"),
        ({"i": "ann@b.example"}, "permerror"),
        ({"i": f"ann@not{DOMAIN}"}, "permerror"),
        ({"i": "nobody"}, "permerror"),
        ({"t": str(NOW)}, "pass"),
        ({"t": str(NOW + 7200)}, "policy"),
        ({"t": str(NOW - 10), "x": str(NOW + 10)}, "pass"),
        ({"t": str(NOW - 900), "x": str(NOW - 300)}, "pass"),  # our clock may be ahead
        ({"t": str(NOW - 900), "x": str(NOW - 301)}, "fail"),
        ({"x": str(NOW - 301)}, "fail"),
        ({"x": "9" * 13}, "neutral"),
        ({"t": str(NOW - 10), "x": str(NOW - 20)}, "permerror"),
        ({"t": "soon"}, "neutral"),
        ({"l": "-1"}, "neutral"),
        ({"h": "from:to:b@d"}, "pass"),
        ({"h": "from:to:"}, "neutral"),
        ({"b": "====!"}, "neutral"),
        ({"b": ""}, "permerror"),
        ({"bh": "AAAA"}, "fail"),
        ({"b": "AAAA"}, "fail"),
        ({"s": "nobody"}, "permerror"),
        ({"z": "From:x|To:y"}, "pass"),
    ],
)
async def test_each_tag_has_its_word(tags: dict[str, str], word: str) -> None:
    assert await code(other(tags=tags)) == word


@pytest.mark.parametrize(
    "field",
    [
        b"DKIM-Signature: v=1; v=1; a=rsa-sha256\r\n",
        b"DKIM-Signature: nothing of the kind\r\n",
        b"DKIM-Signature: v=1; =x\r\n",
        b"DKIM-Signature: v=1; d=a.example\x00; a=rsa-sha256\r\n",
        b"DKIM-Signature:\r\n",
    ],
)
async def test_what_is_no_list_of_tags_is_neutral(field: bytes) -> None:
    assert await code(field + MESSAGE) == "neutral"


# --- keys ------------------------------------------------------------------------------------


def _rsa(bits: int) -> str:
    public = rsa.generate_private_key(65_537, bits).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("v=DKIM1; k=ed25519; p=", "permerror"),
        ("v=DKIM2; " + record("ed25519"), "permerror"),
        ("k=ed25519; v=DKIM1; p=AAAA", "permerror"),
        ("v=spf1 -all", "permerror"),
        ("v=DKIM1; k=rsa; p=AAAA", "permerror"),
        ("v=DKIM1; k=ed25519; p=AAAA", "permerror"),
        ("v=DKIM1; k=ed448; p=AAAA", "permerror"),
        (record("rsa"), "permerror"),
        (record("ed25519").replace("h=sha256", "h=sha1"), "permerror"),
        (record("ed25519").replace("h=sha256", "h=sha1:sha256"), "pass"),
        (record("ed25519") + "; s=tlsrpt", "permerror"),
        (record("ed25519") + "; s=tlsrpt:email", "pass"),
        (record("ed25519") + "; t=s", "pass"),
        (record("ed25519").removeprefix("v=DKIM1; "), "pass"),
    ],
    ids=itertools.count(),  # the keys are new in each process
)
async def test_each_key_record_has_its_word(text: str, word: str) -> None:
    assert await code(other(), Dns({KEY: [("TXT", text)]})) == word


async def test_a_strict_key_is_for_its_domain_alone() -> None:
    dns = Dns({KEY: [("TXT", record("ed25519") + "; t=s:y")]})
    assert await code(other(tags={"i": f"@sub.{DOMAIN}"}), dns) == "permerror"
    (found,) = await verify(other(tags={"i": f"@{DOMAIN}"}), dns)
    assert found.code == "pass"
    assert found.testing


@pytest.mark.parametrize("bits", [1024, 4096])
async def test_rsa_keys_within_rfc_8301_are_keys(bits: int) -> None:
    dns = Dns({f"k-rsa._domainkey.{DOMAIN}": [("TXT", f"v=DKIM1; p={_rsa(bits)}")]})
    assert await code(other(kind="rsa"), dns) == "fail"  # a key, if another


async def test_a_record_that_is_no_key_beside_one_that_is_does_no_harm() -> None:
    dns = Dns({KEY: [("TXT", "v=spf1 -all"), ("TXT", record("ed25519"))]})
    assert await code(other(), dns) == "pass"
    dns.add(KEY, "TXT", record("ed25519"))
    assert await code(other(), dns) == "permerror"


async def test_a_failure_of_dns_is_temporary() -> None:
    dns = zone()
    dns.fail(KEY)
    assert await code(other(), dns) == "temperror"


async def test_dns_that_takes_too_long_is_a_temporary_failure_too() -> None:
    class Slow(Dns):
        async def query(self, name: str, kind: Kind) -> Answer[Record]:
            await asyncio.sleep(60)
            return await super().query(name, kind)

    (found,) = await verify(other(), Slow(), seconds=0.02)
    assert found.code == "temperror"


async def test_international_domains_are_asked_for_as_a_labels() -> None:
    """RFC 8616 §4."""
    dns = Dns({"k-ed25519._domainkey.xn--bcher-kva.example": [("TXT", record("ed25519"))]})
    (found,) = await verify(other(tags={"d": "bücher.example"}), dns)
    assert found.code == "pass"
    assert found.domain == "xn--bcher-kva.example"


async def test_two_signatures_of_one_key_ask_dns_once() -> None:
    dns = zone()
    first = other()
    twice = first[: first.index(b"From:")] + first
    assert [each.code.value for each in await verify(twice, dns)] == ["pass", "pass"]
    assert len(dns.asked) == 1


async def test_our_own_signatures_pass_with_both_keys() -> None:
    found = await verify(ours())
    assert [(each.code.value, each.algorithm) for each in found] == [
        ("pass", "rsa-sha256"),
        ("pass", "ed25519-sha256"),
    ]
