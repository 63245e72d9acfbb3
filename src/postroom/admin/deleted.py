"""Operations on accounts that were deleted: they can be brought back for a while."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.admin.directory import AccountGone, InDomain, domain_of, fresh, governed
from postroom.admin.house import AdminHouse, changed, number_of
from postroom.core.clock import Instant, iso
from postroom.core.errors import NotFound
from postroom.core.ids import ACCOUNT, external
from postroom.core.operations import argument, operation
from postroom.core.settings import Role
from postroom.domain.changes import Changing
from postroom.domain.changes.revert import restore
from postroom.domain.directory import people
from postroom.domain.directory.people import IDS_FOR_PASSWORD, Returnable
from postroom.domain.directory.spelling import address_of
from postroom.store.sql import Tx

_MANY = 10_000


@dataclass(frozen=True, slots=True)
class DeletedAccount:
    """An account that was deleted."""

    address: str = argument("The address that it had")
    id: str = argument("Its id, if several had that address; without it the last", default="")

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class DeletedView:
    """An account that can be brought back."""

    address: str
    id: str
    messages: int
    octets: int
    until: str


def _view(of: Returnable) -> DeletedView:
    held = of.account
    return DeletedView(
        str(of.address),
        external(ACCOUNT, held.id),
        held.used_messages,
        held.used_bytes,
        iso(of.until),
    )


def _deleted(tx: Tx, house: AdminHouse, asked: DeletedAccount, now: Instant) -> Returnable:
    """The one that is meant; raises NotFound, NotAllowed if it stood above the caller."""
    wanted = number_of(ACCOUNT, asked.id, "an account") if asked.id else 0
    had = people.written(address_of(asked.address))
    found = [
        each
        for each in people.returnable(tx, now, _MANY)
        if people.written(each.address) == had and wanted in (0, each.account.id)
    ]
    if not found:
        raise NotFound(f"No deleted account {asked.address} can be brought back")
    governed(house, found[-1].account.role)
    return found[-1]


@operation("account deleted", Role.DOMAIN_ADMIN, changes=False)
async def list_deleted(house: AdminHouse, asked: InDomain) -> tuple[DeletedView, ...]:
    """List the deleted accounts that can be brought back, and until when."""
    flow, domain = house.flow, asked.of_domain()
    found = await flow.mail.read_much(people.returnable, flow.clock.now(), _MANY)
    return tuple(_view(each) for each in found if domain in ("", each.address.domain))


@operation("account restore", Role.DOMAIN_ADMIN)
async def restore_account(house: AdminHouse, asked: DeletedAccount) -> DeletedView:
    """Bring a deleted account back, with its mail, its password, its aliases and its settings.
    Refused if another account or an alias has its address by now."""
    ids, now = fresh(house, IDS_FOR_PASSWORD), house.flow.clock.now()

    def unit(changing: Changing) -> Returnable:
        found = _deleted(changing.tx, house, asked, now)
        restore(changing, found.account.id, iter(ids))
        return found

    found = await changed(house, unit)
    return _view(found)


@operation("account erase", Role.DOMAIN_ADMIN)
async def erase_account(house: AdminHouse, asked: DeletedAccount) -> AccountGone:
    """Erase a deleted account now, not when its time is over. Nothing brings it back."""
    now = house.flow.clock.now()

    def unit(tx: Tx) -> Returnable:
        found = _deleted(tx, house, asked, now)
        people.erase_now(tx, found.account.id, now)
        return found

    found = await house.flow.mail.write(unit)
    return AccountGone(str(found.address), external(ACCOUNT, found.account.id), "", "")
