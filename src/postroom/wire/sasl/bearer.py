"""The mechanisms that show what others vouch by: OAUTHBEARER (RFC 7628), XOAUTH2, EXTERNAL.

XOAUTH2 is no standard: it is what OAUTHBEARER was made from, and what many clients speak alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import Malformed
from postroom.wire.sasl.limits import FIELDS_MOST, text_of
from postroom.wire.sasl.scram_messages import parse_name, render_name

OAUTHBEARER: Final = "OAUTHBEARER"
XOAUTH2: Final = "XOAUTH2"
EXTERNAL: Final = "EXTERNAL"

UNDERSTOOD: Final = b"\x01"
"""What a client says to the challenge that tells it why its token was refused. RFC 7628 §3.2.3."""

_PART: Final = "\x01"  # kvsep
_SCHEME: Final = "bearer"


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token, and whom its bearer says to be; empty: whom the token names."""

    login: str
    token: str = field(repr=False)

    def oauthbearer(self, host: str = "", port: int = 0) -> bytes:
        """The client's message. RFC 7628 §3.1. Raises Malformed for what it cannot hold."""
        told = {"host": host, "port": str(port) if port else "", "auth": f"Bearer {self.token}"}
        pairs = [f"{key}={value}" for key, value in told.items() if value]
        name = f"a={render_name(self.login)}" if self.login else ""
        return _joined(f"n,{name},", *pairs)

    def xoauth2(self) -> bytes:
        """The client's message. Raises Malformed for what it cannot hold."""
        return _joined(f"user={self.login}", f"auth=Bearer {self.token}")


def _joined(*parts: str) -> bytes:
    if any(_PART in part or "\0" in part for part in parts):
        raise Malformed("A name or token holds no control character")
    return (_PART.join(parts) + _PART + _PART).encode()


def parse_oauthbearer(message: bytes) -> Bearer:
    """`n,a=ann@a.example,^Ahost=…^Aauth=Bearer …^A^A`. RFC 7628 §3.1; raises Malformed.

    Host and port are what the client dialled: nothing here follows from them.
    """
    text = text_of(message)
    header, mark, rest = text.partition(_PART)
    flag, comma, named = header.partition(",")
    if not mark or not comma or flag not in ("n", "y") or not named.endswith(","):
        raise Malformed("An OAUTHBEARER response begins with a gs2 header")
    named = named[:-1]
    if named and not named.startswith("a="):
        raise Malformed("A gs2 header holds nothing but a name")
    return _bearer(parse_name(named[2:]) if named else "", _pairs(rest))


def parse_xoauth2(message: bytes) -> Bearer:
    """`user=ann@a.example^Aauth=Bearer …^A^A`; raises Malformed."""
    pairs = _pairs(text_of(message))
    return _bearer(pairs.get("user", ""), pairs)


def _pairs(text: str) -> dict[str, str]:
    if not text.endswith(_PART * 2):
        raise Malformed("The response does not end as it should")
    pairs: dict[str, str] = {}
    parts = text[:-2].split(_PART, FIELDS_MOST)
    if len(parts) > FIELDS_MOST:
        raise Malformed(f"The response has at most {FIELDS_MOST} fields")
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.isascii() or not key.isalpha():
            raise Malformed("A field of the response is a name and a value")
        if key.lower() in pairs:
            raise Malformed("A field of the response comes twice")
        pairs[key.lower()] = value
    return pairs


def _bearer(login: str, pairs: dict[str, str]) -> Bearer:
    scheme, _, token = pairs.get("auth", "").partition(" ")
    token = token.strip()
    if scheme.lower() != _SCHEME or not token or not token.isascii() or not token.isprintable():
        raise Malformed("The response brings no bearer token")
    return Bearer(login, token)


def refusal(*, scope: str = "", configuration: str = "") -> bytes:
    """The challenge that says that a token is no good, and where to get one. RFC 7628 §3.2.2."""
    told = {"status": "invalid_token", "scope": scope, "openid-configuration": configuration}
    return json.dumps({key: value for key, value in told.items() if value}).encode()


def xoauth2_refusal(scope: str = "") -> bytes:
    """The same, as XOAUTH2 says it."""
    return json.dumps({"status": "401", "schemes": _SCHEME, "scope": scope}).encode()


def parse_external(message: bytes) -> str:
    """Whom to act as; empty: whom the channel names. RFC 4422 Appendix A; raises Malformed."""
    return text_of(message)


class BearerClient:
    """The client's side of OAUTHBEARER and XOAUTH2. Only over TLS: the token is said."""

    __slots__ = ("_message", "done", "name", "problem")

    def __init__(self, name: str, bearer: Bearer) -> None:
        """Raises Malformed for what the mechanism cannot say."""
        self.name = name
        self.done = False
        self.problem = ""
        self._message = bearer.oauthbearer() if name == OAUTHBEARER else bearer.xoauth2()

    def start(self) -> bytes | None:
        self.done = True
        return self._message

    def step(self, challenge: bytes) -> bytes | None:
        """The server says why not; what is said to that lets it end the exchange."""
        self.done = False
        self.problem = challenge[:500].decode("utf-8", "replace")
        return UNDERSTOOD if self.name == OAUTHBEARER else b""


class ExternalClient:
    """The client's side of EXTERNAL: the channel says who it is. RFC 4422 Appendix A."""

    __slots__ = ("_acting", "done", "name", "problem")

    def __init__(self, acting: str = "") -> None:
        self.name = EXTERNAL
        self.done = False
        self.problem = ""
        self._acting = acting

    def start(self) -> bytes | None:
        self.done = True
        return self._acting.encode()

    def step(self, challenge: bytes) -> bytes | None:
        self.problem = "the server asks for more than EXTERNAL says"
        return None
