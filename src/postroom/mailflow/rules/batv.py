"""What becomes of reports about mail that we did not send."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from postroom.core.errors import Status
from postroom.domain.facts import BatvFact, PeerFact, RecipientFact, ReportsFact, SenderFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Protocol, Recipient, Verdict
from postroom.mailflow.batv_settings import BatvSettings
from postroom.mailflow.exempt import exempt
from postroom.trust.batv import Tagged

_POSTMASTER: Final = "postmaster"
_WHY: Final = {
    Tagged.NONE.value: "bears no tag",
    Tagged.EXPIRED.value: "bears a tag that has expired",
    Tagged.FORGED.value: "bears a tag that this server did not write",
}


def not_our_bounce(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """A message from `<>` answers one of ours: then its recipient bears our tag, if the domain
    tags what it sends. Attack class 15.

    Postmaster is always reached (RFC 5321 §4.5.1), and where reports of others go needs no tag.
    """
    found, sender, peer = facts.get(BatvFact), facts.get(SenderFact), facts.get(PeerFact)
    if found is None or sender is None or sender.address or peer is None or to is None:
        return None
    if peer.trusted or peer.protocol != Protocol.SMTP or not found.signs:
        return None
    why = _WHY.get(found.result, "")
    if not why or facts.get(ReportsFact) is not None or to.address.local.lower() == _POSTMASTER:
        return None
    settings = policy.of(BatvSettings)
    if settings.exempt and peer.ip and exempt(settings.exempt).holds_peer(ip_address(peer.ip)):
        return None
    wanted = (to.policy or policy).of(BatvSettings).on_untagged
    recipient = facts.get(RecipientFact)
    told = f"{recipient.address if recipient else to.address} {why}"
    if wanted == "junk":
        return Verdict(
            "not_our_bounce", Action.JUNK, Status(2, 0, 0), "Filed as junk", told,
            setting="batv.on_untagged",
        )  # fmt: skip
    if wanted != "refuse":
        return None
    return Verdict(
        "not_our_bounce",
        Action.REFUSE,
        Status(5, 7, 1),
        "This is no answer to a message from here",
        told,
        code=550,
        setting="batv.on_untagged",
    )
