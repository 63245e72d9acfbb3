"""Operations on aliases."""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.admin.directory import InDomain, domain_of, fresh
from postroom.admin.house import AdminHouse, changed
from postroom.admin.render import DETAIL
from postroom.core.clock import iso
from postroom.core.errors import NotAllowed
from postroom.core.operations import argument, operation
from postroom.core.settings import Role
from postroom.domain.changes import Changing, whole
from postroom.domain.directory import aliases
from postroom.domain.directory.aliases import Alias

_MANY = 10_000


@dataclass(frozen=True, slots=True)
class CreateAlias:
    """A new alias."""

    address: str = argument("The alias; its local part may hold the wildcards * and ?")
    target: str = argument("The address that it leads to")

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class OneAlias:
    """An alias."""

    address: str = argument("The alias")

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
    created: str = field(metadata=DETAIL)


@dataclass(frozen=True, slots=True)
class AliasesGone:
    address: str
    removed: int


def _view(of: Alias) -> AliasView:
    return AliasView(of.address, of.target, iso(of.created_at))


@operation("alias create", Role.DOMAIN_ADMIN)
async def create_alias(house: AdminHouse, asked: CreateAlias) -> AliasView:
    """Let an address lead to another one. Several aliases of one address lead to all their
    targets."""
    if house.caller.role is not Role.ADMIN and domain_of(asked.target) != asked.of_domain():
        raise NotAllowed("A domain's administrator makes aliases within the domain")
    ids = fresh(house, 1)

    def unit(changing: Changing) -> Alias:
        return whole.create_alias(changing, asked.address, asked.target, iter(ids))

    return _view(await changed(house, unit))


@operation("alias list", Role.DOMAIN_ADMIN, changes=False)
async def list_aliases(house: AdminHouse, asked: InDomain) -> tuple[AliasView, ...]:
    """List the aliases, at most 10,000 of them."""
    found = await house.flow.mail.read_much(aliases.aliases, asked.of_domain(), _MANY)
    return tuple(map(_view, found))


@operation("alias show", Role.DOMAIN_ADMIN, changes=False)
async def show_alias(house: AdminHouse, asked: OneAlias) -> tuple[AliasView, ...]:
    """Show where an alias leads to, a line for each way."""
    return tuple(map(_view, await house.flow.mail.read(aliases.ways, asked.address)))


@operation("alias delete", Role.DOMAIN_ADMIN)
async def delete_alias(house: AdminHouse, asked: DeleteAlias) -> AliasesGone:
    """Delete an alias, or one of its targets."""

    def unit(changing: Changing) -> int:
        ways = aliases.ways(changing.tx, asked.address, asked.target)
        return whole.remove_aliases(changing, ways)

    return AliasesGone(asked.address, await changed(house, unit))
