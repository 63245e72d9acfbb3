"""The small internet: one clock, one DNS, one port of SMTP, and all who live there.

    async with small_internet(folder) as town:
        ours = await town.house("a.test", "ann")
        far = await town.server("far.example")
        far.refuses("bob@far.example", "450 4.2.0 Later", times=1)
        ...
        await town.passes(hours=1)

Houses (testing.house) are whole Postrooms; servers are strangers that do as they are told. Each
has an address of its own on loopback. Nothing waits for the time of day: `settle` ends when
nothing is due at this moment of the clock, and `passes` turns it from one moment at which
something is due to the next, so that days pass in milliseconds and always in the same order.
What happens on it is told in plays (testing.plays).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from postroom.domain.schema import MAIL_STEPS, STATE_STEPS
from postroom.net.dns import Server as Resolving
from postroom.store.migrate import migrate_sqlite
from postroom.store.sqlite import SqliteDatabase
from postroom.store.units import Database
from postroom.testing.clock import ManualClock
from postroom.testing.dns import DnsServer, Zones
from postroom.testing.house import House, Listener, OpenStores, Surroundings, Ways, open_house
from postroom.testing.mx import RemoteMx

SETTLES: Final = 20.0
"""Seconds of true time in which everything that is due has to happen."""
_LOOK: Final = 0.002
_HOUSES: Final = "127.0.1."
_SERVERS: Final = "127.0.2."


class Stranger(RemoteMx):
    """Another server. The verbs say what it does from now on; see `RemoteMx.on` for more."""

    def refuses(
        self, to: str | None = None, reply: str = "550 5.1.1 Nobody of that name", **more: Any
    ) -> Stranger:
        """Answer RCPT with that reply: always, or `times` times."""
        self.on("RCPT", to=to, reply=reply, **more)
        return self

    def answers(self, phase: str, reply: str, **more: Any) -> Stranger:
        """Answer with that reply at a phase: GREETING, a verb, END (the message)."""
        self.on(phase, reply=reply, **more)
        return self

    def hangs_up(self, phase: str, **more: Any) -> Stranger:
        """Close the connection at a phase; with `keep=True` at END it has taken the message."""
        self.on(phase, drop=True, **more)
        return self

    def falls_silent(self, phase: str, **more: Any) -> Stranger:
        """Say nothing more from a phase on, and leave the connection open."""
        self.on(phase, stall=True, **more)
        return self

    async def goes_down(self) -> None:
        """Nobody answers at its address any more."""
        await self.stop()

    async def comes_back(self) -> None:
        """It listens again, where it did."""
        await self.start()

    @property
    def last_command(self) -> str:
        """The verb that it heard last, on the latest connection; empty if none."""
        commands = self.visits[-1].commands if self.visits else []
        return commands[-1] if commands else ""

    @property
    def mail_for(self) -> list[str]:
        """Whom the mail that it took is for: each once for each time that it was taken."""
        return [str(rcpt.forward_path) for got in self.messages for rcpt in got.rcpts]


class Internet:
    """Who lives there, and the time. Made by `small_internet`."""

    def __init__(self, stack: AsyncExitStack, around: Surroundings, dns: DnsServer) -> None:
        self.clock = around.clock
        self.zones = dns.zones
        self.dns = dns
        self.port = around.port
        self.houses: dict[str, House] = {}
        self.servers: dict[str, Stranger] = {}
        self._of_domain: dict[str, House] = {}
        self._stack = stack
        self._around = around

    # --- who lives there ----------------------------------------------------------------------

    async def house(self, domain: str, *people: str, ways: Ways = Ways()) -> House:  # noqa: B008 - immutable
        """A Postroom that serves a domain, with accounts of these local parts; found in DNS."""
        name = f"mail.{domain}"
        ip = f"{_HOUSES}{len(self.houses) + 1}"
        made = await self._stack.enter_async_context(
            open_house(name, [domain], ip, self._around, ways)
        )
        self.houses[name] = self._of_domain[domain] = made
        self.zones.host(name, ip)
        self.zones.add(domain, "MX", f"10 {name}")
        for local in people:
            await made.person(f"{local}@{domain}")
        return made

    async def open(self, name: str, *domains: str) -> House:
        """A Postroom that is not in DNS, with nobody in it; without domains it has none."""
        ip = f"{_HOUSES}{len(self.houses) + 1}"
        made = await self._stack.enter_async_context(open_house(name, domains, ip, self._around))
        self.houses[name] = made
        return made

    def house_of(self, address: str) -> House:
        """The house that serves an address."""
        return self._of_domain[address.rpartition("@")[2]]

    async def server(
        self,
        domain: str = "",
        *,
        name: str = "",
        preference: int = 10,
        ip: str = "",
        **how: Any,
    ) -> Stranger:
        """A stranger's server: the mail exchanger of `domain`, if one is named.

        Its name is mx.DOMAIN, then mx2.DOMAIN; `how` is as in RemoteMx.
        """
        others = sum(each.endswith(f".{domain}") for each in self.servers) + 1
        name = name or f"mx{others if others > 1 else ''}.{domain}"
        ip = ip or f"{_SERVERS}{len(self.servers) + 1}"
        made = Stranger(ip, self.port, name=name, **how)
        self.servers[name] = made
        await self._stack.enter_async_context(made)
        self.zones.host(name, ip)
        if domain:
            self.zones.add(domain, "MX", f"{preference} {name}")
        return made

    # --- the time -----------------------------------------------------------------------------

    async def settle(self) -> None:
        """Until nothing is under way anywhere, nor due at this moment of the clock."""
        async with asyncio.timeout(SETTLES):
            before = -1
            while True:
                quiet = [await house.is_quiet() for house in self.houses.values()]
                stirred = sum(house.stirred for house in self.houses.values())
                # Twice, and nothing moved in between: what left one house while another was
                # looked at has arrived.
                if all(quiet) and stirred == before:
                    return
                before = stirred if all(quiet) else -1
                await asyncio.sleep(_LOOK)

    async def until(self, true: Callable[[], object], seconds: float = SETTLES) -> None:
        """Until something is so that others bring about, while the clock stands."""
        async with asyncio.timeout(seconds):
            while not true():  # noqa: ASYNC110 - those who bring it about do not know of us
                await asyncio.sleep(_LOOK)

    async def passes(self, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        """Let time pass, and happen what is due, at the moment at which it is due."""
        end = self.clock.now() + round((days * 24 * 60 + hours * 60 + minutes) * 60_000)
        while True:
            await self.settle()
            now = self.clock.now()
            found = [await house.next_due() for house in self.houses.values()]
            due = min((each for each in found if each is not None), default=end)
            if due >= end:
                break
            self.clock.advance((due - now) / 1000)
        self.clock.advance((end - now) / 1000)
        await self.settle()


@asynccontextmanager
async def small_internet(
    folder: Path, open_stores: OpenStores | None = None, *, seed: str = "0"
) -> AsyncIterator[Internet]:
    """An internet without anybody. `folder` is for what its houses keep."""
    async with AsyncExitStack() as stack:
        dns = await stack.enter_async_context(DnsServer(Zones()))
        around = Surroundings(
            folder,
            ManualClock(),
            Resolving(ip_address("127.0.0.1"), dns.port),
            _free_port(),
            open_stores or sqlite_in(folder),
            seed,
        )
        yield Internet(stack, around, dns)


def sqlite_in(folder: Path) -> OpenStores:
    """Stores of SQLite below a folder; they need not survive the machine."""

    def open_stores(name: str, listener: Listener) -> tuple[Database, Database]:
        place = folder / name
        os.makedirs(place, exist_ok=True)
        migrate_sqlite(str(place / "mail.db"), MAIL_STEPS)
        migrate_sqlite(str(place / "state.db"), STATE_STEPS)
        return (
            SqliteDatabase(str(place / "mail.db"), durable=False, listener=listener),
            SqliteDatabase(str(place / "state.db"), durable=False, listener=lambda events: None),
        )

    return open_stores


def _free_port() -> int:
    """A port that is free on all of loopback, as far as can be told."""
    with socket.create_server(("", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
