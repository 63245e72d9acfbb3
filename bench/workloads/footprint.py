"""What a connection and a large mailbox cost at rest."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from statistics import median

from bench.load.imap import Imap, insecure_tls
from bench.model import (
    ACCOUNTS,
    PASSWORD,
    BenchError,
    Endpoint,
    Goal,
    Measure,
    Options,
    Sample,
    Samples,
    Target,
)
from bench.peers.dovecot import Dovecot
from bench.peers.postroom import Postroom
from bench.peers.process import memory
from postroom.testing.corpus import average_10k

_FIRST = 20  # connections that are open before counting begins, so that processes exist


class Idle:
    """Memory of the server for each connection that has selected INBOX and idles."""

    name = "imap-idle"
    targets = (Postroom, Dovecot)
    measures = (
        Measure(
            "imap-idle-plain", "memory of an idle IMAP connection", "KiB", False,
            Goal("dovecot-sdbox"),
        ),
        Measure(
            "imap-idle-tls", "memory of an idle IMAP connection, TLS", "KiB", False,
            Goal("dovecot-sdbox", at_most=35.0, words="35 KiB"),
        ),
    )  # fmt: skip

    def prepare(self, target: Target, options: Options) -> None:
        """200 messages in each INBOX."""
        for number, user in enumerate(ACCOUNTS):
            client = Imap(_imap(target), user, PASSWORD)
            client.append_all(b"INBOX", average_10k(200, 800 + number))
            client.close()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Each kind on a server just started: what a heap has freed must not hide its growth."""
        target.restart_cold()
        plain = _cost(target, _imap(target), None, options.idle)
        target.restart_cold()
        tls = _cost(target, _imaps(target), insecure_tls(), options.idle)
        return {"imap-idle-plain": plain, "imap-idle-tls": tls}


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
            Goal("dovecot-sdbox"),
        ),
        Measure("imap-huge-page", "its last page of 50, warm", "ms", False, Goal("dovecot-sdbox")),
    )

    def prepare(self, target: Target, options: Options) -> None:
        """Fill it: 200,000, or 20,000 with --quick."""
        client = Imap(_imap(target), ACCOUNTS[0], PASSWORD)
        client.append_all(b"INBOX", _small(options.huge))
        client.close()
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Restart with the page cache of the stores dropped, then open it several times."""
        target.restart_cold()
        n = options.huge
        cold = _select(target, n)
        warm = [_select(target, n) for _ in range(5)]
        client = Imap(_imap(target), ACCOUNTS[0], PASSWORD)
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


def _imap(target: Target) -> Endpoint:
    if target.imap is None:
        raise BenchError("no IMAP listener")
    return target.imap


def _imaps(target: Target) -> Endpoint:
    if target.imaps is None:
        raise BenchError("no IMAPS listener")
    return target.imaps


def _cost(target: Target, to: Endpoint, tls: ssl.SSLContext | None, count: int) -> Sample:
    """KiB of PSS for each of `count` connections beyond the first few."""
    held = [_idle(to, tls, number) for number in range(_FIRST)]
    try:
        pss, rss = _steady(target)
        held += [_idle(to, tls, number) for number in range(count)]
        more_pss, more_rss = _steady(target)
    finally:
        for client in held:
            client.close()
    return Sample((more_pss - pss) / count / 1024, {"RSS KiB": (more_rss - rss) / count / 1024})


def _steady(target: Target) -> tuple[int, int]:
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


def _idle(to: Endpoint, tls: ssl.SSLContext | None, number: int) -> Imap:
    client = Imap(to, ACCOUNTS[number % len(ACCOUNTS)], PASSWORD, tls)
    client.command(b"SELECT INBOX")
    client.idle()
    client.release()
    return client


def _select(target: Target, messages: int) -> float:
    """Milliseconds of SELECT on a new connection."""
    client = Imap(_imap(target), ACCOUNTS[0], PASSWORD)
    took, answer = client.timed(b"SELECT INBOX")
    client.close()
    if b"* %d EXISTS" % messages not in answer:
        raise BenchError(f"SELECT did not show {messages} messages")
    return took * 1e3


def _small(count: int) -> Iterator[bytes]:
    """Messages of about 400 octets: what is measured is their number."""
    for number in range(count):
        yield (
            b"From: Ann <ann@example.org>\r\nTo: Bob <bob@example.net>\r\n"
            b"Subject: Note %d\r\nDate: Mon, 12 Jan 2026 08:00:00 +0000\r\n"
            b"Message-ID: <%d@example.org>\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" % (number, number)
        ) + b"A short note.\r\n" * 10
