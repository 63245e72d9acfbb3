"""Sealing what others wrote and we send on. RFC 8617 §5.1.

It is done where our own mail is signed: when the plan is made, over the very octets that the queue
then holds, and anew where a server makes us re-encode. What cannot be sealed goes without, and its
trace says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from postroom.core import metrics
from postroom.core.errors import MailError, Malformed
from postroom.domain import signing
from postroom.domain.facts import ArcFact
from postroom.domain.signing import SigningKey
from postroom.domain.transit import Protocol, Transit
from postroom.formats import headers
from postroom.formats.authres import AuthenticationResults, compose
from postroom.formats.headers import Headers
from postroom.mailflow import arc
from postroom.mailflow.arc_settings import ArcSettings
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import DkimSettings
from postroom.mailflow.signing import body_hash, pieces
from postroom.store.blobs import Form, Spool
from postroom.store.sql import Tx
from postroom.trust import arc as chains
from postroom.trust.arc import ArcCode
from postroom.trust.arc import seal as trust
from postroom.trust.dkim import sign

SEALED: Final = metrics.counter("arc.sealed", "messages", "Messages of others that were sealed")
UNSEALED: Final = metrics.counter(
    "arc.unsealed", "messages", "Messages of others that could not be sealed though there are keys"
)
_SIGNATURES: Final = "DKIM-Signature"
"""Of others; these are sealed too: RFC 8617 §4.1.2."""

_log: Final = structlog.get_logger("postroom.mailflow")


async def fields(
    house: MailHouse, transit: Transit, spool: Spool, form: Form, vouched: bytes
) -> bytes:
    """The set for a message in the form in which it leaves; empty if it is not sealed.

    `vouched` begins with the Authentication-Results that this message gets, if it gets one.
    """
    policy, parsed = transit.policy, transit.parsed
    if policy is None or parsed is None or not _passes_through(transit):
        return b""
    if not policy.of(ArcSettings).seal:
        return b""
    key = await house.mail.read(_key, _domains(house, transit))
    if key is None:
        return b""
    more = policy.of(DkimSettings).more_fields
    try:
        found = headers.scan(form.of(spool.head(parsed.header_size)))
        code = _code(found, transit)
        body = await body_hash(spool, parsed.header_size)
        made = _made(house, found, body, key, code, _results(house, vouched), more)
    except MailError as error:
        UNSEALED.add()
        _log.error("message not sealed", domain=key.domain, reason=str(error), detail=error.detail)
        transit.amended += (f"not sealed, as: {error}",)
        return b""
    SEALED.add()
    transit.amended += (f"sealed as {key.domain} with {key.selector}: the chain was {code.value}",)
    return made


def _passes_through(transit: Transit) -> bool:
    """Whether somebody else's server brought it. What is ours is signed."""
    return transit.visit.protocol is Protocol.SMTP and transit.visit.principal is None


def _domains(house: MailHouse, transit: Transit) -> list[str]:
    """In whose name it may be sealed: those that it came to on its way out, then our host."""
    came_to = [each.address.domain for each in transit.recipients if each.outside]
    labels = house.hostname.split(".")
    return list(dict.fromkeys([*came_to, *(".".join(labels[n:]) for n in range(len(labels)))]))


def _key(tx: Tx, domains: Sequence[str]) -> SigningKey | None:
    """The RSA key of the first of these domains that has one."""
    for domain in domains:
        for key in signing.active(tx, [domain]):
            if key.kind == sign.RSA and not key.apart:
                return key
    return None


def _code(found: Headers, transit: Transit) -> ArcCode:
    """What the chain was worth when it came. Raises Malformed if nobody knows."""
    if not arc.sealed(found):
        return ArcCode.NONE
    known = transit.facts.get(ArcFact)
    if known is None:
        raise Malformed("its chain was not checked")
    return ArcCode(known.result)


def _results(house: MailHouse, vouched: bytes) -> str:
    field = vouched or compose(AuthenticationResults(house.hostname))
    value = headers.scan(field).first(b"authentication-results")
    return (value or b"").decode("utf-8")


def _made(
    house: MailHouse,
    found: Headers,
    body: bytes,
    key: SigningKey,
    code: ArcCode,
    results: str,
    more: Sequence[str],
) -> bytes:
    if not sign.can_sign(found):
        raise Malformed("its header is too large, or has no end")
    now = house.clock.now() // 1000
    listed = sign.names(found, (_SIGNATURES, *more))
    opened = house.signers.of(house.secrets, key)
    made = trust.seal(found, chains.read(found, now), code, body, opened, results, listed, now)
    if not made:
        raise Malformed("its chain has come to its end")
    return made


# --- once more ----------------------------------------------------------------------------------


async def again(house: MailHouse, content: bytes) -> bytes:
    """A content that was re-encoded on its way out, with a new seal for the one on its top.

    It says the same again. Without a key it is left out: a seal that breaks ends the chain.
    """
    if content[: len(_FIELD)].lower() != _FIELD:
        return content
    try:
        was = trust.opened(content)
    except MailError as error:
        _log.error("seal not understood", reason=str(error), detail=error.detail)
        return content
    if was is None:
        return content
    found = headers.scan(was.bare)
    try:
        key, more = await house.mail.read(_now, house, was.domain)
        if key is None:
            return was.bare
        body = await asyncio.to_thread(sign.hash_body, pieces(was.bare, found.end))
        return _made(house, found, body, key, was.code, was.results, more) + was.bare
    except MailError as error:
        UNSEALED.add()
        _log.error("message not sealed again", reason=str(error), detail=error.detail)
        return was.bare


_FIELD: Final = b"arc-seal:"


def _now(tx: Tx, house: MailHouse, domain: str) -> tuple[SigningKey | None, tuple[str, ...]]:
    policy = house.policies.current(tx, house.chain(""))
    return _key(tx, [domain]), policy.of(DkimSettings).more_fields
