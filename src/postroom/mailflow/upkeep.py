"""The jobs that keep the store tidy: each a bounded piece that can be resumed."""

from __future__ import annotations

from typing import Final

from postroom.core.clock import Instant
from postroom.core.jobs import JOBS, job
from postroom.domain import copies, feedback, trace
from postroom.domain.directory import people
from postroom.domain.feedback import failures, sent
from postroom.domain.mailboxes import cleaning
from postroom.domain.policy import Policy
from postroom.domain.schema import SWEEP
from postroom.mailflow import (
    dmarc_reports,
    failure_reports,
    filing,
    quarantine,
    searching,
    signingkeys,
)
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import RetentionSettings
from postroom.store import journal, sweeper
from postroom.store.recompress import recompress
from postroom.store.sql import Tx

DAY: Final = 24 * 3600 * 1000
HOUR: Final = 3600.0


def _policy(tx: Tx, house: MailHouse) -> Policy:
    return house.policies.current(tx, house.chain(""))


async def _retention(house: MailHouse) -> RetentionSettings:
    policy = await house.mail.read(_policy, house)
    return policy.of(RetentionSettings)


def _ago(house: MailHouse, days: int) -> Instant:
    return Instant(house.clock.now() - days * DAY)


@job("mailboxes.empty", every=10.0)
async def empty_mailboxes(house: MailHouse) -> bool:
    """Remove what deleted mailboxes held, a bounded piece at a time."""
    days = (await _retention(house)).deleted_days
    now = house.clock.now()
    return await house.mail.write_later(cleaning.empty_doomed, now, days * DAY)


@job("accounts.empty", every=30.0)
async def empty_accounts(house: MailHouse) -> bool:
    """Remove what deleted accounts owned, a bounded piece at a time."""
    gone = await house.mail.read(people.gone_accounts, 1, house.clock.now())
    if not gone:
        return False
    await house.mail.write_later(cleaning.empty_gone, gone[0], house.clock.now())
    return True


@job("mailboxes.forget", every=600.0)
async def forget_deleted(house: MailHouse) -> bool:
    """Forget deleted messages whose time to be brought back is over."""
    return bool(await house.mail.write_later(cleaning.forget_expired, house.clock.now()))


@job("mailboxes.tombstones", every=6 * HOUR)
async def forget_tombstones(house: MailHouse) -> bool:
    """Forget old removals; clients that slept longer read all anew."""
    days = (await _retention(house)).tombstones_days
    return bool(await house.mail.write_later(cleaning.forget_tombstones, _ago(house, days)))


@job("journal.forget", every=6 * HOUR)
async def forget_journal(house: MailHouse) -> bool:
    """Forget old entries of the journal."""
    days = (await _retention(house)).journal_days
    return bool(await house.mail.write_later(journal.prune, _ago(house, days)))


@job("traces.forget", every=HOUR)
async def forget_traces(house: MailHouse) -> bool:
    """Forget old traces, of what was kept and of what was refused."""
    kept = await _retention(house)
    mail = await house.mail.write_later(trace.forget, _ago(house, kept.traces_days))
    state = await house.state.write_later(trace.forget_refusals, _ago(house, kept.refusals_days))
    return bool(mail or state)


@job("feedback.forget", every=6 * HOUR)
async def forget_feedback(house: MailHouse) -> bool:
    """Forget what DMARC found, as long ago as traces of refusals are forgotten, and what was told
    of it, as long ago as traces are; never what is still to be reported."""
    kept, least = await _retention(house), dmarc_reports.DAYS + 2
    before = feedback.day_of(_ago(house, max(kept.refusals_days, least)))
    counted = await house.state.write_later(feedback.forget, before)
    before = feedback.day_of(_ago(house, max(kept.traces_days, least)))
    told = await house.mail.write_later(sent.forget, before)
    single = await house.mail.write_later(failures.forget, before)
    return bool(counted or told or single)


@job("replay.forget", every=HOUR / 2)
async def forget_copies(house: MailHouse) -> bool:
    """Forget how often signed messages came before this hour and the last one."""
    before = copies.hour_of(house.clock.now()) - 1
    return bool(await house.state.write_later(copies.forget, before))


@job("blobs.sweep", every=6 * HOUR, lease=HOUR)
async def sweep_blobs(house: MailHouse) -> bool:
    """Mark content that nothing refers to, and remove what was marked a day ago."""
    await sweeper.sweep(house.mail, house.blobs, SWEEP, house.clock.now())
    return False


@job("blobs.compress", every=HOUR, lease=HOUR)
async def compress_blobs(house: MailHouse) -> bool:
    """Compress content that is older than a day, where it is worth it."""
    after: int | None = 0
    while after is not None:
        after = await recompress(house.mail, house.blobs, house.clock.now(), after)
    return False


@job("dkim.keys", every=HOUR / 4, lease=HOUR)
async def tend_signing_keys(house: MailHouse) -> bool:
    """Make signing keys for domains without, look whether DNS has them by now, let those sign
    that it has, and remove retired ones."""
    return await signingkeys.tend(house)


@job("queue.quarantine", every=HOUR)
async def end_quarantine(house: MailHouse) -> bool:
    """Delete what was in quarantine for long enough."""
    return await quarantine.expire(house)


SEARCH_JOBS: Final = (searching.INDEX, searching.MERGE)
"""They take their time: the others do not wait behind them."""

SENT_JOBS: Final = (dmarc_reports.send_reports, failure_reports.send_failure_reports)
"""Reports that this server sends."""

REPORT_JOBS: Final = (filing.file_reports, filing.forget_reports)
"""Reports that others send."""

JOBS_DECLARED: Final = tuple(sorted(JOBS))
"""The names of the jobs above and of those: importing this module declares them."""
