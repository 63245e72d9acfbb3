"""Rules about the sender and the size that MAIL declared."""

from __future__ import annotations

from postroom.core.errors import Status, TooLarge
from postroom.domain.facts import PeerFact, SenderFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Recipient, Verdict, refuse
from postroom.mailflow.settings import SmtpSettings


def declared_size(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Refuse before a byte of it travels. RFC 1870 §6.1."""
    sender = facts.get(SenderFact)
    limit = policy.of(SmtpSettings).max_size
    if sender is None or sender.declared_size <= limit:
        return None
    return refuse(
        "declared_size",
        TooLarge(f"This server takes messages of up to {limit} octets"),
        f"the peer declared {sender.declared_size} octets, the limit is {limit}",
        code=552,
        setting="smtp.max_size",
    )


def local_sender(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Our own domains write through submission: others who use them are strangers."""
    sender, peer = facts.get(SenderFact), facts.get(PeerFact)
    if sender is None or not sender.local_domain or (peer is not None and peer.signed_in):
        return None
    if not policy.of(SmtpSettings).local_senders_sign_in:
        return None
    return Verdict(
        "local_sender",
        Action.REFUSE,
        Status(5, 7, 0),
        "Please sign in to send for this domain",
        f"{sender.address} is of a domain of this server and the peer has not signed in",
        code=530,
        setting="smtp.local_senders_sign_in",
    )
