"""Domains, accounts and credentials."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, InUse, Malformed, NotAllowed, NotFound
from postroom.core.ids import ACCOUNT, DOMAIN, external
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain.directory import tables
from postroom.domain.directory.spelling import named_domain
from postroom.domain.events import DirectoryChanged
from postroom.formats.address import Address
from postroom.formats.folding import fold
from postroom.store.sql import Row, Tx

# Kinds of credentials.
PASSWORD: Final = "password"  # noqa: S105 - the name of a kind
SCRAM: Final = "scram-sha-256"
PERSON: Final = "person"
PUBLIC: Final = "public"
"""The kind of the account that owns a domain's public folders; nobody signs in as it."""
GONE: Final = "gone"
"""The kind of an account that was deleted."""
STATES: Final = ("active", "frozen", "disabled")
ALL: Final = (1 << 63) - 1
# A control character is in no address and no domain, so that what was deleted and can be brought
# back keeps nobody from its name.
_GONE: Final = "\x7f"
_AT_ONCE: Final = Instant(0)
_PUBLIC_KEY: Final = "\x7fpublic"


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
    name = named_domain(name)
    if name.startswith("["):
        raise Malformed("An address literal is no domain")
    if tx.one(tables.DOMAIN_BY_NAME, name=name) is not None:
        raise AlreadyExists(f"There is a domain {name} already")
    tx.run(tables.INSERT_DOMAIN, id=domain, name=name, now=now)
    tx.after(DirectoryChanged())
    return Domain(domain, name, now)


def return_domain(tx: Tx, domain: int, name: str, created_at: Instant) -> None:
    """Make a domain again that was deleted; raises AlreadyExists if another has its name."""
    if tx.one(tables.DOMAIN_BY_NAME, name=name) is not None:
        raise AlreadyExists(f"There is a domain {name} already")
    if not tx.run(tables.RETURN_DOMAIN, id=domain, name=name):
        tx.run(tables.INSERT_DOMAIN, id=domain, name=name, now=created_at)
    tx.after(DirectoryChanged())


def find_domain(tx: Tx, name: str) -> Domain | None:
    """The domain of that canonical name, if it is ours."""
    row = tx.one(tables.DOMAIN_BY_NAME, name=name)
    return Domain(*row) if row is not None else None


def domain_by_id(tx: Tx, domain: int) -> Domain | None:
    """The domain of that id, if it is there and was not deleted."""
    row = tx.one(tables.DOMAIN_BY_ID, id=domain)
    return Domain(*row[:3]) if row is not None and not row[3] else None


def domain(tx: Tx, name: str) -> Domain:
    """Raises NotFound."""
    found = find_domain(tx, named_domain(name))
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
    """How many accounts and aliases the domain has; deleted accounts do not count."""
    row = tx.one(tables.DOMAIN_USE, id=of.id)
    return (int(row[0]), int(row[1])) if row is not None else (0, 0)


def delete_domain(tx: Tx, name: str) -> Domain:
    """Raises NotFound, or InUse while accounts or aliases are in it.

    Deleted accounts do not keep it; while they can be brought back its row stays, without its
    name, which is free at once.
    """
    found = lock_domain(tx, name)
    accounts, aliases = domain_use(tx, found)
    if accounts or aliases:
        has = f"{counted(accounts, 'account')} and {counted(aliases, 'alias', 'aliases')}"
        raise InUse(f"{found.name} still has {has}")
    if not tx.run(tables.DELETE_DOMAIN, id=found.id):
        vacated = f"{_GONE}{external(DOMAIN, found.id)} {found.name}"
        tx.run(tables.VACATE_DOMAIN, id=found.id, name=vacated)
    tx.after(DirectoryChanged())
    return found


# --- accounts ---------------------------------------------------------------------------------


def _account(row: Row) -> Account:
    (id_, kind, domain_id, domain_name, local, name, role, state, *rest) = row
    return Account(id_, kind, domain_id, domain_name, local, name, Role(role), state, *rest)


@dataclass(frozen=True, slots=True)
class Verifiers:
    """What is kept of one password, made by access: a verifier for each way to prove it."""

    password: str = field(repr=False)  # Argon2id, for who says the password
    scram: str = field(repr=False)  # for who proves it unsaid. RFC 5803


