"""Rules about who vouches for a message."""

from __future__ import annotations

from typing import Final

from postroom.core.errors import Status
from postroom.domain.facts import PeerFact, SpfFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Action, Facts, Recipient, Verdict
from postroom.mailflow.settings import SpfSettings
from postroom.trust.spf import Result

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
    if wanted == "junk":
        return Verdict(
            "spf_fail",
            Action.JUNK,
            Status(2, 0, 0),
            "Filed as junk",
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
