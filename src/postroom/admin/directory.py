"""Operations on domains, accounts and aliases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.access import random_password
from postroom.admin.house import AdminHouse
from postroom.core.clock import Instant, iso
from postroom.core.errors import Malformed, NotAllowed
from postroom.core.ids import ACCOUNT, external
from postroom.core.operations import argument, operation
from postroom.core.settings import Place, Role, Scope
from postroom.domain import policy
from postroom.domain.directory import aliases, people
from postroom.domain.directory.people import Account, Domain, NewAccount
from postroom.domain.mailboxes import folders
from postroom.domain.policy import Assignment
from postroom.formats.address import Address, canonical_domain, parse_mailbox
from postroom.store.sql import Tx

NAME_LENGTH = 200
_MANY = 10_000


def domain_of(address: str) -> str:
    """The canonical domain of an address as it was written; raises Malformed."""
    _, at, domain = address.rpartition("@")
    if not at:
        raise Malformed(f"{address} is not an address")
    return canonical_domain(domain)


# --- domains ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DomainName:
    """One domain."""

    domain: str = argument("The domain's name, such as example.org")

    def of_domain(self) -> str:
        return canonical_domain(self.domain)


@dataclass(frozen=True, slots=True)
class Nothing:
    """No argument."""


@dataclass(frozen=True, slots=True)
class DomainView:
    domain: str
    accounts: int
    aliases: int
    created: str


def _domain_view(tx: Tx, of: Domain) -> DomainView:
    accounts, its_aliases = people.domain_use(tx, of)
    return DomainView(of.name, accounts, its_aliases, iso(of.created_at))


@operation("domain create", Role.ADMIN)
async def create_domain(house: AdminHouse, asked: DomainName) -> DomainView:
    """Make a domain: from now on its mail is for this server."""
    flow = house.flow
    made = await flow.mail.write(
        people.create_domain, flow.ids.new(), asked.domain, flow.clock.now()
    )
    return DomainView(made.name, 0, 0, iso(made.created_at))


@operation("domain list", Role.ADMIN, changes=False)
async def list_domains(house: AdminHouse, asked: Nothing) -> tuple[DomainView, ...]:
    """List the domains of this server."""

    def look(tx: Tx) -> tuple[DomainView, ...]:
        return tuple(_domain_view(tx, of) for of in people.domains(tx))

    return await house.flow.mail.read_much(look)


@operation("domain show", Role.DOMAIN_ADMIN, changes=False)
async def show_domain(house: AdminHouse, asked: DomainName) -> DomainView:
    """Show one domain."""
    return await house.flow.mail.read(lambda tx: _domain_view(tx, people.domain(tx, asked.domain)))


@operation("domain delete", Role.ADMIN)
async def delete_domain(house: AdminHouse, asked: DomainName) -> DomainView:
    """Delete a domain that has neither accounts nor aliases, with the settings made for it."""
    flow = house.flow
    change_set, now, author = flow.ids.new(), flow.clock.now(), house.caller.principal

    def unit(tx: Tx) -> Domain:
        gone = people.delete_domain(tx, asked.domain)
        _forget_settings(tx, Place(Scope.DOMAIN, gone.name), change_set, now, author)
        return gone

    gone = await flow.mail.write(unit)
    return DomainView(gone.name, 0, 0, iso(gone.created_at))


def _forget_settings(tx: Tx, place: Place, change_set: int, now: Instant, author: int) -> None:
    """What was set for a place that is gone must not come back with another of its name."""
    held = policy.stored(tx).get(place)
    if held:
        unset = [Assignment(place, name, None) for name in sorted(held)]
        policy.change(tx, unset, change_set, now, author, f"{place} was deleted")


# --- accounts ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountAddress:
    """One account."""

    address: str = argument("The account's address")

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class CreateAccount:
    """A new account."""

    address: str = argument("The address of the new account")
    name: str = argument("The name that people see", default="")
    password: str = argument(
        "Its password; without one a random password is made and shown once",
        default="",
        secret=True,
    )
    role: Role = argument("What it may administer", default=Role.USER)

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class SetPassword:
    """A new password."""

    address: str = argument("The account's address")
    password: str = argument(
        "The new password; without one a random password is made and shown once",
        default="",
        secret=True,
    )

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class SetState:
    """A new state."""

    address: str = argument("The account's address")
    state: str = argument(
        "active; frozen: receives, but nobody signs in; disabled: as if it did not exist"
    )

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class SetRole:
    """A new role."""

    address: str = argument("The account's address")
    role: Role = argument("What it may administer")

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class SetName:
    """A new display name."""

    address: str = argument("The account's address")
    name: str = argument("The name that people see")

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class InDomain:
    """All, or those of one domain."""

    domain: str = argument("Only those of this domain", default="")

    def of_domain(self) -> str:
        return canonical_domain(self.domain) if self.domain else ""


@dataclass(frozen=True, slots=True)
class AccountView:
    address: str
    name: str
    role: Role
    state: str
    messages: int
    octets: int
    created: str
    id: str


@dataclass(frozen=True, slots=True)
class PasswordView:
    """An account that was given a password; the password if it was made up here."""

    address: str
    id: str
    password: str


def _account_view(of: Account) -> AccountView:
    return AccountView(
        str(of.address),
        of.name,
        of.role,
        of.state,
        of.used_messages,
        of.used_bytes,
        iso(of.created_at),
        external(ACCOUNT, of.id),
    )


async def secret_for(house: AdminHouse, password: str, address: Address) -> tuple[str, str]:
    """A verifier, and the password if it was made up here; raises NotAllowed, Malformed."""
    if password:
        return await house.authenticator.secret_for(password, address), ""
    made = random_password(house.flow.random)
    return await house.authenticator.secret_of_generated(made), made


def _name(text: str) -> str:
    if len(text) > NAME_LENGTH or not (text.isprintable() or not text):
        raise Malformed(f"A name has at most {NAME_LENGTH} characters, all of them visible")
    return text


def _governed(house: AdminHouse, role: Role) -> None:
    """Nobody gives, or acts on, a role above their own."""
    if not house.caller.role.covers(role):
        raise NotAllowed(f"That needs the role {role}")


def _account(tx: Tx, house: AdminHouse, address: str) -> Account:
    found = people.account(tx, parse_mailbox(address))
    _governed(house, found.role)
    return found


def create(tx: Tx, new: NewAccount, ids: Sequence[int], now: Instant, actor: int) -> Account:
    """An account with its first mailboxes; takes IDS_FOR_ACCOUNT ids."""
    fresh = iter(ids)
    made = people.create_account(tx, new, fresh, now)
    folders.create_first(tx, made.id, fresh, now, actor)
    return made


IDS_FOR_ACCOUNT = 2 + len(folders.FIRST_FOLDERS)


@operation("account create", Role.DOMAIN_ADMIN)
async def create_account(house: AdminHouse, asked: CreateAccount) -> PasswordView:
    """Make an account with its first mailboxes."""
    flow = house.flow
    address = parse_mailbox(asked.address)
    _governed(house, asked.role)
    name = _name(asked.name)
    # Asked for before hashing: the usual mistakes cost nothing.
    await flow.mail.read(people.domain, address.domain)
    secret, made_up = await secret_for(house, asked.password, address)
    made = await flow.mail.write(
        create,
        NewAccount(address, name, asked.role, secret),
        [flow.ids.new() for _ in range(IDS_FOR_ACCOUNT)],
        flow.clock.now(),
        house.caller.principal,
    )
    return PasswordView(str(made.address), external(ACCOUNT, made.id), made_up)


@operation("account list", Role.DOMAIN_ADMIN, changes=False)
async def list_accounts(house: AdminHouse, asked: InDomain) -> tuple[AccountView, ...]:
    """List the accounts, at most 10,000 of them."""
    found = await house.flow.mail.read_much(people.accounts, asked.of_domain(), _MANY)
    return tuple(map(_account_view, found))


@operation("account show", Role.DOMAIN_ADMIN, changes=False)
async def show_account(house: AdminHouse, asked: AccountAddress) -> AccountView:
    """Show one account."""
    address = parse_mailbox(asked.address)
    return _account_view(await house.flow.mail.read(people.account, address))


@operation("account delete", Role.DOMAIN_ADMIN)
async def delete_account(house: AdminHouse, asked: AccountAddress) -> AccountView:
    """Delete an account with all that it holds. Its address is free at once; its content goes
    in the background."""
    flow = house.flow
    change_set, now, author = flow.ids.new(), flow.clock.now(), house.caller.principal

    def unit(tx: Tx) -> Account:
        found = _account(tx, house, asked.address)
        people.delete_account(tx, found)
        _forget_settings(tx, Place(Scope.ACCOUNT, str(found.id)), change_set, now, author)
        return found

    return _account_view(await flow.mail.write(unit))


@operation("account password", Role.DOMAIN_ADMIN)
async def set_password(house: AdminHouse, asked: SetPassword) -> PasswordView:
    """Set an account's password. Its open sessions end."""
    flow = house.flow
    address = parse_mailbox(asked.address)
    await flow.mail.read(people.account, address)
    secret, made_up = await secret_for(house, asked.password, address)
    credential, now = flow.ids.new(), flow.clock.now()

    def unit(tx: Tx) -> Account:
        found = _account(tx, house, asked.address)
        people.set_secret(tx, found.id, secret, credential, now)
        return found

    found = await flow.mail.write(unit)
    return PasswordView(str(found.address), external(ACCOUNT, found.id), made_up)


