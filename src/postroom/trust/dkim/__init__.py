"""DKIM: who signed a message, and whether that holds; and signing ours. RFC 6376, 8301, 8463.

`signatures` reads the fields of a header, `hasher` is fed the body, `verify` asks for the keys;
`sign` makes the fields for what leaves. No socket, no clock, no store: those who call bring them.
"""

from __future__ import annotations

from postroom.trust.dkim.canon import BodyHasher
from postroom.trust.dkim.key import BadKey, Key
from postroom.trust.dkim.result import DkimCode, DkimResult
from postroom.trust.dkim.sign import ED25519, KINDS, RSA, SigningKey
from postroom.trust.dkim.verify import (
    BODY_CHANGED,
    DEADLINE,
    MOST_SIGNATURES,
    Canonical,
    Read,
    canonical,
    hasher,
    look_up,
    signatures,
    verify,
)

__all__ = [
    "BODY_CHANGED",
    "DEADLINE",
    "ED25519",
    "KINDS",
    "MOST_SIGNATURES",
    "RSA",
    "BadKey",
    "BodyHasher",
    "Canonical",
    "DkimCode",
    "DkimResult",
    "Key",
    "Read",
    "SigningKey",
    "canonical",
    "hasher",
    "look_up",
    "signatures",
    "verify",
]
