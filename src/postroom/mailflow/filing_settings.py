"""What an administrator may decide about reports that others send. RFC 9990, RFC 9991."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.settings import Scope, group, setting

_HERE: Final = (Scope.SERVER,)


@group("reports")
@dataclass(frozen=True, slots=True)
class ReportSettings:
    """How reports on mail in our domains' names are taken, and how long they are kept. Where
    others send them is `dns.dmarc_reports`."""

    file: bool = setting(
        True,
        "Read the DMARC reports that are sent to dns.dmarc_reports, if that is an address of this "
        "server. It needs no account; one that is there gets them as well",
        scopes=_HERE,
    )
    keep_weeks: int = setting(
        26,
        "How long reports and what they count are kept",
        unit="weeks",
        scopes=_HERE,
        at_least=1,
        at_most=520,
    )
    keep_days: int = setting(
        14,
        "How long it is kept and shown why a message to that address was not filed, and the "
        "message itself if it could not be read",
        unit="days",
        scopes=_HERE,
        at_least=2,
        at_most=365,
    )
    a_source: int = setting(
        200,
        "Messages with reports that one network may send in a day; more are put off",
        unit="messages",
        scopes=_HERE,
        at_least=1,
        at_most=100_000,
    )
    a_day: int = setting(
        5_000,
        "Messages with reports that are taken in a day, from all together; more are put off",
        unit="messages",
        scopes=_HERE,
        at_least=1,
        at_most=1_000_000,
    )
    day_octets: int = setting(
        512 * 1024 * 1024,
        "Octets of messages with reports that are taken in a day, from all together",
        unit="octets",
        scopes=_HERE,
        at_least=1024 * 1024,
    )
