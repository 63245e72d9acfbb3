"""Domains, accounts and credentials."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, InUse, Malformed, NotAllowed, NotFound
from postroom.core.ids import ACCOUNT, external
from postroom.core.settings import Role
from postroom.domain.directory import tables
from postroom.domain.events import DirectoryChanged
from postroom.formats.address import Address, canonical_domain
from postroom.store.sql import Row, Tx

PASSWORD: Final = "password"  # noqa: S105 - the kind of a credential, not one
STATES: Final = ("active", "frozen", "disabled")
ALL: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of ours."""

    id: int
    name: str
    created_at: Instant


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account with its principal."""

    id: int
    kind: str
    domain_id: int
    domain: str
    local: str
    name: str
    role: Role
    state: str
    used_bytes: int
    used_messages: int
    created_at: Instant

    @property
    def address(self) -> Address:
        return Address(self.local, self.domain)


def key(local: str) -> str:
    """How local parts of ours are compared. RFC 5321 §2.4 leaves that to us; see `Address.key`."""
    if local.isascii():
        return local.lower()
    return unicodedata.normalize("NFC", local.casefold())


def written(address: Address) -> str:
    """An address of ours as an alias keeps it: it reads back, and equal ones are equal."""
    return str(Address(key(address.local), address.domain))


# --- domains ----------------------------------------------------------------------------------


def create_domain(tx: Tx, domain: int, name: str, now: Instant) -> Domain:
    """Raises Malformed for what is no domain name, AlreadyExists."""
    name = canonical_domain(name)
    if name.startswith("["):
        raise Malformed("An address literal is no domain")
    if tx.one(tables.DOMAIN_BY_NAME, name=name) is not None:
        raise AlreadyExists(f"The domain {name} is there")
    tx.run(tables.INSERT_DOMAIN, id=domain, name=name, now=now)
    tx.after(DirectoryChanged())
    return Domain(domain, name, now)


def find_domain(tx: Tx, name: str) -> Domain | None:
    """The domain of that canonical name, if it is ours."""
    row = tx.one(tables.DOMAIN_BY_NAME, name=name)
    return Domain(*row) if row is not None else None


def domain(tx: Tx, name: str) -> Domain:
    """Raises NotFound."""
    found = find_domain(tx, canonical_domain(name))
    if found is None:
        raise NotFound(f"There is no domain {name}")
    return found


def lock_domain(tx: Tx, name: str) -> Domain:
    """`domain`, for a unit that gives out one of its addresses: one such unit at a time, so that
    an address is an account or an alias. Raises NotFound."""
    found = domain(tx, name)
    tx.one(tables.LOCK_DOMAIN, id=found.id)
    return found


def domains(tx: Tx) -> list[Domain]:
    return [Domain(*row) for row in tx.all(tables.DOMAINS)]


def domain_use(tx: Tx, of: Domain) -> tuple[int, int]:
    """How many accounts and aliases the domain has."""
    row = tx.one(tables.DOMAIN_USE, id=of.id)
    return (int(row[0]), int(row[1])) if row is not None else (0, 0)


def delete_domain(tx: Tx, name: str) -> Domain:
    """Raises NotFound, or InUse while accounts or aliases are in it."""
    found = domain(tx, name)
    accounts, aliases = domain_use(tx, found)
    if accounts or aliases:
        raise InUse(f"{found.name} still has {accounts} accounts and {aliases} aliases")
    tx.run(tables.DELETE_DOMAIN, id=found.id)
    tx.after(DirectoryChanged())
    return found


# --- accounts ---------------------------------------------------------------------------------


def _account(row: Row) -> Account:
    (id_, kind, domain_id, domain_name, local, name, role, state, *rest) = row
    return Account(id_, kind, domain_id, domain_name, local, name, Role(role), state, *rest)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What makes an account; `secret` is a verifier made by access, or None: no sign-in."""

    address: Address
    name: str
    role: Role
    secret: str | None


def create_account(tx: Tx, new: NewAccount, ids: Iterator[int], now: Instant) -> Account:
    """Make principal, account and credential; the caller adds the first mailboxes.

    Raises NotFound for a domain that is not ours, AlreadyExists, Malformed.
    """
    of = lock_domain(tx, new.address.domain)
    local = key(new.address.local)
    if any(c in local for c in "*?"):
        raise Malformed("A local part with * or ? is an alias pattern, not an account")
    taken = tx.one(tables.ACCOUNT_BY_KEY, domain=of.id, key=local)
    alias = tx.one(tables.ALIASES_EXACT, domain=of.id, pattern=local, limit=1)
    if taken is not None or alias is not None:
        raise AlreadyExists(f"{new.address} is there, as an account or an alias")
    account = next(ids)
    tx.run(tables.INSERT_PRINCIPAL, id=account, name=new.name, role=str(new.role), now=now)
    tx.run(
        tables.INSERT_ACCOUNT,
        id=account,
        domain=of.id,
        local=new.address.local,
        key=local,
        now=now,
    )
    if new.secret is not None:
        set_secret(tx, account, new.secret, next(ids), now)
    tx.after(DirectoryChanged())
    return by_id(tx, account)


