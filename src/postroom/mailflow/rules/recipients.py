"""Rules about one recipient: relaying, existence, room, crowds."""

from __future__ import annotations

from postroom.core.errors import NoSuchRecipient, OverQuota, Status, TooMany
from postroom.domain.facts import (
    ApartFact,
    CrowdFact,
    PeerFact,
    PostingFact,
    RecipientFact,
    ReportsFact,
    RoomFact,
)
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Recipient, Verdict, refuse
from postroom.mailflow.settings import QuotaSettings, SmtpSettings
from postroom.store.units import UNIT_ROWS


def crowd(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """So many recipients in one transaction; the sender brings the rest in the next.

    RFC 5321 §4.5.3.1.10: 452, and the client goes on with those that were taken.
    """
    seen = facts.get(CrowdFact)
    limit = policy.of(SmtpSettings).max_recipients
    if seen is None or (seen.accepted < limit and seen.accounts < UNIT_ROWS):
        return None
    if seen.accepted < limit:
        # Aliases of many: one unit holds them all, and a unit is bounded.
        why = f"the recipients so far lead to {seen.accounts} accounts"
        return refuse("crowd", TooMany("Too many recipients at once"), why, code=452)
    return refuse(
        "crowd",
        TooMany("Too many recipients at once"),
        f"{seen.accepted} recipients are in this transaction already",
        code=452,
        setting="smtp.max_recipients",
    )


def guessing(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Close on a peer that goes through addresses. RFC 5321 §7.3, attack class 16."""
    seen = facts.get(CrowdFact)
    limit = policy.of(SmtpSettings).max_refused
    if seen is None or not limit or seen.refused < limit:
        return None
    return Verdict(
        "guessing",
        Action.CLOSE,
        Status(4, 7, 0),
        "Too many unknown recipients",
        f"{seen.refused} recipients of this connection were refused",
        code=421,
        setting="smtp.max_refused",
    )


def relay(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """We pass mail on for those who signed in, and for nobody else. Attack class 14."""
    recipient, peer = facts.get(RecipientFact), facts.get(PeerFact)
    if recipient is None or recipient.local_domain or (peer is not None and peer.trusted):
        return None
    return Verdict(
        "relay",
        Action.REFUSE,
        Status(5, 7, 1),
        "Relaying is not allowed",
        f"the domain of {recipient.address} is not of this server, and the peer has not signed in",
        code=550,
    )


def known(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """An address of ours leads somewhere, or is refused while the sender listens."""
    recipient = facts.get(RecipientFact)
    if recipient is None:
        return Verdict(
            "known",
            Action.DEFER,
            Status(4, 3, 0),
            "The directory does not answer now, please try again",
            "the directory gave no answer in time",
        )
    if recipient.destinations or recipient.outside or facts.get(ReportsFact) is not None:
        return None
    return refuse("known", NoSuchRecipient, recipient.problem, code=550)


def posting(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Who may post to a folder. RFC 4314 §2.1, `p`.

    A stranger learns nothing of a folder to which he may not post: it is as if it had no address.
    """
    found, recipient, peer = facts.get(PostingFact), facts.get(RecipientFact), facts.get(PeerFact)
    if found is None or recipient is None or not found.forbidden:
        return None
    if recipient.destinations or recipient.outside:
        return None  # it leads elsewhere as well
    told = ", ".join(found.forbidden)
    if peer is None or not peer.signed_in:
        why = f"only who signed in and has the right p may post to {told}"
        return refuse("posting", NoSuchRecipient, why, code=550)
    return Verdict(
        "posting",
        Action.REFUSE,
        Status(5, 7, 1),
        "You may not post to this folder",
        f"{peer.login} lacks the right p in {told}",
        code=550,
    )


def apart(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Domains that judge differently do not share a message: the sender brings this recipient in
    the next transaction. RFC 5321 §4.5.3.1.10, ADR 20."""
    found = facts.get(ApartFact)
    if found is None:
        return None
    why = f"{found.domain} makes something else of doubtful mail than {found.before}"
    return refuse("apart", TooMany("Bring this recipient in the next transaction"), why, code=452)


def room(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Ask to come back while every account behind the recipient is full. RFC 3463 §3.3."""
    found = facts.get(RoomFact)
    if found is None or found.full < found.of or not found.of:
        return None
    return _full("the account has no room for a message of this size", found.setting)


def no_room(policy: Policy | None) -> Verdict:
    """What `room` would have said, had it known what the unit found; `policy` is the account's."""
    octets = policy is not None and policy.of(QuotaSettings).octets
    return _full(
        "no account of this recipient has room for the message",
        "quota.octets" if octets else "quota.messages",
    )


def _full(why: str, setting: str) -> Verdict:
    return refuse("room", OverQuota, why, code=452, setting=setting)
