"""Operations on the keys with which mail of our domains is signed. RFC 6376."""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.admin.house import AdminHouse
from postroom.admin.render import DETAIL
from postroom.core.clock import iso
from postroom.core.errors import DnsFailed, Malformed, Misuse, NotAllowed
from postroom.core.operations import argument, operation
from postroom.core.settings import Role
from postroom.domain import signing
from postroom.domain.directory.spelling import named_domain
from postroom.domain.signing import ACTIVE, PUBLISHED, RETIRED, SigningKey
from postroom.formats.address import BadAddress, canonical_domain
from postroom.mailflow import signingkeys
from postroom.store.sql import Tx
from postroom.trust.dkim import KINDS


@dataclass(frozen=True, slots=True)
class KeysOf:
    """The keys of one domain."""

    domain: str = argument("The domain's name, such as example.org")

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made."""

    domain: str = argument("The domain's name, such as example.org")
    kind: str = argument("`rsa` (2048 bits) or `ed25519`; without it one of each", default="")
    selector: str = argument("Its name in DNS; without it one made of the day", default="")
    apart: bool = argument(
        "It signs only what a line of dkim.rules names it for, beside the key that signs all else",
        default=False,
    )

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class OneKey:
    """One key of a domain."""

    domain: str = argument("The domain's name, such as example.org")
    selector: str = argument("The key's name in DNS, as `dkim key list` shows it")

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class KeyView:
    selector: str
    kind: str
    state: str
    since: str
    apart: bool
    domain: str = field(metadata=DETAIL)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What DNS is to say of a key."""

    selector: str
    state: str
    zone: str

    def told(self) -> str:
        return f"; {self.selector} is {self.state}\n{self.zone}"


def _view(key: SigningKey) -> KeyView:
    return KeyView(key.selector, key.kind, key.state, iso(key.since), bool(key.apart), key.domain)


@operation("dkim key list", Role.DOMAIN_ADMIN, changes=False)
async def list_keys(house: AdminHouse, asked: KeysOf) -> tuple[KeyView, ...]:
    """List the keys of a domain and how far each is: made, published (it was seen in DNS), active
    (it signs), retired (it signs no more, and its record has to stay for a while)."""
    found = await house.flow.mail.read(signing.of_domain, asked.domain)
    return tuple([_view(each) for each in found])


@operation("dkim key records", Role.DOMAIN_ADMIN, changes=False)
async def key_records(house: AdminHouse, asked: KeysOf) -> tuple[KeyRecord, ...]:
    """Show the records that DNS is to have for the keys of a domain, as text of a zone."""
    found = await house.flow.mail.read(signing.of_domain, asked.domain)
    return tuple([KeyRecord(k.selector, k.state, signingkeys.zone_text(k)) for k in found])


@operation("dkim key create", Role.DOMAIN_ADMIN)
async def create_key(house: AdminHouse, asked: NewKey) -> tuple[KeyRecord, ...]:
    """Make a signing key of a domain, or one of each kind. It signs once its record was seen in
    DNS and it was activated, by the server itself if dkim.activate says so. A key apart signs
    what a line of dkim.rules names it for, and is never made anew by itself."""
    if asked.kind and asked.kind not in KINDS:
        raise Misuse(f"A key is of one of the kinds {', '.join(KINDS)}")
    if asked.apart and not asked.selector:
        raise Misuse("A key apart is named by a line of dkim.rules: say its selector")
    if asked.selector and not asked.kind:
        raise Misuse("A selector names one key: say which kind")
    selector = _selector(asked.selector) if asked.selector else ""
    name = named_domain(asked.domain)
    kinds = (asked.kind,) if asked.kind else KINDS
    made = [
        await signingkeys.make(house.flow, name, kind, selector, apart=asked.apart)
        for kind in kinds
    ]
    return tuple([KeyRecord(k.selector, k.state, signingkeys.zone_text(k)) for k in made])


def _selector(text: str) -> str:
    try:
        name = canonical_domain(text)
    except BadAddress as error:
        raise Malformed(f"{text} is no selector: letters, digits and inner hyphens") from error
    if name.startswith("[") or len(name) > _LONGEST:
        raise Malformed(f"{text} is no selector: letters, digits and inner hyphens")
    return name


_LONGEST = 63


@operation("dkim key activate", Role.DOMAIN_ADMIN)
async def activate_key(house: AdminHouse, asked: OneKey) -> KeyView:
    """Let a key sign, if DNS has its record now. The key of its kind that signed before is
    retired, unless one of them stands apart: its record has to stay in DNS for dkim.keep_days."""
    mail = house.flow.mail
    key = await mail.read(signing.one, named_domain(asked.domain), asked.selector)
    if key.state == ACTIVE:
        return _view(key)
    try:
        why = await signingkeys.missing(house.flow, key)
    except DnsFailed as error:
        raise NotAllowed(
            f"DNS gave no answer about the key {key.selector}: it does not sign before it was seen",
            detail=error.detail,
        ) from error
    if why:
        raise NotAllowed(
            f"Others cannot check the key {key.selector} yet: {why}. See `dkim key records`"
        )

    def unit(tx: Tx) -> SigningKey:
        now = house.flow.clock.now()
        seen = key if key.state == PUBLISHED else signing.move(tx, key, PUBLISHED, now)
        return signing.move(tx, seen, ACTIVE, now)

    return _view(await mail.write(unit))


@operation("dkim key retire", Role.DOMAIN_ADMIN)
async def retire_key(house: AdminHouse, asked: OneKey) -> KeyView:
    """Let a key sign no more. Its record has to stay in DNS for dkim.keep_days, for mail that is
    under way; then the key is removed."""

    def unit(tx: Tx) -> SigningKey:
        key = signing.one(tx, named_domain(asked.domain), asked.selector)
        if key.state == RETIRED:
            return key
        return signing.move(tx, key, RETIRED, house.flow.clock.now())

    return _view(await house.flow.mail.write(unit))
