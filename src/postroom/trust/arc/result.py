"""What a check of a message's chain says. RFC 8617 §4.4, RFC 8601 §2.7."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ArcCode(StrEnum):
    """The three words. An error of DNS is a fail: RFC 8617 §5.2.1."""

    NONE = "none"  # the message has no chain
    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class ArcResult:
    """A chain and its reason. Names are A-labels; the reason is one plain sentence."""

    code: ArcCode
    reason: str
    sealers: tuple[str, ...] = ()  # d= of the seals, the oldest first; empty if unreadable
    oldest_pass: int | None = None  # 0: every AMS holds. RFC 8617 §5.2 step 5; None: no pass
