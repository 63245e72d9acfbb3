"""Domain names as text: lower case, no dot at the end, odd octets escaped (RFC 1035 §5.1).

The escapes make it total: every name that an answer holds can be asked again. The root is ".".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from postroom.core.errors import Malformed

MOST_OCTETS: Final = 255  # of a name on the wire; RFC 1035 §2.3.4
MOST_LABEL: Final = 63
_MOST_TEXT: Final = 4 * MOST_OCTETS  # were every octet written \DDD

_ESCAPE: Final = re.compile(rb"\\([0-9]{3}|[^0-9])", re.DOTALL)
_VISIBLE: Final = re.compile(rb"[!-~]*").fullmatch
_PLAIN: Final = re.compile(rb"[!-\-/-\[\]-~]*").fullmatch  # visible, neither dot nor backslash
_ODD: Final = re.compile(rb"[^!-\-/-\[\]-~]")
_DOT: Final = b"."


def canonical_name(text: str) -> str:
    """The one text of a name that may be asked; U-labels must be A-labels already.

    A backslash escapes, so text made of strangers' octets goes through `from_labels`. Raises
    Malformed, also for the root, of which mail asks nothing.
    """
    labels = _labels(text)
    if not labels:
        raise Malformed("A domain name is empty")
    return from_labels(labels)


def from_labels(labels: Iterable[bytes]) -> str:
    """Text of a name whose labels may hold any octet; no labels are the root.

    Raises Malformed if a label is empty or over 63 octets, or the name over 255.
    """
    parts = [label.lower() for label in labels]
    size = 1
    for part in parts:
        if not 0 < len(part) <= MOST_LABEL:
            raise Malformed("A label of a domain name is empty or too long", detail=f"{part!r}")
        size += 1 + len(part)
    if size > MOST_OCTETS:
        raise Malformed("A domain name is too long", detail=f"{size} octets")
    joined = b"".join(parts)
    if not _PLAIN(joined):
        parts = [_ODD.sub(_escaped, part) for part in parts]
    return b".".join(parts).decode("ascii") or "."


def to_wire(name: str) -> bytes:
    """The octets of a canonical name, not compressed. RFC 1035 §3.1."""
    return b"".join(bytes((len(label),)) + label for label in _labels(name)) + b"\0"


def reverse_name(ip: IPv4Address | IPv6Address) -> str:
    """Where the names of an address are kept. RFC 1035 §3.5, RFC 3596 §2.5."""
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or IPv6Address(int(ip))  # a scope is no part of the name
    return ip.reverse_pointer


def _labels(text: str) -> list[bytes]:
    """Labels of a text, which may end in a dot; the root has none."""
    if not text.isascii() or len(text) > _MOST_TEXT:
        raise Malformed("A domain name is too long or not ASCII", detail=f"{text[:80]!a}")
    octets = text.encode("ascii")
    if not _VISIBLE(octets):
        raise Malformed("A domain name has spaces or control characters", detail=f"{text[:80]!a}")
    if b"\\" in octets:
        return _unescaped(octets)
    if octets == b".":
        return []
    labels = octets.split(_DOT)
    if not labels[-1]:
        labels.pop()
    return labels


def _unescaped(octets: bytes) -> list[bytes]:
    """Labels of a text with escapes: split at the dots that no backslash hides."""
    labels: list[bytes] = []
    label = bytearray()
    at = 0
    while at < len(octets):
        if octets[at : at + 1] == _DOT:
            labels.append(bytes(label))
            label.clear()
            at += 1
            continue
        if octets[at : at + 1] == b"\\":
            escape = _ESCAPE.match(octets, at)
            number = int(escape[1]) if escape and len(escape[1]) == 3 else 0
            if escape is None or number > 255:
                raise Malformed("An escape in a domain name is broken", detail=f"{octets[:80]!r}")
            label += bytes((number,)) if len(escape[1]) == 3 else escape[1]
            at = escape.end()
            continue
        label.append(octets[at])
        at += 1
    if label:
        labels.append(bytes(label))
    return labels


def _escaped(match: re.Match[bytes]) -> bytes:
    octet = match[0]
    return b"\\" + octet if octet in b".\\" else b"\\%03d" % octet[0]
