"""Failure reports: whether a domain wants one, and what it says. RFC 9991, RFC 6591, RFC 6590.

Pure. A stranger wrote all that is reported, so each value is cut, and a message of any size costs
no more than what is kept of it.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from postroom.formats import headers
from postroom.formats.compose import printable
from postroom.trust.dmarc.record import Record

DMARC: Final = "dmarc"
SIGNATURE: Final = "signature"
BODY: Final = "bodyhash"
"""What `signature` is called of one whose body hash is another one. RFC 6591 §3.3."""
SPF: Final = "spf"

HIDDEN: Final = b"X.X.X.X"
"""In the place of an IP address that means something to nobody but its network."""
UNNAMED: Final = b"redacted"
"""A local part where there is no key to tell one from another."""
_SPF_FAILS: Final = frozenset({"fail", "softfail"})


@dataclass(frozen=True, slots=True)
class Found:
    """What the checks said of a message."""

    spf_aligned: bool
    dkim_aligned: bool
    spf: str = "none"  # without alignment
    dkim: tuple[str, ...] = ()  # of each signature


def wanted(record: Record, found: Found) -> str:
    """What failed in the words of `Auth-Failure`, if the domain wants to hear of it; else empty.

    RFC 9989 §4.7 `fo`. `0` wants those that nothing vouches for, `1` those too that one method
    alone does, `d` and `s` what failed without regard to whose name it was in. A public suffix
    (psd=y) is told nothing of mail of those below it: RFC 9991 §2.
    """
    if not record.ruf or record.psd == "y":
        return ""
    if not found.spf_aligned and not found.dkim_aligned and {"0", "1"} & {*record.failures}:
        return DMARC
    if "1" in record.failures and not (found.spf_aligned and found.dkim_aligned):
        return DMARC
    if "d" in record.failures and "fail" in found.dkim:
        return SIGNATURE
    return SPF if "s" in record.failures and found.spf in _SPF_FAILS else ""


def alignment(found: Found) -> str:
    """`Identity-Alignment`: which methods vouch for nobody of the author's domain; none if all
    do. RFC 9991 §4."""
    absent = [(found.dkim_aligned, "dkim"), (found.spf_aligned, "spf")]
    return ", ".join([name for aligned, name in absent if not aligned]) or "none"


@dataclass(frozen=True, slots=True)
class Told:
    """What a report tells beside the content. Empty texts are left out."""

    failure: str
    alignment: str
    delivery: str  # delivered, spam, policy, reject, other: RFC 6591 §3.2
    domain: str  # the author's
    source_ip: str
    mail_from: str
    arrived: str  # as a Date field has it
    envelope_id: str
    results: str  # Authentication-Results
    dkim_domain: str = ""
    dkim_selector: str = ""
    dkim_identity: str = ""
    spf_domain: str = ""
    dkim_header: str = ""  # base64 of what was hashed
    dkim_body: str = ""  # likewise


@dataclass(frozen=True, slots=True)
class Published:
    """What DNS says by the time of the report."""

    spf: str = ""
    key: str = ""


def fields(
    told: Told, reporter: str, agent: str, published: Published = Published(), incidents: int = 1
) -> list[tuple[str, str]]:
    """The part that machines read. RFC 5965 §3.1, RFC 6591 §3.1, RFC 9991 §4.

    `incidents` is how many messages failed so, of which this one is told.
    """
    made = [
        ("Feedback-Type", "auth-failure"),
        ("User-Agent", agent),
        ("Version", "1"),
        ("Auth-Failure", told.failure),
        ("Identity-Alignment", told.alignment),
        ("Authentication-Results", printable(told.results, _LONGEST)),
        ("Delivery-Result", told.delivery),
        ("Reported-Domain", printable(told.domain)),
        ("Reporting-MTA", f"dns; {reporter}"),
        ("Source-IP", told.source_ip),
        ("Original-Mail-From", printable(told.mail_from)),
        ("Original-Envelope-Id", told.envelope_id),
        ("Arrival-Date", told.arrived),
        ("DKIM-Domain", printable(told.dkim_domain)),
        ("DKIM-Identity", printable(told.dkim_identity)),
        ("DKIM-Selector", printable(told.dkim_selector)),
        ("DKIM-Selector-DNS", _quoted(published.key)),
        ("DKIM-Canonicalized-Header", _in_words(told.dkim_header)),
        ("DKIM-Canonicalized-Body", _in_words(told.dkim_body)),
        ("Incidents", str(incidents) if incidents > 1 else ""),
    ]
    if published.spf:
        record = _quoted(published.spf)
        made.append(("SPF-DNS", f"txt : {printable(told.spf_domain)} : {record}"))
    return [(name, value) for name, value in made if value]


def _quoted(text: str) -> str:
    """A quoted string; nothing of nothing."""
    if not text:
        return ""
    shown = printable(text, _LONGEST).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{shown}"'


def _in_words(base64: str) -> str:
    """With blanks at which the field may be folded."""
    return " ".join([base64[at : at + _WORD] for at in range(0, len(base64), _WORD)])


_LONGEST: Final = 900
_WORD: Final = 72


# --- what is kept back --------------------------------------------------------------------------

_STAY: Final = frozenset(
    b"from sender reply-to date message-id received return-path authentication-results "
    b"received-spf dkim-signature arc-seal arc-message-signature arc-authentication-results "
    b"mime-version content-type list-id resent-from resent-sender resent-date user-agent "
    b"x-mailer".split()
)
"""Fields that say how a message came about; others may say what it is about."""
_RECEIVERS: Final = frozenset(b"to cc resent-to resent-cc delivered-to x-original-to".split())
"""Of these the addresses stay, without the names and with their local parts hidden."""


def redacted(header: bytes, key: bytes) -> bytes:
    """A header block without what a recipient need not tell a stranger's domain. RFC 6590.

    Subject and all that is not known to be harmless go; local parts become a keyed digest, the same
    for the same key, so that who reads several reports sees that it was one person.
    """
    found = headers.scan(header)
    kept = []
    for field in found.fields:
        name = field.name.lower()
        if name in _STAY:
            value = hide_local_parts(field.value(header), key)
        elif name in _RECEIVERS:
            value = b", ".join(_addresses(field.value(header), key))
        else:
            continue
        if value:
            kept.append(_folded(field.name, value))
    return b"".join(kept)


def _folded(name: bytes, value: bytes) -> bytes:
    return name + b": " + value.replace(b"; ", b";\r\n\t") + b"\r\n"


def hide_local_parts(value: bytes, key: bytes) -> bytes:
    """The same text with a digest in the place of what stands before each `@`."""
    pieces = value.split(b"@")
    made = []
    for piece in pieces[:-1]:
        start = _local_part(piece)
        made.append(piece[:start] + _digest(piece[start:], key) if start < len(piece) else piece)
    return b"@".join([*made, pieces[-1]])


def _addresses(value: bytes, key: bytes) -> list[bytes]:
    """The addresses of a text, their local parts hidden."""
    pieces = value.split(b"@")
    found = []
    for before, after in itertools.pairwise(pieces):
        local, domain = before[_local_part(before) :], _DOMAIN.match(after)
        if local and domain is not None:
            found.append(_digest(local, key) + b"@" + domain[0])
    return found


_DOMAIN: Final = re.compile(rb"[A-Za-z0-9._\-\x80-\xff]{1,255}|\[[0-9A-Za-z.:]{1,60}\]")
_DELIMITERS: Final = tuple(bytes([each]) for each in b" \t\r\n<>,;:()[]\"'=")


def _local_part(text: bytes) -> int:
    """Where the local part begins that ends a text."""
    if text.endswith(b'"'):
        return max(text.rfind(b'"', 0, -1), 0)
    return max(text.rfind(each) for each in _DELIMITERS) + 1


def _digest(local: bytes, key: bytes) -> bytes:
    if not key:
        return UNNAMED
    return UNNAMED + b"-" + hmac.digest(key, local.lower(), "sha256")[:9].hex().encode()


_IP4: Final = re.compile(rb"(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9.]*[0-9])")
_IP6: Final = re.compile(
    rb"(?:(?<![0-9A-Za-z:.])|(?<=IPv6:))[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,44}(?![0-9A-Za-z:])"
)


def hide_reserved(content: bytes) -> bytes:
    """The same without IP addresses of private and other reserved networks, which tell how a
    sender's or our own network is built, and nobody anything else. RFC 6890 §2.2."""
    return _IP6.sub(_hidden, _IP4.sub(_hidden, content))


def _hidden(match: re.Match[bytes]) -> bytes:
    try:
        return match[0] if ip_address(match[0].decode("ascii")).is_global else HIDDEN
    except ValueError:
        return match[0]  # a version number, a time of day


def header_within(header: bytes, most: int) -> bytes:
    """The fields of a header that have room in so many octets: none is cut."""
    if len(header) <= most:
        return header
    return header[: header.rfind(b"\n", 0, most) + 1]


def key_of(secret: str) -> bytes:
    """The key of digests, from what nobody else knows."""
    return hashlib.sha256(b"postroom failure reports\0" + secret.encode()).digest()
