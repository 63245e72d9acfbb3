"""What strangers say of themselves: VBR-Info, records of logos, policies of MTA-STS."""

from __future__ import annotations

from contextlib import suppress

from postroom.core.errors import Malformed
from postroom.formats import headers
from postroom.mailflow import bimi as field
from postroom.trust import bimi, mta_sts, vbr

SEEDS: list[bytes] = [
    b"md=a.example; mc=list; mv=good.example:other.example",
    b"v=BIMI1; l=https://a.example/logo.svg; a=https://a.example/c.pem",
    b"v=BIMI1; s=summer.brand;",
    b"v=STSv1; id=20260101T000000; x=y;",
    b"version: STSv1\r\nmode: enforce\r\nmx: *.example.net\r\nmax_age: 604800\r\n",
    b"A: b\r\nBIMI-Location : v=BIMI1;\r\n\tl=x\r\nbimi-indicator: y\r\n\r\nbody",
]
TOKENS: list[bytes] = [
    *(b"md=", b"mc=", b"mv=", b":", b";", b"v=BIMI1;", b"l=", b"a=", b"s=", b"https://", b"@"),
    *(b"v=STSv1;", b"id=", b"version:", b"mode:", b"mx:", b"*.", b"max_age:", b"\nBIMI-Location:"),
]
_GONE = (b"bimi-location", b"bimi-indicator", b"bimi-preference", b"bimi-logo-preference")


def one_input(data: bytes) -> None:
    """Each reader says something or that it is void; no field of ours is left in a header."""
    info = vbr.read(data)
    if info is not None:
        told = f"md={info.domain}; mc={info.kind}; mv={':'.join(info.certifiers)}"
        assert vbr.read(told.encode()) == info
    assert bimi.selector(data).isascii()
    with suppress(Malformed):
        found = bimi.read(data)
        assert not found.location or bimi.read(f"v=BIMI1; l={found.location}".encode()).location
        made = headers.field("BIMI-Location", f"v=BIMI1; l={found.location}")
        assert len(headers.scan(made + b"\r\n").fields) == 1
    with suppress(Malformed):
        policy = mta_sts.parse(data)
        assert policy.max_age <= mta_sts.MAX_AGE_MOST
        assert all(map(policy.names, (each for each in policy.patterns if each[0] != "*")))
    known = mta_sts.record_id([data])
    assert known is None or known.isalnum()
    cut = data
    for start, end in reversed(field.forged(data)):
        cut = cut[:start] + cut[end:]
    left = headers.scan(cut)
    assert not any(left.find(name) for name in _GONE)
