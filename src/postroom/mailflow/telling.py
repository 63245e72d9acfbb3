"""What a trace says of a message: its story, its envelope, each decision with its reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from postroom.core.clock import iso
from postroom.core.ids import TRACE, external
from postroom.domain.mailboxes.folders import folder_of
from postroom.domain.policy import Policy
from postroom.domain.transit import Destination, Recipient, Transit, Verdict
from postroom.mailflow.delivery import Placing, Relaying
from postroom.store.blobs import NewBlob


def accepted(
    transit: Transit,
    unit: Sequence[Placing],
    queued: Sequence[Placing],
    relayed: Sequence[Relaying],
    content: NewBlob,
) -> dict[str, Any]:
    """The record of a message that was kept."""
    record = story(transit) | envelope(transit)
    record["outcome"] = "accepted"
    record["size"] = content.size
    record["sha256"] = content.sha256.hex()
    record["delivered"] = [
        _placed(transit, each) | {"account": each.account, "message": each.message} for each in unit
    ]
    record["queued"] = [_placed(transit, each) | {"account": each.account} for each in queued]
    if relayed:
        record["relayed"] = [
            {
                "to": each.address,
                "next hop": each.hop.next_hop,
                "because": _why_outside(transit.recipients[each.recipient], each),
                **({"quarantined": each.quarantined} if each.quarantined else {}),
            }
            for each in relayed
        ]
    return record


def _placed(transit: Transit, placing: Placing) -> dict[str, Any]:
    path = _at(transit.recipients[placing.recipient], placing).path
    return {
        "to": placing.address,
        **({"folder": path} if path else {}),
        "mailbox": placing.role,
        "because": _why_here(transit.recipients[placing.recipient], placing),
        **({"quarantined": placing.quarantined} if placing.quarantined else {}),
    }


def story(transit: Transit) -> dict[str, Any]:
    """What is known of a message under way, its recipients apart."""
    visit = transit.visit
    told = {
        "id": external(TRACE, transit.id),
        "at": iso(transit.started),
        "session": visit.session,
        "protocol": str(visit.protocol),
        "from": str(transit.reverse_path or ""),
        "facts": transit.facts.record(),
        "verdicts": [decision(v, transit.judged_by) for v in transit.verdicts],
    }
    if transit.amended:
        told["amended"] = list(transit.amended)
    if transit.cause:
        told["cause"] = transit.cause
    return told


def envelope(transit: Transit) -> dict[str, Any]:
    """Each recipient so far, and what was decided about it."""
    return {
        "recipients": [
            {
                "address": str(r.address),
                "facts": r.facts.record(),
                "verdicts": [decision(v, r.policy or transit.policy) for v in r.verdicts],
            }
            for r in transit.recipients
        ],
        "refused": [
            {"address": str(r.address), **decision(v, r.policy or transit.policy)}
            for r, v in transit.rejected
        ],
    }


def decision(verdict: Verdict, policy: Policy | None) -> dict[str, Any]:
    """A verdict with its reason, and the setting that caused it with where it was set."""
    told: dict[str, Any] = {
        "rule": verdict.rule,
        "action": str(verdict.action),
        "status": str(verdict.status),
        "reply": verdict.sentence,
        "why": verdict.why,
    }
    if verdict.setting:
        told["setting"] = verdict.setting
        if policy is not None:
            told["set at"] = policy.origin(verdict.setting)
    return told


def _at(recipient: Recipient, placing: Placing) -> Destination:
    """Where the recipient leads that this copy is for."""
    folder = folder_of(placing.role)
    return next(
        d for d in recipient.destinations if (d.account, d.folder) == (placing.account, folder)
    )


def _why_here(recipient: Recipient, placing: Placing) -> str:
    """One plain sentence: why this account got a copy."""
    at = _at(recipient, placing)
    if at.through:
        return _alias(str(recipient.address), str(at.address), at.through)
    if at.folder:
        return f"{recipient.address} is the address of the folder {at.path}"
    if at.detail is not None:
        return f"{recipient.address} is {at.address} with the tag {json.dumps(at.detail)}"
    return f"{recipient.address} is the account's own address"


def _why_outside(recipient: Recipient, relaying: Relaying) -> str:
    at = next(o for o in recipient.outside if str(o.address) == relaying.address)
    if at.through:
        return _alias(str(recipient.address), relaying.address, at.through)
    return f"{recipient.address.domain} is not a domain of this server"


def _alias(address: str, leads_to: str, through: tuple[str, ...]) -> str:
    way = f", by way of {', '.join(through[1:])}" if through[1:] else ""
    return f"{address} is an alias of {leads_to}{way}"
