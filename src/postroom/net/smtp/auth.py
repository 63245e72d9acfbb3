"""Signing in at a smart host: SASL as its client. RFC 4954, RFC 4422.

The mechanisms are `wire.sasl`'s. The channel is not bound: whom we speak to is the certificate's
affair, and that is checked before anything is said.
"""

from __future__ import annotations

import binascii
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import Misuse
from postroom.wire import sasl
from postroom.wire.sasl import Client as Mechanism

__all__ = ["ROUNDS", "Credentials", "Mechanism", "challenge_of", "choose"]

ROUNDS: Final = 16  # challenges that a server may give
_SALTED: Final = "SCRAM-"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, for the mechanism that the server offers."""

    user: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if "\0" in self.user or "\0" in self.password:
            raise Misuse("Credentials hold no NUL")  # RFC 4616 §2


def choose(
    credentials: Credentials | Mechanism, offered: Collection[str], nonce: str
) -> Mechanism | None:
    """The mechanism to use: SCRAM where it is offered and there is a `nonce`, else PLAIN or LOGIN;
    None if none fits. Raises Malformed for what a mechanism cannot say."""
    if not isinstance(credentials, Credentials):
        return credentials if credentials.name in offered else None
    usable = [name for name in offered if nonce or not name.startswith(_SALTED)]
    return sasl.choose(usable, credentials.user, credentials.password, nonce)


def challenge_of(text: str) -> bytes | None:
    """The octets behind a 334's text; None if it is no base64. RFC 4954 §4"""
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True) if text else b""
    except (binascii.Error, UnicodeEncodeError):
        return None
