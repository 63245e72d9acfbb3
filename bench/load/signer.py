"""A DKIM key that a load can be signed with, in whichever process it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from postroom.formats import headers
from postroom.trust import dkim as trust
from postroom.trust.dkim import sign as signing


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key, Ed25519 or RSA of 2,048 bits, as PKCS #8."""

    domain: str
    selector: str
    private: bytes = field(repr=False)
    kind: str = trust.RSA

    @classmethod
    def make(cls, domain: str, selector: str, kind: str = trust.RSA) -> Signer:
        return cls(domain, selector, signing.make_key(kind), kind)

    @property
    def record(self) -> str:
        """What DNS says of it."""
        return signing.record(self.kind, self.private)

    def sign(self, content: bytes, now: int = 1_700_000_000) -> bytes:
        """The signature field."""
        found = headers.scan(content)
        body = signing.hash_body([content[found.end :]])
        return signing.sign(found, body, [_loaded(self)], (), now)


@cache
def _loaded(signer: Signer) -> signing.SigningKey:
    return signing.load(signer.domain, signer.selector, signer.kind, signer.private)