IDS_FOR_PASSWORD: Final = 2
"""Ids that a password takes: one for each verifier."""


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What makes an account; `secret` is what access made of a password, or None: no sign-in."""

    address: Address
    name: str
    role: Role
    secret: Verifiers | None


def create_account(tx: Tx, new: NewAccount, ids: Iterator[int], now: Instant) -> Account:
    """Make principal, account and credentials; the caller adds the first mailboxes.

    Raises NotFound for a domain that is not ours, AlreadyExists, Malformed.
    """
    of, local = _free(tx, new.address)
    account = next(ids)
    tx.run(
        tables.INSERT_PRINCIPAL,
        id=account,
        name=new.name,
        key=name_key(new.name),
        role=str(new.role),
        now=now,
    )
    tx.run(
        tables.INSERT_ACCOUNT,
        id=account,
        domain=of.id,
        local=new.address.local,
        key=local,
        now=now,
    )
    if new.secret is not None:
        set_secret(tx, account, new.secret, ids, now)
    tx.after(DirectoryChanged())
    return by_id(tx, account)


def _free(tx: Tx, address: Address) -> tuple[Domain, str]:
    """The domain and the key of an address that no account and no alias has; locks the domain."""
    of = lock_domain(tx, address.domain)
    local = key(address.local)
    if any(c in local for c in "*?"):
        raise Malformed("A local part with * or ? is an alias pattern, not an account")
    taken = tx.one(tables.ACCOUNT_BY_KEY, domain=of.id, key=local)
    alias = tx.one(tables.ALIASES_EXACT, domain=of.id, pattern=local, limit=1)
    if taken is not None or alias is not None:
        raise AlreadyExists(f"There is an account or an alias {address} already")
    if tx.one(tables.TAKEN_BY_FOLDER, domain=of.id, key=local) is not None:
        raise AlreadyExists(f"{address} is the address of a folder")
    return of, local


_WORDS: Final = re.compile(r"[^\W\d_]+")
_NAME_LOOK: Final = 1_000  # characters
_WHOLE_LEAST: Final = 6
"""Letters of a name that is taken for that of one person."""


def name_key(name: str) -> str:
    """By what a person's whole name is compared, in any case and order; empty for a name that many
    have, such as a single word."""
    words = sorted(_WORDS.findall(fold(name[:_NAME_LOOK])))
    letters = sum(map(len, words))
    return " ".join(words) if len(words) > 1 and letters >= _WHOLE_LEAST else ""


def named(tx: Tx, key: str) -> Address | None:
    """Somebody whose whole name has that key: the one who was here first."""
    row = tx.one(tables.NAMED, key=key)
    return Address(row[0], row[1]) if row is not None else None


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
    """Raises NotFound. An account of the kind `gone` was deleted."""
    row = tx.one(tables.ACCOUNT_BY_ID, id=account_id)
    if row is None:
        raise NotFound("There is no such account")
    return _account(row)


def by_ids(tx: Tx, ids: Iterable[int]) -> dict[int, Account]:
    """Those of the accounts that are there, deleted ones among them."""
    found = map(_account, tx.all(tables.ACCOUNTS_BY_ID, ids=list(ids)))
    return {each.id: each for each in found}


def find_public(tx: Tx, of: int) -> Account | None:
    """The account that owns the public folders of a domain, if it has any."""
    row = tx.one(tables.ACCOUNT_BY_KEY, domain=of, key=_PUBLIC_KEY)
    return _account(row) if row is not None else None


def make_public(tx: Tx, of: Domain, account: int, now: Instant) -> Account:
    """`find_public`, or make it under the id `account`; the caller holds the domain's lock."""
    found = find_public(tx, of.id)
    if found is not None:
        return found
    tx.run(tables.INSERT_PRINCIPAL, id=account, name=of.name, key="", role=str(Role.USER), now=now)
    tx.run(tables.INSERT_PUBLIC, id=account, domain=of.id, key=_PUBLIC_KEY, now=now)
    return by_id(tx, account)


def accounts(tx: Tx, domain_name: str = "", limit: int = ALL) -> list[Account]:
    """The accounts of a domain, or of all."""
    return [_account(row) for row in tx.all(tables.ACCOUNTS, domain=domain_name, limit=limit)]


def set_state(tx: Tx, of: Account, state: str) -> None:
    """active; frozen: receives, but nobody signs in; disabled: as if it did not exist."""
    if state not in STATES:
        raise Malformed(f"A state is one of {', '.join(STATES)}")
    if state != "active":
        keep_an_admin(tx, of)
    tx.run(tables.SET_STATE, id=of.id, state=state)
    tx.after(DirectoryChanged())


