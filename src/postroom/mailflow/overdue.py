"""Recipients who were tried for long: their senders are told of the delay, and in the end get
the message back. RFC 5321 §4.5.4.1, RFC 3461 §5.2.
"""

from __future__ import annotations

from itertools import groupby
from typing import Final

import structlog

from postroom.core.clock import Instant
from postroom.core.errors import Status
from postroom.core.ids import TRACE, external
from postroom.domain import queue
from postroom.domain.queue import HOUR, Lease, Recipient
from postroom.mailflow.house import MailHouse
from postroom.mailflow.queueing import Conclusion, conclude, event, patience_of, settings_now
from postroom.mailflow.reports import Returned, delay_notice, failure_notice

AT_ONCE: Final = 100
"""Recipients in one unit."""
EXPIRED: Final = Status(4, 4, 7)
"""RFC 3463 §3.5: delivery time expired."""

_log: Final = structlog.get_logger("postroom.queue")


async def settle_overdue(house: MailHouse, lease: Lease) -> None:
    """Return what has expired, and tell the senders of what is late. Raises LostLease."""
    settings = await house.mail.read(settings_now, house)
    ended = Conclusion(lease, house.clock.now(), patience_of(settings))
    while expired := await house.mail.read(queue.expired, lease, ended.now, AT_ONCE):
        for _, group in groupby(expired, key=lambda r: r.message.id):
            await give_back(house, ended, [_expired(r) for r in group])
    if not settings.delay_notice_hours:
        return
    before = Instant(ended.now - settings.delay_notice_hours * HOUR)
    while late := await house.mail.read(queue.late, lease, before, AT_ONCE):
        for _, group in groupby(late, key=lambda r: r.message.id):
            await _warn(house, ended, list(group))


def _expired(recipient: Recipient) -> Returned:
    return Returned(recipient, EXPIRED, recipient.last_reply or "It was not tried in time", "")


async def give_back(house: MailHouse, ended: Conclusion, returned: list[Returned]) -> None:
    """Return one message for these recipients: they leave the queue, and its sender hears."""
    notice = await failure_notice(house, returned)
    told = external(TRACE, notice.id) if notice is not None else ""
    events = tuple(
        event(
            house,
            each.recipient,
            "returned",
            status=str(each.status),
            reply=each.reply,
            host=each.host,
            attempts=each.recipient.attempts,
            notice=told,
        )
        for each in returned
    )
    await house.mail.write_mail(
        conclude,
        Conclusion(
            ended.lease,
            house.clock.now(),
            ended.patience,
            gone=tuple(each.recipient for each in returned),
            notices=(notice,) if notice is not None else (),
            events=events,
        ),
    )
    first = returned[0]
    _log.info(
        "returned to sender",
        id=external(TRACE, first.recipient.message.trace),
        to=[each.recipient.address for each in returned][:10],
        because=first.reply,
        notice=told,
    )


async def _warn(house: MailHouse, ended: Conclusion, late: list[Recipient]) -> None:
    notice = await delay_notice(house, late)
    told = external(TRACE, notice.id) if notice is not None else ""
    events = tuple(
        event(house, each, "delayed", reply=each.last_reply, notice=told) for each in late
    )
    await house.mail.write_mail(
        conclude,
        Conclusion(
            ended.lease,
            house.clock.now(),
            ended.patience,
            warned=tuple(late),
            notices=(notice,) if notice is not None else (),
            events=events if notice is not None else (),
        ),
    )
