"""Signed messages for tests: keys made once, a signer that signs whatever it is told to."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache

from postroom.formats import headers
from postroom.trust import dkim
from postroom.trust.dkim import DkimResult, SigningKey, canon
from postroom.trust.dkim import sign as signing
from postroom.trust.dkim.canon import BodyHasher, Part
from tests.trust.zones import Dns

NOW = 1_700_000_000
DOMAIN = "a.example"
MESSAGE = (
    b"From: Ann <ann@a.example>\r\nTo: bob@b.example\r\nSubject: Dinner\r\n\r\n"
    b"Is it ready?\r\n \r\nAnn\r\n"
)


@cache
def private(kind: str) -> bytes:
    return signing.make_key(kind)


def key(kind: str, domain: str = DOMAIN) -> SigningKey:
    return signing.load(domain, f"k-{kind}", kind, private(kind))


def record(kind: str) -> str:
    return signing.record(kind, private(kind))


def zone(domain: str = DOMAIN) -> Dns:
    """DNS with both keys."""
    return Dns({f"k-{k}._domainkey.{domain}": [("TXT", record(k))] for k in dkim.KINDS})


def ours(message: bytes = MESSAGE, kinds: tuple[str, ...] = dkim.KINDS) -> bytes:
    """The message as we sign it."""
    found = headers.scan(message)
    keys = [key(kind) for kind in kinds]
    body = signing.hash_body([message[found.end :]])
    return signing.sign(found, body, keys, ("List-Id",), NOW) + message


def other(
    message: bytes = MESSAGE,
    tags: Mapping[str, str] | None = None,
    kind: str = "ed25519",
    signed: tuple[str, ...] = ("from", "to", "subject"),
) -> bytes:
    """The message as somebody else might sign it: `tags` replace those below, "" leaves one out."""
    found = headers.scan(message)
    told = {
        "v": "1",
        "a": f"{kind}-sha256",
        "c": "relaxed/relaxed",
        "d": DOMAIN,
        "s": f"k-{kind}",
        "h": ":".join(signed),
    } | dict(tags or {})
    form = told["c"].partition("/")[2] or "simple"
    limit = int(told["l"]) if told.get("l", "").isdigit() else None
    body = BodyHasher((Part(form, limit),))
    body.feed(message[found.end :])
    body.finish()
    digest = body.of(Part(form, limit)).digest
    told.setdefault("bh", base64.b64encode(digest).decode())
    value = "; ".join(f"{name}={text}" for name, text in told.items() if text and name != "b")
    value += "; b="
    how = told["c"].partition("/")[0]
    made = hashlib.sha256()
    left: dict[str, int] = {}
    for name in [each.strip().lower() for each in told["h"].split(":")]:
        there = found.find(name.encode())
        left[name] = left.get(name, 0) + 1
        if left[name] <= len(there):
            one = there[-left[name]]
            raw = one.raw(message)
            made.update(canon.field(one.name, raw, one.raw_value(message), how))
    own = f"DKIM-Signature: {value}".encode()
    last = canon.field(b"DKIM-Signature", own, f" {value}".encode(), how)
    made.update(last.removesuffix(b"\r\n"))
    octets = base64.b64encode(key(kind).sign(made.digest()))
    return own + told.get("b", octets.decode()).encode() + b"\r\n" + message


async def verify(
    content: bytes, dns: Dns | None = None, now: int = NOW, seconds: float = 5.0
) -> tuple[DkimResult, ...]:
    dns = dns if dns is not None else zone()
    found = headers.scan(content)
    read = dkim.signatures(found, now)
    body = dkim.hasher(read)
    body.feed(content[found.end :])
    body.finish()

    async def key_of(name: str) -> dkim.Key | dkim.BadKey:
        return await dkim.look_up(dns.query, name)

    return await dkim.verify(found, read, body, key_of, seconds)


async def code(content: bytes, dns: Dns | None = None, now: int = NOW) -> str:
    """The word for the only signature, or for the first."""
    return (await verify(content, dns, now))[0].code.value
