"""One IMAP client that looks at a page of its mailbox at fixed times."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass

from bench.load.imap import METADATA, Imap
from bench.model import BenchError, Endpoint

PAGE = 50  # messages


@dataclass(frozen=True, slots=True)
class PagesPlan:
    """Pages of `user`'s INBOX of at least `messages`, `rate` a second for `seconds`."""

    to: Endpoint
    user: str
    password: str
    messages: int
    seconds: float
    rate: float
    warm: float = 0.4  # s at the start that are not counted


def fetch_pages(plan: PagesPlan) -> array[float]:
    """Seconds from when each page was due until it was there.

    Raises BenchError at the first answer that is not OK or too short.
    """
    client = Imap(plan.to, plan.user, plan.password)
    client.command(b"SELECT INBOX")
    latencies: array[float] = array("d")
    pages = max(1, plan.messages // PAGE)
    first = time.monotonic()
    number = 0
    while (due := first + number / plan.rate) < first + plan.warm + plan.seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        start = number % pages * PAGE + 1
        answer = client.command(b"FETCH %d:%d " % (start, start + PAGE - 1) + METADATA)
        if due >= first + plan.warm:
            latencies.append(time.monotonic() - due)
        if answer.count(b" FETCH (") < PAGE:
            raise BenchError("a page came short")
        number += 1
    client.close()
    return latencies
