"""Key records: what DNS says about a selector. RFC 6376 §3.6.1, RFC 8301 §3.2, RFC 8463 §4."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from postroom.core.errors import Malformed
from postroom.trust.dkim import tags

RSA_LEAST: Final = 1024
RSA_MOST: Final = 4096
"""Bits of an RSA key that may vouch for anything; more than the most costs us too much."""
_EXPONENT_MOST: Final = 1 << 32
_ED25519: Final = 32  # octets
_RECORD_MAX: Final = 8_192
_PADDING: Final = PKCS1v15()
_HASHED: Final = Prehashed(SHA256())

Public = RSAPublicKey | Ed25519PublicKey


class BadKey(Malformed):
    """A record that is no key, or none that may be used; its sentence says why."""

    sentence = "The key record cannot be understood"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as its domain published it."""

    kind: str  # rsa, ed25519
    public: Public = field(repr=False)
    bits: int
    testing: bool  # t=y
    strict: bool  # t=s: i= is in d= itself, not below it

    def holds(self, signature: bytes, digest: bytes) -> bool:
        """Whether this is a signature over that SHA-256 hash. RFC 6376 §3.3.1, RFC 8463 §3."""
        try:
            if isinstance(self.public, RSAPublicKey):
                self.public.verify(signature, digest, _PADDING, _HASHED)
            else:
                self.public.verify(signature, digest)
        except InvalidSignature:
            return False
        return True


def read(octets: bytes) -> Key:
    """The key in a TXT record; raises BadKey."""
    if len(octets) > _RECORD_MAX:
        raise BadKey("The key record is too long")
    try:
        found = tags.read(octets)
        material = tags.base64_of(found["p"]) if "p" in found else None
    except tags.BadTags as error:
        raise BadKey(f"The key record cannot be understood: {error}") from error
    if "v" in found and (found["v"] != "DKIM1" or next(iter(found)) != "v"):
        raise BadKey("The key record is of another version")
    if material is None:
        raise BadKey("The key record holds no key")
    if not material:
        raise BadKey("The key was revoked")
    if "sha256" not in tags.listed(found.get("h", "sha256")):
        raise BadKey("The key is for other hashes than SHA-256")
    if not {"*", "email"} & set(tags.listed(found.get("s", "*"))):
        raise BadKey("The key is not for mail")
    flags = tags.listed(found.get("t", ""))
    kind = found.get("k", "rsa")
    public, bits = _public(kind, material)
    return Key(kind, public, bits, "y" in flags, "s" in flags)


def _public(kind: str, material: bytes) -> tuple[Public, int]:
    if kind == "ed25519":
        if len(material) != _ED25519:
            raise BadKey("The Ed25519 key has not 32 octets")
        return Ed25519PublicKey.from_public_bytes(material), 8 * _ED25519
    if kind != "rsa":
        raise BadKey("The key is of an unknown kind")
    try:
        # SubjectPublicKeyInfo as most publish it, or RSAPublicKey as the RFC says.
        public = load_der_public_key(material)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey("The RSA key is malformed", detail=str(error)[:200]) from error
    if not isinstance(public, RSAPublicKey):
        raise BadKey("The RSA key is none")
    if public.key_size < RSA_LEAST:
        raise BadKey(f"The RSA key has but {public.key_size} bits")
    if public.key_size > RSA_MOST or public.public_numbers().e > _EXPONENT_MOST:
        raise BadKey("The RSA key is too large")
    return public, public.key_size
