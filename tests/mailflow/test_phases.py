"""Probes: side by side, bounded, and what they do not say in time is unknown, never good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from postroom.core.errors import Status, StoreFailed
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Fact, Facts, Recipient, Transit, Verdict
from postroom.mailflow.house import MailHouse
from postroom.mailflow.phases import DATA, MAIL, RCPT, Phase, Phases, Probe
from tests.mailflow.serving import DOMAIN, Mx, message, serve
from tests.stores import open_mail

BOB = f"bob@{DOMAIN}"
ANN = "ann@elsewhere.example"


@dataclass(frozen=True, slots=True)
class QuickFact(Fact):
    name: ClassVar[str] = "quick"
    answer: int


@dataclass(frozen=True, slots=True)
class SlowFact(Fact):
    name: ClassVar[str] = "slow"
    answer: int


@asynccontextmanager
async def serving(folder: Path, phases: Phases) -> AsyncIterator[Mx]:
    mail, state = open_mail("sqlite", str(folder))
    try:
        async with serve(folder, mail, state, phases=phases) as mx:
            await mx.account(BOB)
            await mx.set("smtp.accept_deadline", 1)
            yield mx
    finally:
        await mail.close()
        await state.close()


def probe(name: str, seconds: float, *facts: Fact) -> Probe:
    async def run(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
        await asyncio.sleep(seconds)
        return facts

    return Probe(name, run)


def broken(error: Exception) -> Probe:
    async def run(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
        raise error

    return Probe("broken", run)


def wants_slow(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """A rule that is lenient only where the fact is known and good."""
    fact = facts.get(SlowFact)
    if fact is not None and fact.answer == 1:
        return None
    return Verdict(
        "wants_slow", Action.DEFER, Status(4, 7, 0), "Come back", "nobody vouches for it"
    )


def with_probes(phase: Phase, *probes: Probe) -> Phase:
    return replace(phase, probes=(*probes, *phase.probes))


async def test_a_probe_that_is_late_is_unknown_at_the_deadline_and_named_in_the_trace(
    tmp_path: Path,
) -> None:
    late = probe("late", 30, SlowFact(1))
    phases = Phases(data=with_probes(DATA, late, probe("quick", 0.01, QuickFact(7))))
    async with serving(tmp_path, phases) as mx, mx.connect() as client:
        begun = time.monotonic()
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert 0.9 < time.monotonic() - begun < 3
        record = await mx.delivered("<1@elsewhere.example>")
    assert record["facts"]["unknown"] == ["late"]
    assert record["facts"]["quick"] == {"answer": 7}  # what is known counts
    assert "slow" not in record["facts"]


async def test_an_unknown_fact_never_counts_as_good(tmp_path: Path) -> None:
    strict = replace(DATA, rules=(*DATA.rules, wants_slow))
    for seconds, code in ((0.01, 250), (30.0, 451)):
        phases = Phases(data=with_probes(strict, probe("vouch", seconds, SlowFact(1))))
        folder = tmp_path / str(code)
        folder.mkdir()
        async with serving(folder, phases) as mx, mx.connect() as client:
            done = await client.deliver(ANN, [BOB], message())
            assert done.end is not None and done.end.code == code
            if code == 451:
                record = await mx.refusal(done.end)
                assert record["facts"]["unknown"] == ["vouch"]


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data"])
async def test_probes_of_a_phase_run_beside_each_other(tmp_path: Path, phase: str) -> None:
    ten = [probe(f"p{n}", 0.3) for n in range(10)]
    table = {"mail": MAIL, "rcpt": RCPT, "data": DATA}
    phases = replace(Phases(), **{phase: with_probes(table[phase], *ten)})
    async with serving(tmp_path, phases) as mx, mx.connect() as client:
        begun = time.monotonic()
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert 0.29 < time.monotonic() - begun < 0.9


async def test_a_recipient_s_late_probe_is_named_beside_that_recipient(tmp_path: Path) -> None:
    phases = Phases(rcpt=with_probes(RCPT, probe("late", 30)))
    async with serving(tmp_path, phases) as mx, mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], message())).accepted
        record = await mx.delivered("<1@elsewhere.example>")
    assert record["recipients"][0]["facts"]["unknown"] == ["late"]
    assert "unknown" not in record["facts"]


@pytest.mark.parametrize("error", [StoreFailed(detail="no disk"), KeyError("a mistake of ours")])
async def test_a_probe_that_breaks_is_unknown_and_breaks_nothing_else(
    tmp_path: Path, error: Exception
) -> None:
    phases = Phases(data=with_probes(DATA, broken(error), probe("quick", 0.01, QuickFact(7))))
    async with serving(tmp_path, phases) as mx, mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], message())).accepted
        record = await mx.delivered("<1@elsewhere.example>")
    assert record["facts"]["unknown"] == ["broken"]
    assert record["facts"]["quick"] == {"answer": 7}


@pytest.mark.parametrize("phase", ["mail", "rcpt"])
async def test_probes_end_with_the_peer_that_they_were_asked_for(
    tmp_path: Path, phase: str
) -> None:
    running = 0

    async def run(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(30)
        finally:
            running -= 1
        return ()

    table = {"mail": MAIL, "rcpt": RCPT}
    phases = replace(Phases(), **{phase: with_probes(table[phase], Probe("long", run))})
    async with serving(tmp_path, phases) as mx:
        await mx.set("smtp.accept_deadline", 30)
        async with mx.connect() as client:
            await client.send(f"MAIL FROM:<{ANN}>\r\nRCPT TO:<{BOB}>\r\n".encode())
            await mx.settled(lambda: running == 1)
            client.reset()
        await mx.settled(lambda: running == 0)
        await mx.settled(lambda: not mx.acceptor.connections)


async def test_without_dns_port_25_answers_at_once(mx: Mx) -> None:
    """Nothing asks the network before the greeting, and no probe for local mail without `checks`;
    what they cost without DNS is in test_authentication.
    """
    await mx.account(BOB)
    begun = time.monotonic()
    async with mx.connect() as client:
        greeted = time.monotonic() - begun
        assert (await client.deliver(ANN, [BOB], message())).accepted
    assert greeted < 0.5
    assert time.monotonic() - begun < 2


async def test_a_final_probe_has_what_the_closing_ones_found_and_time_of_its_own(
    tmp_path: Path,
) -> None:
    async def closes(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
        await asyncio.sleep(0.1)
        return (SlowFact(20),)

    async def ends(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
        await asyncio.sleep(0.05)
        found = transit.facts.get(SlowFact)
        assert found is not None
        return (QuickFact(found.answer + 1),)

    def knows(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
        found = transit.facts.get(QuickFact)
        return (SlowFact(found.answer * 2),) if found is not None else None

    closing = Probe("closes", closes, closing=True)
    data = replace(
        DATA,
        probes=(*DATA.probes, probe("late", 30), Probe("ends", ends, final=True), closing),
    )
    async with serving(tmp_path, Phases(data=data)) as mx, mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], message())).accepted
        facts = (await mx.delivered("<1@elsewhere.example>"))["facts"]
    assert (facts["slow"], facts["quick"]) == ({"answer": 20}, {"answer": 21})
    assert facts["unknown"] == ["late"]
    known = Probe("knows", closes, final=True, known=knows)
    data = replace(DATA, probes=(*DATA.probes, probe("quick", 0, QuickFact(1)), known))
    (tmp_path / "two").mkdir()
    async with serving(tmp_path / "two", Phases(data=data)) as mx, mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], message())).accepted
        facts = (await mx.delivered("<1@elsewhere.example>"))["facts"]
    assert facts["slow"] == {"answer": 2}
