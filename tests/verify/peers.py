"""Mail programs that are not ours, against one running server: what they write is what they read.

mbsync both ways, mutt on a terminal, curl, Python's imaplib, Thunderbird's commands in their
order, OfflineIMAP, the libraries IMAPClient, aioimaplib and (where Node.js is) imapflow, and swaks
with everything that a sender may do; by POP3 poplib, curl, fetchmail, getmail,
mpop and mutt. Every message is compared octet by octet.
At the end the store is checked, and the log may hold neither a warning nor a password.
"""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.peers import (
    curl,
    imapflow,
    libraries,
    mbsync,
    mutt,
    offlineimap,
    pop3,
    python,
    swaks,
    thunderbird,
)
from tests.peers.checks import Checks, Plan
from tests.walking import Walking, is_installed
from tools.verification import Form, Report

PLANS: Final = {
    Form.SHORT: Plan(messages=300, rounds=2, large=6_000_000, seed=1),
    Form.LONG: Plan(messages=3_000, rounds=12, large=30_000_000, seed=2),
}
COLUMNS: Final = ("client", "steps", "messages compared", "MB", "seconds", "did not hold")

Walk = Callable[[Walking, Checks, Plan], None]

WALKS: Final[Mapping[str, tuple[str, Walk]]] = {
    "mbsync": ("mbsync", mbsync.walk),
    "mutt": ("mutt", mutt.walk),
    "curl": ("curl", curl.walk),
    "imaplib": ("", python.walk),
    "Thunderbird's commands": ("", thunderbird.walk),
    "OfflineIMAP": ("offlineimap", offlineimap.walk),
    "IMAPClient": ("", libraries.imapclient),
    "aioimaplib": ("", libraries.aio),
    **({"imapflow": ("", imapflow.walk)} if imapflow.is_there() else {}),
    "swaks": ("swaks", swaks.walk),
    "poplib": ("", pop3.python),
    "curl, POP3": ("curl", pop3.curl),
    "fetchmail": ("fetchmail", pop3.fetchmail),
    "getmail": ("getmail", pop3.getmail),
    "mpop": ("mpop", pop3.mpop),
    "mutt, POP3": ("mutt", pop3.mutt),
}
"""By name: the program that must be there, and what it does."""

EXPECTED: Final = "serving as root"  # the one warning that a trial gives


@dataclass(frozen=True, slots=True)
class Walked:
    """One client's walk."""

    name: str
    checks: Checks
    seconds: float

    def row(self) -> tuple[str, ...]:
        c = self.checks
        octets = f"{c.octets / 1e6:.1f}"
        took = f"{self.seconds:.1f}"
        return (self.name, f"{c.steps:,}", f"{c.messages:,}", octets, took, f"{len(c.failures)}")


def run(form: Form) -> Report:
    """Every client, one after the other, on one server."""
    with tempfile.TemporaryDirectory(prefix="postroom-peers-") as folder:
        at = Walking(Path(folder), "--log-format", "json")
        try:
            at.start()
            walked = [
                _walk(name, walk, at, PLANS[form])
                for name, (program, walk) in WALKS.items()
                if not program or is_installed(program)
            ]
            walked.append(_walk("postroom check, and the log", _afterwards, at, PLANS[form]))
        finally:
            at.close()
    failures = tuple(f"{w.name}: {failure}" for w in walked for failure in w.checks.failures)
    return Report(COLUMNS, tuple(w.row() for w in walked), failures)


def _walk(name: str, walk: Walk, at: Walking, plan: Plan) -> Walked:
    checks = Checks()
    began = time.monotonic()
    try:
        walk(at, checks, plan)
    except Exception as error:  # the other clients are to be heard as well
        traceback.print_exc()
        checks.failures.append(f"it ended with {type(error).__name__}: {str(error)[:500]}")
    return Walked(name, checks, time.monotonic() - began)


def _afterwards(at: Walking, checks: Checks, plan: Plan) -> None:
    checks.that("All is well." in at.postroom("check").text, "postroom check")
    checks.equal(at.stop(), 0, "the exit code after SIGTERM")
    told = at.log()
    loud = [line for line in told if line["level"] not in ("debug", "info")]
    loud = [line for line in loud if not line["event"].startswith(EXPECTED)]
    checks.equal(loud, [], "warnings")
    text = at.log_text()
    for secret in (at.admin().password, "correct horse battery staple", "not the password"):
        checks.that(secret not in text, f"{secret!r} is in the log")
