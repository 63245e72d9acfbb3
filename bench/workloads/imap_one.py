"""IMAP on one connection: metadata, flags, bodies, search, marking, on one large mailbox."""

from __future__ import annotations

import re
from functools import partial
from statistics import median

from bench.load.imap import METADATA, Imap
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
)
from bench.peers.dovecot import Dovecot
from bench.peers.postroom import Postroom
from bench.workloads.opening import imap_of, sign_in

_PEER = "dovecot-sdbox"


def _against(factor: float, words: str = "") -> Goal:
    return Goal(_PEER, factor, words=words or f"{factor:g}x Dovecot sdbox")


class Read:
    """One user reads and marks a mailbox of 10,000 messages of the 10 KB corpus.

    Before it is searched, Postroom has indexed what it holds: `settle` waits for that.
    """

    name = "imap-read"
    targets = (
        Postroom,
        Dovecot,
        partial(Dovecot, plain=True),
        partial(Dovecot, "maildir"),
        partial(Dovecot, "sdbox", "always"),
    )
    measures = (
        Measure("imap-login-select", "LOGIN + SELECT of 10,000", "ms", False, Goal(_PEER)),
        Measure(
            "imap-meta-first", "FETCH 1:* metadata of 10,000, first touch", "ms", False,
            _against(25.0),
        ),
        Measure("imap-meta-warm", "the same, warm", "ms", False, _against(7.0)),
        Measure("imap-page", "metadata page of 50", "ms", False, _against(4.0)),
        Measure("imap-flags", "FETCH 1:* (UID FLAGS) of 10,000", "ms", False, _against(2.0)),
        Measure("imap-bodies", "1,000 bodies", "ms", False, _against(2.0)),
        Measure("imap-subject", "SEARCH SUBJECT in 10,000", "ms", False, _against(5.0)),
        Measure("imap-body", "SEARCH BODY in 10,000, indexed before", "ms", False, _against(50.0)),
        Measure("imap-text", "SEARCH TEXT of one in 10,000, the same", "ms", False, _against(50.0)),
        Measure(
            "imap-store", "STORE 1:* +FLAGS, 10,000", "ms", False,
            _against(1.0, "1x sdbox (which does not sync), durable"),
        ),
        Measure("imap-store-silent", "the same, .SILENT", "ms", False, Goal(_PEER)),
    )  # fmt: skip

    def prepare(self, target: Target, options: Options) -> None:
        """Fill one mailbox for each first touch; they are told apart by their user."""
        boxes = 1 if options.quick else min(3, options.repeats)
        target.fill(
            *(Filling(ACCOUNTS[n], options.messages, 10 + n) for n in range(boxes)),
        )
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Every command on one connection; a first touch while untouched mailboxes last."""
        samples: Samples = {}
        tries = 3 if options.quick else 7
        n = options.messages
        first = 1 if options.quick else min(3, options.repeats)
        if repeat < first:
            client = sign_in(target, repeat)
            client.command(b"SELECT INBOX")
            samples["imap-meta-first"] = Sample(_fetch(client, b"1:*", METADATA, n))
            client.close()
        samples["imap-login-select"] = Sample(median(_open(target, n) for _ in range(tries)))
        client = sign_in(target, 0)
        client.command(b"SELECT INBOX")
        page = n // 2
        for key, command, rounds in (
            ("imap-meta-warm", partial(_fetch, client, b"1:*", METADATA, n), tries),
            (
                "imap-page",
                partial(_fetch, client, b"%d:%d" % (page, page + 49), METADATA, 50),
                20 * tries,
            ),
            ("imap-flags", partial(_fetch, client, b"1:*", b"(UID FLAGS)", n), tries),
            ("imap-bodies", partial(_fetch, client, b"1:1000", b"(BODY.PEEK[])", 1_000), tries),
        ):
            command()  # the first is for the caches
            samples[key] = Sample(median(command() for _ in range(rounds)))
        samples["imap-subject"] = _search(client, b"SUBJECT invoice", tries)
        samples["imap-body"] = _search(client, b"BODY bicycle", 1 if options.quick else 3)
        samples["imap-text"] = _search(client, b"TEXT " + _token(client, page), tries)
        samples["imap-store"] = Sample(_store(client, b"", tries))
        samples["imap-store-silent"] = Sample(_store(client, b".SILENT", tries))
        client.close()
        return samples


def _open(target: Target, messages: int) -> float:
    """Milliseconds of LOGIN and SELECT together, the connection not counted."""
    client = Imap(imap_of(target))
    login, _ = client.timed(f'LOGIN "{ACCOUNTS[0]}" "{PASSWORD}"'.encode())
    select, answer = client.timed(b"SELECT INBOX")
    client.close()
    if b"* %d EXISTS" % messages not in answer:
        raise BenchError(f"SELECT did not show {messages} messages")
    return (login + select) * 1e3


def _fetch(client: Imap, numbers: bytes, items: bytes, count: int) -> float:
    """Milliseconds until the tagged line. Raises BenchError unless `count` messages came."""
    took, answer = client.timed(b"FETCH " + numbers + b" " + items)
    if answer.count(b" FETCH (") < count:
        raise BenchError(f"FETCH {numbers!r} {items!r} gave too few messages")
    return took * 1e3


def _token(client: Imap, number: int) -> bytes:
    """What only one message holds: the middle of its Message-ID."""
    _, answer = client.timed(b"FETCH %d BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]" % number)
    found = re.search(rb"(?i)\r\nmessage-id:\s*<([a-z0-9.]{12})", answer)
    if found is None:
        raise BenchError(f"message {number} has no Message-ID to look for")
    return found[1]


def _search(client: Imap, key: bytes, tries: int) -> Sample:
    times: list[float] = []
    hits = 0
    for _ in range(tries + 1):  # the first is for the caches
        took, answer = client.timed(b"SEARCH " + key)
        times.append(took * 1e3)
        hits = len(answer.split(b"\r\n", 1)[0].split()) - 2
    if hits <= 0:
        raise BenchError(f"SEARCH {key!r} found nothing")
    return Sample(median(times[1:]), {"hits": float(hits)})


def _store(client: Imap, silent: bytes, tries: int) -> float:
    """Milliseconds of setting or clearing one flag on all; no round is a no-op."""
    times: list[float] = []
    for _ in range(tries):
        for sign in (b"+", b"-"):
            command = b"STORE 1:* " + sign + b"FLAGS" + silent + b" (\\Flagged)"
            times.append(client.timed(command)[0] * 1e3)
    return median(times)
