"""Rules about mail that brings reports to an address without an account."""

from __future__ import annotations

from typing import Final

from postroom.core.errors import Status, TooLarge
from postroom.domain.facts import BringsFact, ContentFact, RecipientFact, ReportsFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Recipient, Verdict, refuse

LARGEST: Final = 24 * 1024 * 1024
"""Octets of a message with reports: the largest one that is read, in base64, and some more."""


def reports_budget(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Anybody may send reports, so each network has a budget, and all have one. Attack class 7."""
    found, recipient = facts.get(ReportsFact), facts.get(RecipientFact)
    if found is None or not found.spent:
        return None
    if recipient is not None and (recipient.destinations or recipient.outside):
        return None  # who reads this address gets it; it is not filed
    return Verdict(
        "reports_budget",
        Action.DEFER,
        Status(4, 7, 0),
        "Too many reports today, please try again tomorrow",
        f"today {found.spent}",
        code=451,
        setting=found.setting,
    )


def reports_size(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """No report is so large. RFC 1870 §6.3."""
    seen = facts.get(ContentFact)
    if facts.get(BringsFact) is None or seen is None or seen.size <= LARGEST:
        return None
    return refuse(
        "reports_size",
        TooLarge(f"This address takes reports of up to {LARGEST} octets"),
        f"the message has {seen.size} octets, the limit is {LARGEST}",
        code=552,
    )
