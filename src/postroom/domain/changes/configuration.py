"""The configuration as a whole: what there is, and what a document wants to be there.

A document may be partial: what it does not name stays, unless it is to be pruned; and only from
the sections that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from postroom.core.errors import Misuse, NotFound
from postroom.core.settings import Place, Role, Scope, Value, declared
from postroom.domain import policy
from postroom.domain.changes.objects import (
    Kind,
    account_key,
    domain_key,
    look,
    place_name,
    plain_place,
)
from postroom.domain.changes.putting import Wish, in_order
from postroom.domain.directory import aliases, former, people
from postroom.domain.directory.aliases import Alias
from postroom.domain.directory.people import IDS_FOR_PASSWORD, Account
from postroom.domain.directory.spelling import address_of, named_domain
from postroom.domain.mailboxes import folders
from postroom.domain.policy.history import ARROW, Image
from postroom.formats.address import Address
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS

Verifiers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Person:
    """An account in a document; None is what it does not say."""

    address: Address
    name: str | None = None
    role: Role | None = None
    state: str | None = None
    verifiers: Verifiers | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Sections of a document; None is one that it does not have."""

    domains: tuple[str, ...] | None = None  # canonical
    accounts: tuple[Person, ...] | None = None
    aliases: tuple[tuple[str, str], ...] | None = None  # address, target
    settings: Mapping[str, Mapping[str, Value]] | None = None  # by place, as people name it


# --- what there is ------------------------------------------------------------------------------


def read(tx: Tx, *, secrets: bool) -> Configuration:
    """All that there is; the verifiers of passwords and sealed values only with `secrets`."""
    accounts = people.accounts(tx)
    return Configuration(
        domains=tuple(each.name for each in people.domains(tx)),
        accounts=tuple(
            Person(
                each.address,
                each.name,
                each.role,
                each.state,
                former.of_password(tx, each.id) if secrets else None,
            )
            for each in accounts
        ),
        aliases=tuple((each.address, each.target) for each in aliases.aliases(tx)),
        settings={
            place_name(tx, place): dict(held) for place, held in _settings(tx, accounts, secrets)
        },
    )


def _settings(
    tx: Tx, accounts: list[Account], secrets: bool
) -> Iterator[tuple[Place, Mapping[str, Value]]]:
    living = {str(each.id) for each in accounts}
    for place, held in policy.stored(tx).items():
        if place.scope is Scope.ACCOUNT and place.object not in living:
            continue
        shown = {n: v for n, v in held.items() if secrets or not declared(n).secret}
        if shown:
            yield place, shown


# --- what is wanted -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Plan:
    """What there is, by the names that a document has for it; and the wishes so far."""

    tx: Tx
    new_id: Callable[[], int]
    now: int
    domains: dict[str, int]
    accounts: dict[str, Account]  # by address, in the case that is compared
    aliases: dict[tuple[str, str], Alias]
    wishes: list[Wish]
    made: dict[str, int]  # ids of accounts that are to be made, by address
    gone: dict[str, Account]  # accounts that are to go, likewise

    def account(self, address: Address) -> int | None:
        """The account that has an address in the end."""
        key = people.written(address)
        if key in self.made:
            return self.made[key]
        held = self.accounts.get(key)
        return held.id if held is not None and key not in self.gone else None


def wishes(
    tx: Tx, wanted: Configuration, new_id: Callable[[], int], now: int, *, prune: bool
) -> list[Wish]:
    """What has to be done so that all is as the document says, in order; nothing if it is.

    With `prune`, what the document's sections do not name goes. Raises NotFound, Misuse for a
    document that cannot be.
    """
    plan = _Plan(
        tx,
        new_id,
        now,
        {each.name: each.id for each in people.domains(tx)},
        {people.written(each.address): each for each in people.accounts(tx)},
        {(each.address, each.target): each for each in aliases.aliases(tx)},
        [],
        {},
        {},
    )
    _domains(plan, wanted, prune)
    _accounts(plan, wanted, prune)
    _aliases(plan, wanted, prune)
    _values(plan, wanted, prune)
    return in_order(plan.wishes)


def _domains(plan: _Plan, wanted: Configuration, prune: bool) -> None:
    named = wanted.domains
    if named is None:
        return
    for name in named:
        if name not in plan.domains:
            plan.domains[name] = new = plan.new_id()
            image = {"name": name, "created_at": plan.now}
            plan.wishes.append(Wish(Kind.DOMAIN, domain_key(new), name, image))
    for name, domain in list(plan.domains.items()):
        if prune and name not in named:
            plan.wishes.append(Wish(Kind.DOMAIN, domain_key(domain), name, None))
            del plan.domains[name]


def _accounts(plan: _Plan, wanted: Configuration, prune: bool) -> None:
    named = {people.written(each.address): each for each in wanted.accounts or ()}
    if wanted.accounts is not None and prune:
        plan.gone = {key: held for key, held in plan.accounts.items() if key not in named}
        for held in plan.gone.values():
            wish = Wish(Kind.ACCOUNT, account_key(held.id), str(held.address), None)
            plan.wishes.append(wish)
    for key, person in named.items():
        if person.address.domain not in plan.domains:
            raise NotFound(f"There is no domain {person.address.domain} for {person.address}")
        known = plan.accounts.get(key)
        if known is None:
            _new_account(plan, key, person)
        else:
            _changed_account(plan, known, person)


