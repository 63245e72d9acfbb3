"""Rules as pure functions: facts and policy in, a verdict out."""

from __future__ import annotations

import pytest

from postroom.core.settings import chain
from postroom.domain.facts import CrowdFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts
from postroom.mailflow.rules import recipients
from postroom.store.units import UNIT_ROWS

DEFAULTS = Policy(chain(), {})


def crowd(accepted: int, accounts: int) -> Facts:
    facts = Facts()
    facts.put(CrowdFact(accepted, accounts, 0))
    return facts


@pytest.mark.parametrize(
    ("accepted", "accounts", "setting"),
    [
        (1000, 1000, "smtp.max_recipients"),
        (30, UNIT_ROWS, ""),
        (1000, UNIT_ROWS, "smtp.max_recipients"),
    ],
)
def test_a_transaction_takes_no_more_than_a_unit_holds(
    accepted: int, accounts: int, setting: str
) -> None:
    verdict = recipients.crowd(crowd(accepted, accounts), DEFAULTS, None)
    assert verdict is not None
    assert (verdict.action, verdict.reply_code, verdict.setting) == (Action.DEFER, 452, setting)


def test_a_transaction_below_both_bounds_goes_on() -> None:
    assert recipients.crowd(crowd(999, UNIT_ROWS - 1), DEFAULTS, None) is None
    assert recipients.crowd(Facts(), DEFAULTS, None) is None
