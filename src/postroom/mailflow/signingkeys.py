"""The life of signing keys: made for each domain, seen in DNS, let sign, retired, removed.

Who runs the domain's DNS may be somebody else and may be slow: nothing signs before its record was
seen there, and nothing is taken away while mail that it signed may still be under way.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Final

import structlog

from postroom.core.clock import Instant, to_datetime
from postroom.core.errors import DnsFailed, MailError, Unreachable
from postroom.domain import signing
from postroom.domain.directory import people
from postroom.domain.signing import ACTIVE, MADE, PUBLISHED, RETIRED, SigningKey
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import DkimSettings
from postroom.store.sql import Tx
from postroom.trust.dkim import KINDS, BadKey
from postroom.trust.dkim import key as keys_in_dns
from postroom.trust.dkim import sign as trust
from postroom.trust.dkim.signature import key_name

DAY: Final = 24 * 3600 * 1000
MAKES: Final = 20
"""Keys that one piece of the job makes: RSA takes some hundred milliseconds each."""
_STRING: Final = 255  # octets of one string of a TXT record: RFC 1035 §3.3

_log: Final = structlog.get_logger("postroom.mailflow")


# --- one key ------------------------------------------------------------------------------------


async def make(
    house: MailHouse, domain: str, kind: str, selector: str = "", *, apart: bool = False
) -> SigningKey:
    """A new key of a domain. Raises NotFound, AlreadyExists, Misuse, SecretUnreadable."""
    octets = await asyncio.to_thread(trust.make_key, kind)
    id_, now = house.ids.new(), house.clock.now()
    private = house.secrets.seal(base64.b64encode(octets).decode("ascii"), signing.secret_of(id_))
    record = trust.record(kind, octets)

    def unit(tx: Tx) -> SigningKey:
        taken = {each.selector for each in signing.of_domain(tx, domain)}
        name = selector or _free(now, kind, taken)
        fresh = SigningKey(id_, domain, name, kind, MADE, now, record, private, now, int(apart))
        signing.insert(tx, fresh, now)
        return fresh

    return await house.mail.write(unit)


def _free(now: Instant, kind: str, taken: set[str]) -> str:
    """A selector that says when the key was made, and of which kind it is."""
    name = f"{to_datetime(now):%Y%m%d}{kind[0]}"
    n, found = 1, name
    while found in taken:
        n += 1
        found = f"{name}{n}"
    return found


async def missing(house: MailHouse, key: SigningKey) -> str:
    """Why the key cannot be checked by others, as DNS says now; empty if it can. Raises
    Unreachable where nobody can be asked, DnsFailed."""
    if house.checks is None:
        raise Unreachable("DNS can be asked by a running server alone")
    found = await house.checks.dkim_key_now(key_name(key.domain, key.selector))
    if isinstance(found, BadKey):
        return str(found)
    ours = keys_in_dns.read(key.record.encode("ascii"))
    if (found.kind, found.public) != (ours.kind, ours.public):
        return "There is another key in DNS"
    return "The key in DNS is marked as being tried out (t=y)" if found.testing else ""


def zone_text(key: SigningKey) -> str:
    """The record as a zone file has it, in strings of at most 255 octets. RFC 6376 §3.6.2.2."""
    pieces = [key.record[at : at + _STRING] for at in range(0, len(key.record), _STRING)]
    strings = " ".join(f'"{piece}"' for piece in pieces)
    if len(pieces) > 1:
        strings = f"( {strings} )"
    return f"{key_name(key.domain, key.selector)}. IN TXT {strings}"


# --- all keys -----------------------------------------------------------------------------------


async def tend(house: MailHouse) -> bool:
    """Do for each domain what is due; returns whether there is more to make."""
    names, keys = await house.mail.read_much(_all)
    now, left = house.clock.now(), MAKES
    for name in names:
        chain = house.chain("", name)
        policy = await house.mail.read(house.policies.current, chain)
        settings = policy.of(DkimSettings)
        its = keys.get(name, [])
        try:
            for kind in _wanted(its, settings, now):
                if not left:
                    return True
                left -= 1
                made = await make(house, name, kind)
                _log.info("signing key made", domain=name, selector=made.selector)
            for key in its:
                await _advance(house, key, settings, now)
        except MailError as error:
            # Of one domain: the others have theirs all the same, and it is tried again.
            _log.warning("signing keys wait", domain=name, reason=error.detail or str(error))
    return False


def _all(tx: Tx) -> tuple[list[str], dict[str, list[SigningKey]]]:
    found: dict[str, list[SigningKey]] = {}
    for key in signing.keys(tx):
        found.setdefault(key.domain, []).append(key)
    return [each.name for each in people.domains(tx)], found


def _wanted(keys: list[SigningKey], settings: DkimSettings, now: Instant) -> list[str]:
    """The kinds of which a key is to be made: those that have none, or one grown old."""
    wanted = []
    for kind in KINDS:
        # Those apart are made for something, by somebody, who knows when they have had their time.
        states = {each.state: each for each in keys if each.kind == kind and not each.apart}
        old = states.get(ACTIVE)
        if MADE in states or PUBLISHED in states:
            continue
        if old is None:
            # One that somebody retired by hand is not made again behind his back.
            if settings.make_keys and not states:
                wanted.append(kind)
        elif settings.rotate_days and now - old.since >= settings.rotate_days * DAY:
            wanted.append(kind)
    return wanted


async def _advance(house: MailHouse, key: SigningKey, settings: DkimSettings, now: Instant) -> None:
    """Bring one key into its next state, if its time has come. Raises MailError."""
    if key.state == RETIRED:
        if now - key.since >= settings.keep_days * DAY:
            await house.mail.write_later(signing.remove, key)
            _log.info("signing key removed", domain=key.domain, selector=key.selector)
        return
    if key.state == ACTIVE or house.checks is None:
        return
    try:
        why = await missing(house, key)
    except DnsFailed as error:
        _log.info("signing key not looked up", domain=key.domain, reason=error.detail)
        return
    if why:
        if key.state == PUBLISHED:
            await house.mail.write_later(signing.move, key, MADE, now)
        return
    if key.state == MADE:
        key = await house.mail.write_later(signing.move, key, PUBLISHED, now)
    if settings.activate:
        await house.mail.write_later(signing.move, key, ACTIVE, now)
        _log.info("signing key signs", domain=key.domain, selector=key.selector)
