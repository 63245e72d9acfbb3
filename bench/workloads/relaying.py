"""Sending: taking mail from who signed in over TLS, and passing it on."""

from __future__ import annotations

import time

from bench.load.apart import run_apart
from bench.load.smtp import SmtpPlan, deliver
from bench.model import (
    ACCOUNTS,
    PASSWORD,
    BenchError,
    Goal,
    Measure,
    Options,
    Sample,
    Samples,
    Target,
    percentile,
)
from bench.peers.process import wait_until
from bench.peers.relays import PostfixRelay, PostroomRelay

_ELSEWHERE = tuple(f"user{number}@elsewhere.example" for number in range(10))
_PASSED_ON = 300.0  # s until all that was accepted must have arrived

Relaying = PostroomRelay | PostfixRelay


class SignedIn:
    """Messages acknowledged a second over TLS, by clients that signed in once."""

    name = "smtp-signed-in"
    targets = (PostroomRelay, PostfixRelay)
    measures = tuple(
        Measure(
            f"smtp-signed-in-{sessions}",
            f"submission over TLS, signed in, {sessions} session{'s' if sessions > 1 else ''}",
            "/s",
            True,
            Goal("postfix"),
        )
        for sessions in (1, 10, 50)
    )

    def prepare(self, target: Target, options: Options) -> None:
        """A short run, so that processes exist and caches are warm."""
        run_apart(deliver, _plan(target, 10, 0, ACCOUNTS, messages=100))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One run for each number of sessions."""
        samples: Samples = {}
        for sessions in (1, 10, 50):
            plan = _plan(target, sessions, 500 + repeat, ACCOUNTS, seconds=options.seconds)
            result = run_apart(deliver, plan)
            ordered = sorted(result.latencies)
            samples[f"smtp-signed-in-{sessions}"] = Sample(
                result.per_second,
                {
                    "p50 ms": percentile(ordered, 0.5) * 1e3,
                    "p99 ms": percentile(ordered, 0.99) * 1e3,
                    "client cores": result.client_share,
                },
            )
            target.settle()
        return samples


class Relay:
    """From the first MAIL until the other server has taken every message."""

    name = "smtp-relay"
    targets = (PostroomRelay, PostfixRelay)
    measures = tuple(
        Measure(
            f"smtp-relay-{sessions}",
            f"relay end to end, {sessions} session{'s' if sessions > 1 else ''}",
            "/s",
            True,
            Goal("postfix", 3.0, words="3x Postfix") if sessions > 1 else Goal("postfix"),
        )
        for sessions in (1, 10, 50)
    )

    def prepare(self, target: Target, options: Options) -> None:
        """A short run, so that connections exist and caches are warm."""
        run_apart(deliver, _plan(target, 10, 0, _ELSEWHERE, messages=100))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Send a fixed number for each number of sessions, then watch the other server."""
        samples: Samples = {}
        for sessions in (1, 10, 50):
            messages = (300 if options.quick else 1_500) * (1 if sessions == 1 else 4)
            samples[f"smtp-relay-{sessions}"] = _relayed(target, sessions, messages, repeat)
            target.settle()
        return samples


def _relayed(target: Target, sessions: int, messages: int, repeat: int) -> Sample:
    sink = _relaying(target).sink
    before = sink.count()
    plan = _plan(target, sessions, 600 + repeat, _ELSEWHERE, messages=messages)
    result = run_apart(deliver, plan)
    wanted = before + result.acknowledged
    wait_until(lambda: sink.count() >= wanted, f"{wanted} messages to arrive", _PASSED_ON)
    ended = time.monotonic()
    return Sample(
        result.acknowledged / (ended - result.began),
        {"accepted/s": result.per_second, "client cores": result.client_share},
    )


def _plan(
    target: Target,
    sessions: int,
    seed: int,
    recipients: tuple[str, ...],
    *,
    seconds: float = 0.0,
    messages: int | None = None,
) -> SmtpPlan:
    to = _relaying(target).submissions
    if to is None:
        raise BenchError("no submission listener")
    # Postfix takes it from its networks: nobody signs in there.
    password = PASSWORD if isinstance(target, PostroomRelay) else None
    return SmtpPlan(
        to,
        sessions,
        recipients,
        seed,
        seconds=seconds,
        messages=messages,
        sender=ACCOUNTS[0],
        password=password,
    )


def _relaying(target: Target) -> Relaying:
    if not isinstance(target, PostroomRelay | PostfixRelay):
        raise BenchError(f"{target.name} does not relay")
    return target
