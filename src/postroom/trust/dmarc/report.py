"""Aggregate reports, written: what was seen of a domain in a span of time. RFC 9990 §3.

A pure function. Nearly every value in a report was chosen by a stranger: each is escaped, short
and printable, and what would make the report too large is counted and left out.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from postroom import __version__
from postroom.domain.feedback import Seen
from postroom.formats.compose import printable
from postroom.trust.dmarc.record import Record, select

NAMESPACE: Final = "urn:ietf:params:xml:ns:dmarc-2.0"
MOST_RECORDS: Final = 20_000
MOST_OCTETS: Final = 10 * 1024 * 1024
"""Of a report before it is compressed: others bound what they read, too."""
_LONGEST: Final = 255
_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Who reports, and about when."""

    organisation: str
    email: str
    report_id: str
    begin: int  # seconds since 1970, UTC
    end: int  # the last second that counts


@dataclass(frozen=True, slots=True)
class Report:
    """What was written."""

    xml: bytes
    records: int
    left_out: int  # records that did not fit

    def packed(self) -> bytes:
        """As it is sent: `application/gzip`. The same report makes the same octets."""
        return gzip.compress(self.xml, mtime=0)


def write(metadata: Metadata, domain: str, seen: Sequence[tuple[Seen, int]]) -> Report:
    """A report to the domain whose policy it was.

    `seen` is what `domain.feedback.tallies` gives. The policy told is that of its last entry:
    one that changed within a day is told as it came to be.
    """
    policy = select([seen[-1][0].record.encode("latin-1", "replace")]) if seen else None
    head = "".join(_lines(_head(metadata, domain, policy or Record(""))))
    pieces = [f'<?xml version="1.0" encoding="UTF-8"?>\n<feedback xmlns="{NAMESPACE}">\n', head]
    end = "</feedback>\n"
    octets = sum(map(len, pieces)) + len(end)
    written = 0
    for each, messages in seen[:MOST_RECORDS]:
        piece = "".join(_lines(_record(each, messages)))
        octets += len(piece)  # all of it is ASCII
        if octets > MOST_OCTETS:
            break
        pieces.append(piece)
        written += 1
    pieces.append(end)
    return Report("".join(pieces).encode("ascii"), written, len(seen) - written)


def file_name(receiver: str, domain: str, metadata: Metadata) -> str:
    """RFC 9990 §3.5.2: receiver!policy-domain!begin!end.xml.gz."""
    return f"{receiver}!{domain}!{metadata.begin}!{metadata.end}.xml.gz"


# An element is a name with text, or a name with elements.
_Element = tuple[str, "str | list[_Element]"]


def _head(metadata: Metadata, domain: str, policy: Record) -> list[_Element]:
    # The walk begins at the author's own domain, so a record found there was found by it, too:
    # this server knows no other way. RFC 9989 §4.10.
    published: list[_Element] = [("domain", domain), ("discovery_method", "treewalk")]
    # What it does not say is told with its default: RFC 9990 §3.1.1.5.
    below = policy.sp or policy.p
    published += [
        ("p", policy.p.value),
        ("sp", below.value),
        ("np", (policy.np or below).value),
        ("adkim", "s" if policy.strict_dkim else "r"),
        ("aspf", "s" if policy.strict_spf else "r"),
        ("testing", "y" if policy.testing else "n"),
        ("fo", ":".join(policy.failures)),
    ]
    return [
        ("version", "1.0"),
        (
            "report_metadata",
            [
                ("org_name", metadata.organisation),
                ("email", metadata.email),
                ("report_id", metadata.report_id),
                ("date_range", [("begin", str(metadata.begin)), ("end", str(metadata.end))]),
                ("generator", f"Postroom {__version__}"),
            ],
        ),
        ("policy_published", published),
    ]


def _record(seen: Seen, messages: int) -> list[_Element]:
    evaluated: list[_Element] = [
        ("disposition", seen.disposition),
        ("dkim", seen.dkim),
        ("spf", seen.spf),
    ]
    if seen.override:
        evaluated.append(("reason", [("type", seen.override), ("comment", seen.comment)]))
    results: list[_Element] = [
        (
            "dkim",
            [("domain", each.domain), ("selector", each.selector), ("result", each.result)],
        )
        for each in seen.signatures
    ]
    results.append(
        (
            "spf",
            [
                ("domain", seen.envelope_from),
                ("scope", "mfrom"),  # with <> too: RFC 9990 §3.1.1.13, RFC 7208 §2.4
                ("result", seen.spf_result),
            ],
        )
    )
    row: list[_Element] = [
        ("source_ip", seen.source_ip),
        ("count", str(messages)),
        ("policy_evaluated", evaluated),
    ]
    named: list[_Element] = [
        ("envelope_from", seen.envelope_from if seen.spf_scope == "mfrom" else ""),
        ("header_from", seen.header_from),
    ]
    return [("record", [("row", row), ("identifiers", named), ("auth_results", results)])]


def _lines(elements: Iterable[_Element], depth: int = 1) -> Iterator[str]:
    """As XML, a line for each. As deep as the functions above nest, never as input does."""
    blanks = "  " * depth
    for name, value in elements:
        if isinstance(value, str):
            yield f"{blanks}<{name}>{printable(value, _LONGEST).translate(_ESCAPES)}</{name}>\n"
            continue
        yield f"{blanks}<{name}>\n"
        yield from _lines(value, depth + 1)
        yield f"{blanks}</{name}>\n"
