"""Signing in elsewhere: the client side of each mechanism, and which one to use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from postroom.wire.sasl.passwords import LOGIN, PLAIN, Plain
from postroom.wire.sasl.scram import PLUS, SCRAM_SHA_256, ScramClient


class Client(Protocol):
    """The client's side of one exchange, the same for every mechanism."""

    name: str
    """As SASL knows it, in upper case."""
    done: bool
    """All was said and heard. A server that says yes before is not to be believed: it may not
    know the password. RFC 5802 §3."""
    problem: str
    """Why the client cancelled, for the log."""

    def start(self) -> bytes | None:
        """The initial response; None where the server speaks first. RFC 4422 §3.3."""
        ...

    def step(self, challenge: bytes) -> bytes | None:
        """The response to a challenge; None cancels. May block: see ScramClient."""
        ...


class PlainClient:
    """RFC 4616. Only over TLS: the password is said."""

    __slots__ = ("_message", "done", "name", "problem")

    def __init__(self, login: str, password: str, *, authzid: str = "") -> None:
        """Raises Malformed for what PLAIN cannot say."""
        self.name = PLAIN
        self.done = False
        self.problem = ""
        self._message = Plain(authzid, login, password).render()

    def start(self) -> bytes | None:
        self.done = True
        return self._message

    def step(self, challenge: bytes) -> bytes | None:
        self.problem = "the server asks for more than PLAIN says"
        return None


class LoginClient:
    """draft-murchison-sasl-login. Only over TLS: the password is said."""

    __slots__ = ("_answers", "done", "name", "problem")

    def __init__(self, login: str, password: str) -> None:
        self.name = LOGIN
        self.done = False
        self.problem = ""
        # In this order, whatever the prompts say: servers word them as they like.
        self._answers = [password.encode(), login.encode()]

    def start(self) -> bytes | None:
        return None

    def step(self, challenge: bytes) -> bytes | None:
        if self.done:
            self.problem = "the server asks for more than LOGIN says"
            return None
        answer = self._answers.pop()
        self.done = not self._answers
        return answer


_SCRAM: Final = (SCRAM_SHA_256, "SCRAM-SHA-1")  # strongest first


def choose(
    offered: Iterable[str], login: str, password: str, nonce: str, *, binding: bytes = b""
) -> Client | None:
    """The strongest mechanism that a server offers and we speak, over TLS; None if there is none.

    `nonce` and `binding` are ScramClient's. Raises Malformed for a name or password that the
    mechanism cannot say.
    """
    names = {name.upper() for name in offered}
    for name in _SCRAM:
        if binding and name + PLUS in names:
            return ScramClient(name + PLUS, login, password, nonce, binding=binding)
        if name in names:
            return ScramClient(name, login, password, nonce, binding=binding)
    if PLAIN in names:
        return PlainClient(login, password)
    if LOGIN in names:
        return LoginClient(login, password)
    return None
