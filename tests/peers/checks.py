"""What a client's walk counts and finds."""

from __future__ import annotations

import smtplib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.walking import HOST, Account, Ran, Walking

_SHOWN = 300  # characters of what was seen


@dataclass(frozen=True, slots=True)
class Plan:
    """How far the walks go."""

    messages: int  # in the mailbox that is synchronised
    rounds: int  # of changes on both sides
    large: int  # octets of the largest message
    seed: int


@dataclass(slots=True)
class Checks:
    """Every step of one client, and what did not hold."""

    steps: int = 0
    messages: int = 0  # compared octet by octet
    octets: int = 0
    failures: list[str] = field(default_factory=list)

    def that(self, holds: bool, what: str, seen: object = "") -> None:
        """One step: it holds, or `what` is a failure, shown with what was seen."""
        self.steps += 1
        if not holds:
            shown = str(seen)
            more = "…" if len(shown) > _SHOWN else ""
            self.failures.append(f"{what}: {shown[:_SHOWN]}{more}" if shown else what)

    def equal(self, found: object, wanted: object, what: str) -> None:
        self.that(found == wanted, what, f"{found!r} instead of {wanted!r}")

    def ran(self, done: Ran, what: str, code: int = 0) -> Ran:
        """A client ended as it should."""
        self.that(done.code == code, what, f"exit code {done.code}: {done.text[-_SHOWN:]}")
        return done

    def octet_by_octet(self, found: Iterable[bytes], wanted: Sequence[bytes], what: str) -> None:
        """The same messages in the same order."""
        seen = list(found)
        self.messages += len(seen)
        self.octets += sum(map(len, seen))
        differ = [n for n, (a, b) in enumerate(zip(seen, wanted, strict=False)) if a != b]
        self.that(
            len(seen) == len(wanted) and not differ,
            what,
            f"{len(seen)} of {len(wanted)} messages, differing: {differ[:10]}",
        )


def deliver(at: Walking, who: Account, contents: Iterable[bytes]) -> None:
    """By Python's client, one transaction each, over one connection. Raises SMTPException."""
    with smtplib.SMTP(HOST, at.smtp) as peer:
        peer.ehlo("client.example")
        for content in contents:
            refused = peer.sendmail("ann@far.example", [who.address], content, ["BODY=8BITMIME"])
            assert not refused, refused
