"""Signed messages that come again and again: the probe that counts them. Attack class 5.

A signature vouches for a message, not for who brings it: whoever got one signed, by an account
at some large provider, may send it to thousands in that provider's good name. RFC 6376 §8.6.
"""

from __future__ import annotations

from typing import NamedTuple

from postroom.domain.facts import DkimFact, ReplayFact
from postroom.domain.transit import Action, Fact, Protocol, Recipient, Transit, Verdict
from postroom.mailflow.exempt import exempt
from postroom.mailflow.house import MailHouse
from postroom.mailflow.replay_settings import ReplaySettings
from postroom.trust.dkim import DkimCode


class _Mark(NamedTuple):
    """Of a signature that holds and is counted."""

    number: int
    domain: str
    of_list: bool


def known(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
    """There is nothing to count where no signature holds."""
    return None if _marks(house, transit) else ()


async def replay(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """How often the message came within the hour, by the signature that came most often."""
    marks = {each.number: each for each in _marks(house, transit)}
    found = await house.copies.count(house.state, tuple(marks), house.clock.now())
    if not found:
        return ()
    number, copies = max(found, key=lambda each: each[1])
    return (ReplayFact(copies, marks[number].domain, marks[number].of_list),)


def note(house: MailHouse, transit: Transit, stop: Verdict | None) -> None:
    """Count a message that was judged; what is put off comes again."""
    if transit.facts.get(ReplayFact) is None:
        return
    if stop is not None and stop.action is Action.DEFER:
        return
    marks = tuple(dict.fromkeys(each.number for each in _marks(house, transit)))
    house.copies.note(house.state, marks, house.clock.now())


def _marks(house: MailHouse, transit: Transit) -> list[_Mark]:
    visit, policy, signed = transit.visit, transit.policy, transit.facts.get(DkimFact)
    if house.checks is None or policy is None or signed is None:
        return []
    if visit.protocol is not Protocol.SMTP or visit.principal is not None:
        return []
    settings = policy.of(ReplaySettings)
    if not settings.count:
        return []
    listed = exempt(settings.exempt)
    if visit.peer.ip is not None and listed.holds_peer(visit.peer.ip):
        return []
    return [
        _Mark(int(each["mark"], 16), each["domain"], "list" in each)
        for each in signed.signatures
        # A key that is but tested vouches for nothing: RFC 6376 §3.6.1 `t`.
        if each["code"] == DkimCode.PASS and "mark" in each and "testing" not in each
        if not listed.above(each["domain"])
    ]
