"""What becomes of a message whose From misleads."""

from __future__ import annotations

from typing import Final

from postroom.core.errors import Status
from postroom.domain.facts import FromFact, SenderPolicyFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Recipient, SetFlags, Verdict
from postroom.mailflow.rules.authentication import PHISHING
from postroom.mailflow.screening_settings import FromSettings

_SAID: Final = {
    "junk": (Action.JUNK, "Filed as junk"),
    "quarantine": (Action.QUARANTINE, "Kept for an administrator"),
    "tag": (Action.MARK, "Marked as doubtful"),
}


def misleading_from(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """As the setting for what was found says, unless the sender policy takes such mail. RFC 9989
    §11.4 tells why display names matter."""
    found, settings = facts.get(FromFact), policy.of(FromSettings)
    ruled = facts.get(SenderPolicyFact)
    if found is None or (ruled is not None and ruled.action == Action.ACCEPT):
        return None
    wanted = {
        "mismatch": settings.on_mismatch,
        "lookalike": settings.on_lookalike,
        "impersonation": settings.on_impersonation,
    }.get(found.result, "accept")
    if wanted == "accept":
        return None
    setting = f"from.on_{found.result}"
    if wanted == "refuse":
        return Verdict(
            "misleading_from",
            Action.REFUSE,
            Status(5, 7, 1),
            "The From field of this message misleads its readers",
            found.why,
            code=550,
            setting=setting,
        )
    action, said = _SAID[wanted]
    edits = (SetFlags((PHISHING,)),) if wanted == "tag" else ()
    return Verdict(
        "misleading_from", action, Status(2, 0, 0), said, found.why, setting=setting, edits=edits
    )
