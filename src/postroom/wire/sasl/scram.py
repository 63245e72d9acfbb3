"""SCRAM's exchange, one class for each side. RFC 5802, RFC 7677.

The channel is bound by tls-server-end-point: a hash of the server's certificate, which both
ends of TLS know and whoever sits between two connections cannot make equal. RFC 5929 §4.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Final

from postroom.core.errors import MailError, Malformed, NotAuthenticated
from postroom.wire.sasl.limits import ITERATIONS_LEAST
from postroom.wire.sasl.saslprep import password_octets, saslprep
from postroom.wire.sasl.scram_messages import (
    ClientFinal,
    ClientFirst,
    ServerFinal,
    ServerFirst,
    parse_client_final,
    parse_server_final,
    parse_server_first,
)
from postroom.wire.sasl.verifier import (
    HASHES,
    Verifier,
    client_key,
    salted_password,
    server_key,
)

SCRAM_SHA_256: Final = "SCRAM-SHA-256"
SCRAM_SHA_256_PLUS: Final = "SCRAM-SHA-256-PLUS"
BINDING: Final = "tls-server-end-point"
PLUS: Final = "-PLUS"


class BindingMismatch(NotAuthenticated):
    """The two ends do not see one TLS channel, or what was offered was tampered with."""


class ScramServer:
    """The server's side of one exchange, once the client's first message is read.

    `plus` says that the client chose the mechanism with -PLUS, `binding` is the channel's data;
    empty where there is none, and -PLUS was not offered. Raises BindingMismatch.
    """

    __slots__ = ("_bound", "_first", "_nonce", "_said", "_verifier")

    def __init__(self, first: ClientFirst, *, plus: bool, binding: bytes) -> None:
        _agree(first, plus=plus, binding=binding)
        self._first = first
        self._bound = first.header + (binding if first.flag == "p" else b"")
        self._nonce = ""
        self._said = b""
        self._verifier: Verifier | None = None

    def challenge(self, verifier: Verifier, nonce: str) -> bytes:
        """The server's first message; `nonce` is random, visible ASCII without commas."""
        self._verifier = verifier
        self._nonce = self._first.nonce + nonce
        self._said = ServerFirst(self._nonce, verifier.salt, verifier.iterations).render()
        return self._said

    def finish(self, message: bytes) -> bytes | None:
        """The server's final message for the client's; None if it does not prove the password.

        Raises Malformed, BindingMismatch. RFC 5802 §3.
        """
        verifier = self._verifier
        if verifier is None:
            raise RuntimeError("no challenge was made")
        final = parse_client_final(message)
        if not hmac.compare_digest(final.binding, self._bound):
            raise BindingMismatch(detail="the channel binding is another one")
        if not hmac.compare_digest(final.nonce, self._nonce):
            return None  # another exchange's: a replay
        signed = b",".join((self._first.bare, self._said, final.unproven))
        signature = hmac.digest(verifier.stored_key, signed, verifier.hash_name)
        if len(final.proof) != len(signature):
            return None
        key = hashlib.new(verifier.hash_name, _xor(final.proof, signature)).digest()
        if not hmac.compare_digest(key, verifier.stored_key):
            return None
        said = hmac.digest(verifier.server_key, signed, verifier.hash_name)
        return ServerFinal(said).render()


def _agree(first: ClientFirst, *, plus: bool, binding: bytes) -> None:
    """Whether flag and mechanism fit to what we offered. RFC 5802 §6."""
    if plus != (first.flag == "p"):
        raise BindingMismatch(detail=f"the flag {first.flag} does not fit the mechanism")
    if first.flag == "p":
        if first.binding != BINDING:
            raise BindingMismatch(detail=f"the binding {first.binding} is not offered")
        if not binding:
            raise BindingMismatch(detail="this channel cannot be bound")
    elif first.flag == "y" and binding:
        # It could bind and saw no -PLUS, which was there: somebody between us took it out.
        raise BindingMismatch(detail="the offer of channel binding was taken out on the way")


class ScramClient:
    """The client's side of one exchange: see `Client`.

    `nonce` is random, visible ASCII without commas; `binding` the channel's data, empty where
    there is none. Raises Malformed for a name that cannot be prepared.
    """

    __slots__ = ("_bound", "_expected", "_first", "_password", "done", "name", "problem")

    def __init__(
        self,
        name: str,
        login: str,
        password: str,
        nonce: str,
        *,
        authzid: str = "",
        binding: bytes = b"",
    ) -> None:
        self.name = name
        self.done = False  # the server has proved that it knows the password too
        self.problem = ""
        plus = name.endswith(PLUS)
        if plus and not binding:
            raise ValueError("a channel that cannot be bound")
        flag = "p" if plus else "y" if binding else "n"
        own = saslprep(login)
        self._first = ClientFirst.of(flag, BINDING if plus else "", authzid, own, nonce)
        self._bound = self._first.header + (binding if plus else b"")
        self._password = password_octets(password)
        self._expected: bytes | None = None

    def start(self) -> bytes | None:
        """The client's first message."""
        return self._first.render()

    def step(self, challenge: bytes) -> bytes | None:
        """The client's proof; then, once the server has proved itself, nothing more to say.

        Blocks for as long as the server's iteration count says: 1 s at most. RFC 5802 §3.
        """
        try:
            if self._expected is None:
                return self._prove(challenge)
            self._check(challenge)
        except MailError as error:
            self.problem = error.detail or str(error)
            return None
        return b""

    def _check(self, challenge: bytes) -> None:
        if self.done:
            raise Malformed("The exchange is over")
        final = parse_server_final(challenge)
        if final.error:
            raise NotAuthenticated(detail=f"the server says {final.error[:100]!a}")
        if not hmac.compare_digest(final.signature, self._expected or b""):
            raise NotAuthenticated(detail="the server does not know the password")
        self.done = True

    def _prove(self, challenge: bytes) -> bytes:
        said = parse_server_first(challenge)
        own = self._first.nonce
        if not said.nonce.startswith(own) or len(said.nonce) == len(own):
            raise Malformed("The server's nonce does not follow ours")
        if said.iterations < ITERATIONS_LEAST:
            raise Malformed(f"An iteration count is at least {ITERATIONS_LEAST}")
        name = HASHES[self.name.removesuffix(PLUS)]
        final = ClientFinal.of(self._bound, said.nonce)
        signed = b",".join((self._first.bare, challenge, final.unproven))
        salted = salted_password(self._password, said.salt, said.iterations, name)
        key = client_key(salted, name)
        signature = hmac.digest(hashlib.new(name, key).digest(), signed, name)
        self._expected = hmac.digest(server_key(salted, name), signed, name)
        return replace(final, proof=_xor(key, signature)).render()


def _xor(left: bytes, right: bytes) -> bytes:
    """Of two strings of one length."""
    mixed = int.from_bytes(left) ^ int.from_bytes(right)
    return mixed.to_bytes(len(left))
