"""Tagged reverse-paths: made when a message leaves, known when a report about it comes back.

The tag is of the day on which the message came to us, so that each attempt has the same
reverse-path: greylisting asks for that. The secret is one of the house's own keys, made when it is
first needed.
"""

from __future__ import annotations

import os
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import Malformed
from postroom.domain.directory import people
from postroom.domain.facts import BatvFact
from postroom.domain.queue import QueuedMessage
from postroom.domain.transit import Transit
from postroom.formats.address import Address, parse_mailbox
from postroom.mailflow.batv_settings import BatvSettings
from postroom.mailflow.house import MailHouse
from postroom.store.sql import Tx
from postroom.trust import batv as trust
from postroom.trust.batv import Tagged

_KEY: Final = "batv"
"""The name of the house's key."""


async def reverse_path(house: MailHouse, message: QueuedMessage) -> Address | None:
    """The reverse-path under which a message leaves. Raises Malformed for one that is none."""
    if not message.reverse_path:
        return None
    sender = parse_mailbox(message.reverse_path)
    if not _settings(house, sender.domain).sign or trust.parse(sender) is not None:
        return sender
    if await house.mail.read(people.find_domain, sender.domain) is None:
        return sender  # not ours: what is passed on stays as it came
    secret = await _secret(house)
    return trust.tag(sender, secret, message.arrived_at // trust.DAY) or sender


def _settings(house: MailHouse, domain: str, listener: str = "") -> BatvSettings:
    return house.policies.latest(house.chain(listener, domain)).of(BatvSettings)


async def _secret(house: MailHouse) -> bytes:
    if not house.batv_secret:
        found = await house.mail.read(people.house_key, _KEY)
        if found is None:
            fresh, now = os.urandom(trust.SECRET), house.clock.now()
            found = await house.mail.write(people.make_house_key, _KEY, fresh, now)
        house.batv_secret = found
    return house.batv_secret


def untagged(address: Address) -> Address:
    """The address without its tag, whoever wrote that."""
    try:
        found = trust.parse(address)
    except Malformed:
        return address  # what stands behind the tag is no local part
    return found.original if found is not None else address


def judged(tx: Tx, house: MailHouse, transit: Transit, to: Address) -> BatvFact | None:
    """What the tag of a recipient is worth; None where its domain tags nothing and it has none."""
    signs = _settings(house, to.domain, transit.visit.peer.listener).sign
    found = trust.parse(to) if untagged(to) is not to else None
    if found is None:
        return BatvFact(Tagged.NONE.value, signs) if signs else None
    secret = house.batv_secret or people.house_key(tx, _KEY)
    today = _day(house.clock.now())
    result = trust.verify(found, secret, today) if secret else Tagged.FORGED
    return BatvFact(result.value, signs)


def _day(now: Instant) -> int:
    return now // trust.DAY
