"""What a server keeps of a password for SCRAM: it proves, and it cannot be turned back."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import Corrupt
from postroom.wire.sasl.limits import ITERATIONS_MOST, SALT_MOST

HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}
"""Mechanism names, without -PLUS, and what hashlib calls their hash."""

_SIZES: Final = {"sha256": 32, "sha1": 20}


def salted_password(password: bytes, salt: bytes, iterations: int, hash_name: str) -> bytes:
    """Hi(password, salt, i), which is PBKDF2. RFC 5802 §2.2. Blocks; releases the interpreter."""
    return hashlib.pbkdf2_hmac(hash_name, password, salt, iterations)


def client_key(salted: bytes, hash_name: str) -> bytes:
    """RFC 5802 §3."""
    return hmac.digest(salted, b"Client Key", hash_name)


def server_key(salted: bytes, hash_name: str) -> bytes:
    """RFC 5802 §3."""
    return hmac.digest(salted, b"Server Key", hash_name)


@dataclass(frozen=True, slots=True)
class Verifier:
    """RFC 5802 §3, §5.1. Secret all the same: with it one can pretend to be the server."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    mechanism: str = "SCRAM-SHA-256"

    @classmethod
    def of(
        cls, password: bytes, salt: bytes, iterations: int, mechanism: str = "SCRAM-SHA-256"
    ) -> Verifier:
        """From what `password_octets` made of a password. Blocks for milliseconds."""
        name = HASHES[mechanism]
        salted = salted_password(password, salt, iterations, name)
        stored = hashlib.new(name, client_key(salted, name)).digest()
        return cls(iterations, salt, stored, server_key(salted, name), mechanism)

    @property
    def hash_name(self) -> str:
        return HASHES[self.mechanism]

    def text(self) -> str:
        """`scheme$iterations:salt$StoredKey:ServerKey`, as directories keep it. RFC 5803 §2."""
        salt, stored, server = (
            b64encode(octets).decode("ascii")
            for octets in (self.salt, self.stored_key, self.server_key)
        )
        return f"{self.mechanism}${self.iterations}:{salt}${stored}:{server}"


def parse_verifier(text: str) -> Verifier:
    """A verifier as it was kept; raises Corrupt. RFC 5803 §2."""
    try:
        mechanism, info, values = text.split("$")
        digits, salt_text = info.split(":")
        stored_text, server_text = values.split(":")
        name = HASHES[mechanism]
        salt, stored, server = (
            binascii.a2b_base64(part, strict_mode=True)
            for part in (salt_text, stored_text, server_text)
        )
        iterations = int(digits) if digits.isascii() and digits.isdigit() else 0
    except (ValueError, KeyError) as error:
        raise Corrupt(detail="a SCRAM verifier cannot be read") from error
    sized = len(stored) == len(server) == _SIZES[name] and 0 < len(salt) <= SALT_MOST
    if not sized or not 0 < iterations <= ITERATIONS_MOST:
        raise Corrupt(detail="a SCRAM verifier is out of its bounds")
    return Verifier(iterations, salt, stored, server, mechanism)
