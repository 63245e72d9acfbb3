"""What honest clients feel while others attack, and what a stranger's connection can cost."""

from __future__ import annotations

import time
from array import array
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from bench.load.apart import Apart, signals
from bench.load.hostile import HELD, AttackPlan, AttackResult, attack
from bench.load.pages import PagesPlan, fetch_pages
from bench.load.smtp import SmtpPlan, deliver
from bench.model import (
    ACCOUNTS,
    PASSWORD,
    BenchError,
    Filling,
    Goal,
    Measure,
    Options,
    Sample,
    Samples,
    Target,
    percentile,
)
from bench.peers.mailstack import MailStack
from bench.peers.postroom import Postroom
from bench.peers.process import cpu, memory
from bench.workloads.footprint import steady
from bench.workloads.opening import imap_of, plain_imap_of, smtp_of

_RATE = 50.0  # messages a second, and pages a second
_SENDERS = 10
_MESSAGES = 500  # in the mailbox whose pages are looked at
_RECIPIENTS = ACCOUNTS[:7]
_READER = ACCOUNTS[8]  # gets no mail meanwhile: its pages stay the same
_VICTIM = ACCOUNTS[9]
_LOOK = 1.0  # s between two looks at the server's memory


@dataclass(frozen=True, slots=True)
class _Attack:
    """How hard one kind is tried."""

    kind: str
    words: str
    connections: int
    every: float  # s between two attempts of a connection


_ATTACKS = (
    _Attack("literals", "IMAP literals of 4 GiB, and 1 MB sent anyway", 10, 0.1),
    _Attack("parentheses", "1e6 parentheses in one IMAP line", 4, 0.2),
    _Attack("drip", "200 IMAP connections, 10 octets a second each", 200, 0.0),
    _Attack("imap-held", "200 unfinished IMAP commands of 53 KB", 200, 0.0),
    _Attack("smtp-held", "60 unfinished messages of 250 KB", 60, 0.0),
    _Attack("imap-garbage", "4,000 IMAP commands of garbage at once", 10, 0.2),
    _Attack("smtp-garbage", "4,000 SMTP commands of garbage at once", 10, 0.2),
    _Attack("imap-starttls", "commands behind STARTTLS, IMAP", 10, 0.1),
    _Attack("smtp-starttls", "commands behind STARTTLS, SMTP", 10, 0.1),
    _Attack("depth", "messages of 10,000 nested multiparts", 2, 0.5),
    _Attack("parts", "messages of 100,000 parts", 2, 0.5),
    _Attack("rfc2231", "messages with 100,000 RFC 2231 sections", 2, 0.5),
    _Attack("headers", "messages with 5 MB of header", 2, 0.5),
)


def _felt_by(attack: _Attack) -> tuple[Measure, ...]:
    peer = Goal("postfix+dovecot")
    return (
        Measure(f"hostile-{attack.kind}-smtp", f"SMTP p99 under {attack.words}", "x", False, peer),
        Measure(f"hostile-{attack.kind}-imap", "IMAP page p99 under the same", "x", False, peer),
    )


def _cost_of(attack: _Attack) -> Measure:
    title = f"memory of a connection: {attack.words}"
    return Measure(f"hostile-{attack.kind}-memory", title, "KiB", False, Goal("postfix+dovecot"))


