"""Feedback reports, the part that machines read: RFC 5965 §3.1, RFC 6591 §3, RFC 9991 §4.

It is one block of fields, written by a stranger: what is not known is passed over, and values
are cut, so that they may be kept and shown as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from postroom.core.errors import Malformed, TooLarge
from postroom.formats import headers
from postroom.formats.compose import printable
from postroom.formats.dates import parse_date

MOST: Final = 256 * 1024
"""Octets of the part: canonicalised bodies of RFC 6591 §3.2.2 are long, all else is short."""
_LONGEST: Final = 255
_SEVERAL: Final = 20
"""Values of a field that may come more than once."""
_NUMBER: Final = 9  # digits


@dataclass(frozen=True, slots=True)
class Feedback:
    """What it says. Values that were not given are empty, the count of incidents is then 1."""

    kind: str  # abuse, auth-failure, fraud, not-spam: in small letters
    agent: str
    version: str
    auth_failure: str  # adsp, bodyhash, dkim, dmarc, revoked, signature, spf
    alignment: tuple[str, ...]  # none, spf, dkim: which were not aligned. RFC 9991 §4
    delivery: str
    source_ip: str
    mail_from: str
    rcpt_to: tuple[str, ...]
    envelope_id: str
    reporting_mta: str
    domains: tuple[str, ...]  # in small letters
    uris: tuple[str, ...]
    results: tuple[str, ...]  # Authentication-Results
    dkim_domain: str
    dkim_identity: str
    dkim_selector: str
    arrived: int | None  # milliseconds since 1970, UTC
    incidents: int


def read(raw: bytes) -> Feedback:
    """The body of a part `message/feedback-report`, decoded.

    Raises TooLarge past 256 KiB, Malformed without a Feedback-Type. Linear in its size.
    """
    if len(raw) > MOST:
        raise TooLarge(detail=f"a feedback report of {len(raw)} octets")
    # Some begin with an empty line; RFC 5965 has none there.
    found = headers.scan(raw.lstrip(b"\r\n"))
    kind = _one(found, b"feedback-type").lower()
    if not kind:
        raise Malformed(detail="no feedback report: it has no Feedback-Type")
    arrived = parse_date(found.first(b"arrival-date") or found.first(b"received-date") or b"")
    incidents = _one(found, b"incidents")
    counted = incidents.isascii() and incidents.isdigit() and len(incidents) <= _NUMBER
    alignment = _one(found, b"identity-alignment").lower()
    return Feedback(
        kind=kind,
        agent=_one(found, b"user-agent"),
        version=_one(found, b"version"),
        auth_failure=_one(found, b"auth-failure").lower(),
        alignment=tuple([each.strip() for each in alignment.split(",") if each.strip()]),
        delivery=_one(found, b"delivery-result").lower(),
        source_ip=_ip(_one(found, b"source-ip")),
        mail_from=_one(found, b"original-mail-from"),
        rcpt_to=_all(found, b"original-rcpt-to"),
        envelope_id=_one(found, b"original-envelope-id"),
        reporting_mta=_one(found, b"reporting-mta").rpartition(";")[2].strip(),
        domains=tuple([each.lower().rstrip(".") for each in _all(found, b"reported-domain")]),
        uris=_all(found, b"reported-uri"),
        results=_all(found, b"authentication-results"),
        dkim_domain=_one(found, b"dkim-domain").lower(),
        dkim_identity=_one(found, b"dkim-identity"),
        dkim_selector=_one(found, b"dkim-selector"),
        arrived=int(arrived.timestamp() * 1000) if arrived is not None else None,
        incidents=max(int(incidents), 1) if counted else 1,
    )


def _one(found: headers.Headers, name: bytes) -> str:
    return _text(found.first(name) or b"")


def _all(found: headers.Headers, name: bytes) -> tuple[str, ...]:
    return tuple([_text(each) for each in found.all(name)[:_SEVERAL]])


def _text(value: bytes) -> str:
    # Twice as many octets as characters are kept: no value is decoded whole.
    return printable(value[: 2 * _LONGEST].decode("utf-8", "replace").strip(), _LONGEST)


def _ip(text: str) -> str:
    """The address; some put its name in brackets behind it. Empty if it is none."""
    try:
        return str(ip_address(text.split(maxsplit=1)[0].strip("[]"))) if text else ""
    except ValueError:
        return ""
