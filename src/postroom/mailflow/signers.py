"""Private signing keys, opened and ready: what a worker holds of them, in memory alone."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from postroom.core.errors import Malformed
from postroom.core.secrets import Keyring
from postroom.domain import signing
from postroom.domain.signing import SigningKey
from postroom.trust import dkim
from postroom.trust.dkim import sign as trust

MOST_KEYS: Final = 2_000
"""Keys that are held open."""


class Signers:
    """Of one worker. A key that was sealed anew is opened anew."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, dkim.SigningKey]] = {}

    def of(self, secrets: Keyring, key: SigningKey) -> dkim.SigningKey:
        """Raises SecretUnreadable, Malformed."""
        known = self._open.get(key.id)
        if known is not None and known[0] == key.private:
            return known[1]
        text = secrets.open(key.private, signing.secret_of(key.id))
        try:
            octets = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise Malformed("A signing key is damaged", detail=key.selector) from error
        made = trust.load(key.domain, key.selector, key.kind, octets)
        if len(self._open) >= MOST_KEYS:
            self._open.clear()
        self._open[key.id] = (key.private, made)
        return made
