"""Rules about the sender and the size that MAIL declared."""

from __future__ import annotations

from postroom.core.errors import Status, TooLarge
from postroom.domain.facts import PeerFact, SenderFact, SenderRightsFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Protocol, Recipient, Verdict, refuse
from postroom.mailflow.settings import SmtpSettings, SubmissionSettings


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


def sign_in_first(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Submission is for those whom we know. RFC 6409 §4.3."""
    peer = facts.get(PeerFact)
    if peer is None or peer.protocol != Protocol.SUBMISSION or peer.signed_in:
        return None
    return Verdict(
        "sign_in_first",
        Action.REFUSE,
        Status(5, 7, 0),
        "Please sign in first",
        "the peer has not signed in",
        code=530,
    )


def still_welcome(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Who was frozen, or whose password changed, signs in again. RFC 5321 §3.8."""
    rights = facts.get(SenderRightsFact)
    if rights is None or rights.welcome:
        return None
    return Verdict(
        "still_welcome",
        Action.CLOSE,
        Status(4, 7, 0),
        "Please sign in again",
        "the account was frozen, disabled or given other credentials since the sign-in",
        code=421,
    )


def own_sender(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Who signed in sends under an address of his own. RFC 6409 §6.1."""
    rights, sender = facts.get(SenderRightsFact), facts.get(SenderFact)
    peer = facts.get(PeerFact)
    if peer is None or not peer.signed_in or not policy.of(SubmissionSettings).own_sender:
        return None
    if rights is not None and rights.own:
        return None
    return Verdict(
        "own_sender",
        Action.REFUSE,
        Status(5, 7, 1),
        "You may not send from this address",
        f"{sender.address if sender is not None else 'it'} is no address of {peer.login}",
        code=550,
        setting="submission.own_sender",
    )


def local_sender(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Our own domains write through submission: others who use them are strangers.

    What a program of this machine delivers by LMTP was let in where it came from.
    """
    sender, peer = facts.get(SenderFact), facts.get(PeerFact)
    if sender is None or not sender.local_domain:
        return None
    if peer is not None and (peer.trusted or peer.protocol == Protocol.LMTP):
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
