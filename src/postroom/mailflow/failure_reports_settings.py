"""What an administrator may decide about reports on single messages that failed DMARC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.settings import Scope, group, setting

_HERE: Final = (Scope.SERVER,)
HEADERS: Final = "headers"
REDACTED: Final = "redacted"
WHOLE: Final = "whole"


@group("dmarc")
@dataclass(frozen=True, slots=True)
class FailureReportSettings:
    """What is told to domains that want to hear of each message that failed in their name.
    RFC 9991."""

    # They show a domain what our users are sent: few servers send any.
    send_failure_reports: bool = setting(
        False,
        "Send a report on each message that fails DMARC to domains that ask for it (`ruf`), with "
        "what dmarc.failure_reports_content says of it. It shows them what your users are sent, "
        "and the forwarders they use",
        scopes=_HERE,
    )
    failure_reports_content: str = setting(
        HEADERS,
        "What of the message goes with it: headers; redacted, which are the headers without "
        "subject, names and local parts (RFC 6590); or whole, up to 256 KiB",
        scopes=_HERE,
        choices=(HEADERS, REDACTED, WHOLE),
    )
    failure_reports_hide_ips: bool = setting(
        True,
        "Write X.X.X.X in the place of IP addresses of private and reserved networks",
        scopes=_HERE,
    )
    failure_reports_precedence: bool = setting(
        True,
        "Put `Precedence: bulk` on these reports, for receivers that answer mail automatically "
        "and do not know Auto-Submitted. RFC 3834 §5",
        scopes=_HERE,
    )
    failure_reports_every: int = setting(
        60,
        "For how long messages in one domain's name that fail alike and come from one address are "
        "only counted once one of them was reported; the next report says how many there were. "
        "0: each one is reported",
        unit="minutes",
        scopes=_HERE,
        at_least=0,
        at_most=10_080,
    )
    failure_reports_a_day: int = setting(
        50,
        "How many of these reports an address gets in a day (UTC), and how many are made about "
        "one domain; what fails beyond that is in the aggregate reports only",
        scopes=_HERE,
        at_least=1,
        at_most=10_000,
    )
    all_failure_reports_a_day: int = setting(
        1000,
        "How many of these reports are made in a day (UTC), about all domains",
        scopes=_HERE,
        at_least=1,
        at_most=100_000,
    )
