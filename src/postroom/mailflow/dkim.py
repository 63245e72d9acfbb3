"""DKIM of what a stranger brings: the probe, and what the header says of it.

The body is hashed once, in all forms that its signatures want, off the loop if it is large.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from postroom.domain.facts import DkimFact
from postroom.domain.transit import Fact, Protocol, Recipient, Transit
from postroom.formats import headers
from postroom.formats.authres import MethodResult, Property
from postroom.formats.headers import Headers
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import DkimSettings, SmtpSettings
from postroom.store.blobs import Spool
from postroom.trust import dkim as trust
from postroom.trust.checks import Checks
from postroom.trust.dkim import BodyHasher, DkimCode, DkimResult, Read

INLINE: Final = 64 * 1024
"""Octets of a message that is hashed on the loop: it takes less than going to a thread."""
_SHARE: Final = 0.6
"""Of the time of a message: DMARC comes after it."""

_NONE: Final = (DkimFact(({"code": DkimCode.NONE.value},)),)


async def dkim(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """What the signatures of the message are worth. RFC 6376 §6."""
    checks, spool, policy = _asked(house, transit), transit.spool, transit.policy
    if checks is None or spool is None or policy is None:
        return ()
    now = transit.started // 1000
    if spool.size > INLINE:
        found, read, body = await asyncio.to_thread(_hashed, spool, now)
    else:
        found, read, body = _hashed(spool, now)
    seconds = min(trust.DEADLINE, _SHARE * policy.of(SmtpSettings).accept_deadline)
    results = await checks.dkim(found, read, body, seconds)
    return (DkimFact(tuple([_entry(each) for each in results])),)


def known(house: MailHouse, transit: Transit) -> tuple[Fact, ...] | None:
    """What `dkim` would find, if that is known: of a message without a signature."""
    spool = transit.spool
    if _asked(house, transit) is None or spool is None:
        return ()
    if spool.in_file:
        return None
    return None if headers.scan(spool.content()).find(b"dkim-signature") else _NONE


def _asked(house: MailHouse, transit: Transit) -> Checks | None:
    """The checks, if this message is to be checked."""
    visit, policy = transit.visit, transit.policy
    if policy is None or visit.protocol is not Protocol.SMTP or visit.principal is not None:
        return None
    return house.checks if policy.of(DkimSettings).verify else None


def _hashed(spool: Spool, now: int) -> tuple[Headers, tuple[Read, ...], BodyHasher]:
    content = spool.content()
    found = headers.scan(content)
    read = trust.signatures(found, now)
    body = trust.hasher(read)
    body.feed_from(content, found.end)
    body.finish()
    return found, read, body


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