def find_account(tx: Tx, address: Address) -> Account | None:
    """The account with exactly this address, aliases apart."""
    of = find_domain(tx, address.domain)
    if of is None:
        return None
    row = tx.one(tables.ACCOUNT_BY_KEY, domain=of.id, key=key(address.local))
    return _account(row) if row is not None else None


def account(tx: Tx, address: Address) -> Account:
    """Raises NotFound."""
    found = find_account(tx, address)
    if found is None:
        raise NotFound(f"There is no account {address}")
    return found


def by_id(tx: Tx, account_id: int) -> Account:
    """Raises NotFound."""
    row = tx.one(tables.ACCOUNT_BY_ID, id=account_id)
    if row is None:
        raise NotFound("There is no such account")
    return _account(row)


def accounts(tx: Tx, domain_name: str = "", limit: int = ALL) -> list[Account]:
    """The accounts of a domain, or of all."""
    return [_account(row) for row in tx.all(tables.ACCOUNTS, domain=domain_name, limit=limit)]


def set_state(tx: Tx, of: Account, state: str) -> None:
    """active; frozen: receives, but nobody signs in; disabled: as if it did not exist."""
    if state not in STATES:
        raise Malformed(f"A state is one of {', '.join(STATES)}")
    if state != "active":
        _keep_an_admin(tx, of)
    tx.run(tables.SET_STATE, id=of.id, state=state)
    tx.after(DirectoryChanged())


def set_role(tx: Tx, of: Account, role: Role) -> None:
    """Raises NotAllowed if nobody would be left to administer."""
    if role is not Role.ADMIN:
        _keep_an_admin(tx, of)
    tx.run(tables.SET_ROLE, id=of.id, role=str(role))
    tx.after(DirectoryChanged())


def set_name(tx: Tx, of: Account, name: str) -> None:
    """Change the name that people see."""
    tx.run(tables.SET_NAME, id=of.id, name=name)


def _keep_an_admin(tx: Tx, of: Account) -> None:
    # Locked, all of them: two units that each take one away must not pass each other.
    others = [row[0] for row in tx.all(tables.LOCK_ADMINS) if row[0] != of.id]
    if of.role is Role.ADMIN and of.state == "active" and not others:
        raise NotAllowed("Somebody has to be left to administer")


def delete_account(tx: Tx, of: Account) -> None:
    """Take the account out of sight; a job then removes what it owns in bounded units.

    Its address is free at once, and aliases that lead to it go with it. Raises NotAllowed for
    the last administrator.
    """
    _keep_an_admin(tx, of)
    tx.run(tables.SET_STATE, id=of.id, state="disabled")
    tx.run(tables.SET_ROLE, id=of.id, role=str(Role.USER))
    tx.run(tables.DELETE_CREDENTIALS, principal=of.id, kind=PASSWORD)
    # A control character is in no address, so this key collides with none.
    tx.run(tables.VACATE_ACCOUNT, id=of.id, key=f"\x7f{external(ACCOUNT, of.id)}")
    tx.run(tables.DELETE_ALIASES_TO, target=written(of.address))
    tx.after(DirectoryChanged())


def gone_accounts(tx: Tx, limit: int) -> list[int]:
    """Accounts that were deleted and still own something."""
    return [row[0] for row in tx.all(tables.GONE_ACCOUNTS, limit=limit)]


def is_gone(tx: Tx, account_id: int) -> bool:
    """Whether it was deleted and still owns something."""
    return tx.one(tables.IS_GONE, id=account_id) is not None


def forget_account(tx: Tx, account_id: int) -> None:
    """The last step of a deletion, when nothing is owned any more."""
    tx.run(tables.DELETE_ACCOUNT, id=account_id)
    tx.run(tables.DELETE_PRINCIPAL, id=account_id)


# --- credentials --------------------------------------------------------------------------------


def secrets(tx: Tx, principal: int) -> list[tuple[int, str]]:
    """Credential ids and password verifiers of a principal."""
    rows = tx.all(tables.CREDENTIALS, principal=principal, kind=PASSWORD)
    return [(row[0], row[1]) for row in rows]


def set_secret(tx: Tx, principal: int, secret: str, credential: int, now: Instant) -> None:
    """Replace the password's verifier; open sessions notice by the epoch."""
    tx.run(tables.DELETE_CREDENTIALS, principal=principal, kind=PASSWORD)
    tx.run(
        tables.INSERT_CREDENTIAL,
        id=credential,
        principal=principal,
        kind=PASSWORD,
        secret=secret,
        now=now,
    )
    tx.run(tables.RAISE_EPOCH, id=principal)
    tx.after(DirectoryChanged())


def renew_secret(tx: Tx, credential: int, old: str, new: str) -> None:
    """Replace a verifier by one of the same password with today's cost."""
    tx.run(tables.REPLACE_SECRET, id=credential, old=old, secret=new)


def epoch(tx: Tx, principal: int) -> tuple[int, str]:
    """The principal's epoch and state; raises NotFound. A session whose epoch is older ends."""
    row = tx.one(tables.PRINCIPAL_EPOCH, id=principal)
    if row is None:
        raise NotFound("There is no such principal")
    return int(row[0]), str(row[1])
