"""DKIM: how long a signature takes to make and to check, small messages and large."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from bench.model import BenchError, Goal, Measure, Options, Sample, Samples, Target
from bench.peers.signers import DOMAIN, Dkimpy, OurSigner
from postroom.testing.corpus import average_10k

_LARGE: Final = 5 * 1024 * 1024
_SIZES: Final = ("10 KB", "5 MB")
_GOALS: Final = {("sign", "10 KB"): 18.0, ("verify", "10 KB"): 8.0}


class Dkim:
    """One thread, one RSA key of 2,048 bits, relaxed/relaxed, the key at hand."""

    name = "dkim"
    targets = (OurSigner, Dkimpy)
    measures = tuple(
        Measure(
            f"dkim-{what}-{size.replace(' ', '').lower()}",
            f"DKIM {what}, {size}",
            "ms",
            False,
            Goal("dkimpy", _GOALS.get((what, size))),
        )
        for what in ("sign", "verify")
        for size in _SIZES
    )

    def prepare(self, target: Target, options: Options) -> None:
        """Nothing to fill."""

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Each for a share of the time."""
        if not isinstance(target, OurSigner | Dkimpy):
            raise TypeError("only what signs")
        found: dict[str, Sample] = {}
        for size, content in zip(_SIZES, _contents(), strict=True):
            key = size.replace(" ", "").lower()
            signed = target.sign(content) + content
            if not target.verify(signed):
                raise BenchError(f"{target.name} does not verify what it signed")
            seconds = options.seconds / 8
            found[f"dkim-sign-{key}"] = _timed(partial(target.sign, content), seconds)
            found[f"dkim-verify-{key}"] = _timed(partial(target.verify, signed), seconds)
        return found


def _contents() -> tuple[bytes, bytes]:
    """An honest message, and one with a large body of text."""
    head = f"From: Ann <ann@{DOMAIN}>\r\nTo: bob@example.net\r\nSubject: Note\r\n".encode()
    (some,) = average_10k(1, 7)
    body = some.partition(b"\r\n\r\n")[2] or b"A line of text.\r\n"
    return head + b"\r\n" + body, head + b"\r\n" + body * (_LARGE // len(body) + 1)


def _timed(run: Callable[[], object], seconds: float) -> Sample:
    """Milliseconds of one run, on the average of as many as there is time for."""
    count, start = 0, time.perf_counter()
    until = start + seconds
    now = start
    while now < until:
        run()
        count += 1
        now = time.perf_counter()
    return Sample((now - start) / count * 1e3)
