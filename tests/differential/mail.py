"""Mail on which IMAP servers could differ: published, malformed, tangled."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Final

VECTORS: Final = Path(__file__).parents[3] / "shared" / "vectors"

_FROM: Final = (
    b"ann@a.example",
    b"Ann <ann@a.example>",
    b'"Ann, B." <ann@a.example>',
    b"=?utf-8?q?J=C3=B6rg?= <j@b.example>, bob@c.example",
    b"friends: ann@a.example, Bob <bob@b.example>;",
    b"undisclosed-recipients:;",
    b"Ann (the first) <ann@a.example> (home)",
    b"<@route.example,@two.example:ann@a.example>",
    b'"quoted \\"local\\""@a.example',
    b"ann",
    b"ann@a.example bob@b.example",
    b"<ann@a.example",
    b"",
    b"\r\n\tfolded <f@a.example>,\r\n two@a.example",
    "Jörg <j@b.example>".encode(),
    b"a@[192.0.2.1]",
    b'" " <x@y.example>',
    b",, ann@a.example,,",
)
_SUBJECT: Final = (
    b"Hello",
    b"=?utf-8?b?SMOka2w=?= =?utf-8?b?ZW4=?=",
    b"folded\r\n over\r\n\tthree lines",
    b"",
    b"  spaces  ",
    "roh: ä".encode(),
    b"=?utf-8?q?broken",
    b"Re: Re: [list] Hello (fwd)",
    b'with "quotes" and \\ backslash',
)
_DATE: Final = (
    b"Mon, 2 Feb 2026 10:00:00 +0100",
    b"2 Feb 26 10:00 GMT",
    b"Mon, 2 Feb 2026 10:00:00 (noon)",
    b"yesterday",
    b"Fri, 30 Feb 2026 25:61:00 +0000",
    b"",
)
_TYPES: Final = (
    b"text/plain",
    b"text/plain; charset=us-ascii",
    b'TEXT/HTML; charset="utf-8"; x="a;b"',
    b"text",
    b"text/plain; charset",
    b"text/plain; charset=",
    b"application/octet-stream; name*0=long; name*1=er.bin",
    b"application/octet-stream; name*=utf-8''%C3%A4.bin",
    b'image/png; name=\r\n\t"a b.png"',
    b"text/x-unknown; a=1; A=2",
    b"text/plain (comment); (another) charset=utf-8",
    b"/",
)
_ENCODINGS: Final = (b"7bit", b"8BIT", b"base64", b"quoted-printable", b"binary", b"x-own", b"")


_FIELD: Final = re.compile(rb"[\x21-\x39\x3b-\x7e]+[ \t]*:|[ \t]")


def has_no_field(raw: bytes) -> bool:
    """Whether a line of the header section is neither a field nor the rest of one."""
    head = raw.partition(b"\r\n\r\n")[0]
    lines = head.split(b"\r\n")
    return not all(_FIELD.match(line) for line in lines if line)


def is_text(raw: bytes) -> bool:
    """Whether the header section is UTF-8: of other octets nobody can say what they mean."""
    try:
        raw.partition(b"\r\n\r\n")[0].decode()
    except UnicodeDecodeError:
        return False
    return True


def published() -> list[bytes]:
    """The messages of the vectors, with line ends as they are on the wire."""
    found = []
    for path in sorted(VECTORS.rglob("*.eml")):
        raw = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\0" not in raw:
            found.append(raw.replace(b"\n", b"\r\n"))
    return found


def malformed(count: int, seed: int) -> list[bytes]:
    """Messages of odd header fields over odd structures."""
    rng = Random(seed)
    return [_message(rng, n) for n in range(count)]


def _message(rng: Random, n: int) -> bytes:
    fields = [b"From: " + rng.choice(_FROM), b"Subject: " + rng.choice(_SUBJECT)]
    others = (b"To", b"Cc", b"Bcc", b"Reply-To", b"Sender", b"to")
    fields += [name + b": " + rng.choice(_FROM) for name in others if rng.random() < 0.35]
    if rng.random() < 0.8:
        fields.append(b"Date: " + rng.choice(_DATE))
    if rng.random() < 0.7:
        fields.append(b"Message-ID: " + rng.choice((b"<%d@x>", b"%d@x", b" <%d@x> <2@x>")) % n)
    if rng.random() < 0.2:
        fields.append(b"In-Reply-To: <%d@x> (a comment)" % rng.randrange(n + 1))
    if rng.random() < 0.1:
        fields.append(rng.choice((b"no colon here", b": no name", b"Bad Name: x", b"X-Empty:")))
    rng.shuffle(fields)
    typed, body = _part(rng, 0)
    return b"\r\n".join([*fields, *typed, b"", body])


def _part(rng: Random, depth: int) -> tuple[list[bytes], bytes]:
    """Header fields of a part, and its body."""
    kind = rng.random()
    if depth < 4 and kind < 0.35:
        return _multipart(rng, depth)
    if depth < 4 and kind < 0.45:
        fields, body = _part(rng, depth + 1)
        inner = [b"Subject: inner", b"From: " + rng.choice(_FROM), *fields]
        return [b"Content-Type: message/rfc822"], b"\r\n".join([*inner, b"", body])
    lines = [b"line %d of %d" % (n, depth) for n in range(rng.randrange(4))]
    body = b"\r\n".join(lines) + rng.choice((b"", b"\r\n", b"\r\n\r\n"))
    fields = []
    if rng.random() < 0.8:
        fields.append(b"Content-Type: " + rng.choice(_TYPES))
    if rng.random() < 0.5:
        fields.append(b"Content-Transfer-Encoding: " + rng.choice(_ENCODINGS))
    if rng.random() < 0.3:
        disposition = rng.choice((b"attachment", b'inline; filename="a.txt"', b"ATTACHMENT; x=1"))
        fields.append(b"Content-Disposition: " + disposition)
    if rng.random() < 0.2:
        fields.append(b"Content-ID: <part%d@x>" % rng.randrange(9))
        fields.append(b"Content-Description: " + rng.choice(_SUBJECT))
    if rng.random() < 0.1:
        fields += [b"Content-Language: en, de", b"Content-MD5: Q2hlY2s=", b"Content-Location: a/b"]
    return fields, body


def _multipart(rng: Random, depth: int) -> tuple[list[bytes], bytes]:
    boundary = b"b%d-%d" % (depth, rng.randrange(1000))
    subtype = rng.choice((b"mixed", b"alternative", b"digest", b"MIXED", b"x-own"))
    pieces = [rng.choice((b"", b"a preamble\r\n"))]
    for _ in range(rng.randrange(4)):
        fields, body = _part(rng, depth + 1)
        pieces.append(b"--%b\r\n%b\r\n" % (boundary, b"\r\n".join([*fields, b"", body])))
    if rng.random() < 0.85:
        pieces.append(b"--%b--" % boundary + rng.choice((b"", b"\r\n", b"\r\nan epilogue\r\n")))
    quoted = b'"%b"' % boundary if rng.random() < 0.5 else boundary
    named = b"; boundary=" + quoted if rng.random() < 0.95 else b""
    return [b"Content-Type: multipart/%b%b" % (subtype, named)], b"".join(pieces)


def tangled(count: int, seed: int) -> list[bytes]:
    """References that lie, ids that come twice, subjects of every kind, dates that are equal."""
    rng = Random(seed)
    marks = ("", "Re: ", "RE: ", "Fwd: ", "[list] ", "Re: [list] Re: ", "re [x]: ")
    made: list[bytes] = []
    for n in range(count):
        lines = [f"From: {rng.choice(['ann', 'Bob', 'zoe'])}{n % 7}@a.example"]
        if rng.random() < 0.9:
            lines.append(f"Message-ID: <{rng.randrange(count)}@x>")
        known = [f"<{rng.randrange(count)}@x>" for _ in range(rng.randrange(5))]
        if known:
            lines.append("References: " + " ".join(known))
        elif rng.random() < 0.3:
            lines.append(f"In-Reply-To: <{rng.randrange(count)}@x>")
        if rng.random() < 0.8:
            subject = rng.choice(marks) + f"subject {rng.randrange(60)}"
            lines.append("Subject: " + subject + rng.choice(["", " (fwd)", "  "]))
        if rng.random() < 0.9:
            day, hour = rng.randrange(1, 28), rng.randrange(24)
            lines.append(f"Date: {day} Feb 2026 {hour:02}:00:00 {rng.choice('+-')}0300")
        made.append("\r\n".join([*lines, "", "x", ""]).encode())
    return made
