"""Signing what leaves in the name of our domains. RFC 6376 §5.

Signatures are made when the plan is, over the very octets that the queue then holds. A server that
takes ASCII only gets a content that was re-encoded: that is signed anew (`again`). What cannot be
signed goes unsigned, and its trace says why: a signature is no reason to lose mail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import structlog

from postroom.core import metrics
from postroom.core.errors import MailError, Malformed
from postroom.domain import signing
from postroom.domain.policy import Policy
from postroom.domain.signing import SigningKey
from postroom.domain.transit import Protocol, Transit
from postroom.formats import headers
from postroom.formats.address import Address, Group, parse_address_list, to_address
from postroom.formats.headers import Headers
from postroom.mailflow import signing_rules as rules
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import DkimSettings, QueueSettings
from postroom.store.blobs import Form, Spool
from postroom.store.sql import Tx
from postroom.trust.dkim import sign as trust

_SIGNED_TOO: Final = ("VBR-Info", "BIMI-Selector")
"""Fields of the sender about himself, which count only if they are signed: RFC 5518 §4.1."""
_DAY: Final = 86_400  # seconds
INLINE: Final = 64 * 1024
"""Octets of a body that is hashed on the loop: it takes less than going to a thread."""

SIGNED: Final = metrics.counter("dkim.signed", "messages", "Messages that were signed")
UNSIGNED: Final = metrics.counter(
    "dkim.unsigned", "messages", "Messages that could not be signed though there are keys"
)

_log: Final = structlog.get_logger("postroom.mailflow")


async def fields(house: MailHouse, transit: Transit, spool: Spool, form: Form) -> bytes:
    """The signatures for a message in the form in which it leaves; empty if it is not signed."""
    policy, parsed = transit.policy, transit.parsed
    if policy is None or parsed is None or not ours(transit, policy):
        return b""
    head = form.of(spool.head(parsed.header_size))
    found = headers.scan(head)
    author = _author(found)
    if author is None:
        return b""
    domain = author.domain
    names = above(domain) if transit.visit.protocol is Protocol.COMPOSED else [domain]
    active = await house.mail.read(signing.active, names)
    keys = _chosen(transit, policy, found, author, active) if active else ()
    if not keys:
        return b""
    try:
        made = await _signed(house, found, keys, policy, spool, parsed.header_size)
    except MailError as error:
        UNSIGNED.add()
        _log.error("message not signed", domain=domain, reason=str(error), detail=error.detail)
        transit.amended += (f"not signed, as: {error}",)
        return b""
    SIGNED.add()
    told = ", ".join(each.selector for each in keys)
    transit.amended += (f"signed as {keys[0].domain} with {told}",)
    return made


def ours(transit: Transit, policy: Policy) -> bool:
    """Whether we answer for who wrote this message, and it is to be signed."""
    settings = policy.of(DkimSettings)
    if not settings.sign:
        return False
    if transit.visit.protocol is Protocol.COMPOSED:
        return settings.sign_reports
    return transit.visit.principal is not None


def _chosen(
    transit: Transit,
    policy: Policy,
    found: Headers,
    author: Address,
    keys: Sequence[SigningKey],
) -> Sequence[SigningKey]:
    """Those of the keys that are to sign this message, by the first line of dkim.rules that holds.
    One that names no key that is active is told, and leaves it to those that sign all: mail that
    ought to be signed is not to go out without."""
    all_ = [each for each in keys if not each.apart]
    decided = None
    if lines := policy.of(DkimSettings).rules:
        decided = rules.decides(lines, rules.About(author, transit.reverse_path, found))
    if decided is None:
        return all_
    number, line = decided
    if not line.selectors:
        transit.amended += (f"not signed, as line {number} of dkim.rules says",)
        return ()
    chosen = [each for each in keys if each.selector in line.selectors]
    if not chosen:
        transit.amended += (f"no key that line {number} of dkim.rules names is active",)
    return chosen or all_


async def _signed(
    house: MailHouse,
    found: Headers,
    keys: Sequence[SigningKey],
    policy: Policy,
    spool: Spool,
    start: int,
) -> bytes:
    if not trust.can_sign(found):
        raise Malformed("Its header is too large, or has no end")
    return _made(house, found, await body_hash(spool, start), keys, policy)


async def body_hash(spool: Spool, start: int) -> bytes:
    """The hash of the body, which begins at `start`, as signatures and seals of ours have it."""
    if spool.size > INLINE:
        return await asyncio.to_thread(lambda: trust.hash_body(pieces(spool.content(), start)))
    return trust.hash_body(pieces(spool.content(), start))


def _made(
    house: MailHouse,
    found: Headers,
    body: bytes,
    keys: Sequence[SigningKey],
    policy: Policy,
) -> bytes:
    # RSA takes a quarter of a millisecond, and no thread would take it off the interpreter.
    opened = [house.signers.of(house.secrets, each) for each in keys]
    more = (*policy.of(DkimSettings).more_fields, *_SIGNED_TOO)
    now = house.clock.now() // 1000
    return trust.sign(found, body, opened, more, now, _lifetime(policy))


def _lifetime(policy: Policy) -> int:
    """Seconds after which a signature ends; 0: it does not. Mail is tried for days, and must not
    come with a signature that has ended."""
    days = policy.of(DkimSettings).valid_days
    if not days:
        return 0
    hours = max(policy.of(QueueSettings).expire_hours, policy.of(QueueSettings).expire_null_hours)
    return max(days * _DAY, hours * 3600 + _DAY)


def pieces(content: bytes, start: int) -> Iterator[bytes]:
    """What follows `start`, in pieces that a hash takes at once."""
    for at in range(start, len(content), INLINE):
        yield content[at : at + INLINE]


def author_domain(found: Headers) -> str:
    """The domain of the only From field's first author; empty without one."""
    author = _author(found)
    return author.domain if author is not None else ""


