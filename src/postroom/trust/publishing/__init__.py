"""What DNS is to say of our domains, and whether it does.

`wanted` gives the records of a domain, `zone_text` and `update_text` put them into words for a zone
file and for nsupdate. `look` compares what resolvers see with the same facts: each finding is one
sentence that says what is wrong and what follows. What one cause brings about is not told twice.
Called by admin. Asks DNS by `Lookup`, web servers by a `Fetcher`, and exchangers by a `Caller`.
"""

from __future__ import annotations

from postroom.trust.publishing.check import look, look_at_host
from postroom.trust.publishing.facts import DomainFacts, HostFacts, KeyFact, Service
from postroom.trust.publishing.finding import Finding, Severity
from postroom.trust.publishing.record import Need, Wanted, quoted
from postroom.trust.publishing.records import wanted, wanted_of_host
from postroom.trust.publishing.shown import Caller, Shown, Visit
from postroom.trust.publishing.zone import update_text, zone_text

__all__ = [
    "Caller",
    "DomainFacts",
    "Finding",
    "HostFacts",
    "KeyFact",
    "Need",
    "Service",
    "Severity",
    "Shown",
    "Visit",
    "Wanted",
    "look",
    "look_at_host",
    "quoted",
    "update_text",
    "wanted",
    "wanted_of_host",
    "zone_text",
]
