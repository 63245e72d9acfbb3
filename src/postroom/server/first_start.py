"""The first start on a directory that holds no store: a domain, an administrator, a certificate."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from postroom.core.clock import Instant
from postroom.core.errors import SecretUnreadable
from postroom.core.secrets import key_of
from postroom.core.settings import SERVER, Role
from postroom.domain.changes import Changing, whole
from postroom.domain.directory import people
from postroom.domain.directory.people import NewAccount, Verifiers
from postroom.domain.policy import Assignment, secrets
from postroom.domain.policy.history import Note
from postroom.formats.address import Address, canonical_domain
from postroom.mailflow.house import MailHouse
from postroom.store.sql import Tx

ADMIN = "admin"


async def keys_of_secrets(house: MailHouse) -> None:
    """Make the keys of secrets where nothing was sealed yet; raises SecretUnreadable where what
    was sealed could not be opened."""
    kept = await house.mail.read_much(secrets.kept)
    keys = house.secrets
    if not kept and not keys.exists():
        keys.make()
    there = keys.ids() if keys.exists() else ()
    lost = [of for of, sealed in kept.items() if key_of(sealed) not in there]
    if lost:
        what = "holds other keys" if keys.exists() else "is missing, which held the keys"
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise SecretUnreadable(
            f"{keys.path} {what}: the {lost[0]}{more} cannot be read. Put the file back from "
            "where you keep it, or take those values away with `postroom settings unset`; "
            "`postroom secrets list` names them"
        )


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What was made, for the text that is printed once."""

    domain: str
    admin: str
    password: str


async def is_new(house: MailHouse) -> bool:
    """True if the store holds no domain yet."""
    return not await house.mail.read(people.domains)


async def make(house: MailHouse, domain: str, password: str, secret: Verifiers) -> FirstStart:
    """Make domain, administrator and system aliases in one unit.

    `secret` is what is kept of `password`. Raises Malformed for what is no domain name.
    """
    name = canonical_domain(domain)
    ids = [house.ids.new() for _ in range(16)]
    await house.mail.write(_make, name, secret, ids, house.clock.now())
    return FirstStart(name, f"{ADMIN}@{name}", password)


def _make(tx: Tx, domain: str, secret: Verifiers, made: list[int], now: Instant) -> None:
    ids = itertools.chain(made)
    changing = Changing(tx, Note(next(ids), now, 0, "", "first start"))
    whole.create_domain(changing, domain, None, ids)
    new = NewAccount(Address(ADMIN, domain), "Administrator", Role.ADMIN, secret)
    admin = whole.create_account(changing, new, ids)
    for local in whole.SYSTEM_ADDRESSES:
        whole.create_alias(changing, f"{local}@{domain}", str(admin.address), ids)
    whole.set_values(changing, [Assignment(SERVER, "server.default_domain", domain)])
    changing.finish()


def welcome(made: FirstStart, command: str, host: str, smtp: int, imaps: int) -> str:
    """What the administrator reads once.

    `command` is what reaches this server's `postroom` from the shell that started it, `host`
    an address that it listens on. The password stands in no command: shells remember those.
    """
    url_host = f"[{host}]" if ":" in host else host
    return f"""
Postroom is set up for {made.domain}.

  Sign in as   {made.admin}
  Password     {made.password}
               It is shown this once. To set another:
               {command} account password {made.admin}

Send a first message, and read it (curl asks for the password):

  swaks --server {host} --port {smtp} --from you@elsewhere.example --to {made.admin}
  curl --insecure --user {made.admin} 'imaps://{url_host}:{imaps}/INBOX;MAILINDEX=1'

Ask why it lies where it lies:

  {command} trace {made.admin}
"""
