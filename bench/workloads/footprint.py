"""What a connection and a large mailbox cost at rest."""

from __future__ import annotations

import time
from functools import partial
from statistics import median

from bench.load.imap import Imap
from bench.model import (
    ACCOUNTS,
    BenchError,
    Filling,
    Goal,
    Measure,
    Options,
    Sample,
    Samples,
    Target,
)
from bench.peers.dovecot import Dovecot
from bench.peers.mailstack import MailStack
from bench.peers.postroom import Postroom
from bench.peers.process import memory
from bench.workloads.opening import sign_in

_FIRST = 100  # connections open before counting begins: all workers know all accounts then


class Idle:
    """Memory of the server for each connection that has selected INBOX and idles.

    Over TLS, but for the target whose name says plain.
    """

    name = "imap-idle"
    targets = (Postroom, Dovecot, partial(Dovecot, plain=True))
    measures = (
        Measure(
            "imap-idle", "memory of an idle IMAP connection", "KiB", False,
            Goal("dovecot-sdbox", at_most=35.0, words="35 KiB"),
        ),
    )  # fmt: skip

    def prepare(self, target: Target, options: Options) -> None:
        """200 messages in each INBOX."""
        target.fill(*(Filling(user, 200, 800 + n) for n, user in enumerate(ACCOUNTS)))

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """On a server just started: what a heap has freed must not hide its growth."""
        target.restart_cold()
        return {"imap-idle": _cost(target, options.idle)}


class Startup:
    """From the command until every listener accepts, and what the server then takes."""

    name = "startup"
    targets = (Postroom, MailStack)
    measures = (
        Measure("startup-first", "first start, on an empty directory", "s", False),
        Measure("startup", "start on a store that is there", "s", False, Goal("postfix+dovecot")),
        Measure(
            "startup-memory", "memory of the idle server", "MiB", False, Goal("postfix+dovecot")
        ),
    )

    def prepare(self, target: Target, options: Options) -> None:
        """Some mail, so that the store is not empty."""
        target.fill(Filling(ACCOUNTS[0], 200, 950))

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """The first start was the target's own; then one more, and a look when it rests."""
        samples: Samples = {}
        if repeat == 0 and isinstance(target, Postroom):
            samples["startup-first"] = Sample(target.first_start)
        target.stop()
        began = time.monotonic()
        target.resume()
        samples["startup"] = Sample(time.monotonic() - began)
        target.settle()
        pss, rss = steady(target)
        notes = {"RSS MiB": rss / 2**20, "processes": float(len(target.processes()))}
        samples["startup-memory"] = Sample(pss / 2**20, notes)
        return samples


class Huge:
    """Opening a mailbox of many small messages; its cost must not follow its size."""

    name = "imap-huge"
    targets = (Postroom, Dovecot)
    measures = (
        Measure(
            "imap-huge-cold",
            "SELECT of the large mailbox, cold",
            "ms",
            False,
            Goal("dovecot-sdbox"),
        ),
        Measure(
            "imap-huge-warm",
            "SELECT of the large mailbox, warm",
            "ms",
            False,
            Goal("dovecot-sdbox", at_most=50.0, words="50 ms"),
        ),
        Measure("imap-huge-page", "its last page of 50, warm", "ms", False, Goal("dovecot-sdbox")),
    )

    def prepare(self, target: Target, options: Options) -> None:
        """Fill it: 200,000, or 20,000 with --quick."""
        target.fill(Filling(ACCOUNTS[0], options.huge, 0, small=True))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Restart with the page cache of the stores dropped, then open it several times."""
        target.restart_cold()
        n = options.huge
        cold = _select(target, n)
        warm = [_select(target, n) for _ in range(5)]
        client = sign_in(target, 0)
        client.command(b"SELECT INBOX")
        page = b"FETCH %d:%d (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)" % (n - 49, n)
        client.command(page)
        pages = [client.timed(page)[0] for _ in range(20)]
        client.close()
        note = {"messages": float(n)}
        return {
            "imap-huge-cold": Sample(cold, note),
            "imap-huge-warm": Sample(median(warm), note),
            "imap-huge-page": Sample(median(pages) * 1e3, note),
        }


def _cost(target: Target, count: int) -> Sample:
    """KiB of PSS for each of `count` connections beyond the first few."""
    held = [_idle(target, number) for number in range(_FIRST)]
    try:
        pss, rss = steady(target)
        held += [_idle(target, number) for number in range(count)]
        more_pss, more_rss = steady(target)
    finally:
        for client in held:
            client.close()
    return Sample((more_pss - pss) / count / 1024, {"RSS KiB": (more_rss - rss) / count / 1024})


def steady(target: Target) -> tuple[int, int]:
    """(PSS, RSS) in octets once it no longer changes by more than a hundredth.

    Raises BenchError after a minute.
    """
    seen = memory(target.processes())
    for _ in range(120):
        time.sleep(0.5)
        before, seen = seen, memory(target.processes())
        if abs(seen[0] - before[0]) <= before[0] // 100:
            return seen
    raise BenchError("the server's memory does not settle")


def _idle(target: Target, number: int) -> Imap:
    client = sign_in(target, number)
    client.command(b"SELECT INBOX")
    client.idle()
    client.release()
    return client


def _select(target: Target, messages: int) -> float:
    """Milliseconds of SELECT on a new connection."""
    client = sign_in(target, 0)
    took, answer = client.timed(b"SELECT INBOX")
    client.close()
    if b"* %d EXISTS" % messages not in answer:
        raise BenchError(f"SELECT did not show {messages} messages")
    return took * 1e3