def _new_account(plan: _Plan, key: str, person: Person) -> None:
    plan.made[key] = new = plan.new_id()
    image = _image(person, "", Role.USER, "active")
    ids = tuple(plan.new_id() for _ in folders.FIRST_FOLDERS)
    name = str(person.address)
    plan.wishes.append(Wish(Kind.ACCOUNT, account_key(new), name, image, ids))
    if person.verifiers:
        _password(plan, new, person)


def _changed_account(plan: _Plan, held: Account, person: Person) -> None:
    key = account_key(held.id)
    image = _image(person, held.name, held.role, held.state)
    if image != _image(Person(held.address), held.name, held.role, held.state):
        plan.wishes.append(Wish(Kind.ACCOUNT, key, str(held.address), image))
    verifiers = person.verifiers
    if verifiers is not None and verifiers != former.of_password(plan.tx, held.id):
        _password(plan, held.id, person)


def _image(person: Person, name: str, role: Role, state: str) -> Image:
    return {
        "address": str(person.address),
        "name": person.name if person.name is not None else name,
        "role": str(person.role or role),
        "state": person.state or state,
    }


def _password(plan: _Plan, account: int, person: Person) -> None:
    image = {"since": None} if person.verifiers else None  # a new one
    ids = tuple(plan.new_id() for _ in range(IDS_FOR_PASSWORD))
    plan.wishes.append(
        Wish(
            Kind.PASSWORD,
            account_key(account),
            str(person.address),
            image,
            ids,
            person.verifiers or {},
        )
    )


def _aliases(plan: _Plan, wanted: Configuration, prune: bool) -> None:
    named = wanted.aliases
    for (address, target), alias in plan.aliases.items():
        going, name = target in plan.gone, f"{address}{ARROW}{target}"
        if named is not None and (address, target) in named:
            if going:  # it stays, though those that lead to an account may go with it
                at = alias.created_at
                image = {"address": address, "target": target, "created_at": at}
                plan.wishes.append(Wish(Kind.ALIAS, str(alias.id), name, image))
        elif going or (prune and named is not None):
            plan.wishes.append(Wish(Kind.ALIAS, str(alias.id), name, None))
    for address, target in named or ():
        if (address, target) in plan.aliases:
            continue
        if address.rpartition("@")[2] not in plan.domains:
            raise NotFound(f"There is no domain for the alias {address}")
        image = {"address": address, "target": target, "created_at": plan.now}
        name = f"{address}{ARROW}{target}"
        plan.wishes.append(Wish(Kind.ALIAS, str(plan.new_id()), name, image))


# --- settings -----------------------------------------------------------------------------------


def _values(plan: _Plan, wanted: Configuration, prune: bool) -> None:
    if wanted.settings is None:
        return
    named: set[tuple[Place, str]] = set()
    for text, values in wanted.settings.items():
        place = _place(plan, text)
        for name, value in values.items():
            named.add((place, name))
            _value(plan, place, text, name, value)
    if not prune:
        return
    gone = {str(held.id) for held in plan.gone.values()}
    for place, held in policy.stored(plan.tx).items():
        if place.scope is Scope.ACCOUNT and place.object in gone:
            continue  # it goes with its account
        for name in held:
            # A document says nothing of secrets, or all: what it leaves out is not to go.
            if (place, name) not in named and not declared(name).secret:
                shown = f"{place_name(plan.tx, place)} {name}"
                key = policy.setting_key(place, name)
                plan.wishes.append(Wish(Kind.SETTING, key, shown, None))


def _place(plan: _Plan, text: str) -> Place:
    """The place of a document; of an account that is to be made too. Raises Misuse, NotFound."""
    scope, _, of = text.partition(":")
    if scope == Scope.DOMAIN:
        name = named_domain(of)
        if name not in plan.domains:
            raise NotFound(f"There is no domain {of}")
        return Place(Scope.DOMAIN, name)
    if scope == Scope.ACCOUNT:
        account = plan.account(address_of(of))
        if account is None:
            raise NotFound(f"There is no account {of}")
        return Place(Scope.ACCOUNT, str(account))
    return plain_place(text)


def _value(plan: _Plan, place: Place, text: str, name: str, value: Value) -> None:
    setting = declared(name)
    if place.scope not in setting.scopes:
        raise Misuse(f"{name} cannot be set for {text}")
    checked: Any = setting.check(value)
    image = {"value": list(checked) if isinstance(checked, tuple) else checked}
    key = policy.setting_key(place, name)
    held = look(plan.tx, Kind.SETTING, key)
    if held is None or held.image != image:
        plan.wishes.append(Wish(Kind.SETTING, key, f"{text} {name}", image))


# --- in pieces ----------------------------------------------------------------------------------

_ROWS: Final = {
    Kind.DOMAIN: 3,
    Kind.ACCOUNT: 14,
    Kind.PASSWORD: 8,
    Kind.ALIAS: 4,
    Kind.SETTING: 5,
}
"""Rows that a wish may touch, with its keys in the history."""
UNIT: Final = UNIT_ROWS


def pieces(wanted: list[Wish]) -> list[list[Wish]]:
    """The wishes in units, in order; one, if they fit."""
    made: list[list[Wish]] = [[]]
    rows = 0
    for wish in wanted:
        cost = _ROWS[wish.kind]
        if rows + cost > UNIT:
            made.append([])
            rows = 0
        made[-1].append(wish)
        rows += cost
    return made
