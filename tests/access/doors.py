"""A door with one account behind it, for these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from postroom.access import Attempt, Authenticator, Outcome, Reason, make_secret
from postroom.access.passwords import Cost
from postroom.core.clock import Instant
from postroom.core.errors import AuthUnavailable, NotAuthenticated
from postroom.core.ids import Ids
from postroom.core.settings import SERVER, Role, Value
from postroom.domain.directory import people
from postroom.domain.directory.people import NewAccount, Verifiers
from postroom.domain.policy import Assignment, Policies, change
from postroom.formats.address import parse_mailbox
from postroom.store.sql import Tx
from postroom.testing.clock import ManualClock
from tests.stores import Stores

CHEAP = Cost(8192, 1, 1)
RIGHT = "correct horse"
HERE = "192.0.2.1"
THERE = "198.51.100.7"


@dataclass
class Door:
    """An authenticator before a store with one account, and what `after` was told."""

    authenticator: Authenticator
    stores: Stores
    clock: ManualClock
    account: int
    told: list[Outcome]
    numbers: Iterator[int]

    async def enter(
        self, login: str = "ann@example.org", password: str = RIGHT, ip: str = HERE
    ) -> Reason:
        """Try to sign in; how it ended."""
        attempt = Attempt("PLAIN", login, password, ip_address(ip), "imaps", "imap")
        try:
            await self.authenticator.authenticate(attempt)
        except NotAuthenticated as error:
            assert str(error) == NotAuthenticated.sentence  # nothing that says why
        except AuthUnavailable:
            pass
        return self.told[-1].reason

    async def set(self, name: str, value: Value) -> None:
        await self.stores.mail.write(
            change, [Assignment(SERVER, name, value)], next(self.numbers), Instant(1), 0, "test"
        )

    async def secrets(self) -> dict[str, str]:
        return await self.stores.mail.read(people.secrets, self.account)

    async def set_password(self, password: str) -> None:
        fresh = await asyncio.to_thread(make_secret, password, CHEAP)
        ids = [next(self.numbers), next(self.numbers)]
        await self.stores.mail.write(people.set_secret, self.account, fresh, ids, Instant(2))

    async def replace(self, fresh: Verifiers) -> None:
        """Put other verifiers there, as a renewal does."""
        held = (await self.secrets())[people.PASSWORD]
        ids = [next(self.numbers), next(self.numbers)]
        await self.stores.mail.write(
            people.renew_secret, self.account, held, fresh, ids, Instant(2)
        )


def _first(tx: Tx, secret: Verifiers) -> int:
    people.create_domain(tx, 1, "example.org", Instant(1))
    new = NewAccount(parse_mailbox("Ann@example.org"), "Ann", Role.USER, secret)
    return people.create_account(tx, new, iter((10, 11, 12)), Instant(1)).id


@asynccontextmanager
async def opened(stores: Stores, clock: ManualClock) -> AsyncIterator[Door]:
    secret = await asyncio.to_thread(make_secret, RIGHT, CHEAP)
    account = await stores.mail.write(_first, secret)
    made = Authenticator(
        stores.mail,
        clock,
        Policies(),
        Ids(clock),
        default_domain=lambda: "example.org",
        key=b"k" * 32,
    )
    told: list[Outcome] = []
    made.after.append(lambda attempt, outcome: told.append(outcome))
    door = Door(made, stores, clock, account, told, iter(range(1000, 2000)))
    await door.set("access.hash_memory", CHEAP.memory)
    await door.set("access.hash_passes", CHEAP.passes)
    try:
        yield door
    finally:
        await made.close()