def set_role(tx: Tx, of: Account, role: Role) -> None:
    """Raises NotAllowed if nobody would be left to administer."""
    if role is not Role.ADMIN:
        keep_an_admin(tx, of)
    tx.run(tables.SET_ROLE, id=of.id, role=str(role))
    tx.after(DirectoryChanged())


def set_name(tx: Tx, of: Account, name: str) -> None:
    """Change the name that people see."""
    tx.run(tables.SET_NAME, id=of.id, name=name, key=name_key(name))


def set_standing(tx: Tx, of: Account, role: Role, state: str) -> None:
    """Role and state together, for whoever has seen to it that an administrator is left."""
    if (role, state) == (of.role, of.state):
        return
    if state not in STATES:
        raise Malformed(f"A state is one of {', '.join(STATES)}")
    tx.run(tables.SET_ROLE, id=of.id, role=str(role))
    tx.run(tables.SET_STATE, id=of.id, state=state)
    tx.after(DirectoryChanged())


def readdress(tx: Tx, of: Account, address: Address) -> None:
    """Give the account another address; what leads to the former one is the caller's.

    Raises NotFound for a domain that is not ours, AlreadyExists, Malformed.
    """
    if (key(address.local), address.domain) == (key(of.local), of.domain):
        local, domain_id = key(address.local), of.domain_id  # as it was, or in another case
    else:
        found, local = _free(tx, address)
        domain_id = found.id
    tx.run(tables.READDRESS, id=of.id, domain=domain_id, local=address.local, key=local)
    tx.after(DirectoryChanged())


def lock_admins(tx: Tx) -> list[int]:
    """Who administers: locked, so that two units that each take one away do not pass each
    other."""
    return [row[0] for row in tx.all(tables.LOCK_ADMINS)]


def keep_an_admin(tx: Tx, of: Account) -> None:
    """Raises NotAllowed if without this account nobody would administer."""
    others = [admin for admin in lock_admins(tx) if admin != of.id]
    if of.role is Role.ADMIN and of.state == "active" and not others:
        raise NotAllowed("Somebody has to be left to administer")


# --- deletion -----------------------------------------------------------------------------------


def delete_account(tx: Tx, of: Account, erase_at: Instant = _AT_ONCE) -> None:
    """`withdraw`, and aliases that lead to it go with it; raises NotAllowed for the last
    administrator."""
    keep_an_admin(tx, of)
    withdraw(tx, of, erase_at)
    tx.run(tables.DELETE_ALIASES_TO, target=written(of.address))


def withdraw(tx: Tx, of: Account, erase_at: Instant) -> None:
    """Take the account out of sight: nobody signs in, its mail is refused, its address is free.

    Until `erase_at` it can be brought back with all that it owns; then a job removes that in
    bounded units.
    """
    tx.run(tables.SET_STATE, id=of.id, state="disabled")
    if erase_at == _AT_ONCE:
        tx.run(tables.SET_ROLE, id=of.id, role=str(Role.USER))
        tx.run(tables.DELETE_CREDENTIALS, principal=of.id)
    gone = f"{_GONE}{external(ACCOUNT, of.id)}"
    tx.run(tables.VACATE_ACCOUNT, id=of.id, key=gone, erase_at=erase_at)
    tx.after(DirectoryChanged())


def return_account(
    tx: Tx, account_id: int, address: Address, role: Role, state: str, now: Instant
) -> None:
    """Bring a deleted account back under an address.

    Raises NotFound for a domain that is not ours, AlreadyExists if the address is taken,
    NotAllowed if its content is being erased or is.
    """
    of, local = _free(tx, address)
    returned = tx.run(
        tables.RETURN_ACCOUNT, id=account_id, domain=of.id, local=address.local, key=local, now=now
    )
    if not returned:
        raise NotAllowed(f"{address} was erased: it cannot be brought back")
    set_standing(tx, by_id(tx, account_id), role, state)
    tx.after(DirectoryChanged())


@dataclass(frozen=True, slots=True)
class Returnable:
    """A deleted account that can be brought back; its former address and until when."""

    account: Account
    until: Instant

    @property
    def address(self) -> Address:
        # Its domain may be gone too, and then has another name.
        return Address(self.account.local, self.account.domain.rpartition(" ")[2])


def returnable(tx: Tx, now: Instant, limit: int) -> list[Returnable]:
    """The deleted accounts that can be brought back; who goes first comes first."""
    rows = tx.all(tables.RETURNABLE, now=now, limit=limit)
    return [Returnable(_account(row[:-1]), Instant(row[-1])) for row in rows]


