"""What is deleted or renamed with all that hangs on it, in one change set."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists
from postroom.core.ids import CHANGE_SET, external, internal
from postroom.core.settings import Place, Role, Scope
from postroom.domain import policy
from postroom.domain.changes.changing import Changing
from postroom.domain.changes.objects import Kind, account_key, domain_key, password_since
from postroom.domain.changes.settings import erase_at, retention
from postroom.domain.directory import aliases, former, people
from postroom.domain.directory.aliases import Alias
from postroom.domain.directory.people import (
    IDS_FOR_PASSWORD,
    Account,
    Domain,
    NewAccount,
    Verifiers,
)
from postroom.domain.mailboxes import folders
from postroom.domain.policy import Assignment
from postroom.formats.address import Address
from postroom.store.sql import Tx

IDS_FOR_ACCOUNT: Final = 1 + IDS_FOR_PASSWORD + len(folders.FIRST_FOLDERS)
SYSTEM_ADDRESSES: Final = ("postmaster", "abuse")
"""Every domain has them: RFC 5321 §4.5.1, RFC 2142 §4."""


# --- settings -----------------------------------------------------------------------------------


def set_values(changing: Changing, assignments: Iterable[Assignment]) -> None:
    """Set and unset values; raises NotFound, Misuse."""
    given = list(assignments)
    for each in given:
        changing.touch(Kind.SETTING, policy.setting_key(each.place, each.name))
    if given:
        policy.assign(changing.tx, given, changing.note.id)


def forget_settings(changing: Changing, place: Place) -> None:
    """What was set for a place that is gone must not come back with another of its name."""
    names = policy.names_at(changing.tx, place)
    set_values(changing, [Assignment(place, name, None) for name in names])


# --- domains ------------------------------------------------------------------------------------


def administrator(tx: Tx, default_domain: str) -> Account | None:
    """Who gets system mail: the first administrator, of the default domain if it has one."""
    found = [people.by_id(tx, account) for account in people.lock_admins(tx)]
    there = [account for account in found if account.domain == default_domain]
    return next(iter(there or found), None)


def create_domain(
    changing: Changing, name: str, system: Address | None, ids: Iterator[int]
) -> Domain:
    """A domain; its postmaster@ and abuse@ lead to `system`."""
    tx, now = changing.tx, changing.note.at
    domain = next(ids)
    changing.touch(Kind.DOMAIN, domain_key(domain))
    made = people.create_domain(tx, domain, name, now)
    for local in SYSTEM_ADDRESSES if system is not None else ():
        create_alias(changing, f"{local}@{made.name}", str(system), ids)
    return made


def delete_domain(changing: Changing, name: str) -> Domain:
    """A domain that has neither accounts nor aliases of people, with its system aliases and the
    settings made for it; raises NotFound, InUse."""
    tx = changing.tx
    found = people.domain(tx, name)
    changing.touch(Kind.DOMAIN, domain_key(found.id))
    for local in SYSTEM_ADDRESSES:
        remove_aliases(changing, aliases.exact(tx, found, local))
    forget_settings(changing, Place(Scope.DOMAIN, found.name))
    return people.delete_domain(tx, found.name)


# --- aliases ------------------------------------------------------------------------------------


def create_alias(changing: Changing, address: str, target: str, ids: Iterator[int]) -> Alias:
    """Raises what `aliases.create_alias` does."""
    alias = next(ids)
    changing.touch(Kind.ALIAS, str(alias))
    return aliases.create_alias(changing.tx, address, target, iter((alias,)), changing.note.at)


def remove_aliases(changing: Changing, gone: Iterable[Alias]) -> int:
    """Remove ways of aliases; returns how many."""
    count = 0
    for alias in gone:
        changing.touch(Kind.ALIAS, str(alias.id))
        aliases.remove_alias(changing.tx, alias.id)
        count += 1
    return count


# --- accounts -----------------------------------------------------------------------------------


def create_account(changing: Changing, new: NewAccount, ids: Iterator[int]) -> Account:
    """An account with its first mailboxes. Takes IDS_FOR_ACCOUNT ids."""
    tx, now = changing.tx, changing.note.at
    account = next(ids)
    changing.touch(Kind.ACCOUNT, account_key(account))
    made = people.create_account(tx, new, itertools.chain((account,), ids), now)
    folders.create_first(tx, made.id, ids, now, changing.note.author)
    return made


def delete_account(changing: Changing, of: Account, *, now: bool = False) -> Instant:
    """Delete an account with the aliases that lead to it and the settings made for it.

    Returns until when it can be brought back with all that it owns; 0: it is erased at once,
    as `now` asks for. Raises NotAllowed for the last administrator.
    """
    people.keep_an_admin(changing.tx, of)
    remove_aliases(changing, aliases.aliases_to(changing.tx, of.address))
    return _withdraw(changing, of, now=now)


def unmake_account(changing: Changing, of: Account) -> None:
    """Delete an account, so that all is as before it was made: aliases that led to its address
    then already stay, those of later go. The caller sees to an administrator that is left."""
    leading = aliases.aliases_to(changing.tx, of.address)
    remove_aliases(changing, [alias for alias in leading if alias.id > of.id])
    _withdraw(changing, of, now=False)


def _withdraw(changing: Changing, of: Account, *, now: bool) -> Instant:
    changing.touch(Kind.ACCOUNT, account_key(of.id))
    forget_settings(changing, Place(Scope.ACCOUNT, str(of.id)))
    until = Instant(0) if now else erase_at(changing.tx, of, changing.note.at)
    people.withdraw(changing.tx, of, until)
    return until


def rename_account(
    changing: Changing, of: Account, to: Address, ids: Iterator[int], *, keep: bool
) -> Account:
    """Another address; aliases follow, and with `keep` the former address becomes one.

    Settings and mail stay with the account. Raises NotFound, AlreadyExists, Malformed.
    """
    tx = changing.tx
    changing.touch(Kind.ACCOUNT, account_key(of.id))
    leading = aliases.aliases_to(tx, of.address)
    for alias in leading:
        changing.touch(Kind.ALIAS, str(alias.id))
    people.readdress(tx, of, to)
    if people.written(to) != people.written(of.address):
        for alias in leading:
            retarget(tx, alias, to)
        if keep:
            create_alias(changing, str(of.address), str(to), ids)
    return people.by_id(tx, of.id)


def retarget(tx: Tx, alias: Alias, to: Address) -> None:
    """Let an alias lead elsewhere; it goes if another way of it leads there already."""
    aliases.remove_alias(tx, alias.id)
    try:
        aliases.create_alias(tx, alias.address, str(to), iter((alias.id,)), alias.created_at)
    except AlreadyExists:
        return


def set_password(changing: Changing, of: Account, secret: Verifiers, ids: Iterator[int]) -> None:
    """Another password; what was kept of the former one stays as long as the settings say.

    Takes IDS_FOR_PASSWORD ids.
    """
    keep_password(changing, of)
    people.set_secret(changing.tx, of.id, secret, ids, changing.note.at)


def keep_password(changing: Changing, of: Account, since: str | None = None) -> None:
    """Before an account's password changes; to the one that the change set `since` set first,
    or without it to a new one."""
    tx, note, key = changing.tx, changing.note, account_key(of.id)
    changing.touch(Kind.PASSWORD, key)
    if retention(tx).passwords_days:
        former.keep(tx, of.id, numbered(password_since(tx, of.id)), note.at)
    changing.set_since(key, external(CHANGE_SET, note.id) if since is None else since)


def numbered(since: str) -> int:
    """The change set that set a password, as a number; 0 if none did."""
    return internal(CHANGE_SET, since) if since else 0


def set_standing(changing: Changing, of: Account, *, role: Role, state: str) -> Account:
    """Role and state; raises NotAllowed if nobody would be left to administer, Malformed."""
    tx = changing.tx
    changing.touch(Kind.ACCOUNT, account_key(of.id))
    if role is not of.role:
        people.set_role(tx, of, role)
        of = people.by_id(tx, of.id)
    if state != of.state:
        people.set_state(tx, of, state)
    return people.by_id(tx, of.id)


def set_name(changing: Changing, of: Account, name: str) -> Account:
    """The name that people see."""
    changing.touch(Kind.ACCOUNT, account_key(of.id))
    people.set_name(changing.tx, of, name)
    return people.by_id(changing.tx, of.id)
