"""Bounce Address Tag Validation: a reverse-path that only we can have written.

`prvs=KDDDSSSSSS=local@domain` (draft-levine-smtp-batv): K names the key, DDD is the day on which
the tag expires (of the days since 1970, the last three digits), S are the first three octets of an
HMAC-SHA1 over both and the address. Three octets keep a forger busy who must ask us about each.

A key lasts for thirty days and is made from one secret, so that nobody has to change keys, and all
workers and nodes have the same.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from postroom.formats.address import Address

LIFE: Final = 14
"""Days for which a tag is good: as long as a message may be under way, and its report after it."""
KEY_DAYS: Final = 30
SECRET: Final = 32
"""Octets of the secret."""
LOCAL_MOST: Final = 64
"""Octets of a local part. RFC 5321 §4.5.3.1.1."""
DAY: Final = 24 * 3600 * 1000
"""Milliseconds."""

_TAGGED: Final = re.compile(r"prvs=([0-9])([0-9]{3})([0-9a-f]{6})=(.+)", re.IGNORECASE | re.DOTALL)


class Tagged(StrEnum):
    """What a tag is worth."""

    RIGHT = "right"
    EXPIRED = "expired"
    FORGED = "forged"
    NONE = "untagged"


@dataclass(frozen=True, slots=True)
class Tag:
    """An address that bears a tag."""

    original: Address
    number: int  # of the key
    expires: int  # a day, modulo 1000
    signature: str


def tag(address: Address, secret: bytes, today: int) -> Address | None:
    """The address with a tag of `today`, a day since 1970; None if it has no room for one."""
    number = today // KEY_DAYS % 10
    stamp = f"{number}{(today + LIFE) % 1000:03d}"
    local = f"prvs={stamp}{_signature(stamp, address, secret, today // KEY_DAYS)}={address.local}"
    if len(local.encode("utf-8")) > LOCAL_MOST:
        return None
    return Address(local, address.domain)


def parse(address: Address) -> Tag | None:
    """The tag of an address, ours or another's; None without one."""
    found = _TAGGED.fullmatch(address.local)
    if found is None:
        return None
    number, expires, signature, local = found.groups()
    return Tag(Address(local, address.domain), int(number), int(expires), signature.lower())


def verify(found: Tag, secret: bytes, today: int) -> Tagged:
    """Whether we wrote a tag, and not too long ago."""
    stamp = f"{found.number}{found.expires:03d}"
    period = today // KEY_DAYS
    right = False
    for each in (period, period - 1):
        if each % 10 == found.number:
            made = _signature(stamp, found.original, secret, each)
            right = hmac.compare_digest(made.encode("ascii"), found.signature.encode("ascii"))
    if not right:
        return Tagged.FORGED
    return Tagged.RIGHT if (found.expires - today) % 1000 <= LIFE else Tagged.EXPIRED


def _signature(stamp: str, address: Address, secret: bytes, period: int) -> str:
    """Servers on the way may change the case of an address, so it does not count."""
    key = hmac.digest(secret, f"batv {period}".encode("ascii"), hashlib.sha256)
    signed = f"{stamp}{address}".lower().encode("utf-8")
    return hmac.digest(key, signed, hashlib.sha1)[:3].hex()
