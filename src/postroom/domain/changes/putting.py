"""Making objects what images say, for who takes a change back and who applies a configuration."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import NotAllowed, NotFound
from postroom.core.ids import ACCOUNT, DOMAIN, internal
from postroom.core.settings import Place, Role, Scope, declared
from postroom.domain import policy
from postroom.domain.changes import whole
from postroom.domain.changes.changing import Changing
from postroom.domain.changes.objects import Kind, living, look
from postroom.domain.directory import aliases, former, people
from postroom.domain.directory.people import NewAccount
from postroom.domain.policy import Assignment
from postroom.domain.policy.history import Image
from postroom.formats.address import parse_mailbox


@dataclass(frozen=True, slots=True)
class Wish:
    """What an object shall be: its whole image, or None for not there.

    `ids` are those that a new account takes; without them it is one that was deleted. `verifiers`
    are the password's, by kind.
    """

    kind: Kind
    key: str
    name: str
    image: Image | None
    ids: tuple[int, ...] = ()
    verifiers: Mapping[str, str] = field(default_factory=dict, repr=False)


GOING: Final = (Kind.SETTING, Kind.ALIAS, Kind.ACCOUNT, Kind.DOMAIN)
COMING: Final = (Kind.DOMAIN, Kind.ACCOUNT, Kind.PASSWORD, Kind.ALIAS, Kind.SETTING)


def in_order(wishes: Iterable[Wish]) -> list[Wish]:
    """What goes before what comes, and each before what leans on it."""
    given = list(wishes)
    going = [w for kind in GOING for w in given if w.kind is kind and w.image is None]
    coming = [
        w
        for kind in COMING
        for w in given
        if w.kind is kind and (w.image is not None or kind is Kind.PASSWORD)
    ]
    return going + coming


def put_all(changing: Changing, wishes: Iterable[Wish]) -> None:
    """Make all of them so, or raise what stands in the way: NotFound, AlreadyExists, InUse,
    NotAllowed, Misuse, LimitReached."""
    tx = changing.tx
    governed = bool(people.lock_admins(tx))
    for wish in in_order(wishes):
        changing.touch(wish.kind, wish.key)
        match wish.kind:
            case Kind.DOMAIN:
                _domain(changing, wish)
            case Kind.ACCOUNT:
                _account(changing, wish)
            case Kind.PASSWORD:
                _password(changing, wish)
            case Kind.ALIAS:
                _alias(changing, wish)
            case Kind.SETTING:
                _setting(changing, wish)
    # In the end and not at each step: one may take over from another.
    if governed and not people.lock_admins(tx):
        raise NotAllowed("Somebody has to be left to administer")


def _domain(changing: Changing, wish: Wish) -> None:
    tx, domain = changing.tx, internal(DOMAIN, wish.key)
    held = people.domain_by_id(tx, domain)
    if wish.image is None:
        if held is not None:
            whole.delete_domain(changing, held.name)
    elif held is None:
        people.return_domain(tx, domain, wish.image["name"], Instant(wish.image["created_at"]))


def _account(changing: Changing, wish: Wish) -> None:
    tx, now, account = changing.tx, changing.note.at, internal(ACCOUNT, wish.key)
    held = living(tx, account)
    if wish.image is None:
        if held is not None:
            whole.unmake_account(changing, held)
        return
    address = parse_mailbox(wish.image["address"])
    role, state = Role(wish.image["role"]), wish.image["state"]
    if held is None and wish.ids:
        new = NewAccount(address, wish.image["name"], role, None)
        held = whole.create_account(changing, new, itertools.chain((account,), wish.ids))
    elif held is None:
        people.return_account(tx, account, address, role, state, now)
        held = people.by_id(tx, account)
    elif str(held.address) != str(address):
        people.readdress(tx, held, address)
    people.set_standing(tx, held, role, state)
    people.set_name(tx, held, wish.image["name"])


def _password(changing: Changing, wish: Wish) -> None:
    account = people.by_id(changing.tx, internal(ACCOUNT, wish.key))
    whole.keep_password(changing, account, wish.image["since"] if wish.image else None)
    former.put(changing.tx, account.id, wish.verifiers, iter(wish.ids), changing.note.at)


def _alias(changing: Changing, wish: Wish) -> None:
    tx = changing.tx
    if look(tx, wish.kind, wish.key) is not None:
        aliases.remove_alias(tx, int(wish.key))
    if wish.image is not None:
        ids: Iterator[int] = iter((int(wish.key),))
        at = Instant(wish.image["created_at"])
        aliases.create_alias(tx, wish.image["address"], wish.image["target"], ids, at)


def _setting(changing: Changing, wish: Wish) -> None:
    tx = changing.tx
    place, name = policy.setting_of(wish.key)
    value = None
    if wish.image is not None:
        _there(changing, place, wish.name)
        value = declared(name).check(wish.image["value"])
    policy.assign(tx, [Assignment(place, name, value)], changing.note.id)


def _there(changing: Changing, place: Place, name: str) -> None:
    """Raises NotFound for a place that is gone."""
    if place.scope is Scope.DOMAIN:
        people.domain(changing.tx, place.object)
    elif place.scope is Scope.ACCOUNT and living(changing.tx, int(place.object)) is None:
        raise NotFound(f"The account of {name} is gone")