@operation("account state", Role.DOMAIN_ADMIN)
async def set_state(house: AdminHouse, asked: SetState) -> AccountView:
    """Freeze, disable or activate an account. Its open sessions end."""

    def unit(tx: Tx) -> Account:
        found = _account(tx, house, asked.address)
        people.set_state(tx, found, asked.state)
        return people.by_id(tx, found.id)

    return _account_view(await house.flow.mail.write(unit))


@operation("account role", Role.DOMAIN_ADMIN)
async def set_role(house: AdminHouse, asked: SetRole) -> AccountView:
    """Say what an account may administer."""
    _governed(house, asked.role)

    def unit(tx: Tx) -> Account:
        found = _account(tx, house, asked.address)
        people.set_role(tx, found, asked.role)
        return people.by_id(tx, found.id)

    return _account_view(await house.flow.mail.write(unit))


@operation("account name", Role.DOMAIN_ADMIN)
async def set_name(house: AdminHouse, asked: SetName) -> AccountView:
    """Set the name that people see. The address stays."""
    name = _name(asked.name)

    def unit(tx: Tx) -> Account:
        found = _account(tx, house, asked.address)
        people.set_name(tx, found, name)
        return people.by_id(tx, found.id)

    return _account_view(await house.flow.mail.write(unit))


