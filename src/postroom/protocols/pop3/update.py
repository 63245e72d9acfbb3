"""The UPDATE state: what a session leaves behind. RFC 1939 §6.

In units of bounded size, each of which takes what is still there: others may have removed some of
it. What is removed can be brought back, as after EXPUNGE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import MailError
from postroom.domain.mailboxes import maildrop as domain
from postroom.domain.mailboxes import messages
from postroom.domain.mailboxes.picking import FEW, Pick
from postroom.domain.policy import Policy
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import RetentionSettings
from postroom.protocols.pop3.maildrop import Maildrop
from postroom.protocols.pop3.settings import Pop3Settings
from postroom.store.units import UNIT_ROWS

DAY_MS: Final = 24 * 3600 * 1000


class MaildropLost(MailError):
    """The lock was not kept in time: another session may have the maildrop by now."""

    sentence = "The maildrop is locked no more"


async def remove(
    house: MailHouse,
    maildrop: Maildrop,
    uids: Sequence[int],
    actor: int,
    policy: Policy,
    is_ours: Callable[[], bool],
) -> None:
    """Remove messages; raises MaildropLost, or what the store raises, when some are gone."""
    retention = policy.of(RetentionSettings).deleted_days * DAY_MS
    box = maildrop.mailbox
    for piece in messages.pieces(uids, UNIT_ROWS):
        if not is_ours():
            raise MaildropLost
        write = house.mail.write if len(piece) <= FEW else house.mail.write_much
        now = house.clock.now()
        pick = Pick.of(piece)
        await write(messages.expunge, box.account, box.id, pick, now, actor, retention=retention)


async def expire(
    house: MailHouse,
    maildrop: Maildrop,
    actor: int,
    policy: Policy,
    is_ours: Callable[[], bool],
) -> None:
    """Remove what was left for as long as it may be, and was read. RFC 2449 §6.7."""
    days = policy.of(Pop3Settings).expire_days
    if not days or not maildrop.size:
        return
    before = Instant(house.clock.now() - days * DAY_MS)
    box, last = maildrop.mailbox.id, maildrop.last_uid
    while True:
        old = await house.mail.read_much(domain.read_before, box, last, before, UNIT_ROWS)
        if not old:
            return
        await remove(house, maildrop, old, actor, policy, is_ours)


async def mark_seen(house: MailHouse, maildrop: Maildrop, actor: int, policy: Policy) -> None:
    """Mark as read what was downloaded and stays."""
    if not policy.of(Pop3Settings).mark_seen:
        return
    for piece in messages.pieces(maildrop.read_and_kept(), UNIT_ROWS):
        write = house.mail.write if len(piece) <= FEW else house.mail.write_much
        await write(domain.mark_seen, maildrop.mailbox, piece, house.clock.now(), actor)
