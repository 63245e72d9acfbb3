"""What is changed in a message that a user submits: never its body, and each change is traced.

It gets the Date and Message-ID that it lacks, and loses its Bcc and a Return-Path that is not its
author's to write: RFC 6409 §8, RFC 5322 §3.6.3, RFC 5321 §4.4. What others bring us stays as it
is, octet for octet, but for what nobody else may say: results of checks in our name (RFC 8601 §5),
and where a logo lies (BIMI).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.clock import to_datetime
from postroom.core.ids import TRACE, external
from postroom.domain.transit import Protocol, Transit
from postroom.formats import authres, headers
from postroom.formats.compose import MessageId
from postroom.formats.dates import format_date
from postroom.mailflow import bimi, screening
from postroom.mailflow.sender import fields
from postroom.mailflow.sender.settings import SenderSettings
from postroom.store.blobs import Spool

_OURSELVES: Final = frozenset({Protocol.COMPOSED, Protocol.LMTP})
"""Who may say that we have judged a message: we, and a program of this machine that brings it."""
_UNWANTED: Final = frozenset({b"return-path", b"bcc", b"resent-bcc"})


@dataclass(frozen=True, slots=True)
class Amendment:
    """Fields to add on top and ranges to leave out; `told` says so in words."""

    added: bytes = b""
    cuts: tuple[tuple[int, int], ...] = ()
    told: tuple[str, ...] = ()
    message_id: str = ""  # if it was added


NOTHING: Final = Amendment()


def amend(transit: Transit, spool: Spool, hostname: str, domain: str) -> Amendment:
    """What to change in this message; its fields are read only if it was submitted, and then
    they are within our caps (rules.content.whole_header).

    `domain` is the default one: what names it or the host as the judge of a message is forged.
    """
    parsed = transit.parsed
    assert parsed is not None  # the structure probe is inline
    if transit.visit.protocol in _OURSELVES:
        return NOTHING
    head = spool.head(parsed.header_size)
    forged = authres.claimed(head, authres.below_any((hostname, domain)))
    told = ["removed a forged Authentication-Results"] * len(forged)
    policy = transit.judged_by
    rules = policy.of(SenderSettings).rules if policy is not None else ()
    marks = fields.forged(head, rules)
    told += ["removed a mark that only this server may set"] * len(marks)
    forged = tuple(sorted((*forged, *marks))) if marks else forged
    logos = bimi.forged(head)
    told += ["removed a logo field that only its receiver may set"] * len(logos)
    forged = tuple(sorted({*forged, *logos})) if logos else forged
    originals = screening.forged(head)
    told += ["removed a From that only this server may set aside"] * len(originals)
    forged = tuple(sorted({*forged, *originals})) if originals else forged
    if transit.visit.protocol is not Protocol.SUBMISSION:
        return Amendment(cuts=forged, told=tuple(told)) if forged else NOTHING
    found = headers.scan(head)
    gone = [each for each in found.fields if each.name.lower() in _UNWANTED]
    told += [f"removed {each.name.decode('latin-1')}" for each in gone]
    added, message_id = b"", ""
    if not found.find(b"date"):
        added += headers.field("Date", format_date(to_datetime(transit.started)))
        told.append("added Date")
    if not found.find(b"message-id"):
        message_id = str(MessageId(external(TRACE, transit.id), hostname))
        added += headers.field("Message-ID", message_id)
        told.append("added Message-ID")
    cuts = sorted([*forged, *((each.start, each.end) for each in gone)])
    return Amendment(added, tuple(cuts), tuple(told), message_id)
