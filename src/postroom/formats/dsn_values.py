"""What a delivery status notification says, as values. RFC 3464 §2.

The public face is `postroom.formats.dsn`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from postroom.core.errors import Status
from postroom.formats.address import Address


class Action(StrEnum):
    """What became of a recipient, the gravest first. RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class Typed:
    """A value and the registered name of its kind, as in `smtp; 550 5.1.1 no such user`.

    Kinds: rfc822 and utf-8 for addresses, dns for MTAs, smtp for replies. RFC 3464 §2.1.2.
    """

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind}; {self.value}"


def mailbox(address: Address) -> Typed:
    """An address for a report. RFC 3461 §9.1; RFC 6533 §3 names the kind of those beyond ASCII."""
    return Typed("rfc822" if address.ascii else "utf-8", str(address))


def host(name: str) -> Typed:
    """An MTA by its name in DNS. RFC 3461 §9.3."""
    return Typed("dns", name)


def reply(text: str) -> Typed:
    """What an SMTP server answered, code and all. RFC 3461 §9.2."""
    return Typed("smtp", text)


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """What became of one recipient. RFC 3464 §2.3. Dates know their zone.

    Whether a sender may learn where an address leads is for the caller to decide: RFC 3464 §4.2.
    """

    final_recipient: Typed
    action: Action
    status: Status
    original_recipient: Typed | None = None
    """What ORCPT said, decoded."""
    remote_mta: Typed | None = None
    diagnostic: Typed | None = None
    last_attempt: datetime | None = None
    will_retry_until: datetime | None = None
    final_log_id: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one MTA says about one message. RFC 3464 §2.2."""

    reporting_mta: Typed
    arrival_date: datetime | None
    recipients: tuple[RecipientStatus, ...]
    received_from_mta: Typed | None = None
    original_envelope_id: str | None = None
    """What ENVID said, decoded."""

    @property
    def action(self) -> Action:
        """The gravest of its recipients': what the whole report is about."""
        found = {each.action for each in self.recipients}
        return next(each for each in Action if each in found)


_JOINERS: Final = "\u200c\u200d"  # Persian and Indic words, and emoji, need them


def line(text: str, limit: int) -> str:
    """A stranger's words on one line of at most `limit` characters.

    `?` for what cannot be seen: controls, marks that turn the direction of text, surrogates.
    """
    text = " ".join(text[: 2 * limit].split())[:limit]
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() or c in _JOINERS else "?" for c in text])
