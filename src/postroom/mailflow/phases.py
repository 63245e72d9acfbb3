"""The phases of intake: which probes gather facts and which rules judge them, in order.

The table is the same wherever mail enters. A new check is a file, a row here and a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from postroom.core.errors import MailError
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Fact, Facts, Recipient, Transit, Verdict
from postroom.mailflow import (
    authentication,
    bimi,
    deciding,
    dkim,
    dmarc,
    filing,
    probes,
    replay,
    screening,
    vbr,
)
from postroom.mailflow.house import MailHouse
from postroom.mailflow.rules import authentication as vouched
from postroom.mailflow.rules import batv as bounced
from postroom.mailflow.rules import content, envelope, recipients
from postroom.mailflow.rules import filing as brought
from postroom.mailflow.rules import replay as copied
from postroom.mailflow.rules import screening as shown
from postroom.mailflow.rules import sender as by_policy
from postroom.mailflow.sender.judging import sender_policy

_log: Final = structlog.get_logger("postroom.mailflow")

CLOSING: Final = 0.25
"""The part of a phase's time that closing probes have at least."""
FINAL: Final = 0.15
"""The same for final ones."""

Rule = Callable[[Facts, Policy, Recipient | None], Verdict | None]
Conclusion = Callable[[MailHouse, Transit], tuple[Fact, ...]]
Asking = dict[asyncio.Future[tuple[Fact, ...]], str]
"""Probes under way, with their names."""


