"""What a DMARC check says. RFC 9989 §5.3, RFC 8601 §2.7.

The words of a domain's record (`Request`), of a check (`DmarcCode`), and the check itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Request(StrEnum):
    """What a domain wants done with mail that fails. RFC 9989 §4.7 `p`, mildest first."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"

    @property
    def milder(self) -> Request:
        """One level down, as a domain in test mode expects. RFC 9989 §4.7 `t`."""
        return _MILDER[self]


_MILDER: Final = {
    Request.NONE: Request.NONE,
    Request.QUARANTINE: Request.NONE,
    Request.REJECT: Request.QUARANTINE,
}


UNCHECKED: Final = "unchecked"
"""The result of a method that nobody was asked to check."""


class DmarcCode(StrEnum):
    """The results of a check. RFC 8601 §2.7.7 of its registry, first defined in RFC 7489 §11.2."""

    NONE = "none"  # nobody published a policy for the author's domain
    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    TEMPERROR = "temperror"  # DNS did not answer: neither pass nor fail. RFC 9989 §5.3.6
    PERMERROR = "permerror"  # it is not certain who the author is, or nobody wanted to know


@dataclass(frozen=True, slots=True)
class Identifier:
    """A domain that SPF or DKIM spoke of: the Authenticated Identifier, if it passed.

    RFC 9989 §4.4. `result` is that of the method, in the words of RFC 8601 §2.7, or
    UNCHECKED.
    """

    method: str  # spf, dkim
    domain: str
    result: str
    selector: str = ""  # of a signature


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """One check of one author domain. Texts are short; a stranger's words in them are ASCII."""

    code: DmarcCode
    domain: str  # the Author Domain
    why: str  # one plain sentence for the trace
    policy_domain: str = ""  # where the policy was found; empty if nowhere
    tag: str = ""  # p, sp, np: which of the policy's wishes applies
    published: Request = Request.NONE  # what that tag says
    testing: bool = False  # t=y: the domain expects one level less
    record: str = ""  # as published
    identity: str = ""  # what vouched: "spf mail.a.example"
    spf: bool = False  # an SPF pass is aligned
    dkim: bool = False  # a DKIM pass is aligned
    reports: bool = False  # the domain asks for aggregate reports

    @property
    def policy(self) -> Request:
        """What the domain expects for a message that fails."""
        return self.published.milder if self.testing else self.published
