"""Growth: what a mailbox of 1,000, 10,000 and very many messages costs; it should be the same."""

from __future__ import annotations

import time
from functools import partial
from statistics import median

from bench.load.imap import Imap
from bench.model import ACCOUNTS, Filling, Goal, Measure, Options, Sample, Samples, Target
from bench.peers.dovecot import Dovecot
from bench.peers.postroom import Postroom
from bench.workloads.opening import sign_in

_TRIES = 40
_BEFORE = 20  # that are not counted: a server that was just started is slower
_WHAT = (
    ("select", "SELECT, warm"),
    ("page", "metadata of the last 50"),
    ("store", "one flag of the last message"),
    ("append", "APPEND of 400 octets"),
    ("status", "STATUS (MESSAGES UNSEEN)"),
)
_SIZES = ("1,000", "10,000", "most")


class Growth:
    """Small messages: what is measured is their number. `most` is 200,000, or 20,000 quick."""

    name = "imap-growth"
    targets = (Postroom, Dovecot, partial(Dovecot, fsync="always"))
    measures = tuple(
        Measure(f"growth-{what}-{size}", f"{words}, of {size}", "ms", False, Goal("dovecot-sdbox"))
        for what, words in _WHAT
        for size in _SIZES
    )

    def prepare(self, target: Target, options: Options) -> None:
        """Three users, three sizes."""
        for account, count in zip(ACCOUNTS, _counts(options), strict=False):
            target.fill(Filling(account, count, 0, small=True))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Each command some times; the median of what it takes."""
        samples: Samples = {}
        for account, size in enumerate(_SIZES):
            client = sign_in(target, account)
            for what, took in _costs(client).items():
                note = {"messages": float(_counts(options)[account])}
                samples[f"growth-{what}-{size}"] = Sample(took, note)
            client.close()
        return samples


def _counts(options: Options) -> tuple[int, int, int]:
    return 1_000, 10_000, options.huge


def _costs(client: Imap) -> dict[str, float]:
    """Milliseconds of each command."""
    client.command(b"SELECT INBOX")
    found = {"select": _timed(client, b"SELECT INBOX")}
    answer = client.command(b"SELECT INBOX")
    count = int(answer.split(b" EXISTS", 1)[0].rsplit(b"* ", 1)[1])
    page = b"FETCH %d:%d (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)" % (count - 49, count)
    client.command(page)
    found["page"] = _timed(client, page)
    found["store"] = _timed(
        client, *(b"STORE %d %bFLAGS (\\Flagged)" % (count, sign) for sign in (b"+", b"-"))
    )
    letter = b"Subject: one more\r\n\r\n" + b"A short note.\r\n" * 25
    took: list[float] = []
    for _ in range(_BEFORE + _TRIES):
        began = time.perf_counter()
        client.append(b"INBOX", letter)
        took.append(time.perf_counter() - began)
    found["append"] = median(took[_BEFORE:]) * 1e3
    found["status"] = _timed(client, b"STATUS INBOX (MESSAGES UNSEEN)")
    return found


def _timed(client: Imap, *commands: bytes) -> float:
    took = [client.timed(command)[0] for _ in range(_BEFORE + _TRIES) for command in commands]
    return median(took[_BEFORE * len(commands) :]) * 1e3
