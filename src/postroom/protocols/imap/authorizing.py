"""URLs that carry an authorization: their tokens, and what a genuine one leads to. RFC 4467 §2, §3.

A token is the version, the name of the key, and the HMAC-SHA-256 of the URL's rump with it, in
hexadecimal. Whether it is genuine is found out before anything that the URL speaks of is looked
at: a forged one costs the same and is answered alike, whatever is there and whatever is not.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final, NamedTuple

import structlog

from postroom.core.clock import Instant, from_datetime
from postroom.core.errors import Malformed, NotFound, SecretUnreadable
from postroom.core.secrets import Keyring
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.mailboxes import rights, sharing, urlkeys
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.urlkeys import UrlKey
from postroom.formats.address import parse_mailbox
from postroom.store.sql import Tx
from postroom.wire.imap import Access, Authorized, MessageUrl, Rump, Site, parse_authorized

PORTS: Final = frozenset({None, 143, 993})
_VERSION: Final = b"01"
_TOKEN: Final = re.compile(_VERSION + rb"([0-9a-f]{16})[0-9a-f]{64}")
_KEY: Final = 32  # octets
_NOBODYS: Final = hashlib.sha256(b"the key of no mailbox").digest()

_log: Final = structlog.get_logger("postroom.imap")


class Server(NamedTuple):
    """What is known of this server, to judge a URL by."""

    hostname: str
    secrets: Keyring


def is_here(site: Site, hostname: str) -> bool:
    """Whether a URL leads to this server."""
    return site.host == hostname.lower() and site.port in PORTS


def new_key(secrets: Keyring, random: Random, account: int, mailbox: int) -> UrlKey:
    """A mailbox access key; raises SecretUnreadable where it cannot be sealed."""
    name = random.randrange(1, urlkeys.NAMES)
    octets = random.randbytes(_KEY)
    return UrlKey(name, account, mailbox, secrets.seal(octets.hex(), urlkeys.secret_of(name)))


def signer(secrets: Keyring, key: UrlKey) -> Callable[[bytes], bytes]:
    """What makes the tokens of rumps; raises SecretUnreadable."""
    return partial(_token, key.name, _opened(secrets, key))


def _opened(secrets: Keyring, key: UrlKey) -> bytes:
    return bytes.fromhex(secrets.open(key.secret, urlkeys.secret_of(key.name)))


def _token(name: int, octets: bytes, rump: bytes) -> bytes:
    made = hmac.digest(octets, rump, "sha256").hex()
    return _VERSION + f"{name:016x}{made}".encode("ascii")


def judge(
    tx: Tx, server: Server, viewer: int, text: bytes, now: Instant
) -> tuple[Mailbox, MessageUrl]:
    """The mailbox that a URL leads to for who fetches it. Raises Malformed, NotFound, NotAllowed;
    the peer is not to learn which. RFC 4467 §7, URLFETCH."""
    said = parse_authorized(text)
    key = _genuine(tx, server.secrets, said)
    rump, url = said.rump, said.rump.url
    if rump.expire is not None and from_datetime(rump.expire) <= now:
        raise NotFound
    if not _may_use(tx, rump, viewer):
        raise NotFound
    assert url.site is not None and url.site.user is not None and url.mailbox is not None
    owner = _person(tx, url.site.user)
    if owner is None or owner.id != key.account or owner.state != "active":
        raise NotFound
    if not is_here(url.site, server.hostname):
        raise NotFound
    reached = sharing.reach(tx, owner.id, url.mailbox)
    rights.check(reached.rights, Right.READ)
    box = reached.mailbox
    if box.id != key.mailbox or url.uidvalidity not in (None, box.uidvalidity):
        raise NotFound
    return box, url


def _genuine(tx: Tx, secrets: Keyring, said: Authorized) -> UrlKey:
    """The key that made the token; raises NotFound, the same for a key that is not there."""
    found = _TOKEN.fullmatch(said.token)
    if found is None:
        raise NotFound
    name = int(found[1], 16)
    key = urlkeys.named(tx, name) if name < urlkeys.NAMES else None
    octets = _NOBODYS
    if key is not None:
        try:
            octets = _opened(secrets, key)
        except SecretUnreadable as error:
            _log.error("mailbox access key not readable", reason=str(error), of=error.detail)
            key = None
    made = _token(name, octets, said.signed)
    if not hmac.compare_digest(made, said.token) or key is None:
        raise NotFound
    return key


def _may_use(tx: Tx, rump: Rump, viewer: int) -> bool:
    """Whether an account may use a URL. RFC 4467 §3: who fetches here has signed in, and nobody
    signs in as a submission server, which alone may use `submit+`."""
    if rump.access is Access.SUBMIT:
        return False
    if rump.access is Access.USER:
        assert rump.user is not None
        person = _person(tx, rump.user)
        return person is not None and person.id == viewer
    return True


def _person(tx: Tx, name: str) -> Account | None:
    """The account of an address."""
    try:
        found = people.find_account(tx, parse_mailbox(name))
    except Malformed:
        return None
    return found if found is not None and found.kind == people.PERSON else None
