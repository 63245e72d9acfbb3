"""Rules about who vouches for a message."""

from __future__ import annotations

from typing import Final

from postroom.core.errors import Status
from postroom.domain.facts import DmarcFact, PeerFact, SpfFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Recipient, SetFlags, Verdict
from postroom.mailflow.dmarc import disposition, exemption
from postroom.mailflow.settings import DmarcSettings, SpfSettings
from postroom.trust.spf import Result

_BY_LINES: Final = "sender."  # settings of rules.sender, which act on what they decide
_FILED: Final = {"junk": "Filed as junk", "quarantine": "Put into quarantine"}
_EXPLANATION: Final = 200  # characters of a stranger's words in our reply


def spf_fail(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """What the sender's domain disowns. A fail alone says little, as forwarders fail too: unless
    an administrator wants more of it, it is but recorded. RFC 7208 §8.4, RFC 7372 §3.2.

    It stands last: a message that goes to junk may be refused for another reason first.
    """
    found, peer = facts.get(SpfFact), facts.get(PeerFact)
    if found is None or found.result != Result.FAIL:
        return None
    wanted = policy.of(SpfSettings).on_fail
    if wanted in _FILED:
        return Verdict(
            "spf_fail",
            Action(wanted),
            Status(2, 0, 0),
            _FILED[wanted],
            found.why,
            setting="spf.on_fail",
        )
    if wanted != "refuse":
        return None
    ip = peer.ip if peer is not None else "this address"
    said = found.explanation[:_EXPLANATION]
    explained = f"; {found.domain} explains: {said}" if said else ""
    return Verdict(
        "spf_fail",
        Action.REFUSE,
        Status(5, 7, 23),
        f"By SPF, {found.domain} does not let {ip} send for it{explained}",
        found.why,
        code=550,
        setting="spf.on_fail",
    )


# --- DMARC ------------------------------------------------------------------------------------

PHISHING: Final = "$Phishing"
"""A keyword that mail programs know, registered with IANA."""


def unclear_author(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Refuse a message of which readers may disagree who wrote it. RFC 9989 §11.5, RFC 5322 §3.6.

    With another setting than `refuse` it is `dmarc_marked` that files it.
    """
    found, settings = facts.get(DmarcFact), policy.of(DmarcSettings)
    if found is None or not found.problem or settings.on_unclear_author != "refuse":
        return None
    if exemption(found, facts, settings):
        return None
    return Verdict(
        "unclear_author",
        Action.REFUSE,
        Status(5, 7, 1),
        f"It is not certain who wrote this message: {found.problem}",
        f"{found.problem}, so its readers may see another author than was checked",
        code=550,
        setting="dmarc.on_unclear_author",
    )


def dmarc_refused(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """Refuse what its author's domain disowns and wants rejected, or let it come again if DNS
    does not say. RFC 9989 §5.4, §7.2; RFC 8601 §2.7.
    """
    found, done = facts.get(DmarcFact), disposition(facts, policy)
    if found is None or done.action not in ("refuse", "defer"):
        return None
    if done.setting.startswith(_BY_LINES):
        return None
    if done.action == "defer":
        return Verdict(
            "dmarc_refused",
            Action.DEFER,
            Status(4, 7, 0),
            f"The DMARC policy of {found.domain} cannot be told now, please try again",
            found.why,
            code=451,
            setting=done.setting,
        )
    return Verdict(
        "dmarc_refused",
        Action.REFUSE,
        Status(5, 7, 1),
        f"Rejected per DMARC policy of {found.policy_domain}: "
        f"neither SPF nor DKIM vouches for {found.domain}",
        found.why,
        code=550,
        setting=done.setting,
    )


def dmarc_marked(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """File or mark what its author's domain disowns. It stands last, as `spf_fail` does."""
    found = facts.get(DmarcFact)
    if found is None:
        return None
    done, settings = disposition(facts, policy), policy.of(DmarcSettings)
    action, setting = done.action, done.setting
    if setting.startswith(_BY_LINES):
        return None
    if found.problem and action not in _FILED and not exemption(found, facts, settings):
        action, setting = settings.on_unclear_author, "dmarc.on_unclear_author"
    if action in _FILED:
        status, said = Status(2, 0, 0), _FILED[action]
        return Verdict("dmarc_marked", Action(action), status, said, found.why, setting=setting)
    if action == "tag":
        status, said, edits = Status(2, 0, 0), "Marked as doubtful", (SetFlags((PHISHING,)),)
        return Verdict(
            "dmarc_marked", Action.ACCEPT, status, said, found.why, setting=setting, edits=edits
        )
    if done.override:
        why = f"{found.why}; taken, as {done.comment}"
        status, said = Status(2, 0, 0), "Message accepted"
        return Verdict("dmarc_marked", Action.ACCEPT, status, said, why, setting=setting)
    return None
