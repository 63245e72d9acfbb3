"""Operations on who may use the folders of others, and on public folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.admin.directory import domain_of, fresh, governed
from postroom.admin.house import AdminHouse
from postroom.core.clock import Instant
from postroom.core.errors import Malformed, NotAllowed, NotFound
from postroom.core.operations import argument, operation
from postroom.core.settings import Role
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.directory.spelling import address_of, named_domain
from postroom.domain.mailboxes import folders, rights
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.rights import Right
from postroom.store.sql import Tx

NAMED: Final = {"read": "lr", "edit": "lrswipte", "admin": "lrswipkxtea", "none": ""}
"""Rights that have a word of their own."""

_AT_ONCE: Final = Instant(0)
_RIGHTS: Final = "Letters of RFC 4314 (lrswipkxtea), or one of the words read, edit, admin, none"


@dataclass(frozen=True, slots=True)
class ShareFolder:
    """A folder, and who may do what in it."""

    owner: str = argument("The address of whose folder it is; a domain, for its public folders")
    folder: str = argument("The folder's path, such as INBOX or Work/2026")
    to: str = argument(
        "An address; anyone, for all of the owner's domain; @DOMAIN, for all of another; each "
        "with a - before it to take these rights away",
        option=True,
    )
    rights: str = argument(_RIGHTS, option=True)
    below: bool = argument("The same for all folders below it", default=False)

    def of_domain(self) -> str:
        return domain_of_owner(self.owner)


@dataclass(frozen=True, slots=True)
class OneFolder:
    """A folder."""

    owner: str = argument("The address of whose folder it is; a domain, for its public folders")
    folder: str = argument("The folder's path, such as INBOX or Work/2026")

    def of_domain(self) -> str:
        return domain_of_owner(self.owner)


@dataclass(frozen=True, slots=True)
class PublicFolder:
    """A public folder of a domain."""

    domain: str = argument("The domain's name, such as example.org")
    folder: str = argument("The folder's path, such as News")

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class PublicOf:
    """The public folders of a domain."""

    domain: str = argument("The domain's name, such as example.org")

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class RightsView:
    """One line of the list of a folder."""

    folder: str
    who: str
    rights: str


@dataclass(frozen=True, slots=True)
class FolderView:
    """A public folder."""

    folder: str
    messages: int
    octets: int


def domain_of_owner(owner: str) -> str:
    return domain_of(owner) if "@" in owner else named_domain(owner)


def owner_of(tx: Tx, house: AdminHouse, owner: str) -> Account:
    """Raises NotFound, NotAllowed for who stands above the caller."""
    if "@" in owner:
        found = people.account(tx, address_of(owner))
        governed(house, found.role)
        return found
    public = people.find_public(tx, people.domain(tx, owner).id)
    if public is None:
        raise NotFound(f"{owner} has no public folders")
    return public


def _letters(asked: str) -> Right:
    try:
        return rights.parse(NAMED.get(asked, asked))
    except Malformed:
        raise Malformed(f"{asked} are no rights: {_RIGHTS}") from None


def _views(tx: Tx, path: str, box: Mailbox) -> list[RightsView]:
    return [
        RightsView(path, each.identifier, rights.written(each.rights))
        for each in rights.entries(tx, box)
    ]


@operation("folder share", Role.DOMAIN_ADMIN)
async def share_folder(house: AdminHouse, asked: ShareFolder) -> tuple[RightsView, ...]:
    """Say what somebody may do in the folder of another, in place of what was said before; none
    ends it. Who administers a domain shares within it."""
    wanted, now = _letters(asked.rights), house.flow.clock.now()
    _, at, domain = asked.to.rpartition("@")
    server = house.caller.role is Role.ADMIN
    if at and not server and named_domain(domain) != asked.of_domain():
        raise NotAllowed("A domain's administrator shares folders within the domain")

    def unit(tx: Tx) -> tuple[RightsView, ...]:
        owner = owner_of(tx, house, asked.owner)
        boxes = folders.tree(tx, owner.id)
        found = boxes.find(asked.folder)
        # A public folder is seen by the accounts of its domain only.
        beyond = server and owner.kind == people.PERSON
        whom = rights.subject(tx, owner, asked.to, beyond=beyond)
        for box in (found, *(boxes.below(found.id) if asked.below else ())):
            rights.put(tx, box.id, whom, wanted, now, house.caller.principal)
        return tuple(_views(tx, boxes.path(found.id), found))

    return await house.flow.mail.write(unit)


@operation("folder rights", Role.DOMAIN_ADMIN, changes=False, audited=True)
async def folder_rights(house: AdminHouse, asked: OneFolder) -> tuple[RightsView, ...]:
    """Show who may do what in a folder."""

    def unit(tx: Tx) -> tuple[RightsView, ...]:
        boxes = folders.tree(tx, owner_of(tx, house, asked.owner).id)
        found = boxes.find(asked.folder)
        return tuple(_views(tx, boxes.path(found.id), found))

    return await house.flow.mail.read(unit)


@operation("public create", Role.DOMAIN_ADMIN)
async def create_public(house: AdminHouse, asked: PublicFolder) -> FolderView:
    """Make a public folder of a domain, and those above it. All of the domain may read it; `folder
    share` says otherwise. What is made below another has the rights of that one."""
    ids, now = fresh(house, folders.DEPTH + 1), house.flow.clock.now()

    def unit(tx: Tx) -> FolderView:
        domain = people.lock_domain(tx, asked.of_domain())
        owner = people.make_public(tx, domain, ids[0], now)
        actor = house.caller.principal
        before = set(folders.tree(tx, owner.id).by_id)
        folders.create(tx, owner.id, asked.folder, iter(ids[1:]), now, actor)
        _open_tops(tx, owner, before, now, actor)
        return FolderView(folders.canonical(asked.folder), 0, 0)

    return await house.flow.mail.write(unit)


def _open_tops(tx: Tx, owner: Account, before: set[int], now: Instant, actor: int) -> None:
    """What was made where nothing gives it rights gets the first ones."""
    boxes = folders.tree(tx, owner.id)
    tops = [box for box in boxes.children(0) if box.id not in before]
    whom = rights.Subject(owner.domain_id, negative=False)
    for top in tops:
        for box in (top, *boxes.below(top.id)):
            rights.put(tx, box.id, whom, rights.parse(NAMED["read"]), now, actor)


@operation("public list", Role.DOMAIN_ADMIN, changes=False)
async def list_public(house: AdminHouse, asked: PublicOf) -> tuple[FolderView, ...]:
    """List the public folders of a domain."""

    def unit(tx: Tx) -> tuple[FolderView, ...]:
        owner = people.find_public(tx, people.domain(tx, asked.domain).id)
        if owner is None:
            return ()
        found = sorted(folders.tree(tx, owner.id).by_path.items())
        return tuple(FolderView(path, box.total, box.size) for path, box in found)

    return await house.flow.mail.read(unit)


@operation("public delete", Role.DOMAIN_ADMIN)
async def delete_public(house: AdminHouse, asked: PublicFolder) -> FolderView:
    """Delete a public folder with its messages; refused while folders lie below it. With the last
    one nothing of the domain's public mail is left."""
    now = house.flow.clock.now()

    def unit(tx: Tx) -> FolderView:
        owner = owner_of(tx, house, asked.of_domain())
        gone = folders.delete(tx, owner.id, asked.folder, now, house.caller.principal)
        if not folders.tree(tx, owner.id).by_id:
            people.withdraw(tx, owner, _AT_ONCE)  # else the domain could not be deleted
        return FolderView(folders.canonical(asked.folder), gone.total, gone.size)

    return await house.flow.mail.write(unit)
