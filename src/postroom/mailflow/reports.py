"""Delivery reports: whether somebody is owed one, and what it says. RFC 3461 §5, RFC 3464.

A report answers a message, so it goes out under the null reverse-path, and a message that came
under that is never reported on: RFC 5321 §4.5.5, attack class 15. Each is composed before the
unit of its cause and submitted within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from postroom.core.clock import Instant, to_datetime
from postroom.core.errors import MailError, Status
from postroom.core.ids import TRACE, external
from postroom.domain.queue import Composed, QueuedMessage, Recipient
from postroom.domain.transit import Transit
from postroom.formats import dsn
from postroom.formats.address import parse_mailbox
from postroom.formats.compose import MessageId
from postroom.formats.dsn import Action, RecipientStatus, Report, Typed
from postroom.mailflow.delivery import Notice, Placing
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QueueSettings
from postroom.store.blobs import Spool
from postroom.store.sql import Tx

HEADER: Final = 64 * 1024
"""Octets of a header that are returned."""
_DELIVERED: Final = Status(2, 0, 0)


@dataclass(frozen=True, slots=True)
class Returned:
    """A recipient whom a message will not reach, and why."""

    recipient: Recipient
    status: Status
    reply: str  # the other server's words, or what we found
    host: str  # who said so; empty if it was us


async def failure_notice(house: MailHouse, returned: Sequence[Returned]) -> Composed | None:
    """What the sender of one message gets back, or None if it wants or can be told nothing."""
    owed = [each for each in returned if _wants(each.recipient, "FAILURE", unless_said=True)]
    return await _notice(house, [_failed(house, each) for each in owed], owed_to(owed), "dsn")


def owed_to(owed: Sequence[Returned]) -> list[Recipient]:
    """The recipients of these."""
    return [each.recipient for each in owed]


async def delay_notice(house: MailHouse, late: Sequence[Recipient]) -> Composed | None:
    """The word that one message is late, or None if its sender wants no such thing."""
    owed = [each for each in late if _wants(each, "DELAY", unless_said=True)]
    now = to_datetime(house.clock.now())
    statuses = [
        RecipientStatus(
            original_recipient=_original(each.orcpt),
            final_recipient=_final(each.address),
            action=Action.DELAYED,
            status=Status(4, 0, 0),
            diagnostic=_words(each.last_reply),
            last_attempt=to_datetime(each.last_at) if each.last_at else now,
            will_retry_until=to_datetime(each.message.expires_at),
        )
        for each in owed
    ]
    return await _notice(house, statuses, owed, "delay")


async def success_notice(
    house: MailHouse, recipients: Sequence[Recipient], how: str
) -> Composed | None:
    """The word that one message was delivered to those who wanted it, or relayed to a server
    that gives no such word."""
    owed = [each for each in recipients if "SUCCESS" in each.notify]
    now = to_datetime(house.clock.now())
    statuses = [
        RecipientStatus(
            original_recipient=_original(each.orcpt),
            final_recipient=_final(each.address),
            action=Action(how),
            status=_DELIVERED,
            last_attempt=now,
        )
        for each in owed
    ]
    return await _notice(house, statuses, owed, "dsn")


async def delivered_notices(
    house: MailHouse, transit: Transit, placings: Sequence[Placing], spool: Spool
) -> tuple[Notice, ...]:
    """The words owed for copies that the unit of intake places itself."""
    if transit.reverse_path is None or not any("SUCCESS" in p.notify for p in placings):
        return ()
    assert transit.parsed is not None
    header = spool.head(min(transit.parsed.header_size, HEADER))
    notices = []
    for n, to in enumerate(transit.recipients):
        copies = [p for p in placings if p.recipient == n]
        if "SUCCESS" not in to.notify or not copies:
            continue
        status = RecipientStatus(
            original_recipient=_original(to.orcpt),
            final_recipient=dsn.mailbox(to.address),
            action=Action.DELIVERED,
            status=_DELIVERED,
            last_attempt=to_datetime(house.clock.now()),
        )
        about = _About(
            transit.id, str(transit.reverse_path), transit.envid, transit.started, utf8=transit.utf8
        )
        composed = await _compose(house, about, [status], header, False, "dsn")
        notices.append(Notice(frozenset(p.message for p in copies), composed))
    return tuple(notices)


def _original(orcpt: str | None) -> Typed | None:
    """What ORCPT said."""
    kind, separator, address = (orcpt or "").partition(";")
    return Typed(kind, address) if separator else None


def _final(address: str) -> Typed:
    return dsn.mailbox(parse_mailbox(address))


def _words(reply: str) -> Typed | None:
    """A reply begins with its code; what we found ourselves does not. RFC 3464 §2.3.6."""
    if not reply:
        return None
    return dsn.reply(reply) if reply[:3].isdigit() else Typed("x-postroom", reply)


# --- composing ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _About:
    """The message that a report is about."""

    trace: int
    reverse_path: str
    envid: str | None
    arrived_at: Instant
    utf8: bool


def _wants(recipient: Recipient, what: str, *, unless_said: bool) -> bool:
    """What the sender asked for (RFC 3461 §4.1); `unless_said` is the default."""
    return what in recipient.notify if recipient.notify else unless_said


def _failed(house: MailHouse, each: Returned) -> RecipientStatus:
    recipient = each.recipient
    return RecipientStatus(
        original_recipient=_original(recipient.orcpt),
        final_recipient=_final(recipient.address),
        action=Action.FAILED,
        status=each.status,
        remote_mta=dsn.host(each.host) if each.host else None,
        diagnostic=_words(each.reply),
        last_attempt=to_datetime(house.clock.now()),
    )


async def _notice(
    house: MailHouse,
    statuses: Sequence[RecipientStatus],
    recipients: Sequence[Recipient],
    origin: str,
) -> Composed | None:
    if not statuses:
        return None
    message = recipients[0].message
    if message.reverse_path is None:
        return None
    content, whole = await _returned(house, message, statuses)
    about = _About(
        message.trace, message.reverse_path, message.envid, message.arrived_at, message.utf8
    )
    return await _compose(house, about, statuses, content, whole, origin)


async def _returned(
    house: MailHouse, message: QueuedMessage, statuses: Sequence[RecipientStatus]
) -> tuple[bytes, bool]:
    """What of the message goes back, and whether that is all of it. RFC 3461 §4.3, §6.2."""
    failed = any(each.action is Action.FAILED for each in statuses)
    limit = await house.mail.read(_return_limit, house)
    whole = failed and message.ret != "HDRS" and message.size <= limit
    length = message.size if whole else HEADER
    try:
        return await house.mail.read_much(_read, house, message.blob, length), whole
    except MailError:
        return b"", False  # the report matters more than what it carries


def _return_limit(tx: Tx, house: MailHouse) -> int:
    return house.policies.current(tx, house.chain("")).of(QueueSettings).return_octets


def _read(tx: Tx, house: MailHouse, blob: int, length: int) -> bytes:
    return house.blobs.read(tx, blob, 0, length)


async def _compose(
    house: MailHouse,
    about: _About,
    statuses: Sequence[RecipientStatus],
    content: bytes,
    whole: bool,
    origin: str,
) -> Composed:
    number = house.ids.new()
    now: datetime = to_datetime(house.clock.now())
    postmaster = parse_mailbox(f"postmaster@{house.default_domain}")
    report = Report(
        reporting_mta=dsn.host(house.hostname),
        arrival_date=to_datetime(about.arrived_at),
        original_envelope_id=about.envid,
        recipients=tuple(statuses),
    )
    written = dsn.compose(
        report,
        content,
        to=parse_mailbox(about.reverse_path),
        sender=postmaster,
        message_id=MessageId(external(TRACE, number), house.hostname),
        date=now,
        random=house.random.randbytes,
        trace=external(TRACE, about.trace),
        full=whole,
        return_limit=len(content),
        contact=postmaster,
    )
    blob = await house.blobs.make(written)
    return Composed(
        id=number,
        content=blob,
        reverse_path=None,
        recipients=(about.reverse_path,),
        origin=origin,
        destination=house.ids.new(),
        utf8=about.utf8,
        eight_bit=not written.isascii(),
    )
