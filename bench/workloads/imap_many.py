"""IMAP on many connections: appending, and a mixed day's work."""

from __future__ import annotations

from functools import partial

from bench.load.apart import run_apart
from bench.load.imap_many import ImapPlan, ImapResult, run_imap
from bench.model import (
    ACCOUNTS,
    PASSWORD,
    Goal,
    Measure,
    Options,
    Sample,
    Samples,
    Target,
    percentile,
)
from bench.peers.dovecot import Dovecot
from bench.peers.postroom import Postroom
from bench.workloads.opening import imap_of, sign_in
from postroom.testing.corpus import average_10k

_CONNECTIONS = (1, 10, 50)
_TARGETS = (
    Postroom,
    Dovecot,
    partial(Dovecot, plain=True),
    partial(Dovecot, "maildir"),
    partial(Dovecot, "sdbox", "always"),
)


class Append:
    """Messages appended a second, each acknowledged before the next of its connection."""

    name = "imap-append"
    targets = _TARGETS
    measures = tuple(
        Measure(
            f"imap-append-{connections}",
            f"APPEND of the 10 KB corpus, {connections} connection{'s' if connections > 1 else ''}",
            "/s",
            True,
            Goal("dovecot-sdbox")
            if connections == 1
            else Goal("dovecot-sdbox", 2.0, words="2x Dovecot sdbox"),
        )
        for connections in _CONNECTIONS
    )

    def prepare(self, target: Target, options: Options) -> None:
        """One message for each account, so that its mailbox exists."""
        _fill(target, 1)

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One run for each number of connections."""
        samples: Samples = {}
        for connections in _CONNECTIONS:
            plan = _plan(target, options, connections, 500 + repeat, mixed=False)
            samples[f"imap-append-{connections}"] = _sample(run_apart(run_imap, plan))
            target.settle()
        return samples


class Mixed:
    """50 clients on 10 accounts: page, body, flags, mark, NOOP, APPEND, search."""

    name = "imap-mixed"
    targets = _TARGETS
    measures = (
        Measure(
            "imap-mixed", "50 clients, mixed, 10 accounts", "/s", True,
            Goal("dovecot-sdbox", 3.0, words="3x Dovecot sdbox"),
        ),
        Measure(
            "imap-mixed-p99", "the same, p99", "ms", False,
            Goal("dovecot-sdbox", 2.0, words="half of Dovecot sdbox"),
        ),
    )  # fmt: skip

    def prepare(self, target: Target, options: Options) -> None:
        """500 messages in each INBOX, and one run that is not counted."""
        _fill(target, 500)
        run_apart(run_imap, _plan(target, options, 50, 599, mixed=True))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One run."""
        plan = _plan(target, options, 50, 600 + repeat, mixed=True)
        result = run_apart(run_imap, plan)
        sample = _sample(result)
        target.settle()
        p99 = percentile(sorted(result.latencies), 0.99) * 1e3
        return {"imap-mixed": sample, "imap-mixed-p99": Sample(p99)}


def _fill(target: Target, messages: int) -> None:
    """Over IMAP: the mailboxes are small, and both sides' caches are as after such mail."""
    for number in range(len(ACCOUNTS)):
        client = sign_in(target, number)
        client.append_all(b"INBOX", average_10k(messages, 700 + number))
        client.close()


def _plan(
    target: Target, options: Options, connections: int, seed: int, *, mixed: bool
) -> ImapPlan:
    return ImapPlan(
        imap_of(target),
        ACCOUNTS,
        PASSWORD,
        connections,
        options.seconds,
        seed,
        mixed,
        messages=500,
    )


def _sample(result: ImapResult) -> Sample:
    ordered = sorted(result.latencies)
    return Sample(
        result.per_second,
        {
            "p50 ms": percentile(ordered, 0.5) * 1e3,
            "p99 ms": percentile(ordered, 0.99) * 1e3,
            "client cores": result.client_share,
        },
    )
