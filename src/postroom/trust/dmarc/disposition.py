"""What becomes of a message by DMARC: the domain's wish, as an administrator wants it heeded.

RFC 9989 §5.4. A pure function, so that the rule, the header field and the report say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from postroom.trust.dmarc.result import DmarcCode, Request


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings."""

    on_reject: str = "refuse"  # refuse, quarantine, junk, tag, accept
    on_quarantine: str = "junk"
    on_temperror: str = "accept"  # accept, defer
    exempt: str = ""  # the entry of a list that lets this message pass; empty: none
    vouched: str = ""  # why a trusted ARC chain lets it pass; empty: none does
    told: str = ""  # the same as reports have it: RFC 8617 §7.2.2
    ruled: str = ""  # what is done whatever these say; empty: nothing else was decided
    ruled_by: str = ""  # the setting that does
    ruled_why: str = ""  # in words
    certified: str = ""  # why somebody's word for another domain lets it pass; empty: it does not


@dataclass(frozen=True, slots=True)
class Disposition:
    """What is done."""

    action: str = "accept"  # refuse, quarantine, junk, tag, accept, defer; close if ruled
    setting: str = ""  # that caused it, if one did
    override: str = ""  # why it is not as the domain wished: RFC 9990 §3.1.6 `type`
    comment: str = ""  # the same in words
    told: str = ""  # instead of these in reports, if there is a form for it

    @property
    def reported(self) -> Request:
        """In the words of reports and of Authentication-Results."""
        return _REPORTED.get(self.action, Request.NONE)


_REPORTED: Final = {
    "refuse": Request.REJECT,
    "junk": Request.QUARANTINE,
    "tag": Request.QUARANTINE,
    "quarantine": Request.QUARANTINE,
    "close": Request.REJECT,
}
_SETTINGS: Final = {
    Request.REJECT: "dmarc.on_reject",
    Request.QUARANTINE: "dmarc.on_quarantine",
}


def dispose(code: DmarcCode, policy: Request, published: Request, wanted: Wanted) -> Disposition:
    """For the check that decides; `policy` is what test mode leaves of `published`."""
    taken = wanted.exempt or wanted.ruled
    if code is DmarcCode.TEMPERROR and wanted.on_temperror == "defer" and not taken:
        return Disposition("defer", "dmarc.on_temperror")
    if code is not DmarcCode.FAIL or published is Request.NONE:
        return Disposition()
    if wanted.ruled:
        made = Disposition(wanted.ruled, wanted.ruled_by)
        if made.reported is policy:
            return _milder(made, policy, published)
        return Disposition(wanted.ruled, wanted.ruled_by, "local_policy", wanted.ruled_why)
    if wanted.exempt:
        comment = f"{wanted.exempt} is exempt"
        return Disposition("accept", "dmarc.exempt", "local_policy", comment)
    if wanted.vouched:
        return Disposition("accept", "arc.trusted", "local_policy", wanted.vouched, wanted.told)
    if wanted.certified:
        return Disposition("accept", "vbr.over_dmarc", "local_policy", wanted.certified)
    if policy is Request.NONE:
        return _milder(Disposition(), policy, published)
    setting = _SETTINGS[policy]
    action = wanted.on_reject if policy is Request.REJECT else wanted.on_quarantine
    made = Disposition(action, setting)
    if made.reported is policy:
        return _milder(made, policy, published)
    return Disposition(action, setting, "local_policy", f"{setting} is {action}")


def _milder(made: Disposition, policy: Request, published: Request) -> Disposition:
    """What is done is what the domain expects; in test mode that is not what it published, and a
    report gives a reason for it. RFC 9990 §3.1.1.9."""
    if policy is published:
        return made
    return replace(made, override="policy_test_mode", comment="the domain tests its policy (t=y)")
