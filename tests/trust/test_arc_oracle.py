"""Chains that dkimpy sealed, mutated, and judged by both. RFC 8617 §5.2."""

from __future__ import annotations

import base64
import logging
import random
import re
from functools import cache

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.trust.chains import verify
from tests.trust.zones import Dns

HOPS = 4
CASES = 2_000
NAMES = [f"s._domainkey.hop{n}.example" for n in range(1, HOPS + 1)]
MESSAGE = (
    b"From: Ann <ann@author.example>\r\nTo: bob@hop1.example\r\nSubject: Apples\r\n"
    b"Date: Tue, 3 Jan 2017 12:22:54 -0800\r\nMessage-ID: <1@author.example>\r\n\r\n"
    b"Apples  are red.\r\nPears are green.\r\n\r\n"
)
SIGNED = [b"from", b"to", b"subject", b"date", b"message-id"]
WAYS = ["nothing", "letter", "body", "blanks", "case", "removed", "swapped", "twice"]
WAYS += ["instance", "gap", "cv", "set", "other"]
NOW = 4_000_000_000  # dkimpy seals by its own clock, which is before this


@cache
def key() -> tuple[bytes, str]:
    made = rsa.generate_private_key(65537, 1024)
    private = made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = made.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private, f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"


def zone() -> Dns:
    dns = Dns()
    for name in NAMES:
        dns.add(name, "TXT", key()[1])
    return dns


def sealed(content: bytes, n: int, results: bytes = b"") -> bytes:
    """The message as the n-th hop sends it on; `results` are what it found of those before."""
    host = b"hop%d.example" % n
    found = b"Authentication-Results: " + host + b"; dmarc=pass header.from=author.example"
    found += (b"; arc=" + results if results else b"") + b"\r\n"
    fields = dkim.arc_sign(found + content, b"s", host, key()[0], host, SIGNED)
    return (
        b"".join(each.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for each in fields) + content
    )


@cache
def chain(hops: int, changed: int = 0) -> bytes:
    """A chain of so many sets; the hop `changed` puts a line below the body before it seals."""
    content = MESSAGE
    for n in range(1, hops + 1):
        if n == changed:
            content += b"-- the list\r\n"
        content = sealed(content, n, b"pass" if n > 1 else b"")
    return content


def fields_of(content: bytes) -> tuple[list[bytes], bytes]:
    header, _, body = content.partition(b"\r\n\r\n")
    return re.split(rb"\r\n(?![ \t])", header), body


def whole(fields: list[bytes], body: bytes) -> bytes:
    return b"".join(each + b"\r\n" for each in fields) + b"\r\n" + body


