"""Jobs that forget what administration keeps for a time."""

from __future__ import annotations

from postroom.core.clock import Instant
from postroom.core.jobs import job
from postroom.domain import audit
from postroom.domain.changes.settings import DAY, ChangeRetention, retention
from postroom.domain.directory import former
from postroom.domain.policy import history
from postroom.mailflow.house import MailHouse

HOUR = 3600.0


async def _kept(house: MailHouse) -> ChangeRetention:
    return await house.mail.read(retention)


def _ago(house: MailHouse, days: int) -> Instant:
    return Instant(house.clock.now() - days * DAY)


@job("changes.passwords", every=HOUR)
async def forget_passwords(house: MailHouse) -> bool:
    """Forget the verifiers of passwords that were changed, once the change is old."""
    days = (await _kept(house)).passwords_days
    await house.mail.write_later(former.forget, _ago(house, days))
    return False


@job("changes.forget", every=6 * HOUR)
async def forget_changes(house: MailHouse) -> bool:
    """Forget old change sets, if the history is not kept for ever."""
    days = (await _kept(house)).changes_days
    if not days:
        return False
    return bool(await house.mail.write_later(history.forget, _ago(house, days)))


@job("audit.forget", every=6 * HOUR)
async def forget_audit(house: MailHouse) -> bool:
    """Forget old entries of the audit."""
    days = (await _kept(house)).audit_days
    return bool(await house.state.write_later(audit.forget, _ago(house, days)))
