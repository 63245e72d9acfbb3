"""What a check of one DKIM signature says. RFC 8601 §2.7.1."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DkimCode(StrEnum):
    """The seven words."""

    NONE = "none"  # the message has no signature
    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"  # the signature or the body hash does not hold
    POLICY = "policy"  # it may hold, but is none that we accept
    NEUTRAL = "neutral"  # it cannot be understood, or was not looked at
    TEMPERROR = "temperror"  # DNS did not answer
    PERMERROR = "permerror"  # no later try would find more: no key, no From in h=


@dataclass(frozen=True, slots=True)
class DkimResult:
    """One signature and its reason. Texts are short; strangers' words in them are printable."""

    code: DkimCode
    domain: str = ""  # d=, an A-label in lower case; "" if unreadable
    selector: str = ""  # s=
    identity: str = ""  # i=, or its default, "@" and d=
    algorithm: str = ""  # a=, in lower case
    reason: str = ""  # one plain sentence for the trace
    signature: str = ""  # the first 8 characters of b=, for header.b: RFC 6008 §4
    testing: bool = False  # t=y of the key: to be treated as unsigned. RFC 6376 §3.6.1
    mark: int = 0  # of one that holds: equal for copies of a signed message, 63 bits
    of_list: bool = False  # of one that holds: it covers a List-Id. RFC 2919
