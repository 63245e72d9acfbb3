"""The objects of administration and their images.

An image holds what an administrator may change, and enough to make the object again. It is JSON
and holds no secret: of a password it names the change set that set it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from postroom.core.errors import Malformed, Misuse, NotFound
from postroom.core.ids import ACCOUNT, DOMAIN, external, internal
from postroom.core.settings import SERVER, Place, Scope
from postroom.domain import policy
from postroom.domain.directory import aliases, former, people
from postroom.domain.directory.people import Account
from postroom.domain.directory.spelling import address_of
from postroom.domain.policy import history
from postroom.domain.policy.history import ARROW, Image
from postroom.store.sql import Tx

PLACES: Final = "server, node:N, listener:NAME, domain:NAME or account:ADDRESS"


class Kind(StrEnum):
    """The kinds of objects, each after what it leans on."""

    DOMAIN = "domain"
    ACCOUNT = "account"
    PASSWORD = "password"  # noqa: S105 - a word, not one
    ALIAS = "alias"
    SETTING = "setting"


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as it is: what people call it, and its image."""

    name: str
    image: Image


def domain_key(domain: int) -> str:
    return external(DOMAIN, domain)


def account_key(account: int) -> str:
    return external(ACCOUNT, account)


def look(tx: Tx, kind: Kind, key: str) -> Seen | None:
    """The object as it is now; None if it is not there, or was deleted."""
    match kind:
        case Kind.DOMAIN:
            return _domain(tx, internal(DOMAIN, key))
        case Kind.ACCOUNT:
            return _account(tx, internal(ACCOUNT, key))
        case Kind.PASSWORD:
            return _password(tx, internal(ACCOUNT, key))
        case Kind.ALIAS:
            return _alias(tx, int(key))
        case Kind.SETTING:
            return _setting(tx, key)


def living(tx: Tx, account: int) -> Account | None:
    """The account of that id, unless it was deleted."""
    try:
        found = people.by_id(tx, account)
    except NotFound:
        return None
    return found if found.kind != people.GONE else None


def _domain(tx: Tx, domain: int) -> Seen | None:
    found = people.domain_by_id(tx, domain)
    if found is None:
        return None
    return Seen(found.name, {"name": found.name, "created_at": found.created_at})


def _account(tx: Tx, account: int) -> Seen | None:
    found = living(tx, account)
    if found is None:
        return None
    address = str(found.address)
    role = str(found.role)
    return Seen(
        address, {"address": address, "name": found.name, "role": role, "state": found.state}
    )


def _password(tx: Tx, account: int) -> Seen | None:
    found = living(tx, account)
    if found is None or not former.of_password(tx, account):
        return None
    return Seen(str(found.address), {"since": password_since(tx, account)})


def password_since(tx: Tx, account: int) -> str:
    """Which password it is: the change set that set it first, as verifiers are made anew at
    times; empty if none did."""
    key = account_key(account)
    for made in history.of(tx, f"{Kind.PASSWORD} {key}", 1):
        for change in made.diff:
            if change.kind == Kind.PASSWORD and change.key == key and change.is_ is not None:
                return str(change.is_["since"])
    return ""


def _alias(tx: Tx, alias: int) -> Seen | None:
    found = aliases.alias_by_id(tx, alias)
    if found is None:
        return None
    return Seen(
        f"{found.address}{ARROW}{found.target}",
        {"address": found.address, "target": found.target, "created_at": found.created_at},
    )


def _setting(tx: Tx, key: str) -> Seen | None:
    place, name = policy.setting_of(key)
    image = policy.value_at(tx, place, name)
    return Seen(f"{place_name(tx, place)} {name}", image) if image is not None else None


def place_name(tx: Tx, place: Place) -> str:
    """A place as people call it: an account's by its address."""
    if place.scope is not Scope.ACCOUNT:
        return str(place)
    try:
        return f"account:{people.by_id(tx, int(place.object)).address}"
    except (NotFound, Malformed):
        return f"account {external(ACCOUNT, int(place.object))}, which is gone"


def place(tx: Tx, text: str) -> Place:
    """The place that people name; raises Misuse, NotFound for what is not there."""
    scope, _, of = text.partition(":")
    if scope == Scope.DOMAIN and of:
        return Place(Scope.DOMAIN, people.domain(tx, of).name)
    if scope == Scope.ACCOUNT and of:
        return Place(Scope.ACCOUNT, str(people.account(tx, address_of(of)).id))
    return plain_place(text)


def plain_place(text: str) -> Place:
    """A place that needs no looking up: server, node or listener; raises Misuse for others."""
    scope, _, of = text.partition(":")
    match scope:
        case Scope.SERVER if not of:
            return SERVER
        case Scope.NODE if of.isascii() and of.isdecimal():
            return Place(Scope.NODE, str(int(of)))
        case Scope.LISTENER if of:
            return Place(Scope.LISTENER, of)
    raise Misuse(f"A place is {PLACES}, not {text}")
