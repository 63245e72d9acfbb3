"""Whether the signatures of a message hold. RFC 6376 §6.

First what costs nothing, then the body hash, then DNS: whoever sends a thousand signatures has
few of them looked at, and none whose body differs asks DNS. Nothing raises, and nothing waits
past the deadline.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from postroom.core.errors import DnsFailed
from postroom.formats.headers import Field, Headers
from postroom.net.dns import Answer, Kind, Record
from postroom.trust.dkim import canon, key, tags
from postroom.trust.dkim.canon import BodyHasher, Hashed
from postroom.trust.dkim.key import BadKey, Key
from postroom.trust.dkim.result import DkimCode, DkimResult
from postroom.trust.dkim.signature import Names, Signature, Unusable, judge, names

FIELD: Final = b"dkim-signature"
MOST_SIGNATURES: Final = 10
"""Signatures of one message that are looked at, the uppermost first: they are the latest."""
DEADLINE: Final = 10.0
"""Seconds for the keys of a message."""
ONCE: Final = frozenset(
    b"from sender reply-to to cc subject date message-id in-reply-to references mime-version "
    b"content-type content-transfer-encoding".split()
)
"""Fields that a message has once: of two, readers show the one that may not be signed. RFC 6376
§8.15."""

BODY_CHANGED: Final = "The body has changed"
"""Why a signature fails whose body hash is another one."""
_LIST_ID: Final = b"list-id"

KeyOf = Callable[[str], Awaitable["Key | BadKey"]]
"""The key at a name of DNS. Raises DnsFailed; what is no key is returned, as it is as certain."""


@dataclass(frozen=True, slots=True)
class Read:
    """A signature field, and what is known of it: a signature to check, or its result."""

    field: Field
    of: Names
    signature: Signature | None
    result: DkimResult | None = None


def signatures(found: Headers, now: int) -> tuple[Read, ...]:
    """The signatures of a header; `now` in seconds since 1970."""
    return tuple([_read(found, each, now) for each in found.find(FIELD)[:MOST_SIGNATURES]])


def _read(found: Headers, each: Field, now: int) -> Read:
    of = Names()
    try:
        listed = tags.read(each.raw_value(found.source))
        of = names(listed)
        if found.over_cap:
            raise Unusable(DkimCode.NEUTRAL, "The header is too large to be checked")
        return Read(each, of, judge(listed, of, now))
    except tags.BadTags as error:
        return Read(each, of, None, told(of, DkimCode.NEUTRAL, str(error)))
    except Unusable as error:
        return Read(each, of, None, told(of, error.code, str(error)))


def told(
    of: Names,
    code: DkimCode,
    reason: str,
    *,
    testing: bool = False,
    mark: int = 0,
    of_list: bool = False,
) -> DkimResult:
    """A result about the signature that is called so."""
    return DkimResult(
        code,
        of.domain,
        of.selector,
        of.identity,
        of.algorithm,
        reason,
        of.signature,
        testing,
        mark,
        of_list,
    )


def hasher(read: Iterable[Read]) -> BodyHasher:
    """For the body that these signatures are about: to be fed as it comes."""
    return BodyHasher({each.signature.part for each in read if each.signature is not None})


async def verify(
    found: Headers,
    read: Sequence[Read],
    body: BodyHasher,
    key_of: KeyOf,
    seconds: float = DEADLINE,
) -> tuple[DkimResult, ...]:
    """A result for each signature, in their order; one NONE if the message has none.

    `body` was fed all that follows the header, and finished.
    """
    if not read:
        return (DkimResult(DkimCode.NONE, reason="The message is not signed"),)
    results: list[DkimResult | None] = []
    waiting: dict[str, list[tuple[int, Signature, bytes]]] = {}
    fields, on_list = Fields(found), bool(found.find(_LIST_ID))
    for n, each in enumerate(read):
        result = each.result
        if each.signature is not None:
            result = _before_dns(each.signature, body.of(each.signature.part), fields)
            if result is None:
                asked = waiting.setdefault(each.signature.query, [])
                asked.append(
                    (
                        n,
                        each.signature,
                        fields.digest(each.field, each.signature.fields, each.signature.header),
                    )
                )
        results.append(result)
    keys = await keys_of(waiting, key_of, seconds)
    for name, its in waiting.items():
        for n, signature, digest in its:
            of_list = on_list and _LIST_ID in signature.fields
            results[n] = _judged(signature, digest, keys[name], of_list)
    more = len(found.find(FIELD)) - len(read)
    if more > 0:
        reason = f"{more} more signatures were not looked at"
        results.append(DkimResult(DkimCode.NEUTRAL, reason=reason))
    return tuple([each for each in results if each is not None])


def _before_dns(signature: Signature, body: Hashed, fields: Fields) -> DkimResult | None:
    of, limit = signature.names, signature.part.limit
    if limit is not None and limit > body.length:
        return told(of, DkimCode.FAIL, "The body is shorter than l= says")
    if body.digest != signature.body_hash:
        return told(of, DkimCode.FAIL, BODY_CHANGED)
    if limit is not None and limit < body.length:
        unsigned = f"l= leaves {body.length - limit} octets of the body unsigned"
        return told(of, DkimCode.POLICY, unsigned)
    twice = fields.unsigned_twice(signature.fields)
    if twice:
        return told(of, DkimCode.POLICY, f"There are more {twice} fields than are signed")
    return None


async def keys_of(
    wanted: Iterable[str], key_of: KeyOf, seconds: float
) -> dict[str, Key | BadKey | None]:
    """The keys by name; None for what DNS did not say in time."""
    names = tuple(wanted)
    keys: dict[str, Key | BadKey | None] = {}
    if len(names) == 1:  # nearly always: no task of its own for it
        try:
            async with asyncio.timeout(seconds):
                return {names[0]: await key_of(names[0])}
        except (DnsFailed, TimeoutError):
            return {names[0]: None}
    tasks = {name: asyncio.ensure_future(key_of(name)) for name in names}
    try:
        if tasks:
            await asyncio.wait(tasks.values(), timeout=seconds)
        for name, task in tasks.items():
            try:
                keys[name] = task.result() if task.done() else None
            except DnsFailed:
                keys[name] = None
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    return keys


def _judged(
    signature: Signature, digest: bytes, found: Key | BadKey | None, of_list: bool
) -> DkimResult:
    of = signature.names
    if found is None:
        return told(of, DkimCode.TEMPERROR, f"DNS gave no answer about {signature.query}")
    if isinstance(found, BadKey):
        return told(of, DkimCode.PERMERROR, str(found))
    if found.kind != signature.kind:
        return told(of, DkimCode.PERMERROR, f"The key is of the kind {found.kind}")
    if found.strict and signature.below:
        return told(of, DkimCode.PERMERROR, "The key is not for subdomains of its domain")
    testing = found.testing
    if not found.holds(signature.octets, digest):
        reason = "The signature does not hold: the header or the key has changed"
        return told(of, DkimCode.FAIL, reason, testing=testing)
    reason = f"The signature of {of.domain} holds"
    if testing:
        reason += "; its key is marked as being tried out"
    mark = mark_of(signature)
    return told(of, DkimCode.PASS, reason, testing=testing, mark=mark, of_list=of_list)


def mark_of(signature: Signature) -> int:
    """What copies of a signed message have in common, whatever else was put around them, and no
    other message has: 63 bits. It is of the octets, as base64 may be written in several ways."""
    of = signature.names
    named = f"{of.domain}\0{of.selector}\0".encode() + signature.octets
    return int.from_bytes(hashlib.sha256(named).digest()[:8], "big") >> 1


class Canonical(NamedTuple):
    """What a signature is over, as its verifier made it. RFC 6376 §3.7."""

    header: bytes
    body: bytes


def canonical(found: Headers, read: Read, content: bytes) -> Canonical | None:
    """For a report on a signature that does not hold: RFC 6591 §3.2.2. None of one that cannot be
    checked. `content` is the message of which `found` is the header."""
    signature = read.signature
    if signature is None:
        return None
    header = Fields(found).signed(read.field, signature.fields, signature.header)
    return Canonical(header, canon.body(content, found.end, signature.part.how))


async def look_up(
    query: Callable[[str, Kind], Awaitable[Answer[Record]]], name: str
) -> Key | BadKey:
    """The key at a name. Several records, of which one is a key, are taken for that one.

    Raises DnsFailed.
    """
    answer = await query(name, Kind.TXT)
    texts = [each for each in answer.records if isinstance(each, bytes)]
    if not texts:
        return BadKey("There is no key record")
    bad: BadKey | None = None
    keys: list[Key] = []
    for each in texts[:MOST_SIGNATURES]:
        try:
            keys.append(key.read(each))
        except BadKey as error:
            bad = bad or error
    if len(keys) > 1:
        return BadKey("There are several keys of that name")
    return keys[0] if keys else bad or BadKey("There is no key record")


class Fields:
    """The fields of a header, from the bottom, each made canonical once. RFC 6376 §5.4.2."""

    __slots__ = ("_found", "_made")

    def __init__(self, found: Headers) -> None:
        self._found = found
        self._made: dict[str, dict[int, bytes]] = {}  # by how, and by where a field begins

    def unsigned_twice(self, signed: Sequence[bytes]) -> str:
        """A field that a message has once, is signed, and yet is there unsigned; or empty."""
        for name in ONCE.intersection(signed):
            there = len(self._found.named(name))
            if there > 1 and signed.count(name) < there:
                return name.decode("ascii").title()
        return ""

    def digest(self, own: Field, signed: Sequence[bytes], how: str) -> bytes:
        """The hash of the header as the signature in the field `own` is over it. RFC 6376 §3.7."""
        return hashlib.sha256(self.signed(own, signed, how)).digest()

    def signed(self, own: Field, signed: Sequence[bytes], how: str) -> bytes:
        """What that hash is over."""
        return b"".join([*self._chosen(signed, how), without(self._found, own, how)])

    def hashed(self, signed: Sequence[bytes], how: str) -> hashlib._Hash:
        """The hash without the field of the signature, which is still to come."""
        return hashlib.sha256(b"".join(self._chosen(signed, how)))

    def _chosen(self, signed: Sequence[bytes], how: str) -> list[bytes]:
        """The fields that are signed, in their canonical form, each with its line end."""
        made = self._made.setdefault(how, {})
        source, named = self._found.source, self._found.named
        taken: dict[bytes, int] = {}
        pieces: list[bytes] = []
        for name in signed:
            there = named(name)
            n = taken[name] = taken.get(name, 0) + 1
            if n > len(there):
                continue
            each = there[-n]
            piece = made.get(each.start)
            if piece is None:
                piece = made[each.start] = canon.field_of(source, each, how)
            pieces.append(piece)
        return pieces

    def canonical(self, each: Field, how: str) -> bytes:
        """One field in its canonical form, with its line end."""
        return canon.field_of(self._found.source, each, how)


def without(found: Headers, each: Field, how: str) -> bytes:
    """A signature's own field without its signature and its line end."""
    source = found.source
    value = tags.without_signature(each.raw_value(source))
    raw = source[each.start : each.value_start] + value
    return canon.field(each.name, raw, value, how).removesuffix(b"\r\n")
