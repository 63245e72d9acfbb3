"""Sealing: what was found of a message, vouched for before it is sent on. RFC 8617 §5.1.

Header and body are signed relaxed, with RSA: all who check ARC know these.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from postroom.core.errors import Malformed
from postroom.formats import headers
from postroom.formats.headers import Headers
from postroom.trust.arc.chain import (
    ALGORITHM,
    MESSAGE,
    MOST_SETS,
    RESULTS,
    SEAL,
    results_number,
)
from postroom.trust.arc.result import ArcCode
from postroom.trust.arc.verify import Chain
from postroom.trust.dkim import canon, tags
from postroom.trust.dkim.canon import RELAXED
from postroom.trust.dkim.sign import SigningKey
from postroom.trust.dkim.verify import Fields

_PIECE: Final = 60  # characters that are not folded
_DIGITS: Final = 3
_NOT_SIGNED: Final = frozenset({b"authentication-results", RESULTS, MESSAGE, SEAL})
"""Fields that others take away or add: no AMS may be over them. RFC 8617 §4.1.2."""


def instance(found: Headers) -> int:
    """The number of the set to be added; 0 if none may be: RFC 8617 §4.2.1, §5.1.2.

    A chain that somebody sealed as failing stays as it is, and so does one of 50 sets.
    """
    highest = 0
    for name in (MESSAGE, SEAL):
        for value in [each.raw_value(found.source) for each in found.find(name)]:
            try:
                listed = tags.read(value)
            except tags.BadTags:
                continue  # it makes the chain fail, and has no number
            if name == SEAL and listed.get("cv") == "fail":
                return 0
            highest = max(highest, _number(listed.get("i", "")))
    for value in [each.raw_value(found.source) for each in found.find(RESULTS)]:
        highest = max(highest, _number(results_number(value)))
    return highest + 1 if highest < MOST_SETS else 0


def _number(text: str) -> int:
    plain = len(text) <= _DIGITS and text.isascii() and text.isdigit()
    return int(text) if plain else 0


def seal(
    found: Headers,
    chain: Chain,
    code: ArcCode,
    body_hash: bytes,
    key: SigningKey,
    results: str,
    signed: Sequence[str],
    now: int,
) -> bytes:
    """The set to be put on top of the message; nothing if none may be added.

    `found` is the header as it leaves, `chain` its sets, `code` what they were found to be worth
    when it came; `body_hash` as of `dkim.sign.hash_body`; `key` is of RSA; `results` is the value
    of an Authentication-Results field; `signed` are the names for h=; `now` in seconds since 1970.
    Raises Malformed for what no field can hold.
    """
    n = instance(found)
    if not n:
        return b""
    by = {"a": ALGORITHM, "d": key.domain, "i": str(n), "s": key.selector, "t": str(now)}
    signed = [name for name in signed if name.lower().encode("ascii") not in _NOT_SIGNED]
    names = [name.lower().encode("ascii") for name in signed]
    told = headers.field("ARC-Authentication-Results", f"i={n}; {results}", utf8=True)
    of_message = by | {
        "bh": base64.b64encode(body_hash).decode("ascii"),
        "c": "relaxed/relaxed",
        "h": _joined(signed),
    }
    fields = Fields(found)
    header = fields.hashed(names, RELAXED)
    message = _signed("ARC-Message-Signature", of_message, header, key)
    made = hashlib.sha256()
    if code is ArcCode.PASS:  # one that fails is sealed without what came before: §5.1.2
        for each in chain.sets:
            for field in (each.results, each.message_field, each.seal.field):
                made.update(fields.canonical(field, RELAXED))
    made.update(_canonical(told))
    made.update(_canonical(message))
    return _signed("ARC-Seal", by | {"cv": code.value}, made, key) + message + told


class Sealed(NamedTuple):
    """What a seal on the top of a message says, and the message without it."""

    bare: bytes
    domain: str
    code: ArcCode
    results: str


def opened(content: bytes) -> Sealed | None:
    """What we sealed begins with our seal; that of others lies below a Received field.

    None where no whole set is on top. Raises BadTags, Malformed for one that we did not make.
    """
    found = headers.scan(content)
    top = found.fields[:3]
    if tuple([each.name.lower() for each in top]) != (SEAL, MESSAGE, RESULTS):
        return None
    listed = tags.read(top[0].raw_value(content))
    told = headers.unfold(top[2].raw_value(content)).decode("utf-8", "replace")
    said = listed.get("cv", "")
    if said not in set(ArcCode):
        raise Malformed("The seal on its top says nothing of the chain")
    results = told.partition(";")[2].strip()
    return Sealed(content[top[2].end :], listed.get("d", ""), ArcCode(said), results)


def _signed(name: str, listed: dict[str, str], made: hashlib._Hash, key: SigningKey) -> bytes:
    """A field with the signature over what was hashed and itself. It is not folded: the published
    tests have it so, and a blank in one field changes the signature of the next."""
    made.update(_canonical(_field(name, listed | {"b": ""})).removesuffix(b"\r\n"))
    text = base64.b64encode(key.sign(made.digest())).decode("ascii")
    return _field(name, listed | {"b": text})


def _field(name: str, listed: dict[str, str]) -> bytes:
    return headers.field(
        name, "; ".join(f"{tag}={listed[tag]}" for tag in sorted(listed, key=_place))
    )


def _place(tag: str) -> tuple[bool, str]:
    """Where a tag stands: i= comes first, in the grammar of RFC 8617 §4.1.2 and §4.1.3."""
    return tag != "i", tag


def _canonical(field: bytes) -> bytes:
    raw = field.removesuffix(b"\r\n")
    name, _, value = raw.partition(b":")
    return canon.field(name, raw, value, RELAXED)


def _joined(names: Sequence[str]) -> str:
    """Names for h=, with a blank where a line may be folded."""
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(name) < _PIECE:
            lines[-1] += f":{name}"
        else:
            lines.append(name)
    return ": ".join(lines)
