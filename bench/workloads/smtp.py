"""SMTP: accepting durably, at full speed and at a fixed rate; delivering; sharing among workers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import psutil

from bench.load.apart import Apart, run_apart
from bench.load.imap import Imap
from bench.load.smtp import SmtpPlan, SmtpResult, deliver
from bench.model import (
    ACCOUNTS,
    Endpoint,
    Goal,
    Measure,
    Options,
    Sample,
    Samples,
    Target,
    percentile,
)
from bench.peers.bare import Bare
from bench.peers.mailstack import MailStack
from bench.peers.postfix import Postfix
from bench.peers.postroom import SIGNER, Postroom, Unchecked
from bench.peers.process import wait_until
from bench.workloads.opening import sign_in, smtp_of

_VISIBLE = 300.0  # s until accepted mail must be in its mailbox


class Accept:
    """Messages acknowledged a second, each durable, on persistent connections."""

    name = "smtp-accept"
    targets = (Postroom, Postfix, Bare)
    measures = tuple(
        Measure(
            f"smtp-accept-{sessions}",
            f"SMTP accept, 10 KB corpus, {sessions} session{'s' if sessions > 1 else ''}",
            "/s",
            True,
            Goal("postfix", factor, words=f"{factor:g}x Postfix, every check on"),
        )
        for sessions, factor in ((1, 2.0), (10, 4.0), (50, 4.0))
    )

    def prepare(self, target: Target, options: Options) -> None:
        """A short run, so that processes exist and caches are warm."""
        run_apart(deliver, _plan(target, 10, 0, messages=100))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One run for each number of sessions."""
        samples: Samples = {}
        for sessions in (1, 10, 50):
            plan = _plan(target, sessions, 100 + repeat, seconds=options.seconds)
            result = run_apart(deliver, plan)
            samples[f"smtp-accept-{sessions}"] = _sample(result)
            target.settle()
        return samples


class Checked:
    """What it costs to ask who vouches: SPF, DKIM over the content, DMARC, the peer's name.

    Each message bears one RSA signature that holds; records and keys are known after the first.
    """

    name = "smtp-checks"
    targets = (Postroom, Unchecked)
    measures = tuple(
        Measure(
            f"smtp-checks-{sessions}",
            f"SMTP accept of signed mail, {sessions} session{'s' if sessions > 1 else ''}",
            "/s",
            True,
            Goal("unchecked"),
        )
        for sessions in (1, 10, 50)
    )

    def prepare(self, target: Target, options: Options) -> None:
        """A short run, so that processes exist and caches are warm."""
        run_apart(deliver, replace(_plan(target, 10, 0, messages=100), signer=SIGNER))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One run for each number of sessions."""
        samples: Samples = {}
        for sessions in (1, 10, 50):
            plan = _plan(target, sessions, 700 + repeat, seconds=options.seconds)
            result = run_apart(deliver, replace(plan, signer=SIGNER))
            samples[f"smtp-checks-{sessions}"] = _sample(result)
            target.settle()
        return samples


class Paced:
    """Latency while mail comes at a fixed rate that every target can hold."""

    name = "smtp-paced"
    targets = (Postroom, Postfix, Bare)
    measures = tuple(
        Measure(
            f"smtp-paced-{rate}-{share}",
            f"SMTP latency at {rate} messages a second, {share}",
            "ms",
            False,
            Goal("postfix"),
        )
        for rate in (50, 200)
        for share in ("p50", "p99")
    )

    def prepare(self, target: Target, options: Options) -> None:
        """A short run, so that processes exist and caches are warm."""
        run_apart(deliver, _plan(target, 10, 0, messages=100))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One run for each rate; what comes late counts from when it was due."""
        samples: Samples = {}
        for rate in (50, 200):
            plan = _plan(target, 20, 200 + repeat, seconds=options.seconds, rate=float(rate))
            result = run_apart(deliver, plan)
            ordered = sorted(result.latencies)
            held = {"messages/s": result.per_second}
            for share, part in (("p50", 0.5), ("p99", 0.99)):
                value = percentile(ordered, part) * 1e3
                samples[f"smtp-paced-{rate}-{share}"] = Sample(value, held)
            target.settle()
        return samples


