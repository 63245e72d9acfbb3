"""Passwords: how they are compared, which are taken, and the verifiers that are kept.

A password is prepared by the OpaqueString profile, so that the same keys give the same octets
on every keyboard. RFC 8265 §4.2. Two verifiers are kept of each: Argon2id for who says it, and
SCRAM's for who proves it unsaid. Everything that hashes here blocks: call it from a thread.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import random
import unicodedata
from dataclasses import dataclass
from typing import Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from postroom.access.settings import SCRAM_ITERATIONS, AccessSettings
from postroom.core.errors import Corrupt, Malformed, NotAllowed
from postroom.domain.directory.people import Verifiers
from postroom.wire.sasl import Verifier, parse_verifier, password_octets

LONGEST: Final = 1024
"""Octets of a password: RFC 4616 §2 allows as many, and no person types more."""

_SALT: Final = 16
"""Octets of a salt. RFC 9106 §3.1."""

_ALPHABET: Final = "23456789abcdefghjkmnpqrstvwxyz"  # no 0, 1, i, l, o, u: read aloud with ease
_GROUPS: Final = 4
_GROUP: Final = 5

# What the FreeformClass disallows: controls, surrogates, private use, unassigned, and format
# characters but for the two joiners. RFC 8264 §4.3.
_REFUSED: Final = frozenset(("Cc", "Cs", "Co", "Cn", "Cf", "Zl", "Zp"))
_JOINERS: Final = frozenset(("\u200c", "\u200d"))


@dataclass(frozen=True, slots=True)
class Cost:
    """What verifiers cost. RFC 9106 §3.1, RFC 5802 §3."""

    memory: int  # KiB
    passes: int
    lanes: int
    iterations: int = SCRAM_ITERATIONS

    @classmethod
    def of(cls, settings: AccessSettings) -> Cost:
        return cls(
            settings.hash_memory,
            settings.hash_passes,
            settings.hash_lanes,
            settings.scram_iterations,
        )


_DEFAULTS: Final = AccessSettings()
DEFAULT_COST: Final = Cost.of(_DEFAULTS)


def prepare(password: str | bytes) -> bytes:
    """The octets that are hashed; raises Malformed for what no password can be."""
    if isinstance(password, bytes):
        try:
            password = password.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed("A password is UTF-8") from error
    if not password:
        raise Malformed("A password is not empty")
    # Counted first: nobody makes us normalise a megabyte.
    if len(password) > LONGEST:
        raise Malformed(f"A password has at most {LONGEST} octets")
    if not password.isascii():
        spaced = (" " if unicodedata.category(c) == "Zs" else c for c in password)
        password = unicodedata.normalize("NFC", "".join(spaced))
    if not (password.isascii() and password.isprintable()):
        for character in password:
            if unicodedata.category(character) in _REFUSED and character not in _JOINERS:
                raise Malformed("A password holds no control characters")
    octets = password.encode()
    if len(octets) > LONGEST:
        raise Malformed(f"A password has at most {LONGEST} octets")
    return octets


def check_strength(password: str, local: str, settings: AccessSettings = _DEFAULTS) -> None:
    """Raises NotAllowed for a new password that is too short or holds its owner's name."""
    prepared = prepare(password).decode()
    if len(prepared) < settings.password_length:
        raise NotAllowed(f"A password has at least {settings.password_length} characters")
    name = unicodedata.normalize("NFC", local).casefold()
    # A name of one or two letters is in many a good password.
    if settings.password_without_name and len(name) > 2 and name in prepared.casefold():
        raise NotAllowed("A password does not hold the name of its account")


def _hasher(cost: Cost) -> argon2.PasswordHasher:
    return argon2.PasswordHasher(
        time_cost=cost.passes, memory_cost=cost.memory, parallelism=cost.lanes
    )


def make_secret(password: str | bytes, cost: Cost = DEFAULT_COST) -> Verifiers:
    """The verifiers of a password; raises Malformed. Blocks for tens of milliseconds.

    Argon2id in PHC form: RFC 9106 §5.3. SCRAM-SHA-256: RFC 5803 §2.
    """
    prepared = prepare(password)
    octets = password_octets(prepared.decode())
    scram = Verifier.of(octets, os.urandom(_SALT), cost.iterations)
    return Verifiers(_hasher(cost).hash(prepared), scram.text())


def decoy(cost: Cost) -> str:
    """A verifier of no password at all, which costs as much: nobody tells who is unknown."""
    salt, tag = (base64.b64encode(os.urandom(n)).decode().rstrip("=") for n in (_SALT, 32))
    return f"$argon2id$v=19$m={cost.memory},t={cost.passes},p={cost.lanes}${salt}${tag}"


def scram_decoy(key: bytes, login: str, cost: Cost) -> str:
    """A SCRAM verifier of no password at all: a login that nobody has keeps its salt as others
    do. `key` is the house's. RFC 5802 §5.1 has the server show the salt before any proof.
    """
    name = login.encode("utf-8", "surrogatepass")
    salt, stored, server = (
        hmac.digest(key, b"%s\0%s" % (what, name), hashlib.sha256)
        for what in (b"salt", b"stored key", b"server key")
    )
    return Verifier(cost.iterations, salt[:_SALT], stored, server).text()


def verify(secret: str, prepared: bytes) -> bool:
    """Whether this is the password; raises Corrupt for a damaged verifier. Blocks."""
    try:
        return argon2.PasswordHasher().verify(secret, prepared)
    except VerifyMismatchError:
        return False
    except (InvalidHashError, VerificationError) as error:
        raise Corrupt(detail=f"a verifier cannot be read: {error}") from error


def is_stale(secret: str, scram: str | None, cost: Cost) -> bool:
    """Whether a verifier was made at another cost than today's, or SCRAM's is damaged or was not
    made; raises Corrupt if the other one is damaged."""
    try:
        if scram is None or parse_verifier(scram).iterations != cost.iterations:
            return True
    except Corrupt:
        return True
    try:
        return _hasher(cost).check_needs_rehash(secret)
    except InvalidHashError as error:
        raise Corrupt(detail=f"a verifier cannot be read: {error}") from error


def random_password(source: random.Random | None = None) -> str:
    """A password of 98 bits, in groups that can be read aloud. `source` must be a secure one."""
    source = source if source is not None else random.SystemRandom()
    groups = ("".join(source.choices(_ALPHABET, k=_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)
