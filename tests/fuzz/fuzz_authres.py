"""Authentication-Results: read from any octets, composed of any values, found where forged."""

from __future__ import annotations

from postroom.formats import headers
from postroom.formats.authres import (
    AuthenticationResults,
    MethodResult,
    Property,
    below_any,
    claimed,
    compose,
    parse,
)

OURS = below_any(("mail.example.test", "example.test"))
SEEDS: list[bytes] = [
    b"mail.example.test; spf=pass (good) smtp.mailfrom=ann@a.example; iprev=fail policy.iprev=1",
    b'(x) "mail.example.test" 1; dkim/1=pass reason="a b" header.d=a.example header.b="x+/="',
    b"example.org; none",
    b"Authentication-Results : mail.example.test;\r\n\tspf=pass\r\nSubject: x\r\n y\r\n\r\nbody",
    'x; spf=pass smtp.mailfrom="j ü"@b.example'.encode(),
]
TOKENS: list[bytes] = [
    *(b"Authentication-Results:", b"mail.example.test", b"; ", b"spf=pass", b"none", b"reason="),
    *(b"smtp.mailfrom=", b"header.d=", b"/1", b"\\)", b"(a(b))", b'"\\""', b"\r\n\t", b"\xc3\xbc"),
]


def one_input(data: bytes) -> None:
    """What is read reads back; what is composed is one field; no forged one is left."""
    found = parse(data)
    if found is not None:
        once = _one(compose(found, utf8=True))
        assert once is not None
        assert _one(compose(once, utf8=True)) == once
    text = data.decode("utf-8", "surrogateescape")
    made = MethodResult("spf", "pass", text, (Property("smtp", "mailfrom", text),), text)
    for utf8 in (True, False):
        assert _one(compose(AuthenticationResults(text, (made,)), utf8=utf8)) is not None
    cut = data
    for start, end in reversed(claimed(data, OURS)):
        cut = cut[:start] + cut[end:]
    for value in headers.scan(cut).all(b"authentication-results"):
        read = parse(value)
        assert read is None or read.server.lower() != "mail.example.test"


def _one(field: bytes) -> AuthenticationResults | None:
    scanned = headers.scan(field + b"\r\n")
    assert len(scanned.fields) == 1
    return parse(scanned.fields[0].raw_value(field))
