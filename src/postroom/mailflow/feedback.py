"""What aggregate reports will tell: counted in memory, written to `state` in batches.

Nobody waits for it and it may lose a second. RFC 9989 §5.3.7, RFC 9990 §3. A stranger chooses
nearly all of what is told, so what a worker counts in a day is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from postroom.core import metrics
from postroom.core.clock import Clock
from postroom.domain import feedback
from postroom.domain.facts import DkimFact, DmarcFact, SpfFact
from postroom.domain.feedback import Seen, Signature
from postroom.domain.transit import Transit
from postroom.formats.address import parse_mailbox
from postroom.formats.compose import printable
from postroom.mailflow.batches import Soon
from postroom.mailflow.dmarc import disposition
from postroom.store.units import Database
from postroom.trust.dmarc import DmarcCode
from postroom.trust.dmarc.discover import is_below
from postroom.trust.publishing.settings import DnsSettings

GATHER: Final = 0.5  # seconds
BATCH: Final = 200
A_DAY: Final = 50_000
"""Kinds of messages that one worker tells apart in a day; those beyond are not reported."""
SIGNATURES: Final = 10
"""Of one message that are told; RFC 9990 §3.1.3 allows 100."""

DROPPED: Final = metrics.counter(
    "dmarc.untold", "messages", "Messages that no aggregate report will tell of"
)


class Feedback:
    """Counts for one worker."""

    def __init__(self, state: Database, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._held: dict[tuple[int, Seen], int] = {}
        self._day = 0
        self._kinds: set[int] = set()  # of this day, by their hashes
        self._soon = Soon(GATHER, BATCH)

    def note(self, transit: Transit) -> None:
        """Count a message that was judged, if its author's domain wants to hear of it."""
        told = seen(transit)
        if told is None:
            return
        day = feedback.day_of(self._clock.now())
        if day != self._day:
            self._day = day
            self._kinds.clear()
        kind = hash(told)
        if kind not in self._kinds:
            if len(self._kinds) >= A_DAY:
                DROPPED.add()
                return
            self._kinds.add(kind)
        self._held[day, told] = self._held.get((day, told), 0) + 1
        self._soon.gathered(len(self._held), self.flush)

    def flush(self) -> None:
        """Hand what was gathered to the store."""
        self._soon.written()
        if self._held:
            held, self._held = self._held, {}
            self._state.note(feedback.add, held)


def seen(transit: Transit) -> Seen | None:
    """What a report says of a message; None if nobody asked for one."""
    found, policy, ip = transit.facts.get(DmarcFact), transit.judged_by, transit.visit.peer.ip
    if found is None or policy is None or ip is None or not found.reports:
        return None
    if found.result not in (DmarcCode.PASS, DmarcCode.FAIL):
        return None  # neither of them says anything of the domain: RFC 9989 §5.3.6
    if is_report(transit, passed=found.result == DmarcCode.PASS):
        return None
    done = disposition(transit.facts, policy)
    enforced = found.result == DmarcCode.PASS and found.published != "none"
    sender, signed = transit.facts.get(SpfFact), transit.facts.get(DkimFact)
    path = transit.reverse_path
    return Seen(
        found.policy_domain,
        found.txt,
        str(ip),
        found.domain,
        printable(path.domain if path is not None else transit.visit.helo),
        "pass" if enforced else done.reported.value,
        "pass" if found.dkim else "fail",
        "pass" if found.spf else "fail",
        done.override,
        done.told or done.comment,
        "mfrom" if path is not None else "helo",
        sender.result if sender is not None else "none",
        signatures(signed, found.domain),
    )


def is_report(transit: Transit, *, passed: bool) -> bool:
    """Whether a message is a report itself: two servers would report each other's for ever.

    What a stranger claims hides nothing but his own mail, and what is sent to where reports go.
    """
    parsed, policy = transit.parsed, transit.policy
    if passed and parsed is not None and _IS_REPORT(parsed.subject):
        return True
    if policy is None or not transit.recipients:
        return False
    for to in transit.recipients:
        ours = (to.policy or policy).of(DnsSettings).dmarc_reports
        if not ours or parse_mailbox(ours).key != to.address.key:
            return False
    return True


_IS_REPORT: Final = re.compile(r"\s*+report domain:", re.IGNORECASE).match


def signatures(signed: DkimFact | None, author: str) -> tuple[Signature, ...]:
    """Those that pass before all others, and of these those of the author's domain, then those of
    a domain above or below it. RFC 9990 §3.1.3."""
    entries = [each for each in signed.signatures if "domain" in each] if signed is not None else []

    def rank(each: Mapping[str, str]) -> int:
        domain = each["domain"].lower()
        if each["code"] != "pass":
            return 3
        near = is_below(domain, author) or is_below(author, domain)
        return 0 if domain == author else 1 if near else 2

    return tuple(
        Signature(printable(each["domain"]), printable(each.get("selector", "")), each["code"])
        for each in sorted(entries, key=rank)[:SIGNATURES]
    )
