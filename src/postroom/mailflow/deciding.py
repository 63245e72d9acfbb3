"""Whose settings judge a message as a whole: those of the domain that its recipients are in.

DATA has one reply, and a message that SPF or DMARC disowns is refused there or taken. Domains that
set the matter differently therefore do not share a transaction: the recipient of the second one is
asked to come in the next (452), which every sender knows from servers with a limit of recipients
(RFC 5321 §4.5.3.1.10). So each domain's setting is done, nothing is dropped or bounced later, and
the sender is told the truth. ADR 20.
"""

from __future__ import annotations

from typing import Final

from postroom.domain.facts import ApartFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Fact, Protocol, Recipient, Transit
from postroom.mailflow.house import MailHouse
from postroom.mailflow.sender.settings import SenderSettings
from postroom.mailflow.settings import DmarcSettings, SpfSettings

WHOLE: Final = (SpfSettings, DmarcSettings, SenderSettings)
"""Groups of settings that a domain may set and that rules of DATA ask. One that judges a message as
a whole by what its recipients' domain wants belongs here."""


def of(house: MailHouse, transit: Transit, to: Recipient) -> Policy | None:
    """What the domain of a recipient makes of doubtful mail; None where nothing is doubted."""
    visit = transit.visit
    if visit.protocol is not Protocol.SMTP or visit.principal is not None:
        return None
    return house.policies.latest(house.chain(visit.peer.listener, to.address.domain))


async def apart(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Whether a recipient's domain judges otherwise than that of those who were taken."""
    decides = transit.decides
    if to is None or decides is None or not transit.recipients:
        return ()
    before, own = transit.recipients[0].address.domain, of(house, transit, to)
    if own is None or own is decides or all(own.of(each) == decides.of(each) for each in WHOLE):
        return ()
    return (ApartFact(to.address.domain, before),)
