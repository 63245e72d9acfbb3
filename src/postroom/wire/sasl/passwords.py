"""The mechanisms that say the password: PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import Malformed
from postroom.wire.sasl.limits import LONGEST, text_of

PLAIN: Final = "PLAIN"
LOGIN: Final = "LOGIN"

# What all servers say; the draft's own texts, "User Name" and "Password" with a NUL, few do.
USERNAME_PROMPT: Final = b"Username:"
PASSWORD_PROMPT: Final = b"Password:"

_PARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Plain:
    """PLAIN's one message. RFC 4616 §2."""

    authzid: str  # whom to act as; empty: oneself
    login: str
    password: str = field(repr=False)

    def render(self) -> bytes:
        """Raises Malformed for what the message cannot hold."""
        message = "\0".join((self.authzid, self.login, self.password))
        if message.count("\0") != _PARTS - 1:
            raise Malformed("A name or password holds no NUL")
        return message.encode("utf-8")


def parse_plain(message: bytes) -> Plain:
    """`[authzid] NUL authcid NUL passwd`; raises Malformed. An empty name or password is left to
    whoever judges them: to say that it is wrong. RFC 4616 §2.
    """
    if len(message) > LONGEST:
        raise Malformed(f"A SASL message has at most {LONGEST} octets")
    parts = message.split(b"\0", _PARTS)
    if len(parts) != _PARTS:
        raise Malformed("This is no PLAIN response")
    try:
        authzid, login, password = (part.decode("utf-8") for part in parts)
    except UnicodeDecodeError:
        raise Malformed("A PLAIN response is UTF-8") from None
    return Plain(authzid, login, password)


def parse_answer(message: bytes) -> str:
    """The answer to one of LOGIN's prompts; raises Malformed."""
    return text_of(message)
