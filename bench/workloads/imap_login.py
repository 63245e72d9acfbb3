"""Signing in: how often a second, with passwords that are hashed each time, and remembered ones.

Both servers are spoken to by LOGIN over TLS 1.3, on a new connection each time. Hashed, both keep
Argon2id at the same cost. What is left without the hash is measured apart: Postroom remembers right
passwords for five minutes, Dovecot has them in plain.
"""

from __future__ import annotations

from functools import partial

from bench.load.apart import run_apart
from bench.load.logins import LoginPlan, LoginResult, sign_in_again_and_again
from bench.model import Goal, Measure, Options, Sample, Samples, Target, percentile
from bench.peers.dovecot import Argon2, Dovecot
from bench.peers.postroom import Forgetful, Postroom
from bench.workloads.opening import imap_of

_CLIENTS = (1, 10, 50)


class _Signing:
    """What both have in common."""

    name: str
    _words: str
    _peer: Goal

    @property
    def measures(self) -> tuple[Measure, ...]:
        return tuple(
            Measure(
                f"{self.name}-{clients}",
                f"LOGIN + SELECT, {self._words}, {clients} at once",
                "/s",
                True,
                self._peer,
            )
            for clients in _CLIENTS
        )

    def prepare(self, target: Target, options: Options) -> None:
        """Everybody once: verifiers are at their cost, mailboxes are made."""
        run_apart(sign_in_again_and_again, LoginPlan(imap_of(target), 10, 0.5))
        target.settle()

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One run for each number of clients."""
        samples: Samples = {}
        for clients in _CLIENTS:
            plan = LoginPlan(imap_of(target), clients, options.seconds)
            samples[f"{self.name}-{clients}"] = _sample(run_apart(sign_in_again_and_again, plan))
            target.settle()
        return samples


class Login(_Signing):
    """Each password is hashed."""

    name = "imap-login"
    _words = "hashed"
    _peer = Goal("dovecot-sdbox-argon2", 1.0, words="1x Dovecot, same hash")
    targets = (Forgetful, partial(Dovecot, secrets=Argon2()))


class LoginKnown(_Signing):
    """Each password is known from before, or kept in plain."""

    name = "imap-login-known"
    _words = "nothing to hash"
    _peer = Goal("dovecot-sdbox", 1.0, words="1x Dovecot")
    targets = (Postroom, Dovecot)


def _sample(result: LoginResult) -> Sample:
    ordered = sorted(result.latencies)
    return Sample(
        result.per_second,
        {
            "p50 ms": percentile(ordered, 0.5) * 1e3,
            "p99 ms": percentile(ordered, 0.99) * 1e3,
            "client cores": result.cpu / (result.seconds + 0.5),
        },
    )
