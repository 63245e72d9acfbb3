"""Made-up cases that we and other implementations judge: SPF, DKIM, DMARC."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from random import Random
from typing import Any, Final

import authheaders
import dkim as dkimpy
import spf as pyspf
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from postroom.core.errors import DnsFailed
from postroom.net.dns import Kind, Mx, Record
from postroom.trust.dmarc import Identifier, evaluate
from postroom.trust.spf import Client, Identity, check_host
from tests.trust.signed import DOMAIN, NOW, key, ours, record, verify
from tests.trust.zones import Dns, dns_name


@dataclass(frozen=True, slots=True)
class Judged:
    """What both say of a case, and why they may differ; empty: they may not."""

    ours: str
    theirs: str
    reason: str = ""
    case: object = None


# --- SPF ----------------------------------------------------------------------------------------

NAMES: Final = ("a.example", "b.example", "c.example", "mail.a.example")
ADDRESSES: Final = ("192.0.2.1", "192.0.2.200", "203.0.113.9", "2001:db8::1", "2001:db9::1")
TERMS: Final = """
    a mx ptr -all ?all ~all +all ip4:192.0.2.0/25 -ip4:192.0.2.200 ip6:2001:db8::/32 a/24//48 a//0
    include:b.example ?include:c.example redirect=b.example redirect=c.example -a:mail.a.example
    exists:%{i}.b.example exists:%{h} ~a:c.example/24 mx:b.example/28 -mx:c.example ptr:a.example
    a:mail.%{d} a:%{o} exists:%{l1r-}.%{d2} moo=cow all:x ip4:192.0.2.1/33 a:b exp=b.example
    ip4:192.0.2.1 ip6:::/0 A:B.EXAMPLE +MX