class Deliver:
    """From the first MAIL until every accepted message is seen in its mailbox by IMAP."""

    name = "smtp-deliver"
    targets = (Postroom, MailStack)
    measures = tuple(
        Measure(
            f"smtp-deliver-{sessions}",
            f"accepted to delivered, {sessions} sessions",
            "/s",
            True,
            Goal("postfix+dovecot", 8.0, words="8x Postfix + Dovecot LMTP"),
        )
        for sessions in (10, 50)
    )

    def prepare(self, target: Target, options: Options) -> None:
        """A short run, so that mailboxes exist."""
        run_apart(deliver, _plan(target, 10, 0, messages=100))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Send a fixed number, then watch the mailboxes."""
        messages = 1_500 if options.quick else 6_000
        samples: Samples = {}
        for sessions in (10, 50):
            samples[f"smtp-deliver-{sessions}"] = _delivered(target, sessions, messages, repeat)
            target.settle()
        return samples


class Shares:
    """How evenly Postroom's workers share 50 sessions that all write, and the tail of each."""

    name = "worker-shares"
    targets = (Postroom,)
    measures = (
        Measure("worker-share", "messages of the busiest worker / of the idlest", "x", False),
        Measure("worker-session-share", "messages of the busiest session / idlest", "x", False),
        Measure("worker-p99", "SMTP accept p99 of the slowest worker, 50 sessions", "ms", False),
    )

    def prepare(self, target: Target, options: Options) -> None:
        """A short run, so that caches are warm."""
        run_apart(deliver, _plan(target, 10, 0, messages=100))

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One run; half-way, ask the system which process holds which connection."""
        plan = _plan(target, 50, 300 + repeat, seconds=options.seconds)
        with Apart(deliver, plan) as load:
            deadline = time.monotonic() + 30
            owner: dict[int, int] = {}
            while len(owner) < plan.sessions and time.monotonic() < deadline:
                time.sleep(0.1)
                owner = _owners(target, plan.to)
            result = load.result()
        workers: dict[int, list[float]] = defaultdict(list)
        for port, latencies in result.by_session:
            workers[owner[port]].extend(latencies)
        counts = sorted(len(latencies) for latencies in workers.values())
        by_session = sorted(len(latencies) for _, latencies in result.by_session)
        notes = {f"worker {rank + 1}": float(count) for rank, count in enumerate(counts)}
        tails = [percentile(sorted(latencies), 0.99) for latencies in workers.values() if latencies]
        return {
            "worker-share": Sample(counts[-1] / max(1, counts[0]), notes),
            "worker-session-share": Sample(by_session[-1] / max(1, by_session[0])),
            "worker-p99": Sample(max(tails) * 1e3, {"fastest worker ms": min(tails) * 1e3}),
        }


def _plan(
    target: Target,
    sessions: int,
    seed: int,
    *,
    seconds: float = 0.0,
    messages: int | None = None,
    rate: float | None = None,
) -> SmtpPlan:
    return SmtpPlan(
        smtp_of(target), sessions, ACCOUNTS, seed, seconds=seconds, messages=messages, rate=rate
    )


def _sample(result: SmtpResult) -> Sample:
    ordered = sorted(result.latencies)
    return Sample(
        result.per_second,
        {
            "p50 ms": percentile(ordered, 0.5) * 1e3,
            "p99 ms": percentile(ordered, 0.99) * 1e3,
            "client cores": result.client_share,
        },
    )


def _delivered(target: Target, sessions: int, messages: int, repeat: int) -> Sample:
    watchers = [sign_in(target, number) for number in range(len(ACCOUNTS))]
    before = _count(watchers)
    result = run_apart(deliver, _plan(target, sessions, 400 + repeat, messages=messages))
    wanted = before + result.acknowledged
    wait_until(lambda: _count(watchers) >= wanted, f"{wanted} messages to be visible", _VISIBLE)
    ended = time.monotonic()
    for watcher in watchers:
        watcher.close()
    return Sample(
        result.acknowledged / (ended - result.began),
        {"accepted/s": result.per_second, "client cores": result.client_share},
    )


def _count(watchers: Sequence[Imap]) -> int:
    """Messages in all INBOXes."""
    total = 0
    for watcher in watchers:
        answer = watcher.command(b"STATUS INBOX (MESSAGES)")
        total += int(answer.split(b"(MESSAGES ", 1)[1].split(b")", 1)[0])
    return total


def _owners(target: Target, to: Endpoint) -> dict[int, int]:
    """The client's port to the id of the process that holds its connection."""
    owners: dict[int, int] = {}
    for process in target.processes():
        try:
            connections = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        for connection in connections:
            if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == to.port:
                owners[connection.raddr.port] = process.pid
    return owners
