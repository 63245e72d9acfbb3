"""Operations on domains and accounts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from postroom.access import random_password
from postroom.admin.house import AdminHouse, changed
from postroom.admin.render import DETAIL
from postroom.core.clock import Instant, iso
from postroom.core.errors import InUse, Malformed, Misuse, NotAllowed
from postroom.core.ids import ACCOUNT, external
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain.changes import Changing, whole
from postroom.domain.changes.whole import IDS_FOR_ACCOUNT
from postroom.domain.directory import aliases, people
from postroom.domain.directory.people import (
    IDS_FOR_PASSWORD,
    Account,
    Domain,
    NewAccount,
    Verifiers,
)
from postroom.domain.directory.spelling import address_of, named_domain
from postroom.domain.policy.history import MOST
from postroom.formats.address import Address
from postroom.mailflow.settings import ServerSettings
from postroom.store.sql import Tx

NAME_LENGTH = 200
_MANY = 10_000
_NAMED = 5
"""Addresses that a refusal names."""


def fresh(house: AdminHouse, count: int) -> list[int]:
    """New ids, made before the unit that takes them."""
    return [house.flow.ids.new() for _ in range(count)]


def domain_of(address: str) -> str:
    """The canonical domain of an address as it was written; raises Malformed."""
    _, at, domain = address.rpartition("@")
    if not at:
        raise Malformed(f"{address} is not an address")
    return named_domain(domain)


# --- domains ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DomainName:
    """One domain."""

    domain: str = argument("The domain's name, such as example.org")

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class CreateDomain:
    """A new domain."""

    domain: str = argument("The domain's name, such as example.org")
    administrator: str = argument(
        "Where postmaster@ and abuse@ of the domain lead to; without it to the administrator of "
        "the server's default domain",
        default="",
    )
    no_aliases: bool = argument(
        "Make neither postmaster@ nor abuse@, which RFC 5321 and RFC 2142 ask for", default=False
    )


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
async def create_domain(house: AdminHouse, asked: CreateDomain) -> DomainView:
    """Make a domain: from now on its mail is for this server. Its postmaster@ and abuse@ lead to
    the administrator."""
    ids = fresh(house, 1 + len(whole.SYSTEM_ADDRESSES))
    given = address_of(asked.administrator) if asked.administrator else None
    if given is not None and asked.no_aliases:
        raise Misuse("Aliases lead to an administrator, or are not made: not both")

    def unit(changing: Changing) -> DomainView:
        system = None
        if not asked.no_aliases:
            system = given or _administrator(changing.tx, house)
        made = whole.create_domain(changing, asked.domain, system, iter(ids))
        return _domain_view(changing.tx, made)

    return await changed(house, unit)


def _administrator(tx: Tx, house: AdminHouse) -> Address | None:
    names = house.flow.policies.current(tx, house.flow.chain("")).of(ServerSettings)
    found = whole.administrator(tx, names.default_domain)
    return found.address if found is not None else None


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


@dataclass(frozen=True, slots=True)
class DeleteDomain:
    """A domain that goes."""

    domain: str = argument("The domain's name, such as example.org")
    with_accounts: bool = argument(
        "Delete its accounts and aliases too; accounts can be brought back for a while",
        default=False,
    )

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class DomainGone:
    """A deleted domain, what went with it, and how it comes back."""

    domain: str
    accounts: int
    aliases: int
    change_set: str  # what `changes revert` takes

    def told(self) -> str:
        took = [
            counted(number, one, many)
            for number, one, many in (
                (self.accounts, "account", ""),
                (self.aliases, "alias", "aliases"),
            )
            if number
        ]
        gone = f"{self.domain} is deleted{', with ' if took else ''}{' and '.join(took)}."
        return f"{gone} To bring it back:\n  postroom changes revert {self.change_set}"


@operation("domain delete", Role.ADMIN)
async def delete_domain(house: AdminHouse, asked: DeleteDomain) -> DomainGone:
    """Delete a domain with its postmaster@ and abuse@ and the settings made for it; one that has
    other addresses only with all of them, if that is asked for, in one change set. `changes revert`
    brings back the domain, and its accounts while they can be."""

    def unit(changing: Changing) -> tuple[Domain, int, int]:
        tx = changing.tx
        found = people.domain(tx, asked.domain)
        names = house.flow.policies.current(tx, house.flow.chain("")).of(ServerSettings)
        if found.name == names.default_domain:
            raise InUse(
                f"{found.name} is the server's default domain: set server.default_domain to another"
            )
        held = people.accounts(tx, found.name, MOST + 1)
        system = {f"{local}@{found.name}" for local in whole.SYSTEM_ADDRESSES}
        others = [
            alias
            for alias in aliases.aliases(tx, found.name, MOST + 1)
            if alias.address not in system
        ]
        if not asked.with_accounts and (held or others):
            raise InUse(_inhabited(tx, found, held, others))
        for account in held:
            whole.delete_account(changing, account)
        left = aliases.aliases(tx, found.name, MOST + 1)  # some went with the accounts they led to
        whole.remove_aliases(changing, [each for each in left if each.address not in system])
        return whole.delete_domain(changing, found.name), len(held), len(others)

    gone, accounts, ways = await changed(house, unit, much=asked.with_accounts)
    return DomainGone(gone.name, accounts, ways, house.doing.change_sets[-1])


def _inhabited(tx: Tx, of: Domain, held: Sequence[Account], others: Sequence[aliases.Alias]) -> str:
    """Why a domain cannot go, and what is to be done."""
    accounts, ways = people.domain_use(tx, of)
    has = []
    if held:
        has.append(_some(counted(accounts, "account"), [str(each.address) for each in held]))
    if others:
        number = ways if len(others) > MOST else len(others)
        names = list(dict.fromkeys(each.address for each in others))
        has.append(_some(counted(number, "alias", "aliases"), names))
    return (
        f"{of.name} still has {' and '.join(has)}: delete them first, or take them along with "
        "--with-accounts, after which accounts can be brought back for a while"
    )


def _some(number: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{number} ({shown}{', …' if len(names) > _NAMED else ''})"


# --- accounts ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountAddress:
    """One account."""

    address: str = argument("The account's address")

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class DeleteAccount:
    """An account that goes."""

    address: str = argument("The account's address")
    now: bool = argument("Erase its content at once: then nothing brings it back", default=False)

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class RenameAccount:
    """A new address."""

    address: str = argument("The account's address")
    to: str = argument("Its new address, in the same or another domain of this server")
    no_alias: bool = argument("Do not let the former address lead to the new one", default=False)

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
        return named_domain(self.domain) if self.domain else ""


@dataclass(frozen=True, slots=True)
class AccountView:
    address: str
    name: str
    role: Role
    state: str
    messages: int
    octets: int
    created: str = field(metadata=DETAIL)
    id: str = field(metadata=DETAIL)


@dataclass(frozen=True, slots=True)
class AccountGone:
    """A deleted account, and how it comes back."""

    address: str
    id: str
    until: str  # when it can be brought back no more
    change_set: str  # what `changes revert` takes

    def told(self) -> str:
        if not self.until:
            return f"{self.address} is deleted and is being erased."
        return (
            f"{self.address} is deleted. Until {self.until} it can be brought back:\n"
            f"  postroom account restore {shlex.quote(self.address)}"
        )


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


async def secret_for(house: AdminHouse, password: str, address: Address) -> tuple[Verifiers, str]:
    """Verifiers, and the password if it was made up here; raises NotAllowed, Malformed."""
    if password:
        return await house.authenticator.secret_for(password, address), ""
    made = random_password(house.flow.random)
    return await house.authenticator.secret_of_generated(made), made


def checked_name(text: str) -> str:
    """The name that people see; raises Malformed."""
    if len(text) > NAME_LENGTH or not (text.isprintable() or not text):
        raise Malformed(f"A name has at most {NAME_LENGTH} characters, all of them visible")
    return text


def governed(house: AdminHouse, role: Role) -> None:
    """Nobody gives, or acts on, a role above their own: raises NotAllowed."""
    if not house.caller.role.covers(role):
        raise NotAllowed(f"That needs the role {role}")


def governed_account(tx: Tx, house: AdminHouse, address: str) -> Account:
    """The account at an address; raises NotFound, NotAllowed for who stands above the caller."""
    found = people.account(tx, address_of(address))
    governed(house, found.role)
    return found


@operation("account create", Role.DOMAIN_ADMIN)
async def create_account(house: AdminHouse, asked: CreateAccount) -> PasswordView:
    """Make an account with its first mailboxes."""
    flow = house.flow
    address = address_of(asked.address)
    governed(house, asked.role)
    name = checked_name(asked.name)
    # Asked for before hashing: the usual mistakes cost nothing.
    await flow.mail.read(people.domain, address.domain)
    secret, made_up = await secret_for(house, asked.password, address)
    ids = fresh(house, IDS_FOR_ACCOUNT)
    new = NewAccount(address, name, asked.role, secret)

    def unit(changing: Changing) -> Account:
        return whole.create_account(changing, new, iter(ids))

    made = await changed(house, unit)
    return PasswordView(str(made.address), external(ACCOUNT, made.id), made_up)


@operation("account list", Role.DOMAIN_ADMIN, changes=False)
async def list_accounts(house: AdminHouse, asked: InDomain) -> tuple[AccountView, ...]:
    """List the accounts, at most 10,000 of them."""
    found = await house.flow.mail.read_much(people.accounts, asked.of_domain(), _MANY)
    return tuple(map(_account_view, found))


@operation("account show", Role.DOMAIN_ADMIN, changes=False)
async def show_account(house: AdminHouse, asked: AccountAddress) -> AccountView:
    """Show one account."""
    address = address_of(asked.address)
    return _account_view(await house.flow.mail.read(people.account, address))


@operation("account delete", Role.DOMAIN_ADMIN)
async def delete_account(house: AdminHouse, asked: DeleteAccount) -> AccountGone:
    """Delete an account with all that it holds, the aliases that lead to it and its settings.
    Nobody signs in, its mail is refused, and its address is free at once; for the days of
    retention.deleted_accounts_days it can be brought back whole, unless somebody has its address
    by then. After that its content goes in the background."""

    def unit(changing: Changing) -> tuple[Account, Instant]:
        found = governed_account(changing.tx, house, asked.address)
        return found, whole.delete_account(changing, found, now=asked.now)

    gone, until = await changed(house, unit)
    return AccountGone(
        str(gone.address),
        external(ACCOUNT, gone.id),
        iso(until) if until else "",
        house.doing.change_sets[-1],
    )


@operation("account rename", Role.DOMAIN_ADMIN)
async def rename_account(house: AdminHouse, asked: RenameAccount) -> AccountView:
    """Give an account another address. Its mail, password and settings stay, aliases follow, and
    the former address becomes an alias."""
    to, ids = address_of(asked.to), fresh(house, 1)
    if house.caller.role is not Role.ADMIN and to.domain != asked.of_domain():
        raise NotAllowed("A domain's administrator renames within the domain")

    def unit(changing: Changing) -> Account:
        found = governed_account(changing.tx, house, asked.address)
        return whole.rename_account(changing, found, to, iter(ids), keep=not asked.no_alias)

    return _account_view(await changed(house, unit))


@operation("account password", Role.DOMAIN_ADMIN)
async def set_password(house: AdminHouse, asked: SetPassword) -> PasswordView:
    """Set an account's password. Its open sessions end. For the days of retention.passwords_days
    the change can be reverted: then the former password is right again."""
    address = address_of(asked.address)
    await house.flow.mail.read(people.account, address)
    secret, made_up = await secret_for(house, asked.password, address)
    ids = fresh(house, IDS_FOR_PASSWORD)

    def unit(changing: Changing) -> Account:
        found = governed_account(changing.tx, house, asked.address)
        whole.set_password(changing, found, secret, iter(ids))
        return found

    found = await changed(house, unit)
    return PasswordView(str(found.address), external(ACCOUNT, found.id), made_up)


@operation("account state", Role.DOMAIN_ADMIN)
async def set_state(house: AdminHouse, asked: SetState) -> AccountView:
    """Freeze, disable or activate an account. Its open sessions end."""

    def unit(changing: Changing) -> Account:
        found = governed_account(changing.tx, house, asked.address)
        return whole.set_standing(changing, found, role=found.role, state=asked.state)

    return _account_view(await changed(house, unit))


@operation("account role", Role.DOMAIN_ADMIN)
async def set_role(house: AdminHouse, asked: SetRole) -> AccountView:
    """Say what an account may administer."""
    governed(house, asked.role)

    def unit(changing: Changing) -> Account:
        found = governed_account(changing.tx, house, asked.address)
        return whole.set_standing(changing, found, role=asked.role, state=found.state)

    return _account_view(await changed(house, unit))


@operation("account name", Role.DOMAIN_ADMIN)
async def set_name(house: AdminHouse, asked: SetName) -> AccountView:
    """Set the name that people see. The address stays."""
    name = checked_name(asked.name)

    def unit(changing: Changing) -> Account:
        found = governed_account(changing.tx, house, asked.address)
        return whole.set_name(changing, found, name)

    return _account_view(await changed(house, unit))