"""


def world(rng: Random) -> Dns:
    """Four names of which each may have records, and addresses with names."""
    dns = Dns()
    for name in NAMES:
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            dns.add(
                name, "TXT", " ".join(["v=spf1", *rng.choices(TERMS.split(), k=rng.randrange(6))])
            )
        for ip in rng.sample(ADDRESSES, rng.randrange(4)):
            dns.add(name, "AAAA" if ":" in ip else "A", ip)
        for n, host in enumerate(rng.sample(NAMES, rng.randrange(3))):
            dns.add(name, "MX", (n, host))
    for ip in ADDRESSES:
        for host in rng.sample(NAMES, rng.randrange(3)):
            dns.add(ip_address(ip).reverse_pointer, "PTR", host)
    return dns


def spf(rng: Random) -> Judged:
    """One world and a client in it."""
    dns, ip = world(rng), rng.choice(ADDRESSES)
    local, helo = rng.choice(("ann", "a-b")), rng.choice(NAMES)
    client = Client(ip_address(ip), helo)
    found = asyncio.run(check_host(dns, client, NAMES[0], local, Identity.MAIL_FROM))
    reason = ""
    if "for what is not there" in found.why:
        reason = "our limit of void lookups, RFC 7208 §4.6.4; pyspf counts names, not terms"
    elif any(str(records).count("moo=cow") > 1 for records in dns.held.values()):
        reason = "an unknown modifier may come twice, RFC 7208 §6"
    elif any(f"include:{name}" in str(records) for name, records in dns.held.items()):
        reason = (
            "a term counts once it is reached, RFC 7208 §4.6.2; pyspf reads one that loops first"
        )
    theirs = of_pyspf(dns, ip, f"{local}@{NAMES[0]}", helo)
    return Judged(str(found.result.value), theirs, reason, (ip, helo, dns.held, found.why))


def of_pyspf(dns: Dns, ip: str, sender: str, helo: str) -> str:
    """What pyspf says, over the same records."""

    def look_up(name: str, kind: str, *rest: object) -> Iterator[tuple[tuple[str, str], Any]]:
        try:
            answer = asyncio.run(dns.query(dns_name(name), Kind(kind)))
        except DnsFailed as error:
            raise pyspf.TempError("DNS") from error
        for found in answer.records:
            yield (name, kind), _shown(found)

    # It counts each name of an mx without an address as a void lookup; the RFC counts terms.
    before = pyspf.DNSLookup, pyspf.MAX_VOID_LOOKUPS
    pyspf.DNSLookup, pyspf.MAX_VOID_LOOKUPS = look_up, 1000
    try:
        return str(pyspf.query(ip, sender, helo, strict=True).check()[0])
    finally:
        pyspf.DNSLookup, pyspf.MAX_VOID_LOOKUPS = before


def _shown(found: Record) -> Any:
    if isinstance(found, Mx):
        return found.preference, found.host
    return (found,) if isinstance(found, bytes) else str(found)


# --- DKIM ---------------------------------------------------------------------------------------

_NAMES: Final = (b"To", b"Subject", b"Date", b"X-One", b"Received", b"List-Id", b"Cc")
_WORDS: Final = (b"a", b"b  c", b"=?utf-8?q?d?=", b"<e@f.example>", b"g;h=i", b"\t", b"caf\xc3\xa9")
_LINES: Final = (b"", b" ", b"\t", b"a", b"a  b \t", b" x", b"From here", b".", b"y" * 200)


def _message(rng: Random) -> bytes:
    fields = [b"From: ann@" + DOMAIN.encode()]
    for _ in range(rng.randrange(8)):
        value = b" ".join(rng.choices(_WORDS, k=rng.randrange(1, 4))).strip()
        fold = b"\r\n " if rng.random() < 0.2 else b" "
        fields.append(rng.choice(_NAMES) + b":" + fold + (value or b"v"))
    rng.shuffle(fields)
    body = b"".join(line + b"\r\n" for line in rng.choices(_LINES, k=rng.randrange(9)))
    return b"\r\n".join(fields) + b"\r\n\r\n" + body


def _text(name: bytes | str, timeout: int = 5) -> bytes:
    asked = name.decode() if isinstance(name, bytes) else name
    return record("rsa" if asked.startswith("k-rsa.") else "ed25519").encode()


@cache
def _pem() -> bytes:
    form = PrivateFormat.TraditionalOpenSSL
    return key("rsa").private.private_bytes(Encoding.PEM, form, NoEncryption())


def _signed_by_dkimpy(rng: Random, message: bytes) -> bytes:
    there = {line.partition(b":")[0].lower() for line in _fields(message)} - {b"received"}
    extra = {b"from"} | set(rng.sample(sorted(there), rng.randrange(len(there) + 1)))
    forms = rng.choice((b"simple", b"relaxed")), rng.choice((b"simple", b"relaxed"))
    length = rng.random() < 0.1
    made = dkimpy.sign(
        message,
        b"k-rsa",
        DOMAIN.encode(),
        _pem(),
        canonicalize=forms,
        include_headers=sorted(extra),
        length=length,
    )
    return bytes(made) + message


def _fields(message: bytes) -> list[bytes]:
    head = message.partition(b"\r\n\r\n")[0]
    return re.split(rb"\r\n(?![ \t])", head)


def _changed(rng: Random, message: bytes) -> bytes:
    """The message as somebody on its way may leave it: often as it was."""
    _, gap, body = message.partition(b"\r\n\r\n")
    fields = _fields(message)
    at = rng.randrange(1, len(fields))
    match rng.randrange(12):
        case 0:
            body += rng.choice((b"\r\n", b"more\r\n", b" \r\n"))
        case 1:
            body = body.replace(b"a", rng.choice((b"b", b"a ", b"a\t")), 1)
        case 2:
            fields.insert(rng.randrange(len(fields) + 1), rng.choice(_NAMES) + b": another")
        case 3:
            del fields[at]
        case 4:
            other = rng.randrange(1, len(fields))
            fields[at], fields[other] = fields[other], fields[at]
        case 5:
            fields[at] = fields[at].replace(b": ", b":  ", 1)
        case 6:
            name, colon, rest = fields[at].partition(b":")
            fields[at] = name.swapcase() + colon + rest
        case 7:
            fields[at] += b" "
        case 8:
            place = rng.randrange(len(fields[0]))
            octet = bytes([rng.choice(b"aA0=; \t+/")])
            fields[0] = fields[0][:place] + octet + fields[0][place + 1 :]
        case 9:
            fields.insert(0, b"From: eve@b.example")
        case _:
            return message
    return b"\r\n".join(fields) + gap + body


def dkim(rng: Random) -> Judged:
    """A message signed by one of us, perhaps changed, and judged by both."""
    message = _message(rng)
    mine = rng.random() < 0.5
    signed = ours(message, ("rsa",)) if mine else _signed_by_dkimpy(rng, message)
    changed = _changed(rng, signed)
    found = asyncio.run(verify(changed, now=NOW + 10**9 if not mine else NOW))
    first = found[0] if found else None
    code = first.code.value if first is not None else "none"
    try:
        theirs = "pass" if dkimpy.verify(changed, dnsfunc=_text) else "fail"
    except (dkimpy.DKIMException, ValueError, IndexError, KeyError, TypeError) as error:
        theirs = f"fail ({type(error).__name__})"
    theirs = theirs.partition(" ")[0]
    ours_ = "pass" if code == "pass" else "fail"
    reason = _why_dkim(changed, code, first.reason if first is not None else "", theirs)
    return Judged(ours_, theirs, reason, (code, first, changed))


def _why_dkim(content: bytes, code: str, why: str, theirs: str) -> str:
    if code == "policy" and theirs == "pass":
        return "it holds, and is none that we accept: RFC 6376 §8.2, §8.15 (l=, a field twice)"
    if code in ("permerror", "neutral") and theirs == "pass":
        return f"we are stricter about its form, RFC 6376 §3.5: {_kind(why)}"
    return ""


def _kind(why: str) -> str:
    return re.sub(r"[^A-Za-z ,.=]+", "…", why)[:60]


# --- DMARC --------------------------------------------------------------------------------------

AUTHORS: Final = ("bank.com", "a.bank.com", "b.a.bank.com")
OTHERS: Final = (*AUTHORS, "c.bank.com", "notbank.com", "evil.com", "com")
RESULTS: Final = ("pass", "pass", "pass", "fail", "none", "softfail")


def _record(rng: Random) -> str:
    tags = ["v=DMARC1", f"p={rng.choice(('none', 'quarantine', 'reject'))}"]
    for name, values in (("sp", ("none", "quarantine", "reject")), ("adkim", "rs"), ("aspf", "rs")):
        if rng.random() < 0.4:
            tags.append(f"{name}={rng.choice(values)}")
    if rng.random() < 0.3:
        tags.append(f"pct={rng.randrange(101)}")
    return "; ".join(tags)


def dmarc(rng: Random) -> Judged:
    """An author, records on the way up, and what SPF and DKIM vouch for."""
    author, mail_from, signer = rng.choice(AUTHORS), rng.choice(OTHERS), rng.choice(OTHERS)
    of_spf, of_dkim = rng.choice(RESULTS), rng.choice(RESULTS)
    dns = Dns({"bank.com": [("A", "192.0.2.1")]})
    told: dict[str, str] = {}
    for name in AUTHORS:
        if rng.random() < (0.85 if name == "bank.com" else 0.3):
            told[f"_dmarc.{name}"] = text = _record(rng)
            dns.add(f"_dmarc.{name}", "TXT", text)
    identifiers = [Identifier("spf", mail_from, of_spf), Identifier("dkim", signer, of_dkim, "s")]
    (found,) = asyncio.run(evaluate(dns, [author], identifiers))
    policy = f" {found.published.value}" if found.code in ("pass", "fail") else ""
    theirs = _of_authheaders(author, mail_from, of_spf, signer, of_dkim, told)
    reason = ""
    between = [name for name in AUTHORS[1:] if f"_dmarc.{name}" in told and name != author]
    if between and author == "b.a.bank.com":
        reason = "a record between author and organisation counts, RFC 9989 §4.10"
    elif "_dmarc.bank.com" not in told:
        reason = "without a record at the top another is the organisation, RFC 9989 §4.10.2"
    elif "sp=" in told.get(f"_dmarc.{author}", ""):
        reason = "sp= is for names below the one whose record it is in, RFC 9989 §4.7"
    return Judged(found.code.value + policy, theirs, reason, (author, mail_from, signer, told))


def _of_authheaders(
    author: str, mail_from: str, of_spf: str, signer: str, of_dkim: str, told: dict[str, str]
) -> str:
    sender = authheaders.SPFAuthenticationResult(
        result=of_spf, smtp_mailfrom=f"x@{mail_from}", smtp_helo=None
    )
    signed = authheaders.DKIMAuthenticationResult(result=of_dkim, header_d=signer)
    message = f"From: ann@{author}\r\n\r\nhello\r\n".encode()
    found = authheaders.check_dmarc(
        message, sender, signed, dnsfunc=lambda name, *rest: told.get(str(name).rstrip("."))
    )
    shown = str(found.result)
    policy = re.search(r"policy\.dmarc=(\w+)", str(found)) if shown in ("pass", "fail") else None
    return f"{shown} {policy[1]}" if policy is not None else shown