# --- aliases ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateAlias:
    """A new alias."""

    address: str = argument("The alias; its local part may hold the wildcards * and ?")
    target: str = argument("The address of this server that it leads to")

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class DeleteAlias:
    """An alias that goes."""

    address: str = argument("The alias")
    target: str = argument("Only the way to this address; without it all of them", default="")

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class AliasView:
    address: str
    target: str
    created: str


@dataclass(frozen=True, slots=True)
class AliasesGone:
    address: str
    removed: int


@operation("alias create", Role.DOMAIN_ADMIN)
async def create_alias(house: AdminHouse, asked: CreateAlias) -> AliasView:
    """Let an address lead to another one of this server. Several aliases of one address lead
    to all their targets."""
    flow = house.flow
    if house.caller.role is not Role.ADMIN and domain_of(asked.target) != asked.of_domain():
        raise NotAllowed("A domain's administrator makes aliases within the domain")
    number, now = flow.ids.new(), flow.clock.now()
    made = await flow.mail.write(
        lambda tx: aliases.create_alias(tx, asked.address, asked.target, iter((number,)), now)
    )
    return AliasView(f"{made.pattern}@{made.domain}", made.target, iso(made.created_at))


@operation("alias list", Role.DOMAIN_ADMIN, changes=False)
async def list_aliases(house: AdminHouse, asked: InDomain) -> tuple[AliasView, ...]:
    """List the aliases, at most 10,000 of them."""
    found = await house.flow.mail.read_much(aliases.aliases, asked.of_domain(), _MANY)
    return tuple(
        AliasView(f"{each.pattern}@{each.domain}", each.target, iso(each.created_at))
        for each in found
    )


@operation("alias delete", Role.DOMAIN_ADMIN)
async def delete_alias(house: AdminHouse, asked: DeleteAlias) -> AliasesGone:
    """Delete an alias, or one of its targets."""
    removed = await house.flow.mail.write(aliases.delete_alias, asked.address, asked.target)
    return AliasesGone(asked.address, removed)