class Hostile:
    """50 messages and 50 pages a second, alone and under each attack.

    The value is how many times as long the p99 is as alone, in the same round.
    """

    name = "hostile"
    targets = (Postroom, MailStack)
    measures = tuple(
        measure
        for each in _ATTACKS
        for measure in (*_felt_by(each), *((_cost_of(each),) if each.kind in HELD else ()))
    )

    def prepare(self, target: Target, options: Options) -> None:
        """A mailbox to look at; a run that is not counted."""
        target.fill(Filling(_READER, _MESSAGES, 900))
        _feel(target, 0, 1.0)
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Each attack; alone before them and after them, and both count as one."""
        alone = _feel(target, 250 + repeat, options.seconds)
        felt: dict[_Attack, _Felt] = {}
        samples: Samples = {}
        for each in _ATTACKS:
            target.settle()
            try:
                felt[each], cost = _under(each, target, options, repeat)
            except BenchError as error:
                raise BenchError(f"under {each.words}: {error}") from error
            if cost is not None:
                samples[f"hostile-{each.kind}-memory"] = cost
        target.settle()
        after = _feel(target, 270 + repeat, options.seconds)
        mail, pages = alone.mail + after.mail, alone.pages + after.pages
        idle = (alone.cores + after.cores) / 2
        for each, under in felt.items():
            notes = under.notes | {"server cores": under.cores, "alone cores": idle}
            samples[f"hostile-{each.kind}-smtp"] = _ratio(under.mail, mail, notes)
            grown = {"server grew MiB": under.grown / 2**20}
            samples[f"hostile-{each.kind}-imap"] = _ratio(under.pages, pages, grown)
        return samples


@dataclass(frozen=True, slots=True)
class _Felt:
    """What the honest clients felt, in s, and what the server spent on all together."""

    mail: array[float]
    pages: array[float]
    cores: float  # of CPU that the server used
    grown: int = 0  # octets of PSS, at most, beyond what it had before
    notes: dict[str, float] = field(default_factory=dict)  # of the attack


def _feel(target: Target, seed: int, seconds: float) -> _Felt:
    """Let both honest clients work for so long."""
    mail = SmtpPlan(smtp_of(target), _SENDERS, _RECIPIENTS, seed, seconds=seconds, rate=_RATE)
    pages = PagesPlan(imap_of(target), _READER, PASSWORD, _MESSAGES, seconds, _RATE)
    before, most = memory(target.processes())[0], 0
    used, began = cpu(target.processes()), time.monotonic()
    with ExitStack() as stack:
        sender = stack.enter_context(Apart(deliver, mail))
        reader = stack.enter_context(Apart(fetch_pages, pages))
        while not sender.ended(_LOOK):
            most = max(most, memory(target.processes())[0])
        felt = sender.result().latencies, reader.result()
    cores = (cpu(target.processes()) - used) / (time.monotonic() - began)
    return _Felt(*felt, cores, max(0, most - before))


def _under(
    each: _Attack, target: Target, options: Options, repeat: int
) -> tuple[_Felt, Sample | None]:
    """What was felt, and what a connection cost if the attack holds them."""
    holds = each.kind in HELD
    if holds:  # what a heap has freed must not hide its growth
        target.stop()
        target.resume()
    before = steady(target)[0]
    flags = signals()
    plan = AttackPlan(
        each.kind,
        smtp_of(target),
        plain_imap_of(target),
        _VICTIM,
        each.connections,
        each.every,
        flags,
    )
    with Apart(attack, plan) as attacker:
        while not flags.ready.wait(_LOOK):
            if attacker.ended(0):
                attacker.result()  # raises what went wrong
        held = 0
        if holds:
            held = steady(target)[0] - before
            _feel(target, 0, 1.0)  # it was just started: its caches shall be as in the others
        felt = _feel(target, 260 + repeat, options.seconds)
        flags.stop.set()
        result = attacker.result()
    if result.executed:
        raise BenchError(f"{result.executed} commands behind STARTTLS were executed")
    felt = replace(felt, grown=felt.grown + max(0, held), notes=_notes(result))
    if result.held < each.connections // 2:
        return felt, None  # not held at all, or cut: then there is no cost to speak of
    kept = {"held to the end": float(result.held)}
    return felt, Sample(held / each.connections / 1024, kept)


def _ratio(under: array[float], alone: array[float], more: dict[str, float]) -> Sample:
    slow, calm = sorted(under), sorted(alone)
    p99, calm99 = percentile(slow, 0.99), percentile(calm, 0.99)
    notes = {
        "p99 ms": p99 * 1e3,
        "alone": calm99 * 1e3,
        "p50 ms": percentile(slow, 0.5) * 1e3,
        "alone p50": percentile(calm, 0.5) * 1e3,
    }
    return Sample(p99 / calm99, notes | more)


def _notes(result: AttackResult) -> dict[str, float]:
    if result.answers:
        return {
            "bombs": float(len(result.answers)),
            "refused": float(result.refused),
            "s to decide": max(result.answers),
        }
    return {
        "attempts/s": result.per_second,
        "cut by the server": float(result.cut),
        "attacker cores": result.attacker_share,
    }
