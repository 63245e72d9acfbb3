"""The walk through `sender.rules`: which lines hold, what they add up to, and which one decides.

Pure: the same for a message and for what an administrator tries.
"""

from __future__ import annotations

from postroom.domain.facts import SenderPolicyFact
from postroom.domain.transit import Fact, Protocol, Transit
from postroom.mailflow.exempt import exempt
from postroom.mailflow.house import MailHouse
from postroom.mailflow.sender.approved import entry_for
from postroom.mailflow.sender.evidence import Evidence, gathered
from postroom.mailflow.sender.language import (
    NOBODY,
    RESULTS,
    UNKNOWN,
    Condition,
    Line,
    Verb,
    at_least,
    parse,
)
from postroom.mailflow.sender.settings import SenderSettings


def sender_policy(house: MailHouse, transit: Transit) -> tuple[Fact, ...]:
    """What follows from the facts of a message that a stranger brings, by the settings of the
    domain of its recipients."""
    policy, visit = transit.judged_by, transit.visit
    if policy is None or house.checks is None or visit.peer.ip is None:
        return ()
    if visit.protocol is not Protocol.SMTP or visit.principal is not None:
        return ()
    settings = policy.of(SenderSettings)
    if not settings.rules and not settings.approved:
        return ()
    return (judged(gathered(transit.facts, policy), settings),)


def judged(found: Evidence, settings: SenderSettings) -> SenderPolicyFact:
    """Walk through the lines. Who is approved is asked for nothing; a message of which it is not
    certain who wrote it cannot be."""
    entry = entry_for(settings.approved, found) if not found.unclear else ""
    if entry:
        return SenderPolicyFact(Verb.ACCEPT.value, "sender.approved", text=entry, instead=True)
    score = 0
    scored: list[str] = []
    tags: list[str] = []
    for number, text in enumerate(settings.rules, 1):
        line = parse(text)
        if not all(holds(each, found) for each in line.conditions):
            continue
        if line.verb is Verb.SCORE:
            score += line.points
            scored.append(f"line {number}: {text}")
        elif line.verb is Verb.TAG:
            tags.append(line.tag)
        else:
            return _decided(number, text, line, score, scored, tags)
    setting = action = ""
    if settings.refuse_score and score >= settings.refuse_score:
        setting, action = "sender.refuse_score", Verb.REFUSE.value
    elif settings.junk_score and score >= settings.junk_score:
        setting, action = "sender.junk_score", Verb.JUNK.value
    return SenderPolicyFact(action, setting, score=score, scored=tuple(scored), tags=_once(tags))


def _decided(
    number: int, text: str, line: Line, score: int, scored: list[str], tags: list[str]
) -> SenderPolicyFact:
    return SenderPolicyFact(
        line.verb.value,
        "sender.rules",
        number,
        text,
        line.reason,
        instead=line.verb is Verb.ACCEPT or line.names_wish,
        score=score,
        scored=tuple(scored),
        tags=_once(tags),
    )


def _once(tags: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


def holds(asked: Condition, found: Evidence) -> bool:
    """Whether a condition holds. Of what is unknown, none does that does not name it."""
    if asked.name in RESULTS:
        result = found.results.get(asked.name, UNKNOWN)
        return result in asked.values if not asked.negated else _differs(result, asked)
    true = _named(asked, found)
    return true is not None and true is not asked.negated


def _differs(result: str, asked: Condition) -> bool:
    return result != UNKNOWN and result not in asked.values


def _named(asked: Condition, found: Evidence) -> bool | None:
    """Whether what a condition names is there; None if nobody knows."""
    values = asked.values
    if asked.name == "late":
        return not found.late.isdisjoint(values)
    if asked.name == "copies":
        return found.copies >= min(map(at_least, values)) if found.copies is not None else None
    listed = exempt(values)
    if asked.name == "peer":
        return listed.holds_peer(found.peer) if found.peer is not None else None
    if asked.name == "host":
        return bool(listed.above(found.host)) if found.host is not None else None
    if asked.name == "sender":
        return NOBODY in values if not found.sender else _party(found.sender, values)
    if asked.name == "author":
        if found.authors is None:
            return None
        return any(_party(each, values) for each in found.authors)
    return (
        any(bool(listed.above(domain)) for domain, _ in found.signers)
        if found.signers is not None
        else None
    )


def _party(who: str, values: tuple[str, ...]) -> bool:
    """Whether an address is one of these, or of one of these domains or below it."""
    return who in values or bool(exempt(values).above(who.rpartition("@")[2]))
