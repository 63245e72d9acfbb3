"""The phases of intake: which probes gather facts and which rules judge them, in order.

The table is the same wherever mail enters. A new check is a file, a row here and a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from postroom.domain.policy import Policy
from postroom.domain.transit import Fact, Facts, Recipient, Transit, Verdict
from postroom.mailflow import probes
from postroom.mailflow.house import MailHouse
from postroom.mailflow.rules import content, envelope, recipients

_log: Final = structlog.get_logger("postroom.mailflow")

Rule = Callable[[Facts, Policy, Recipient | None], Verdict | None]


@dataclass(frozen=True, slots=True)
class Probe:
    """Gathers facts about a message, or about one of its recipients.

    One that waits for others (DNS, scanners) runs beside its fellows, and yields `unknown` at
    the phase's deadline. One that is `inline` asks only the store or the message itself.
    """

    name: str
    run: Callable[[MailHouse, Transit, Recipient | None], Awaitable[tuple[Fact, ...]]]
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a session. Probes run beside each other; rules are asked in order."""

    name: str
    rules: tuple[Rule, ...]
    probes: tuple[Probe, ...] = ()


MAIL: Final = Phase("mail", (envelope.declared_size, envelope.local_sender))
RCPT: Final = Phase(
    "rcpt",
    (
        recipients.guessing,
        recipients.crowd,
        recipients.relay,
        recipients.known,
        recipients.room,
    ),
    probes=(Probe("directory", probes.directory, inline=True),),
)
DATA: Final = Phase(
    "data",
    (content.line_ends, content.nul, content.size, content.hops),
    probes=(Probe("structure", probes.structure, inline=True),),
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
    slow: dict[asyncio.Task[tuple[Fact, ...]], str] = {}
    try:
        for probe in phase.probes:
            if not probe.inline:
                task = asyncio.ensure_future(probe.run(house, transit, to))
                slow[task] = probe.name
        for probe in phase.probes:
            if probe.inline:
                facts.put(*await probe.run(house, transit, to))
        if slow:
            await asyncio.wait(slow, timeout=seconds)
    finally:
        for task in slow:
            task.cancel()  # those that are done do not feel it
    for task, name in slow.items():
        if not task.done() or task.cancelled():
            facts.late.append(name)
        elif (error := task.exception()) is not None:
            _log.error("probe failed", probe=name, transit=transit.id, exc_info=error)
            facts.late.append(name)
        else:
            facts.put(*task.result())
    facts.late.sort()


def judge(
    rules: tuple[Rule, ...], facts: Facts, policy: Policy, to: Recipient | None
) -> Verdict | None:
    """The first verdict that any rule gives."""
    for rule in rules:
        verdict = rule(facts, policy, to)
        if verdict is not None:
            return verdict
    return None
