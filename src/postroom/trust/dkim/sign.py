"""Signing what leaves in our name. RFC 6376 §5, RFC 8301 §3, RFC 8463.

Header and body are signed relaxed, all of the body (never `l=`), and what readers show of the
header is oversigned: a field that somebody adds breaks the signature, be there one or none before.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from postroom.core.errors import Malformed
from postroom.formats import headers
from postroom.formats.headers import Headers
from postroom.trust.dkim import canon, tags
from postroom.trust.dkim.canon import RELAXED, BodyHasher, Part

RSA: Final = "rsa"
ED25519: Final = "ed25519"
KINDS: Final = (RSA, ED25519)
RSA_BITS: Final = 2048
OVERSIGNED: Final = (
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "Content-ID",
    "Content-Description",
    "Content-Language",
)
"""Signed once more than they are there."""
FIELDS_MOST: Final = 300
"""Fields that one signature may name; a message with more of these is not signed."""
WHOLE: Final = Part(RELAXED)
_WIDTH: Final = 70  # characters of base64 on a line
_IS_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,70}").fullmatch
_BLANK_LINE: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, ready to sign for a domain."""

    domain: str  # A-labels
    selector: str
    kind: str
    private: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> str:
        return f"{self.kind}-sha256"

    def sign(self, digest: bytes) -> bytes:
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(digest, PKCS1v15(), Prehashed(SHA256()))
        return self.private.sign(digest)


def make_key(kind: str) -> bytes:
    """A new private key as PKCS #8; RSA takes some hundred milliseconds."""
    make = partial(generate_private_key, 65_537, RSA_BITS) if kind == RSA else _ed25519
    return make().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


_ed25519: Final = Ed25519PrivateKey.generate


def load(domain: str, selector: str, kind: str, octets: bytes) -> SigningKey:
    """The key that `make_key` made; raises Malformed."""
    try:
        # It was sealed by us, and what was sealed was not changed: to prove it a good key again
        # would take longer than a hundred signatures.
        private = load_der_private_key(octets, None, unsafe_skip_rsa_key_validation=True)
    except ValueError as error:
        raise Malformed("A signing key is damaged", detail=f"{selector} of {domain}") from error
    if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
        raise Malformed("A signing key is of an unknown kind", detail=f"{selector} of {domain}")
    return SigningKey(domain, selector, kind, private)


def record(kind: str, octets: bytes) -> str:
    """What DNS is to say of a private key. RFC 6376 §3.6.1, RFC 8463 §4."""
    private = load("", "", kind, octets).private
    if isinstance(private, RSAPrivateKey):
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"v=DKIM1; k={kind}; h=sha256; p={base64.b64encode(public).decode('ascii')}"


def can_sign(found: Headers) -> bool:
    """Whether all readers will find the same header: it is within the caps, and a blank line
    ends it."""
    return not found.over_cap and found.source[: found.end].endswith(_BLANK_LINE)


def hash_body(pieces: Iterable[bytes]) -> bytes:
    """The hash of a body, as all our signatures have it."""
    body = BodyHasher((WHOLE,))
    for piece in pieces:
        body.feed(piece)
    body.finish()
    return body.of(WHOLE).digest


def sign(
    found: Headers,
    body_hash: bytes,
    keys: Sequence[SigningKey],
    more: Sequence[str],
    now: int,
    seconds: int = 0,
) -> bytes:
    """A field for each key, to be put on top of the message; `now` in seconds since 1970. It
    ends after `seconds` (`x=`, RFC 6376 §3.5); 0: it does not.

    `more` are fields to sign beside ours, as often as they are there, those of lists once more;
    one that is no name of a field is left out. Raises Malformed where the header has more fields
    of these names than a signature may name.
    """
    listed, canonical = _signed(found, more)
    times = f"t={now}; x={now + seconds}" if seconds else f"t={now}"
    made: list[bytes] = []
    for key in keys:
        start = (
            f"v=1; a={key.algorithm}; c=relaxed/relaxed; d={key.domain}; s={key.selector}; "
            f"{times}; h={': '.join(listed)}; bh={base64.b64encode(body_hash).decode('ascii')}; b="
        )
        # Relaxed, it does not matter where a line is folded.
        unsigned = headers.field("DKIM-Signature", start).removesuffix(b"\r\n")
        name, _, value = unsigned.partition(b":")
        last = canon.field(name, unsigned, value, RELAXED).removesuffix(b"\r\n")
        octets = key.sign(hashlib.sha256(canonical + last).digest())
        text = base64.b64encode(octets).decode("ascii")
        lines = [text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH)]
        made.append(headers.field("DKIM-Signature", start + " ".join(lines)))
    return b"".join(made)


def names(found: Headers, more: Sequence[str]) -> list[str]:
    """The names for h=. Raises Malformed for too many."""
    listed: list[str] = []
    for name in _each(more):
        there = len(found.find(name.encode("ascii")))
        # A list may put its own fields on a letter; beside those of another list they mislead.
        more_of_list = there > 0 and name.lower().startswith("list-")
        listed += [name] * (there + (name in OVERSIGNED or more_of_list))
        if len(listed) > FIELDS_MOST:
            raise Malformed("The header has too many fields to be signed")
    return listed


def _each(more: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in (*OVERSIGNED, *more):
        if name.lower() not in seen and _IS_NAME(name):
            seen.add(name.lower())
            yield name


def _signed(found: Headers, more: Sequence[str]) -> tuple[list[str], bytes]:
    """The names for h=, and the fields in their canonical form."""
    listed, source = names(found, more), found.source
    pieces = [
        canon.field(each.name, each.raw(source), each.raw_value(source), RELAXED)
        for name in dict.fromkeys(listed)
        for each in reversed(found.find(name.encode("ascii")))
    ]
    return listed, b"".join(pieces)


def unsigned_by_us(content: bytes) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """The content without the signatures on its top, and the domain and the selector of each.

    What we sign begins with our signatures; those of others lie below a Received field.
    """
    found = headers.scan(content)
    at, signed = 0, []
    for each in found.fields:
        if each.name.lower() != b"dkim-signature":
            break
        told = tags.read(each.raw_value(content))
        signed.append((told.get("d", ""), told.get("s", "")))
        at = each.end
    return content[at:], tuple(signed)
