"""What a message tells in its reports: the parts that may be one, read. RFC 9990 §3.5.2, RFC 6591.

Pure. A stranger wrote the message, so the first few likely parts are read and no more. Takes up
to a second for the largest report: it belongs into a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.core.errors import MailError, Malformed
from postroom.core.plural import counted
from postroom.domain.reported import AGGREGATE, DAY, MOST_MESSAGES, Report, Source
from postroom.formats import arf, mime
from postroom.formats.compose import printable
from postroom.formats.headers import parameterised
from postroom.formats.mime import Part
from postroom.formats.transfer import decode
from postroom.trust.dmarc import reading
from postroom.trust.dmarc.reading import Received
from postroom.trust.dmarc.unpacking import MOST_PACKED

CANDIDATES: Final = 5
"""Parts of a message that are read."""
OLDEST: Final = 60 * DAY
"""How long ago the time of a report may have ended."""
AHEAD: Final = 2 * DAY
LONGEST: Final = 32 * DAY
"""The time that one report may be about."""
_DISPOSITIONS: Final = frozenset({"none", "pass", "quarantine", "reject"})
_MEDIA: Final = frozenset(
    {
        (b"application", b"gzip"),
        (b"application", b"x-gzip"),
        (b"application", b"zip"),
        (b"application", b"x-zip-compressed"),
        (b"application", b"xml"),
        (b"text", b"xml"),
    }
)
_NAMES: Final = (".xml", ".gz", ".zip")
_FEEDBACK: Final = (b"message", b"feedback-report")


@dataclass(frozen=True, slots=True)
class Draft:
    """A report that has no id yet."""

    domain: str
    kind: str
    reporter: str
    report_id: str
    begins: Instant
    ends: Instant
    sources: tuple[Source, ...]
    record: dict[str, Any]

    def report(self, number: int) -> Report:
        return Report(
            number,
            self.domain,
            self.kind,
            self.reporter,
            self.report_id,
            self.begins,
            self.ends,
            self.sources,
            self.record,
        )


@dataclass(frozen=True, slots=True)
class Understood:
    """The reports of a message, and what was wrong with the others."""

    drafts: tuple[Draft, ...]
    why: str = ""


def understand(raw: bytes, now: Instant) -> Understood:
    """Read the reports of a message. Never raises for what a message may hold."""
    drafts: list[Draft] = []
    problems: list[str] = []
    for part in _candidates(mime.scan(raw)):
        try:
            drafts.append(_read(raw, part, now))
        except MailError as error:
            problems.append(error.detail or str(error))
    if not drafts and not problems:
        return Understood((), "it has no part that may be a report")
    return Understood(tuple(drafts), "; ".join(dict.fromkeys(problems)))


def _candidates(root: Part) -> Iterator[Part]:
    found = 0
    for part in root.walk():
        if not part.children and _likely(part):
            yield part
            found += 1
            if found == CANDIDATES:
                return


def _likely(part: Part) -> bool:
    kind = (part.type, part.subtype)
    if kind in _MEDIA or kind == _FEEDBACK:
        return True
    # The type is often wrong, the name seldom: RFC 9990 §3.5.2 says what it is.
    named = parameterised(part.disposition)[1].get("filename", "") if part.disposition else ""
    own = (value for name, value in part.params if name.lower() == b"name")
    name = named or next(own, b"").decode("latin-1")
    return name.lower().endswith(_NAMES)


def _read(raw: bytes, part: Part, now: Instant) -> Draft:
    encoding = (part.encoding or b"").decode("latin-1")
    content = decode(raw[part.body : part.end], encoding, limit=MOST_PACKED + 1)
    if (part.type, part.subtype) == _FEEDBACK:
        return _failure(arf.read(content), content, now)
    return _aggregate(reading.read(content), now)


# --- aggregate reports ------------------------------------------------------------------------


def _aggregate(told: Received, now: Instant) -> Draft:
    begins, ends = Instant(told.begin * 1000), Instant(max(told.end, told.begin) * 1000)
    if not now - OLDEST <= ends <= now + AHEAD or ends - begins > LONGEST:
        raise Malformed(detail="a report that is about no time of the last weeks")
    sources: dict[tuple[str, str, str, str], int] = {}
    for row in told.rows:
        done = row.disposition if row.disposition in _DISPOSITIONS else ""
        kind = (row.source_ip, done, _passed(row.dkim), _passed(row.spf))
        sources[kind] = min(sources.get(kind, 0) + row.messages, MOST_MESSAGES)
    published = asdict(told.published)
    return Draft(
        told.published.domain,
        AGGREGATE,
        told.organisation or told.email or "(no name)",
        told.report_id,
        begins,
        ends,
        tuple([Source(*kind, messages) for kind, messages in sources.items()]),
        {
            "report id": told.report_id,
            "contact": told.email,
            "policy": {name: value for name, value in published.items() if value},
            "errors": list(told.errors),
            "rows": len(told.rows),
            "left out": told.left_out,
            "largest": _largest(sources),
        },
    )


def _passed(result: str) -> str:
    return "pass" if result == "pass" else "fail"


_SHOWN: Final = 50


def _largest(sources: dict[tuple[str, str, str, str], int]) -> list[list[str]]:
    """The sources that are shown with a report, for which counts are not kept one by one."""
    ranked = sorted(sources.items(), key=lambda each: -each[1])[:_SHOWN]
    return [[*kind, str(messages)] for kind, messages in ranked]


# --- reports of single messages -----------------------------------------------------------------


def _failure(told: arf.Feedback, content: bytes, now: Instant) -> Draft:
    if not told.domains:
        raise Malformed(detail="a feedback report that names no domain")
    known = told.arrived is not None and now - OLDEST <= told.arrived <= now + AHEAD
    at = Instant(told.arrived) if told.arrived is not None and known else now
    record = {
        "agent": told.agent,
        "incidents": told.incidents,
        "failure": told.auth_failure,
        "not aligned": ", ".join(told.alignment),
        "source": told.source_ip,
        "sender": told.mail_from,
        "results": list(told.results),
        "signature": told.dkim_domain,
        "delivery": told.delivery,
    }
    return Draft(
        told.domains[0],
        printable(told.kind, 40),
        told.reporting_mta or told.agent or "(no name)",
        # It has no name of its own: the same words are the same report.
        hashlib.sha256(content).hexdigest()[:32],
        at,
        at,
        (),
        {name: value for name, value in record.items() if value},
    )


def summed(kind: str, number: int) -> str:
    """How many reports of a kind."""
    if kind == AGGREGATE:
        return counted(number, "aggregate report")
    return f"{counted(number, 'report')} of the kind {kind}"
