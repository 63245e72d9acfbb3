"""The mail log: one line for each message that was taken, and for each refusal.

It answers "did it come?" with a search for an address, an id or a peer; why it was decided so is
in the trace, by the same id. Refusals stand under the same budget for each source as their
traces: who is refused a thousand times a second fills no disk. Called by intake.
"""

from __future__ import annotations

from typing import Final

import structlog

from postroom.core.ids import TRACE, external
from postroom.domain.facts import ContentFact
from postroom.domain.transit import Recipient, Transit, Verdict
from postroom.mailflow.delivery import Delivered, Plan

_log: Final = structlog.get_logger("postroom.mail")


def accepted(transit: Transit, plan: Plan, done: Delivered) -> None:
    """A message is on disk: how many copies went into mailboxes, how many wait for what."""
    held = sum(bool(each.quarantined) for each in plan.queued)
    held += sum(bool(each.quarantined) for each in plan.relayings)
    _log.info(
        "message accepted",
        **_whose(transit),
        id=plan.record["id"],
        size=plan.record["size"],
        message_id=plan.record["message_id"],
        recipients=len(transit.recipients),
        delivered=len(done.placed),
        queued=len(plan.queued) + len(done.waiting),
        relayed=len(plan.relayings),
        **({"quarantined": held} if held else {}),
    )


def refused(transit: Transit, recipient: Recipient | None, verdict: Verdict, trace: int) -> None:
    """A message or one recipient of it was refused or put off, as `action` says."""
    content = transit.facts.get(ContentFact)
    _log.info(
        "message refused" if recipient is None else "recipient refused",
        **_whose(transit),
        id=external(TRACE, trace),
        to=str(recipient.address) if recipient is not None else None,
        recipients=len(transit.recipients),
        size=content.size if content is not None else transit.declared_size,
        action=str(verdict.action),
        rule=verdict.rule,
        reply=f"{verdict.reply_code} {verdict.status} {verdict.sentence}",
        why=verdict.why,
    )


def _whose(transit: Transit) -> dict[str, object]:
    """From whom it came, in the words of every line."""
    visit = transit.visit
    return {
        "session": visit.session,
        "protocol": str(visit.protocol),
        "peer": str(visit.peer.ip or ""),
        "login": visit.login,
        "sender": str(transit.reverse_path or ""),
    }
