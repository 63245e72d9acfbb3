"""DKIM: how long a signature takes to make and to check, small messages and large."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from bench.model import BenchError, Goal, Measure, Options, Sample, Samples, Target
from bench.peers.signers import DOMAIN, Dkimpy, OurSigner
from postroom.testing.corpus import average_10k
from postroom.trust.dkim import ED25519, KINDS, RSA

_LARGE: Final = 5 * 1024 * 1024
_SIZES: Final = ("10 KB", "5 MB")
_GOALS: Final = {("sign", "10 KB", RSA): 18.0, ("verify", "10 KB", RSA): 8.0}
_SHOWN: Final = {RSA: "RSA", ED25519: "Ed25519"}


def _name(what: str, kind: str, size: str) -> str:
    return f"dkim-{what}-{kind}-{size.replace(' ', '').lower()}"


def _goal(factor: float | None) -> Goal:
    return Goal("dkimpy", factor, words=f"{factor:g}x dkimpy" if factor else "")


class Dkim:
    """One thread, a key of each kind, RSA of 2,048 bits, relaxed/relaxed, the key at hand."""

    name = "dkim"
    targets = (OurSigner, Dkimpy)
    measures = tuple(
        Measure(
            _name(what, kind, size),
            f"DKIM {what}, {_SHOWN[kind]}, {size}",
            "ms",
            False,
            _goal(_GOALS.get((what, size, kind))),
        )
        for what in ("sign", "verify")
        for kind in KINDS
        for size in _SIZES
    )

    def prepare(self, target: Target, options: Options) -> None:
        """Nothing to fill."""

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """Each for a share of the time."""
        if not isinstance(target, OurSigner | Dkimpy):
            raise TypeError("only what signs")
        found: dict[str, Sample] = {}
        for kind in KINDS:
            for size, content in zip(_SIZES, _contents(), strict=True):
                signed = target.sign(kind, content) + content
                if not target.verify(signed):
                    raise BenchError(f"{target.name} does not verify what it signed")
                if target.verify(signed + b"more\r\n"):
                    raise BenchError(f"{target.name} verifies what was changed")
                seconds = options.seconds / 16
                sign = partial(target.sign, kind, content)
                found[_name("sign", kind, size)] = _timed(sign, seconds)
                found[_name("verify", kind, size)] = _timed(partial(target.verify, signed), seconds)
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
