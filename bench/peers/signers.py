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

dkimpy: Any = None
if find_spec("dkim") is not None:  # it serves tests, and need not be here
    dkimpy = import_module("dkim")

DOMAIN: Final = "bench.example"
SELECTOR: Final = "bench"
_NOW: Final = 1_700_000_000


class OurSigner(Disc):
    """`postroom.trust.dkim`, with an RSA key."""

    name = "our dkim"

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._public = keys.read(_SIGNER.record.encode())

    def stop(self) -> None:
        """The loop ends."""
        self._runner.close()

    def sign(self, content: bytes) -> bytes:
        """The signature field."""
        return _SIGNER.sign(content, _NOW)

    def verify(self, content: bytes) -> bool:
        """Whether the first signature holds."""
        found = headers.scan(content)
        read = trust.signatures(found, _NOW)
        body = trust.hasher(read)
        body.feed_from(content, found.end)
        body.finish()
        results = self._runner.run(trust.verify(found, read, body, self._key_of))
        return results[0].code == trust.DkimCode.PASS

    async def _key_of(self, name: str) -> trust.Key | trust.BadKey:
        return self._public


class Dkimpy(Disc):
    """The library of others, with the same key."""

    name = "dkimpy"

    def missing(self) -> str | None:
        return None if dkimpy is not None else "dkimpy is not installed"

    def sign(self, content: bytes) -> bytes:
        """The signature field."""
        made: bytes = dkimpy.sign(
            content,
            SELECTOR.encode(),
            DOMAIN.encode(),
            _PEM,
            canonicalize=(b"relaxed", b"relaxed"),
        )
        return made

    def verify(self, content: bytes) -> bool:
        """Whether the first signature holds."""
        return bool(dkimpy.verify(content, dnsfunc=self._text))

    def _text(self, name: Any, timeout: int = 5) -> bytes:
        return _SIGNER.record.encode()


_SIGNER: Final = Signer.make(DOMAIN, SELECTOR)
_PEM: Final = (
    b"-----BEGIN PRIVATE KEY-----\n"
    + base64.encodebytes(_SIGNER.private)
    + b"-----END PRIVATE KEY-----\n"
)
