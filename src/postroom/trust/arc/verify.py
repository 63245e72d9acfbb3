"""Whether a chain holds. RFC 8617 §5.2.

First what costs nothing, then the newest AMS, then the seals, and the older AMS last. Nothing
raises, and every error is a fail, of DNS too: RFC 8617 §5.2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postroom.formats.headers import Headers
from postroom.trust.arc.chain import (
    KIND,
    ArcSet,
    BadChain,
    MessageSignature,
    Signed,
    collect,
)
from postroom.trust.arc.result import ArcCode, ArcResult
from postroom.trust.dkim.canon import RELAXED, BodyHasher, Part
from postroom.trust.dkim.key import BadKey, Key
from postroom.trust.dkim.verify import DEADLINE, Fields, KeyOf, keys_of, without

_ROUNDS: Final = 3  # of questions to DNS: they share the time
_SHOWS_NOTHING: Final = b"mime-version"  # two of them mislead no reader, and lists add their own


@dataclass(frozen=True, slots=True)
class Chain:
    """The sets of a message, or why they are no chain."""

    sets: tuple[ArcSet, ...]
    bad: str = ""

    @property
    def parts(self) -> frozenset[Part]:
        """Of the body, what must be hashed for it."""
        each = [of.message for of in self.sets]
        return frozenset(of.part for of in each if isinstance(of, MessageSignature))


def read(found: Headers, now: int) -> Chain:
    """The chain of a header; `now` in seconds since 1970."""
    try:
        return Chain(collect(found, now))
    except BadChain as error:
        return Chain((), str(error))


async def verify(
    found: Headers, chain: Chain, body: BodyHasher, key_of: KeyOf, seconds: float = DEADLINE
) -> ArcResult:
    """`body` was made for `chain.parts` at least, fed all that follows the header, and finished."""
    if chain.bad:
        return ArcResult(ArcCode.FAIL, chain.bad)
    if not chain.sets:
        return ArcResult(ArcCode.NONE, "The message has no ARC chain")
    check = _Check(found, body, key_of, seconds / _ROUNDS)
    sealers = tuple([each.seal.domain for each in chain.sets])
    why = await check.newest(chain.sets[-1]) or await check.seals(chain.sets)
    if why:
        return ArcResult(ArcCode.FAIL, why, sealers)
    oldest = await check.oldest_pass(chain.sets)
    return ArcResult(ArcCode.PASS, f"The chain sealed by {sealers[-1]} holds", sealers, oldest)


class _Check:
    """One message and the keys that were asked for; a reason is what fails, "" is none."""

    __slots__ = ("_body", "_fields", "_found", "_key_of", "_keys", "_seconds")

    def __init__(self, found: Headers, body: BodyHasher, key_of: KeyOf, seconds: float) -> None:
        self._found, self._body = found, body
        self._key_of, self._seconds = key_of, seconds
        self._fields = Fields(found)
        self._keys: dict[str, Key | BadKey | None] = {}

    async def newest(self, last: ArcSet) -> str:
        why = self._before_dns(last)
        if not why and isinstance(last.message, MessageSignature):
            await self._ask([last.message.by.query])
            why = self._held(last.message)
        return why and f"The newest message signature: {why}"

    async def seals(self, sets: Sequence[ArcSet]) -> str:
        """RFC 8617 §5.1.1, §5.2 step 6: each is over all sets up to its own."""
        await self._ask([each.seal.query for each in sets])
        made = hashlib.sha256()
        for n, each in enumerate(sets, 1):
            for field in (each.results, each.message_field):
                made.update(self._fields.canonical(field, RELAXED))
            so_far = made.copy()
            so_far.update(without(self._found, each.seal.field, RELAXED))
            why = self._judged(each.seal, so_far.digest())
            if why:
                return f"The seal {n}: {why}"
            made.update(self._fields.canonical(each.seal.field, RELAXED))
        return ""

    async def oldest_pass(self, sets: Sequence[ArcSet]) -> int:
        """The first set whose AMS, and every later, holds; 0 if all do. RFC 8617 §5.2 step 5."""
        at = len(sets) - 1
        while at and not self._before_dns(sets[at - 1]):
            at -= 1
        likely = [each.message for each in sets[at:]]
        await self._ask([each.by.query for each in likely if isinstance(each, MessageSignature)])
        for n in range(len(sets) - 1, at, -1):
            message = sets[n - 1].message
            if not isinstance(message, MessageSignature) or self._held(message):
                return n + 1
        return at + 1 if at else 0

    def _before_dns(self, of: ArcSet) -> str:
        message = of.message
        if not isinstance(message, MessageSignature):
            return message
        body, limit = self._body.of(message.part), message.part.limit
        if body.digest != message.body_hash:
            return "The body has changed"
        if limit is not None and limit != body.length:
            return "l= is not the length of the body"
        shown = [name for name in message.fields if name != _SHOWS_NOTHING]
        twice = self._fields.unsigned_twice(shown)
        return twice and f"There are more {twice} fields than are signed"

    def _held(self, of: MessageSignature) -> str:
        return self._judged(of.by, self._fields.digest(of.by.field, of.fields, of.header))

    async def _ask(self, names: Sequence[str]) -> None:
        wanted = {name for name in names if name not in self._keys}
        self._keys.update(await keys_of(wanted, self._key_of, self._seconds))

    def _judged(self, by: Signed, digest: bytes) -> str:
        found = self._keys[by.query]
        if found is None:
            return f"DNS gave no answer about {by.query}"
        if isinstance(found, BadKey):
            return str(found)
        if found.kind != KIND:
            return f"The key is of the kind {found.kind}"
        return "" if found.holds(by.octets, digest) else "It does not hold"