def mutated(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """What was done to the message, and the message."""
    fields, body = fields_of(content)
    at = chance.randrange(len(fields))
    arcs = [n for n, each in enumerate(fields) if each.startswith(b"ARC-")]
    one = chance.choice(arcs)
    what = chance.choice(WAYS)
    if what == "letter":
        each = fields[at]
        where = chance.randrange(each.find(b":") + 2, len(each))
        fields[at] = each[:where] + bytes([chance.choice(b"abcXYZ019")]) + each[where + 1 :]
    elif what == "body":
        body = body.replace(b"red", chance.choice((b"blue", b"red ", b"Red")))
    elif what == "blanks":
        body = body.replace(b" ", b"   ") + b"\r\n" * chance.randrange(3)
    elif what == "case":
        name, colon, value = fields[at].partition(b":")
        fields[at] = name.upper() + colon + value
    elif what == "removed":
        del fields[at]
    elif what == "swapped":
        other = chance.randrange(len(fields))
        fields[at], fields[other] = fields[other], fields[at]
    elif what == "twice":
        fields.insert(at, fields[one])
    elif what == "instance":
        fields[one] = re.sub(rb"\bi=\d+", b"i=%d" % chance.choice((0, 1, 2, 9, 51)), fields[one])
    elif what == "gap":
        n = b"i=%d;" % chance.randrange(1, HOPS + 1)
        fields = [each for each in fields if not (each.startswith(b"ARC-") and n in each)]
    elif what == "cv":
        lie = b"cv=" + chance.choice((b"none", b"pass", b"fail", b"maybe"))
        fields[one] = re.sub(rb"cv=\w+", lie, fields[one])
    elif what == "set":
        del fields[: chance.randrange(1, 4)]
    elif what == "other":
        fields.append(b"X-Other: " + bytes([chance.choice(b"abc")]))
    return what, whole(fields, body)


def in_order(content: bytes) -> bytes:
    """The message with its ARC fields on top, the newest set first, as sealers put them."""
    fields, body = fields_of(content)
    roles = (b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results")

    def rank(each: bytes) -> tuple[int, int]:
        found = re.search(rb"\bi=(\d+)", each)
        assert found is not None
        return -int(found[1]), roles.index(each.partition(b":")[0])

    arcs = [each for each in fields if each.startswith(b"ARC-")]
    return whole(sorted(arcs, key=rank) + [each for each in fields if each not in arcs], body)


def oracle(what: str, content: bytes) -> str:
    """What dkimpy says of it: none, pass or fail.

    It hashes the sets as they stand in the header, where RFC 8617 §5.1.1 has them by instance and
    role: fields that only changed places are put back for it. Of a chain whose last seal says
    cv=fail it has no word (None). What is no header to it, it refuses with an exception.
    """

    def ask(name: bytes | str, timeout: int = 5) -> bytes:
        text = name.decode() if isinstance(name, bytes) else name
        return key()[1].encode() if text.removesuffix(".") in NAMES else b""

    try:
        said = dkim.arc_verify(in_order(content) if what == "swapped" else content, dnsfunc=ask)
    except dkim.MessageFormatError:
        return "fail"
    return "fail" if said[0] is None else str(said[0].decode())


@pytest.mark.parametrize("hops", range(1, HOPS + 1))
async def test_a_chain_that_another_sealed_passes(hops: int) -> None:
    found = await verify(chain(hops), zone(), NOW)
    assert (found.code.value, found.oldest_pass) == ("pass", 0), found.reason
    assert found.sealers == tuple([f"hop{n}.example" for n in range(1, hops + 1)])


@pytest.mark.parametrize("changed", range(2, HOPS + 1))
async def test_the_oldest_that_holds_is_the_first_after_the_change(changed: int) -> None:
    found = await verify(chain(HOPS, changed), zone(), NOW)
    assert (found.code.value, found.oldest_pass) == ("pass", changed), found.reason


async def test_each_key_is_asked_for_once() -> None:
    dns = zone()
    await verify(chain(HOPS), dns, NOW)
    assert sorted(dns.asked) == [(name, "TXT") for name in NAMES]


async def test_a_changed_body_asks_nothing_of_dns() -> None:
    dns = zone()
    found = await verify(chain(HOPS) + b"more\r\n", dns, NOW)
    assert (found.code.value, dns.asked) == ("fail", [])


async def test_silence_of_dns_is_a_fail() -> None:
    dns = zone()
    dns.fail(NAMES[0])
    found = await verify(chain(2), dns, NOW)
    assert found.code == "fail"
    assert "no answer" in found.reason


async def test_more_than_fifty_sets_are_not_looked_at() -> None:
    dns = zone()
    found = await verify(b"ARC-Seal: i=1\r\n" * 51 + MESSAGE, dns, NOW)
    assert (found.code.value, dns.asked) == ("fail", [])
    assert "more than 50" in found.reason


async def test_both_say_the_same_of_mutated_chains() -> None:
    logging.getLogger("dkimpy").setLevel(logging.CRITICAL)
    chance = random.Random(8617)
    differ, said = [], set()
    for _ in range(CASES):
        what, content = mutated(chain(chance.randrange(1, HOPS + 1)), chance)
        found = await verify(content, zone(), NOW)
        said.add(found.code.value)
        theirs = oracle(what, content)
        if found.code.value != theirs:
            differ.append((what, found.code.value, found.reason, theirs))
    assert said == {"none", "pass", "fail"}
    assert differ == []