def gone_accounts(tx: Tx, limit: int, now: Instant) -> list[int]:
    """Accounts that were deleted, own something still, and can be brought back no more."""
    return [row[0] for row in tx.all(tables.GONE_ACCOUNTS, limit=limit, now=now)]


def erase_now(tx: Tx, account_id: int, now: Instant) -> bool:
    """End the time in which a deleted account can be brought back; False if it was over."""
    return tx.run(tables.HASTEN_ERASING, id=account_id, now=now) > 0


def begin_erasing(tx: Tx, account_id: int, now: Instant) -> bool:
    """Whether it was deleted and its time is over; from then on it cannot be brought back."""
    return tx.run(tables.BEGIN_ERASING, id=account_id, now=now) > 0


def forget_account(tx: Tx, account_id: int) -> None:
    """The last step of a deletion, when nothing is owned any more."""
    row = tx.one(tables.ACCOUNT_DOMAIN, id=account_id)
    tx.run(tables.DELETE_ACCOUNT, id=account_id)
    tx.run(tables.DELETE_PRINCIPAL, id=account_id)
    if row is not None:
        tx.run(tables.DELETE_VACANT, id=row[0])


# --- credentials --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a sign-in asks of the store."""

    account: int
    address: Address
    role: Role
    epoch: int
    state: str
    secrets: Mapping[str, str] = field(repr=False)  # verifiers by kind


def sign_in(tx: Tx, address: Address) -> SignIn | None:
    """What there is to say of an account's address, aliases apart. One statement, found or not."""
    rows = tx.all(tables.SIGN_IN, domain=address.domain, key=key(address.local))
    if not rows:
        return None
    account_id, local, domain_name, role, number, state, *_ = rows[0]
    verifiers = {row[6]: row[7] for row in rows if row[6] is not None}
    return SignIn(account_id, Address(local, domain_name), Role(role), number, state, verifiers)


def secrets(tx: Tx, principal: int) -> dict[str, str]:
    """A principal's verifiers by kind."""
    return dict(tx.all(tables.CREDENTIALS, principal=principal))


def set_secret(tx: Tx, principal: int, secret: Verifiers, ids: Iterable[int], now: Instant) -> None:
    """Replace the password's verifiers, all of them; open sessions notice by the epoch.

    Takes IDS_FOR_PASSWORD ids.
    """
    # First: it locks the principal against a `renew_secret` of the password that was.
    tx.run(tables.RAISE_EPOCH, id=principal)
    _put(tx, principal, secret, ids, now)
    tx.after(DirectoryChanged())


def renew_secret(
    tx: Tx, principal: int, proved: str, fresh: Verifiers, ids: Iterable[int], now: Instant
) -> None:
    """Replace the verifiers by ones of the same password as today's settings want them.

    `proved` is the verifier that the password was right for: if it is not there any more the
    password was changed meanwhile, and nothing happens. Takes IDS_FOR_PASSWORD ids.
    """
    tx.one(tables.LOCK_PRINCIPAL, id=principal)
    if secrets(tx, principal).get(PASSWORD) == proved:
        _put(tx, principal, fresh, ids, now)


def _put(tx: Tx, principal: int, secret: Verifiers, ids: Iterable[int], now: Instant) -> None:
    fresh = iter(ids)
    for kind, verifier in ((PASSWORD, secret.password), (SCRAM, secret.scram)):
        tx.run(tables.DELETE_CREDENTIAL, principal=principal, kind=kind)
        tx.run(
            tables.INSERT_CREDENTIAL,
            id=next(fresh),
            principal=principal,
            kind=kind,
            secret=verifier,
            now=now,
        )


def epoch(tx: Tx, principal: int) -> tuple[int, str]:
    """The principal's epoch and state; raises NotFound. A session whose epoch is older ends."""
    row = tx.one(tables.PRINCIPAL_EPOCH, id=principal)
    if row is None:
        raise NotFound("There is no such principal")
    return int(row[0]), str(row[1])


# --- keys of the house ----------------------------------------------------------------------------


def house_key(tx: Tx, name: str) -> bytes | None:
    """A random key that all workers and nodes share; None if it was not made yet."""
    row = tx.one(tables.KEY_OF_HOUSE, name=name)
    return bytes(row[0]) if row is not None else None


def make_house_key(tx: Tx, name: str, value: bytes, now: Instant) -> bytes:
    """The key of that name: the one that is there, or `value`, which must be random."""
    tx.run(tables.INSERT_KEY, name=name, value=value, now=now)
    return house_key(tx, name) or value
