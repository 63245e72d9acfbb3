"""What signs and verifies DKIM: our own code and dkimpy, both in this process."""

from __future__ import annotations

import asyncio
import base64
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from bench.load.signer import Signer
from bench.peers.disc import Disc
from postroom.formats import headers
from postroom.trust import dkim as trust
from postroom.trust.dkim import key as keys
from postroom.trust.dkim.signature import key_name

dkimpy: Any = None
if find_spec("dkim") is not None:  # it is locked for tests, and need not be here
    dkimpy = import_module("dkim")

DOMAIN: Final = "bench.example"
_NOW: Final = 1_700_000_000
_LATER: Final = 4_000_000_000  # dkimpy signs by its own clock, which is before this


class OurSigner(Disc):
    """`postroom.trust.dkim`, with a key of each kind."""

    name = "our dkim"

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._public = {
            key_name(DOMAIN, each.selector): keys.read(each.record.encode())
            for each in _SIGNERS.values()
        }

    def stop(self) -> None:
        """The loop ends."""
        self._loop.close()

    def sign(self, kind: str, content: bytes) -> bytes:
        """The signature field."""
        return _SIGNERS[kind].sign(content, _NOW)

    def verify(self, content: bytes) -> bool:
        """Whether the first signature holds."""
        found = headers.scan(content)
        read = trust.signatures(found, _LATER)
        body = trust.hasher(read)
        body.feed_from(content, found.end)
        body.finish()
        checked = trust.verify(found, read, body, self._key_of)
        results = self._loop.run_until_complete(checked)
        return results[0].code == trust.DkimCode.PASS

    async def _key_of(self, name: str) -> trust.Key | trust.BadKey:
        return self._public[name]


class Dkimpy(Disc):
    """The library of others, with the same keys."""

    name = "dkimpy"

    def missing(self) -> str | None:
        if dkimpy is None or find_spec("nacl") is None:
            return "dkimpy, or its part for Ed25519, is not installed; `make setup` does that"
        return None

    def sign(self, kind: str, content: bytes) -> bytes:
        """The signature field."""
        made: bytes = dkimpy.sign(
            content,
            _SIGNERS[kind].selector.encode(),
            DOMAIN.encode(),
            _PRIVATE[kind],
            canonicalize=(b"relaxed", b"relaxed"),
            signature_algorithm=f"{kind}-sha256".encode(),
        )
        return made

    def verify(self, content: bytes) -> bool:
        """Whether the first signature holds."""
        return bool(dkimpy.verify(content, dnsfunc=self._text))

    def _text(self, name: Any, timeout: int = 5) -> bytes:
        asked = name.decode() if isinstance(name, bytes) else str(name)
        return _RECORDS[asked.rstrip(".")]


_SIGNERS: Final = {kind: Signer.make(DOMAIN, f"bench-{kind}", kind) for kind in trust.KINDS}
_RECORDS: Final = {
    key_name(DOMAIN, each.selector): each.record.encode() for each in _SIGNERS.values()
}
_SEED: Final = 32
"""Octets of an Ed25519 key, at the end of its PKCS #8: RFC 8410 §7."""
_PRIVATE: Final = {
    trust.RSA: (
        b"-----BEGIN PRIVATE KEY-----\n"
        + base64.encodebytes(_SIGNERS[trust.RSA].private)
        + b"-----END PRIVATE KEY-----\n"
    ),
    trust.ED25519: base64.b64encode(_SIGNERS[trust.ED25519].private[-_SEED:]),
}
"""As dkimpy wants them."""