def _author(found: Headers) -> Address | None:
    values = found.all(b"from")
    if len(values) != 1:
        return None
    for entry in parse_address_list(values[0]):
        for box in entry.members if isinstance(entry, Group) else (entry,):
            return to_address(box)
    return None


def above(domain: str) -> list[str]:
    """A domain and those above it: what we compose is from our host's name at times."""
    labels = domain.split(".")
    return [".".join(labels[n:]) for n in range(len(labels))]


# --- once more ----------------------------------------------------------------------------------


async def again(house: MailHouse, content: bytes) -> bytes:
    """A content that was re-encoded on its way out, with new signatures for those on its top.

    The keys are the same: a rule may have chosen them. Of those that sign no more the place is
    taken by whichever do now. Whoever is not ours any more is left out: a signature that breaks is
    worth less than none.
    """
    if content[: len(_FIELD)].lower() != _FIELD:
        return content
    bare, signed = trust.unsigned_by_us(content)
    found = headers.scan(bare)
    try:
        keys, policy = await house.mail.read(_now, house, signed)
        if not keys or not trust.can_sign(found):
            return bare
        body = await asyncio.to_thread(trust.hash_body, pieces(bare, found.end))
        return _made(house, found, body, keys, policy) + bare
    except MailError as error:
        UNSIGNED.add()
        _log.error("message not signed again", reason=str(error), detail=error.detail)
        return bare


_FIELD: Final = b"dkim-signature:"


def _now(
    tx: Tx, house: MailHouse, signed: Iterable[tuple[str, str]]
) -> tuple[list[SigningKey], Policy]:
    """The keys of these domains and selectors, and the policy of the first."""
    named = set(signed)
    domains = sorted({domain for domain, _ in named})
    active = signing.active(tx, domains)
    keys = [each for each in active if (each.domain, each.selector) in named]
    chain = house.chain("", domains[0] if domains else "")
    keys = keys or [each for each in active if not each.apart]
    return keys, house.policies.current(tx, chain)
