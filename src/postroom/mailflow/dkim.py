"""DKIM of what a stranger brings: the probe, and what the header says of it.

The body is hashed once, while it comes in, in all forms that its signatures and those of its ARC
chain want.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from postroom.domain.facts import ArcFact, DkimFact
from postroom.domain.policy import Policy
from postroom.domain.transit import Fact, Protocol, Recipient, Transit
from postroom.formats import headers
from postroom.formats.authres import MethodResult, Property
from postroom.formats.headers import Headers
from postroom.mailflow import arc
from postroom.mailflow.arc_settings import ArcSettings
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import DkimSettings, SmtpSettings
from postroom.store.blobs import Spool
from postroom.trust import arc as chains
from postroom.trust import dkim as trust
from postroom.trust.arc import Chain
from postroom.trust.checks import Checks
from postroom.trust.dkim import BodyHasher, DkimCode, DkimResult, Read

INLINE: Final = 64 * 1024
"""Octets of a message that is hashed on the loop: it takes less than going to a thread."""
_SHARE: Final = 0.6
"""Of the time of a message: DMARC comes after it."""

_NONE: Final = (DkimFact(({"code": DkimCode.NONE.value},)),)


async def dkim(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """What the signatures of the message are worth, and its chain. RFC 6376 §6, RFC 8617 §5.2."""
    checks, spool, policy = _asked(house, transit), transit.spool, transit.policy
    if checks is None or spool is None or policy is None:
        return ()
    now = transit.started // 1000
    heard = transit.listening
    if isinstance(heard, Arriving) and (made := heard.message(spool)) is not None:
        message = made
    elif spool.size > INLINE:
        header = None if spool.in_file else transit.header()
        message = await asyncio.to_thread(_hashed, spool, header, now, policy)
    else:
        message = _hashed(spool, transit.header(), now, policy)
    seconds = min(trust.DEADLINE, _SHARE * policy.of(SmtpSettings).accept_deadline)
    if message.chain is None:
        signed = await _signatures(checks, message, seconds)
        return (signed,) if signed is not None else ()
    # Beside each other, so that neither takes the other's time.
    judged = await asyncio.gather(
        _signatures(checks, message, seconds), _chain(checks, message, seconds)
    )
    return tuple([each for each in judged if each is not None])


async def _signatures(checks: Checks, message: _Message, seconds: float) -> DkimFact | None:
    if message.read is None:
        return None
    results = await checks.dkim(message.found, message.read, message.body, seconds)
    return DkimFact(tuple([_entry(each) for each in results]))


async def _chain(checks: Checks, message: _Message, seconds: float) -> ArcFact | None:
    found, chain = message.found, message.chain
    if chain is None:
        return None
    result = await chains.verify(found, chain, message.body, checks.dkim_key, seconds)
    return arc.fact(found, chain, result)


def known(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
    """What `dkim` would find, if that is known: of a message without a signature or a chain."""
    spool, policy = transit.spool, transit.policy
    if _asked(house, transit) is None or spool is None or policy is None:
        return ()
    found = None if spool.in_file else transit.header()
    if found is None or found.find(b"dkim-signature") or arc.sealed(found):
        return None
    return _NONE if policy.of(DkimSettings).verify else ()


def _asked(house: MailHouse, transit: Transit) -> Checks | None:
    """The checks, if this message is to be checked."""
    visit, policy = transit.visit, transit.policy
    if policy is None or visit.protocol is not Protocol.SMTP or visit.principal is not None:
        return None
    wanted = policy.of(DkimSettings).verify or policy.of(ArcSettings).verify
    return house.checks if wanted else None


class _Message(NamedTuple):
    """What is to be judged: None is what nobody asked for, or is not there."""

    found: Headers
    read: Sequence[Read] | None
    chain: Chain | None
    body: BodyHasher


def _begun(found: Headers, now: int, policy: Policy) -> _Message:
    """What is to be judged, its body not hashed yet."""
    read = trust.signatures(found, now) if policy.of(DkimSettings).verify else None
    chain = None
    if policy.of(ArcSettings).verify and arc.sealed(found):
        chain = chains.read(found, now)
    parts = {each.signature.part for each in read or () if each.signature is not None}
    body = BodyHasher(parts | (chain.parts if chain is not None else frozenset()))
    return _Message(found, read, chain, body)


def _hashed(spool: Spool, header: Headers | None, now: int, policy: Policy) -> _Message:
    content = spool.content()
    found = header if header is not None else headers.scan(content)
    message = _begun(found, now, policy)
    message.body.feed_from(content, found.end)
    message.body.finish()
    return message


# --- while it comes in --------------------------------------------------------------------------

HEADER_LOOK: Final = 32 * 1024
"""Octets in which the header has to end for the body to be hashed as it comes. A longer one is
read again at the end, as few are."""
_HEADER_ENDS: Final = re.compile(rb"\n\r?\n|\A\r?\n").search


class Arriving:
    """Hashes the body of a message while it comes in, in the forms that its header asks for: at
    its end nothing has to be read again."""

    __slots__ = ("_begun", "_found", "_held", "_now", "_over", "_policy", "_size", "_spool")

    def __init__(self, spool: Spool, now: int, policy: Policy) -> None:
        self._spool = spool
        self._now = now
        self._policy = policy
        self._held = b""  # what came, until the header ends
        self._size = 0
        self._found: Headers | None = None
        self._begun: _Message | None = None
        self._over = False  # there is nothing to hash, or it is too long a header

    def take(self, data: bytes) -> None:
        """The next octets."""
        if self._over:
            return
        self._size += len(data)
        if self._begun is not None:
            self._begun.body.feed(data)
            return
        looked = max(0, len(self._held) - 2)
        self._held += data
        if (ends := _HEADER_ENDS(self._held, looked)) is not None:
            self._begin(ends.end())
        elif len(self._held) > HEADER_LOOK:
            self._give_up()

    def _begin(self, ends: int) -> None:
        # Of what came, the header alone is kept: the rest may be a whole message.
        found = self._found = headers.scan(self._held[:ends])
        if not (found.find(b"dkim-signature") or arc.sealed(found)):
            self._give_up()
            return
        self._begun = _begun(found, self._now, self._policy)
        self._begun.body.feed_from(self._held, found.end)
        self._held = b""

    def _give_up(self) -> None:
        self._over, self._held = True, b""

    def header(self, spool: Spool) -> Headers | None:
        """The header, if it was looked at, and if this is what came."""
        return self._found if spool is self._spool else None

    def message(self, spool: Spool) -> _Message | None:
        """What is to be judged, if it was hashed and that is what lies there. Call it once, at the
        end."""
        made, self._begun, self._over = self._begun, None, True
        if made is None or spool is not self._spool or spool.size != self._size:
            return None  # it was made anew, as binary parts are
        made.body.finish()
        return made


def arriving(house: MailHouse, transit: Transit, spool: Spool) -> Arriving | None:
    """Who hears a message that is to be checked."""
    policy = transit.policy
    if _asked(house, transit) is None or policy is None:
        return None
    return Arriving(spool, transit.started // 1000, policy)


def _entry(found: DkimResult) -> dict[str, str]:
    told = {
        "code": found.code.value,
        "domain": found.domain,
        "selector": found.selector,
        "identity": found.identity,
        "algorithm": found.algorithm,
        "signature": found.signature,
        "why": found.reason,
        "testing": "yes" if found.testing else "",
        "mark": f"{found.mark:016x}" if found.mark else "",
        "list": "yes" if found.of_list else "",
    }
    return {name: value for name, value in told.items() if value}


def results(transit: Transit) -> Iterator[MethodResult]:
    """For Authentication-Results. RFC 8601 §2.7.1, RFC 6008."""
    found = transit.facts.get(DkimFact)
    for each in found.signatures if found is not None else ():
        shown = {"d": "domain", "i": "identity", "s": "selector", "a": "algorithm"}
        told = [Property("header", name, each[key]) for name, key in shown.items() if each.get(key)]
        if each.get("signature"):
            told.append(Property("header", "b", each["signature"]))
        code = each["code"]
        comment = "" if code == DkimCode.PASS else each.get("why", "")
        yield MethodResult("dkim", code, properties=tuple(told), comment=comment)
