"""What an SPF check says. RFC 7208 §2.6."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.core.errors import Malformed


class Result(StrEnum):
    """The seven results."""

    NONE = "none"  # no domain, or no record: nobody has said anything
    NEUTRAL = "neutral"  # the domain says that it says nothing
    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    SOFTFAIL = "softfail"  # probably not
    TEMPERROR = "temperror"  # DNS did not answer
    PERMERROR = "permerror"  # the domain's record cannot be understood


class Identity(StrEnum):
    """What was checked. RFC 7208 §9.1."""

    MAIL_FROM = "mailfrom"
    HELO = "helo"


@dataclass(frozen=True, slots=True)
class SpfResult:
    """One check and its reason. Texts are short; strangers' words in them are printable ASCII."""

    result: Result
    domain: str  # that was asked
    identity: Identity
    mechanism: str = ""  # that decided, as published; "default" if none did
    explanation: str = ""  # the domain's own words about a fail: RFC 7208 §6.2
    lookups: int = 0  # terms that asked DNS: RFC 7208 §4.6.4
    why: str = ""  # one plain sentence for the trace
    personal: bool = False  # a macro looked at the local part, the HELO name or the hour


class BadRecord(Malformed):
    """A record, or the way through several of them, breaks RFC 7208: the result is permerror."""

    sentence = "The SPF record cannot be understood"
