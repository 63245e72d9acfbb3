"""Dynamic updates: a set of records is added where there is none. RFC 2136, RFC 8945.

One message for each set, with the prerequisite that the name has no records of that kind: nothing
that is published already is ever replaced.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import dns.asyncquery
import dns.exception
import dns.name
import dns.rcode
import dns.tsig
import dns.update

from postroom.core.errors import DnsFailed, Malformed
from postroom.net.dns.servers import Server

PATIENCE: Final = 10.0
"""Seconds for one message and its answer."""
_KEY_MOST: Final = 8_192
_BLOCK: Final = re.compile(r'key\s++"?([A-Za-z0-9._\-]{1,253}+)"?\s*+\{([^{}]*+)\}')
_ALGORITHM: Final = re.compile(r'algorithm\s++"?([A-Za-z0-9.\-]{1,64}+)"?\s*+;')
_SECRET: Final = re.compile(r'secret\s++"([A-Za-z0-9+/=]++)"\s*+;')
_ALGORITHMS: Final = frozenset({"hmac-sha256", "hmac-sha384", "hmac-sha512"})


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A secret that we share with the server."""

    name: str
    algorithm: str
    secret: str = field(repr=False)  # base64


def read_key(text: str) -> TsigKey:
    """The key in a file as tsig-keygen writes it. Raises Malformed."""
    block = _BLOCK.search(text[:_KEY_MOST])
    algorithm = _ALGORITHM.search(block[2]) if block is not None else None
    secret = _SECRET.search(block[2]) if block is not None else None
    if block is None or algorithm is None or secret is None:
        raise Malformed('This is no key: it looks as tsig-keygen writes it, key "NAME" { … };')
    if algorithm[1].lower() not in _ALGORITHMS:
        raise Malformed(f"A key is for one of {', '.join(sorted(_ALGORITHMS))}")
    try:
        binascii.a2b_base64(secret[1], strict_mode=True)
    except binascii.Error as error:
        raise Malformed("The secret of the key is no base64") from error
    return TsigKey(block[1], algorithm[1].lower(), secret[1])


class Outcome(StrEnum):
    """What became of a set."""

    ADDED = "added"
    THERE = "there already"
    REFUSED = "refused"


async def add_set(
    server: Server,
    zone: str,
    owner: str,
    kind: str,
    records: Sequence[tuple[int, str]],
    key: TsigKey | None,
    seconds: float = PATIENCE,
) -> tuple[Outcome, str]:
    """Add records (TTL, data as in a zone file) of one name and kind, if it has none.

    Returns what became of it, and the server's code. Names are without a dot at the end. Raises
    DnsFailed if the server does not answer, or not with the key.
    """
    message = dns.update.UpdateMessage(f"{zone}.")
    name = dns.name.from_text(f"{owner}.")
    message.absent(name, kind)
    for ttl, data in records:
        message.add(name, ttl, kind, data)
    if key is not None:
        secret = binascii.a2b_base64(key.secret)
        message.use_tsig(dns.tsig.Key(key.name, secret, key.algorithm))
    try:
        answer = await dns.asyncquery.tcp(message, str(server.ip), seconds, server.port)
    except (dns.exception.DNSException, OSError, EOFError) as error:
        told = f"{server}: {type(error).__name__}: {error}"
        raise DnsFailed(f"The server {server} took no update", detail=told) from error
    code = dns.rcode.to_text(answer.rcode())
    match answer.rcode():
        case dns.rcode.NOERROR:
            return Outcome.ADDED, code
        case dns.rcode.YXRRSET:
            return Outcome.THERE, code
    return Outcome.REFUSED, code
