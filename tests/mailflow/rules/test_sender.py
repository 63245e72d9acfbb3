"""The rules of the end of DATA beside each other: whatever is set, the harsher one wins."""

from __future__ import annotations

from itertools import product

import pytest

from postroom.core.settings import SERVER, chain
from postroom.domain.facts import DmarcFact, SenderPolicyFact, SpfFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, AddField, Facts, SetFlags, Verdict
from postroom.mailflow.phases import DATA, judge

ACTIONS = ("", "accept", "junk", "quarantine", "defer", "refuse", "close")
WISHES = ("none", "quarantine", "reject")
SETTINGS = ("accept", "tag", "junk", "quarantine", "refuse")
SPF = ("accept", "junk", "quarantine", "refuse")
STOPS = {"defer": 1, "refuse": 2, "close": 3}
"""What lets nothing pass, and how surely."""


def facts(action: str, wish: str, *, instead: bool, tagged: bool = False) -> Facts:
    made = Facts()
    made.put(
        SpfFact("fail", "a.example", "-all", "it says so", "", 0, "none", "", ""),
        DmarcFact("fail", "a.example", "nobody vouches", "a.example", "p", wish, wish),
    )
    if action or tagged:
        scored, tags = ("line 2: spf=fail score 4",), ("Doubtful", "X-Doubt: yes")
        made.put(
            SenderPolicyFact(
                action, "sender.rules", 1, f"spf=fail {action}", instead=instead,
                score=4 * tagged, scored=scored * tagged, tags=tags * tagged,
            )
        )  # fmt: skip
    return made


def settled(found: Facts, policy: Policy) -> tuple[Verdict, ...]:
    return judge(DATA.rules, found, policy, None)


def harshest(actions: set[str]) -> str:
    return max(actions & set(STOPS), key=STOPS.__getitem__, default="")


@pytest.mark.parametrize("instead", (False, True))
def test_of_a_line_dmarc_and_spf_the_one_that_stops_most_surely_does(instead: bool) -> None:
    for action, wish, on_wish, on_spf in product(ACTIONS, WISHES, SETTINGS, SPF):
        if instead and not action:
            continue
        wanted = {"spf.on_fail": on_spf, f"dmarc.on_{wish}": on_wish}
        verdicts = settled(
            facts(action, wish, instead=instead), Policy(chain(SERVER), {SERVER: wanted})
        )
        actions = {action}
        if action != "accept" and not (instead and action):
            actions |= {on_wish} if wish != "none" else set()
        if action != "accept":
            actions.add(on_spf)
        stop = harshest(actions)
        done = {each.action.value for each in verdicts}
        case = (action, wish, on_wish, on_spf, verdicts)
        if stop:
            assert done == {stop}, case
            continue
        filed = {"junk", "quarantine"}
        assert done & filed == actions & filed, case
        assert done <= {*filed, "accept"}, case


def test_marks_are_kept_whatever_else_is_decided_but_with_nothing_that_stops() -> None:
    policy = Policy(chain(SERVER), {})
    for action in ("", "accept", "junk", "quarantine"):
        first, *_ = settled(facts(action, "none", instead=False, tagged=True), policy)
        assert (first.rule, first.action) == ("sender_marked", Action.MARK)
        assert first.edits == (
            AddField(b"X-Postroom-Sender-Score: 4 (line 2)\r\n"),
            AddField(b"X-Doubt: yes\r\n"),
            SetFlags(("Doubtful",)),
        )
        assert first.why == ("tagged Doubtful, X-Doubt: yes; 4 points: line 2: spf=fail score 4")
    for action in STOPS:
        (only,) = settled(facts(action, "none", instead=False, tagged=True), policy)
        assert only.action == action


def test_nothing_is_said_where_nothing_was_decided() -> None:
    made = facts("", "none", instead=False)
    assert settled(made, Policy(chain(SERVER), {})) == ()
