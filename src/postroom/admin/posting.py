"""Operations on the addresses of folders, to which mail is posted. RFC 4314 §2.1, `p`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from postroom.admin.directory import domain_of
from postroom.admin.house import AdminHouse
from postroom.admin.sharing import domain_of_owner, owner_of
from postroom.core.errors import NotAllowed
from postroom.core.operations import argument, operation
from postroom.core.settings import Role
from postroom.domain.directory import people, posting
from postroom.domain.directory.people import Account
from postroom.domain.directory.spelling import address_of, named_domain
from postroom.domain.mailboxes import folders
from postroom.store.sql import Tx


@dataclass(frozen=True, slots=True)
class GiveAddress:
    """A folder, and an address for it."""

    owner: str = argument("The address of whose folder it is; a domain, for its public folders")
    folder: str = argument("The folder's path, such as Team/Inbox")
    address: str = argument("The address, in the domain of the owner")
    anybody: bool = argument(
        "Anybody may post, strangers too; without, who signed in and has the right p in the folder",
        default=False,
    )

    def of_domain(self) -> str:
        return domain_of_owner(self.owner)


@dataclass(frozen=True, slots=True)
class TakeAddress:
    """The address of a folder."""

    address: str = argument("The address")

    def of_domain(self) -> str:
        return domain_of(self.address)


@dataclass(frozen=True, slots=True)
class AddressesOf:
    """The addresses of the folders of a domain."""

    domain: str = argument("The domain's name, such as example.org")

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class FolderAddressView:
    """An address of a folder."""

    address: str
    owner: str  # an address; of a public folder, the domain
    folder: str
    posts: str  # anybody, or who has the right p


def _owner_shown(owner: Account) -> str:
    return str(owner.address) if owner.kind == people.PERSON else owner.domain


def _views(tx: Tx, listed: Iterable[posting.FolderAddress]) -> tuple[FolderAddressView, ...]:
    shown = []
    for each in listed:
        path = folders.tree(tx, each.account).path(each.mailbox)
        posts = "anybody" if each.anybody else "who has the right p"
        owner = _owner_shown(people.by_id(tx, each.account))
        shown.append(FolderAddressView(str(each.address), owner, path, posts))
    return tuple(shown)


@operation("folder address set", Role.DOMAIN_ADMIN)
async def set_folder_address(house: AdminHouse, asked: GiveAddress) -> FolderAddressView:
    """Give a folder an address: what is sent to it lies in the folder. Who may send is whoever has
    the right p there (`folder share`), or anybody."""
    address, now = address_of(asked.address), house.flow.clock.now()
    if address.domain != asked.of_domain():
        raise NotAllowed(f"The address of this folder lies in {asked.of_domain()}")

    def unit(tx: Tx) -> FolderAddressView:
        owner = owner_of(tx, house, asked.owner)
        box = folders.tree(tx, owner.id).find(asked.folder)
        posting.put(tx, address, box.id, now, anybody=asked.anybody)
        (shown,) = _views(
            tx, [posting.FolderAddress(address, owner.id, box.id, asked.anybody, now)]
        )
        return shown

    return await house.flow.mail.write(unit)


@operation("folder address remove", Role.DOMAIN_ADMIN)
async def remove_folder_address(house: AdminHouse, asked: TakeAddress) -> FolderAddressView:
    """Take the address of a folder away: mail to it is refused."""
    address = address_of(asked.address)

    def unit(tx: Tx) -> FolderAddressView:
        (shown,) = _views(tx, [posting.find(tx, address)])
        posting.remove(tx, address)
        return shown

    return await house.flow.mail.write(unit)


@operation("folder address list", Role.DOMAIN_ADMIN, changes=False)
async def list_folder_addresses(
    house: AdminHouse, asked: AddressesOf
) -> tuple[FolderAddressView, ...]:
    """List the addresses of folders in a domain, and who may post to each."""

    def unit(tx: Tx) -> tuple[FolderAddressView, ...]:
        return _views(tx, posting.listed(tx, asked.domain))

    return await house.flow.mail.read(unit)
