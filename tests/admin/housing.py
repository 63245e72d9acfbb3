"""An administrated house, for the tests of operations and of their faces."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from postroom.access import Authenticator
from postroom.admin import AdminHouse, Caller, codec, perform
from postroom.admin.house import checker, named
from postroom.core.ids import Ids
from postroom.core.secrets import Keyring
from postroom.core.settings import SERVER
from postroom.domain.policy import Assignment, Policies, change
from postroom.mailflow.house import MailHouse
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.testing.clock import ManualClock
from postroom.wire.sasl import ITERATIONS_LEAST
from tests.stores import Stores


@dataclass(slots=True)
class Admin:
    """Performs operations as a face does: by name, with JSON in and typed values out."""

    house: AdminHouse
    stores: Stores
    clock: ManualClock

    async def do(self, operation: str, /, *, reason: str = "", **asked: Any) -> Any:
        kind = named(operation).input
        return await perform(self.house, operation, codec.decode(kind, asked), reason)

    def by(self, caller: Caller) -> Admin:
        return Admin(replace(self.house, caller=caller), self.stores, self.clock)

    async def json(self, operation: str, /, **asked: Any) -> Any:
        """The output as it crosses the control socket and comes back."""
        told = json.loads(json.dumps(codec.encode(await self.do(operation, **asked))))
        return codec.decode(named(operation).output, told)


@asynccontextmanager
async def open_admin(
    stores: Stores, clock: ManualClock, folder: Path, *, first: bool = True
) -> AsyncIterator[Admin]:
    """A house; with `first`, passwords are made cheap and the domain example.org is made."""
    ids = Ids(clock)
    flow = MailHouse(
        mail=stores.mail,
        state=stores.state,
        blobs=Blobs(str(folder / "blobs"), Files(), ids),
        clock=clock,
        ids=ids,
        policies=Policies(),
        secrets=Keyring(str(folder / "secrets.keys")),
    )
    flow.secrets.make()
    authenticator = Authenticator(
        flow.mail, clock, flow.policies, ids, default_domain=lambda: "example.org"
    )
    made = Admin(AdminHouse(flow, authenticator, checker(flow)), stores, clock)
    try:
        if first:
            cheap = (
                ("access.hash_memory", 8192),
                ("access.hash_passes", 1),
                ("access.scram_iterations", ITERATIONS_LEAST),
            )
            set_ = [Assignment(SERVER, name, value) for name, value in cheap]
            await stores.mail.write(change, set_, ids.new(), clock.now(), 0, "tests hurry")
            await made.do("domain create", domain="example.org")
            clock.advance(1)
        yield made
    finally:
        await authenticator.close()
