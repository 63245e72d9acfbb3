"""Rules as pure functions: facts and policy in, a verdict out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postroom.core.settings import SERVER, chain
from postroom.domain.facts import (
    AuthorFact,
    CrowdFact,
    PeerFact,
    RecipientFact,
    SenderFact,
    SenderRightsFact,
)
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Fact, Facts
from postroom.mailflow.rules import content, envelope, recipients
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


# --- submission and LMTP ------------------------------------------------------------------------

STRANGER = PeerFact("192.0.2.1", "submission", True, "x", True, False, "", "SUBMISSION")
SIGNED_IN = replace(STRANGER, signed_in=True, login="ann@example.test")


def known(*facts: Fact) -> Facts:
    made = Facts()
    made.put(*facts)
    return made


def test_a_sender_of_whom_nothing_is_known_is_nobody_s_own() -> None:
    """An unknown fact is never taken for good."""
    sender = SenderFact("ann@example.test", True, 0)
    verdict = envelope.own_sender(known(SIGNED_IN, sender), DEFAULTS, None)
    assert verdict is not None and verdict.reply_code == 550
    rights = SenderRightsFact(own=True)
    assert envelope.own_sender(known(SIGNED_IN, sender, rights), DEFAULTS, None) is None
    assert envelope.own_sender(known(STRANGER, sender), DEFAULTS, None) is None


def test_an_author_of_whom_nothing_is_known_is_nobody_s_own() -> None:
    verdict = content.own_author(known(SIGNED_IN), DEFAULTS, None)
    assert verdict is not None and "not looked at" in verdict.why
    assert content.own_author(known(STRANGER), DEFAULTS, None) is None


@pytest.mark.parametrize(
    ("author", "refused"),
    [
        (AuthorFact(("ann@example.test",), (), 1), False),
        (AuthorFact(("ann@example.test",), (), 2), True),
        (AuthorFact((), (), 1), True),
        (AuthorFact((), (), 0), True),
        (AuthorFact(("ann@example.test", "x@y.example"), ("x@y.example",), 1), True),
    ],
)
def test_an_author_is_one_field_of_one_s_own_addresses(author: AuthorFact, refused: bool) -> None:
    verdict = content.own_author(known(SIGNED_IN, author), DEFAULTS, None)
    assert (verdict is not None) == refused
    assert verdict is None or (verdict.reply_code, str(verdict.status)) == (550, "5.7.1")


@pytest.mark.parametrize(
    ("protocol", "signed_in", "refused"),
    [
        ("SMTP", False, True),
        ("SUBMISSION", True, False),
        ("LMTP", False, False),
        ("COMPOSED", False, False),
    ],
)
def test_a_reverse_path_of_ours_is_for_whom_we_know(
    protocol: str, signed_in: bool, refused: bool
) -> None:
    peer = replace(STRANGER, protocol=protocol, signed_in=signed_in)
    sender = SenderFact("ann@example.test", True, 0)
    verdict = envelope.local_sender(known(peer, sender), DEFAULTS, None)
    assert (verdict is not None) == refused


@pytest.mark.parametrize(
    ("protocol", "signed_in", "refused"),
    [
        ("SMTP", False, True),
        ("SUBMISSION", False, True),
        ("SUBMISSION", True, False),
        ("LMTP", False, True),
        ("COMPOSED", False, False),
    ],
)
def test_we_relay_for_whom_we_answer_for(protocol: str, signed_in: bool, refused: bool) -> None:
    peer = replace(STRANGER, protocol=protocol, signed_in=signed_in)
    to = RecipientFact("x@far.example", False, 0, "", 1)
    verdict = recipients.relay(known(peer, to), DEFAULTS, None)
    assert (verdict is not None) == refused


@pytest.mark.parametrize("setting", ["quota.octets", "quota.messages"])
def test_who_is_found_full_by_the_unit_hears_of_the_quota_that_is_set(setting: str) -> None:
    verdict = recipients.no_room(Policy(chain(SERVER), {SERVER: {setting: 1}}))
    assert (verdict.reply_code, verdict.setting, verdict.rule) == (452, setting, "room")
    assert verdict.action is Action.DEFER
