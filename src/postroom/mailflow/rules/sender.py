"""Rules that act on what `sender.rules` and the Approved List decided. See `mailflow.sender`.

They stand around those of DMARC and SPF: what stops a message more surely comes first.
"""

from __future__ import annotations

from postroom.core.errors import Status
from postroom.domain.facts import SenderPolicyFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, AddField, Edit, Facts, Recipient, SetFlags, Verdict
from postroom.formats import headers
from postroom.mailflow.sender.fields import score_field

_TAKEN = Status(2, 0, 0)


def sender_marked(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Keywords, header fields and the sum, whatever else becomes of the message."""
    found = facts.get(SenderPolicyFact)
    if found is None or not (found.tags or found.scored):
        return None
    edits: list[Edit] = []
    flags: list[str] = []
    if found.scored:
        edits.append(AddField(score_field(found.score, found.scored)))
    for tag in found.tags:
        name, colon, value = tag.partition(": ")
        if colon:
            edits.append(AddField(headers.field(name, value)))
        else:
            flags.append(tag)
    if flags:
        edits.append(SetFlags(tuple(flags)))
    told = [f"tagged {', '.join(found.tags)}"] if found.tags else []
    if found.scored:
        told.append(f"{found.score} points: {'; '.join(found.scored)}")
    return Verdict(
        "sender_marked",
        Action.MARK,
        _TAKEN,
        "Message accepted",
        "; ".join(told),
        setting="sender.rules",
        edits=tuple(edits),
    )


def sender_accepted(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Who is approved, or what a line accepts, is neither refused nor filed by DMARC or SPF."""
    found = facts.get(SenderPolicyFact)
    if found is None or found.action != Action.ACCEPT:
        return None
    return Verdict(
        "sender_accepted",
        Action.ACCEPT,
        _TAKEN,
        "Message accepted",
        _why(found),
        setting=found.setting,
    )


def sender_refused(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Refuse, and with `close` end the session: RFC 5321 §3.8, RFC 7372 §3.2."""
    found = facts.get(SenderPolicyFact)
    if found is None or found.action not in (Action.REFUSE, Action.CLOSE):
        return None
    return Verdict(
        "sender_refused",
        Action(found.action),
        Status(5, 7, 1),
        _told(found, "Refused by the policy of this server"),
        _why(found),
        code=554 if found.action == Action.CLOSE else 550,
        setting=found.setting,
    )


def sender_deferred(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Let it come again. It stands behind what refuses for good."""
    found = facts.get(SenderPolicyFact)
    if found is None or found.action != Action.DEFER:
        return None
    return Verdict(
        "sender_deferred",
        Action.DEFER,
        Status(4, 7, 1),
        _told(found, "Not taken now by the policy of this server, please try again"),
        _why(found),
        code=451,
        setting=found.setting,
    )


def sender_filed(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Junk and quarantine; it stands behind all that stops a message."""
    found = facts.get(SenderPolicyFact)
    if found is None or found.action not in (Action.JUNK, Action.QUARANTINE):
        return None
    said = "Filed as junk" if found.action == Action.JUNK else "Put into quarantine"
    return Verdict(
        "sender_filed",
        Action(found.action),
        _TAKEN,
        said,
        _why(found),
        setting=found.setting,
    )


def _told(found: SenderPolicyFact, usual: str) -> str:
    return f"{found.reason or usual}, by rule {found.by}"


def _why(found: SenderPolicyFact) -> str:
    if found.line:
        return f"line {found.line} holds: {found.text}"
    if found.text:
        return f"{found.text} is on the Approved List"
    return f"{found.score} points: {'; '.join(found.scored)}"
