"""What becomes of a signed message that came too often. See `mailflow.replay`.

The rules stand behind those of the sender policy of their kind: what a line accepts, or who is on
the Approved List, is not asked. One that puts off stands behind all that refuse for good.
"""

from __future__ import annotations

from typing import Final

from postroom.core.errors import Status
from postroom.core.plural import counted
from postroom.domain.facts import ReplayFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Recipient, SetFlags, Verdict
from postroom.mailflow.replay_settings import ReplaySettings

REPLAYED: Final = "$Replayed"
"""The keyword."""
_TAKEN: Final = Status(2, 0, 0)


def replay_refused(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Refuse further copies."""
    found = facts.get(ReplayFact)
    if found is None or not _reached(found, policy, policy.of(ReplaySettings).refuse_at):
        return None
    return Verdict(
        "replay_refused",
        Action.REFUSE,
        Status(5, 7, 1),
        "This very message was sent too often",
        _why(found),
        code=550,
        setting="replay.refuse_at",
    )


def replay_deferred(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Let further copies come later."""
    found = facts.get(ReplayFact)
    if found is None or not _reached(found, policy, policy.of(ReplaySettings).defer_at):
        return None
    return Verdict(
        "replay_deferred",
        Action.DEFER,
        Status(4, 7, 1),
        "This very message was sent too often, please try again later",
        _why(found),
        code=451,
        setting="replay.defer_at",
    )


def replay_filed(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """File further copies as junk, mark them, or both."""
    found, settings = facts.get(ReplayFact), policy.of(ReplaySettings)
    if found is None:
        return None
    junk = _reached(found, policy, settings.junk_at)
    tag = _reached(found, policy, settings.tag_at)
    if not junk and not tag:
        return None
    return Verdict(
        "replay_filed",
        Action.JUNK if junk else Action.MARK,
        _TAKEN,
        "Filed as junk" if junk else "Message accepted",
        _why(found),
        setting="replay.junk_at" if junk else "replay.tag_at",
        edits=(SetFlags((REPLAYED,)),) if tag else (),
    )


def _reached(found: ReplayFact, policy: Policy, least: int) -> bool:
    times = policy.of(ReplaySettings).list_times if found.of_list else 1
    return least > 0 and found.copies >= least * times


def _why(found: ReplayFact) -> str:
    what = "a list's message" if found.of_list else "the message"
    times = counted(found.copies, "time")
    return f"{what} that {found.domain} signed came {times} within an hour"