def nothing_known(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
    """For a probe that has to ask every time."""
    return None


@dataclass(frozen=True, slots=True)
class Probe:
    """Gathers facts about a message, or about one of its recipients.

    One that waits for others (DNS, scanners) runs beside its fellows, and yields `unknown` at
    the phase's deadline. One that is `inline` asks only the store or the message itself. One
    that is `lasting` begins when its phase is over and goes on while the peer sends: the last
    phase waits for it. What it can say at once, without asking anybody, `known` says. One that
    is `closing` builds on what the others found, and begins when they are done; one that is
    `final` builds on what those found.
    """

    name: str
    run: Callable[[MailHouse, Transit, Recipient | None], Awaitable[tuple[Fact, ...]]]
    inline: bool = False
    lasting: bool = False
    closing: bool = False
    final: bool = False
    known: Callable[[MailHouse, Transit], tuple[Fact, ...] | None] = nothing_known

    @property
    def kind(self) -> str:
        """Which of these it is."""
        said = (self.lasting, self.closing, self.final, self.inline)
        return next((kind for kind, is_it in zip(_KINDS, said, strict=False) if is_it), "beside")


_KINDS: Final = ("lasting", "closing", "final", "inline", "beside")


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a session. Probes run beside each other; rules are asked in order."""

    name: str
    rules: tuple[Rule, ...]
    probes: tuple[Probe, ...] = ()
    conclusions: tuple[Conclusion, ...] = ()  # what follows from all that the probes found
    last: bool = False  # nothing comes after it: who was begun before has to come to an end
    inline: tuple[Probe, ...] = field(init=False)
    beside: tuple[Probe, ...] = field(init=False)
    lasting: tuple[Probe, ...] = field(init=False)
    closing: tuple[Probe, ...] = field(init=False)
    final: tuple[Probe, ...] = field(init=False)

    def __post_init__(self) -> None:
        parted: dict[str, list[Probe]] = {kind: [] for kind in _KINDS}
        for probe in self.probes:
            parted[probe.kind].append(probe)
        for kind, these in parted.items():
            object.__setattr__(self, kind, tuple(these))  # frozen, and made here


MAIL: Final = Phase(
    "mail",
    (
        envelope.sign_in_first,
        envelope.still_welcome,
        envelope.declared_size,
        envelope.local_sender,
        envelope.own_sender,
    ),
    probes=(
        Probe("sender_rights", probes.sender_rights, inline=True),
        Probe("spf", authentication.spf, lasting=True, known=authentication.spf_known),
        Probe("iprev", authentication.iprev, lasting=True, known=authentication.iprev_known),
        Probe("dmarc_ahead", dmarc.ahead, lasting=True, known=dmarc.ahead_known),
    ),
)
RCPT: Final = Phase(
    "rcpt",
    (
        recipients.guessing,
        recipients.crowd,
        recipients.relay,
        recipients.posting,
        recipients.known,
        bounced.not_our_bounce,
        brought.reports_budget,
        recipients.room,
        recipients.apart,
    ),
    probes=(
        Probe("directory", probes.directory, inline=True),
        Probe("reports", filing.reports, inline=True),
        Probe("apart", deciding.apart, inline=True),
    ),
)
DATA: Final = Phase(
    "data",
    (
        content.line_ends,
        content.nul,
        content.size,
        brought.reports_size,
        content.hops,
        content.whole_header,
        content.own_author,
        vouched.unclear_author,
        shown.misleading_from,
        by_policy.sender_marked,
        by_policy.sender_accepted,
        by_policy.sender_refused,
        copied.replay_refused,
        vouched.dmarc_refused,
        vouched.spf_fail,
        by_policy.sender_deferred,
        copied.replay_deferred,
        by_policy.sender_filed,
        copied.replay_filed,
        vouched.dmarc_marked,
    ),
    probes=(
        Probe("structure", probes.structure, inline=True),
        Probe("author", probes.author, inline=True),
        Probe("from", screening.screened, inline=True),
        Probe("brings", filing.brings, inline=True),
        Probe("dkim", dkim.dkim, known=dkim.known),
        Probe("dmarc", dmarc.dmarc, closing=True),
        Probe("replay", replay.replay, inline=True, closing=True, known=replay.known),
        Probe("vbr", vbr.vbr, closing=True, known=vbr.known),
        Probe("bimi", bimi.bimi, final=True, known=bimi.known),
    ),
    conclusions=(sender_policy,),
    last=True,
)


@dataclass(frozen=True, slots=True)
class Phases:
    """The whole table; tests and rehearsal pass another one."""

    mail: Phase = MAIL
    rcpt: Phase = RCPT
    data: Phase = DATA


async def gather(
    phase: Phase, house: MailHouse, transit: Transit, to: Recipient | None, seconds: float
) -> None:
    """Run a phase's probes and put what they found where it belongs.

    What a slow probe could not find out, be it late or broken, is unknown. An inline probe's
    errors are the caller's: what the store does not say cannot be decided without.
    """
    facts = transit.facts if to is None else to.facts
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    slow: Asking = {}
    unknown = _unknown(phase.beside, facts, house, transit)
    alone = unknown.pop() if len(unknown) == 1 else None
    try:
        for probe in unknown:
            slow[asyncio.create_task(_ask(probe, house, transit, to, seconds))] = probe.name
        for probe in phase.inline:
            facts.put(*await probe.run(house, transit, to))
        if alone is not None:
            await _alone(alone, facts, house, transit, to, max(0.0, deadline - loop.time()))
        waited = [*slow, *transit.asking] if phase.last else slow
        if waited:
            await asyncio.wait(waited, timeout=max(0.0, deadline - loop.time()))
    finally:
        for waiting in slow:
            waiting.cancel()  # those that are done do not feel it
    _take(facts, slow, transit)
    if transit.asking:
        ended = {task: name for task, name in transit.asking.items() if phase.last or task.done()}
        _take(transit.facts, ended, transit)
        for task in ended:
            task.cancel()
            del transit.asking[task]
    if phase.closing:
        # Who made the others slow must not have silenced these.
        left = max(deadline - loop.time(), CLOSING * seconds)
        await _close(phase.closing, facts, house, transit, to, left)
    if phase.final:
        left = max(deadline - loop.time(), FINAL * seconds)
        await _close(phase.final, facts, house, transit, to, left)
    for conclusion in phase.conclusions:
        facts.put(*conclusion(house, transit))


def _unknown(
    probes: tuple[Probe, ...], facts: Facts, house: MailHouse, transit: Transit
) -> list[Probe]:
    """Take what is known without asking; these have to ask."""
    unknown = []
    for probe in probes:
        known = probe.known(house, transit)
        if known is not None:
            facts.put(*known)
        else:
            unknown.append(probe)
    return unknown


async def _close(
    probes: tuple[Probe, ...],
    facts: Facts,
    house: MailHouse,
    transit: Transit,
    to: Recipient | None,
    seconds: float,
) -> None:
    """Run probes that needed what the others found, beside each other."""
    unknown = _unknown(probes, facts, house, transit)
    others = [each for each in unknown if not each.inline]
    alone = [each for each in unknown if each.inline] + (others if len(others) == 1 else [])
    for each in alone:
        await _alone(each, facts, house, transit, to, seconds)
    if len(others) < 2:
        return
    asked: Asking = {
        asyncio.create_task(_ask(each, house, transit, to, seconds)): each.name for each in others
    }
    try:
        await asyncio.wait(asked)  # each ends in time
    finally:
        for task in asked:
            task.cancel()
    _take(facts, asked, transit)


def begin(phase: Phase, house: MailHouse, transit: Transit, seconds: float) -> None:
    """Begin what goes on beside the phases that follow, now that this one has let it pass."""
    for probe in phase.lasting:
        known = probe.known(house, transit)
        if known is not None:
            transit.facts.put(*known)
        else:
            task = asyncio.create_task(_ask(probe, house, transit, None, seconds))
            transit.asking[task] = probe.name


async def _ask(
    probe: Probe, house: MailHouse, transit: Transit, to: Recipient | None, seconds: float
) -> tuple[Fact, ...]:
    """Run a probe that waits for others, for `seconds` from now. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        return await probe.run(house, transit, to)


async def _alone(
    probe: Probe,
    facts: Facts,
    house: MailHouse,
    transit: Transit,
    to: Recipient | None,
    seconds: float,
) -> None:
    """Run the one probe that has to ask: without others, a task of its own gains nothing."""
    try:
        facts.put(*await _ask(probe, house, transit, to, seconds))
    except Exception as error:  # whatever it is, the message is judged without
        _broken(probe.name, error, transit)
        facts.late.append(probe.name)
        facts.late.sort()


def _take(facts: Facts, asked: Asking, transit: Transit) -> None:
    """Put what these probes found; those that are not done are late."""
    if not asked:
        return
    for task, name in asked.items():
        if not task.done() or task.cancelled():
            facts.late.append(name)
        elif (error := task.exception()) is None:
            facts.put(*task.result())
        else:
            _broken(name, error, transit)
            facts.late.append(name)
    facts.late.sort()


def _broken(name: str, error: BaseException, transit: Transit) -> None:
    if isinstance(error, MailError):  # such as a disk that does not give the content back
        why = error.detail or str(error)
        _log.warning("probe failed", probe=name, transit=transit.id, reason=why)
    elif not isinstance(error, TimeoutError):
        _log.error("probe failed", probe=name, transit=transit.id, exc_info=error)


def judge(
    rules: tuple[Rule, ...], facts: Facts, policy: Policy, to: Recipient | None
) -> tuple[Verdict, ...]:
    """What the rules say, in their order. One that stops the mail stands alone, and the first that
    accepts is the last: what goes to junk may be marked as well, or be refused for another reason.
    """
    found: list[Verdict] = []
    for rule in rules:
        verdict = rule(facts, policy, to)
        if verdict is None:
            continue
        if not verdict.passes:
            return (verdict,)
        found.append(verdict)
        if verdict.action is Action.ACCEPT:
            break
    return tuple(found)


def stopped(verdicts: tuple[Verdict, ...]) -> Verdict | None:
    """The verdict that lets nothing pass, if `judge` found one."""
    return verdicts[0] if verdicts and not verdicts[0].passes else None
