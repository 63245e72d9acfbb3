"""The first start on a directory that holds no store: a domain, an administrator, a certificate."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from postroom.core.clock import Instant
from postroom.core.settings import SERVER, Role
from postroom.domain.directory import aliases, people
from postroom.domain.directory.people import NewAccount
from postroom.domain.mailboxes import folders
from postroom.domain.policy import Assignment, change
from postroom.formats.address import Address, canonical_domain
from postroom.mailflow.house import MailHouse
from postroom.store.sql import Tx

ADMIN = "admin"
SYSTEM_ADDRESSES = ("postmaster", "abuse")  # RFC 2142 §4, RFC 5321 §4.5.1


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What was made, for the text that is printed once."""

    domain: str
    admin: str
    password: str


async def is_new(house: MailHouse) -> bool:
    """True if the store holds no domain yet."""
    return not await house.mail.read(people.domains)


async def make(house: MailHouse, domain: str, password: str, secret: str) -> FirstStart:
    """Make domain, administrator and system aliases in one unit.

    `secret` is the verifier of `password`. Raises Malformed for what is no domain name.
    """
    name = canonical_domain(domain)
    ids = [house.ids.new() for _ in range(16)]
    await house.mail.write(_make, name, secret, ids, house.clock.now())
    return FirstStart(name, f"{ADMIN}@{name}", password)


def _make(tx: Tx, domain: str, secret: str, made: list[int], now: Instant) -> None:
    ids = itertools.chain(made)
    people.create_domain(tx, next(ids), domain, now)
    admin = people.create_account(
        tx, NewAccount(Address(ADMIN, domain), "Administrator", Role.ADMIN, secret), ids, now
    )
    folders.create_first(tx, admin.id, ids, now, admin.id)
    for local in SYSTEM_ADDRESSES:
        aliases.create_alias(tx, f"{local}@{domain}", str(admin.address), ids, now)
    name = Assignment(SERVER, "server.default_domain", domain)
    change(tx, [name], next(ids), now, admin.id, "first start")


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
