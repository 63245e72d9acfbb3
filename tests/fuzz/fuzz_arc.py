"""ARC: sets read from any header, and sealed on top of whatever was there."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.formats import headers
from postroom.trust import arc
from postroom.trust.arc.seal import instance, opened, seal
from postroom.trust.dkim import SigningKey
from postroom.trust.dkim.sign import hash_body

NOW = 1_700_000_000
KEY = SigningKey("b.example", "s", "rsa", rsa.generate_private_key(65537, 1024))
BODY = hash_body([b"text\r\n"])
SIGNED = ("From", "From", "Subject")
SET: bytes = (
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.example; s=x; t=1; b=AAAA\r\n"
    b"ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=a.example; s=x;\r\n"
    b"\th=from:subject; bh=AAAA; b=AAAA\r\n"
    b"ARC-Authentication-Results: i=1; mx.a.example; dmarc=pass header.from=a.example\r\n"
)
SEEDS: list[bytes] = [
    SET + b"From: Ann <ann@a.example>\r\nSubject: x\r\n\r\ntext\r\n",
    SET.replace(b"i=1", b"i=2").replace(b"none", b"pass") + SET + b"From: a@a.example\r\n\r\n",
    SET.replace(b"cv=none", b"cv=fail") + b"\r\n",
    SET.replace(b"i=1", b"i=50") + b"\r\n",
    b"From: a@a.example\r\n\r\n",
]
TOKENS: list[bytes] = [
    *(b"ARC-Seal:", b"ARC-Message-Signature:", b"ARC-Authentication-Results:", b"i=1;", b"i=51;"),
    *(b"cv=pass;", b"cv=fail;", b"h=from:arc-seal;", b"l=0;", b"x=1;", b"b=", b"\r\n\t", SET),
]


def one_input(data: bytes) -> None:
    """What is read is a chain of 1 to N or a reason; what we seal is one more, and ours again."""
    found = headers.scan(data)
    chain = arc.read(found, NOW)
    assert not (chain.bad and chain.sets)
    assert len(chain.sets) <= arc.MOST_SETS
    if not chain.sets and not chain.bad:
        assert instance(found) == 1
    made = seal(found, chain, arc.ArcCode.PASS, BODY, KEY, "b.example; none", SIGNED, NOW)
    assert bool(made) is bool(instance(found))
    if made:
        # A Received field of ours stands between a seal and what others wrote.
        was = opened(made + b"Received: x\r\n" + data)
        assert was is not None
        assert (was.bare, was.domain) == (b"Received: x\r\n" + data, "b.example")
        assert (was.code, was.results) == (arc.ArcCode.PASS, "b.example; none")
