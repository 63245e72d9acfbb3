"""A configuration rehearsed in the small internet: a process of its own, for `postroom rehearse`.

    python -m postroom.testing.rehearsal

reads {"document", "domain"} as JSON from standard input, plays, and writes {"scenes"} to standard
output. The document is as `config export` writes it. The whole world outside is one host that
takes everything but one address; nothing but loopback is reached, and nothing outlives this.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import structlog

from postroom.access import Authenticator
from postroom.admin import AdminHouse, document, perform
from postroom.admin.config import ApplyConfig
from postroom.admin.house import checker
from postroom.admin.mail import TraceOf, TraceView
from postroom.core.errors import MailError, Malformed, NotFound
from postroom.core.settings import SERVER, Value
from postroom.domain.changes.whole import SYSTEM_ADDRESSES
from postroom.domain.directory import people
from postroom.domain.directory.aliases import aliases
from postroom.formats import dsn
from postroom.mailflow.nexthop import parse_host
from postroom.mailflow.settings import ServerSettings
from postroom.store.sql import Tx
from postroom.testing.house import House
from postroom.testing.internet import Internet, Stranger, small_internet
from postroom.testing.mx import mx_tls
from postroom.testing.smtp import ServerClosed, Unexpected
from postroom.wire.smtp import Reply

FRIEND: Final = "friend@elsewhere.example"
REFUSED: Final = "refused@elsewhere.example"
NOBODY: Final = "nobody-has-this-address-7f3a"
ALIASES: Final = 500
"""Aliases of one domain that are played."""
_HUB: Final = "smart-host.invalid"
_WORLD: Final = (
    "mx.everywhere"  # of a top-level domain of its own: names beside it are no wildcards
)
_NAMED: Final = 3  # recipients of an outcome
_TRIES: Final = 200  # looks for the trace of a refusal, which is written soon


@dataclass(slots=True)
class Scene:
    """A journey: what was tried in a domain, what came of it and why; `wrong` if an administrator
    would not expect that. `outcome` is what came of it in a few words."""

    domain: str
    tried: str
    came: str
    because: list[str] = field(default_factory=list)
    wrong: str = ""
    outcome: str = ""


class Rehearsal:
    """One configuration on the stage."""

    def __init__(self, town: Internet, house: House, world: Stranger, admin: AdminHouse) -> None:
        self._town = town
        self._house = house
        self._world = world
        self._admin = admin
        self._written = 0
        self.scenes: list[Scene] = []

    async def play(self, domain: str) -> None:
        """The standard journeys of a domain."""
        people_, leads = await self._house.flow.mail.read(_cast, domain)
        if people_:
            first = people_[0]
            await self._brought(domain, first, f"mail from outside to the account {first}")
        for local in SYSTEM_ADDRESSES:
            await self._brought(domain, f"{local}@{domain}", f"mail from outside to {local}@")
        for address, targets in islice(leads.items(), ALIASES):
            if address.partition("@")[0] not in SYSTEM_ADDRESSES:
                await self._brought(domain, address, f"mail from outside by the alias {address}")
            for target in targets:
                await self._leads_on(domain, address, target)
        if len(leads) > ALIASES:
            left = len(leads) - ALIASES
            self._add(Scene(domain, f"{left} more aliases", "not tried"))
        await self._unknown(domain)
        if people_:
            await self._house.password(people_[0])
            await self._sent(domain, people_[0])
            await self._refused(domain, people_[0])
        else:
            self._add(Scene(domain, "mail to others", "not tried: nobody signs in here"))
        await self._relayed(domain)

    async def domains(self) -> list[str]:
        """All of the configuration."""
        return await self._house.flow.mail.read(_domains)

    # --- journeys -----------------------------------------------------------------------------

    async def _brought(self, domain: str, to: str, tried: str) -> None:
        reply = await self._bring(to)
        scene = await self._told(Scene(domain, tried, ""), reply)
        if not reply.positive:
            scene.wrong = f"{to} takes no mail from outside: {reply}"
        self._add(scene)

    async def _leads_on(self, domain: str, address: str, target: str) -> None:
        """Of several targets of an alias one may lead nowhere, and nobody would notice."""
        if target.rpartition("@")[2] not in await self.domains():
            return
        reply = await self._bring(target)
        if reply.positive:
            return
        scene = await self._told(Scene(domain, f"where the alias {address} leads", ""), reply)
        scene.wrong = f"the alias {address} leads to {target}, which takes no mail: {reply}"
        self._add(scene)

    async def _unknown(self, domain: str) -> None:
        to = f"{NOBODY}@{domain}"
        reply = await self._bring(to)
        # Taken, it goes by an alias for all that nobody has: that may be meant.
        self._add(await self._told(Scene(domain, f"mail to {to}, whom nobody knows", ""), reply))

    async def _sent(self, domain: str, sender: str) -> None:
        reply = await self._submit(sender, FRIEND)
        scene = await self._told(Scene(domain, f"mail from {sender} to {FRIEND}", ""), reply)
        if not reply.positive:
            scene.wrong = f"{sender} cannot send to others: {reply}"
        elif FRIEND not in self._taken():
            scene.wrong = f"mail from {sender} to others does not leave"
        else:
            scene.outcome = "taken, and it left"
        self._add(scene)

    async def _refused(self, domain: str, sender: str) -> None:
        before = len(await self._house.inbox(sender))
        reply = await self._submit(sender, REFUSED)
        scene = await self._told(Scene(domain, f"mail from {sender} that others refuse", ""), reply)
        came = (await self._house.inbox(sender))[before:]
        reports = [report for each in came if (report := dsn.parse(each)) is not None]
        if not any(r.final_recipient.value == REFUSED for each in reports for r in each.recipients):
            scene.wrong = f"{sender} hears nothing of mail that others refuse"
        else:
            scene.outcome = "taken, and returned with a report"
        self._add(scene)

    async def _relayed(self, domain: str) -> None:
        reply = await self._bring("other@third.example")
        scene = await self._told(Scene(domain, "a stranger's mail to a third server", ""), reply)
        if reply.positive:
            scene.wrong = "strangers may send to others through this server: an open relay"
        self._add(scene)

    def _taken(self) -> list[str]:
        return self._world.mail_for

    def _add(self, scene: Scene) -> None:
        scene.outcome = scene.outcome or scene.came
        self.scenes.append(scene)

    # --- at the doors -------------------------------------------------------------------------

    def _content(self, sender: str, to: str) -> bytes:
        self._written += 1
        return (
            f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: Rehearsal\r\n"
            f"Message-ID: <{self._written}@elsewhere.example>\r\n"
            f"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nA rehearsal.\r\n"
        ).encode()

    async def _bring(self, to: str) -> Reply:
        """A stranger's server brings mail; the reply that decided."""
        async with self._house.stranger("EHLO mx.elsewhere.example") as client:
            parameters = "" if to.isascii() else "SMTPUTF8"
            said = await client.deliver(
                FRIEND, [to], self._content(FRIEND, to), parameters=parameters
            )
        await self._town.settle()
        return said.last

    async def _submit(self, sender: str, to: str) -> Reply:
        async with self._house.signed_in(sender) as client:
            parameters = "" if sender.isascii() else "SMTPUTF8"
            said = await client.deliver(
                sender, [to], self._content(sender, to), parameters=parameters
            )
        await self._town.settle()
        return said.last

    async def _told(self, scene: Scene, reply: Reply) -> Scene:
        """The scene with what was answered, and what the trace says of it."""
        scene.came = f"{'taken' if reply.positive else 'refused'}: {reply}"
        scene.outcome = "taken" if reply.positive else f"refused, {reply.code} {reply.status or ''}"
        name = next((w.strip("().") for w in reply.text.split() if _is_trace(w.strip("()."))), "")
        for _ in range(_TRIES if name else 0):
            self._house.intake.refusals.flush()
            try:
                views = await perform(self._admin, "trace", TraceOf(name))
            except NotFound:
                await asyncio.sleep(0.005)
                continue
            (view,) = (each for each in views if isinstance(each, TraceView))
            scene.because = list(view.sentences)
            if reply.positive:
                scene.outcome = f"taken, {_for_whom(view.record)}"
            break
        return scene


def _for_whom(record: Mapping[str, Any]) -> str:
    """Who has a message, as its trace holds it."""
    copies = [*record.get("delivered", ()), *record.get("queued", ())]
    ours = [f"for {each['to']}" for each in copies]
    whom = ours + [f"on its way to {each['to']}" for each in record.get("relayed", ())]
    more = len(whom) - _NAMED
    return ", ".join(whom[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _is_trace(word: str) -> bool:
    return len(word) == 14 and word[0] == "r" and word.isalnum()


def _cast(tx: Tx, domain: str) -> tuple[list[str], dict[str, list[str]]]:
    """Who signs in there, and where aliases lead; a pattern as an address that it matches."""
    found = [str(a.address) for a in people.accounts(tx, domain) if a.state == "active"]
    leads: dict[str, list[str]] = {}
    for each in aliases(tx, domain):
        address = each.address.replace("*", "any").replace("?", "x")
        leads.setdefault(address, []).append(each.target)
    return found, leads


def _domains(tx: Tx) -> list[str]:
    return [each.name for each in people.domains(tx)]


# --- the stage --------------------------------------------------------------------------------


def enclosed(held: str) -> tuple[str, list[Scene]]:
    """A document fit for the small internet, and what cannot be in any.

    A smart host is played by the world outside: on the town's port, without its password, which
    no rehearsal is given.
    """
    wanted = document.parse(held)
    scenes: list[Scene] = []
    settings: dict[str, dict[str, Value]] = {}
    ours = _hostname(wanted.settings or {})
    for place, values in (wanted.settings or {}).items():
        kept = {n: v for n, v in values.items() if not n.startswith("relay.smart_host_")}
        settings[place] = kept
        host = str(kept.get("relay.smart_host", ""))
        if not host:
            continue
        name, why = "", ""
        try:
            name = parse_host(host).name
        except Malformed as error:
            why = f"cannot be one: {error}"
        if name == ours:
            why = "is this server: mail would go in circles"
        kept["relay.smart_host"] = _HUB if why or name.startswith("[") else name
        if why:
            told = f"the smart host {host} {why}"
            scenes.append(Scene(place, f"the smart host {host}", why, [], told))
    return document.render(replace(wanted, settings=settings)), scenes


def _hostname(settings: Mapping[str, Mapping[str, Value]]) -> str:
    held = settings.get(str(SERVER), {})
    named = str(held.get("server.hostname", ""))
    return named or f"mail.{held.get('server.default_domain', ServerSettings().default_domain)}"


@asynccontextmanager
async def _staged(folder: Path, held: str) -> AsyncIterator[Rehearsal]:
    async with small_internet(folder) as town:
        world = await town.server(name=_WORLD, tls=mx_tls(folder, [_WORLD]).context)
        world.refuses(REFUSED)
        # Every name there is leads to the one host.
        town.zones.add("*", "MX", f"10 {_WORLD}")
        town.zones.add("*", "A", world.ip)
        house = await town.open("rehearsal.invalid")
        flow = house.flow
        authenticator = Authenticator(
            flow.mail,
            flow.clock,
            flow.policies,
            flow.ids,
            default_domain=lambda: flow.default_domain,
        )
        try:
            admin = AdminHouse(flow, authenticator, checker(flow))
            await perform(admin, "config apply", ApplyConfig(held))
            await flow.mail.read(flow.policies.current, flow.chain(""))
            yield Rehearsal(town, house, world, admin)
        finally:
            await authenticator.close()


async def rehearse(held: str, domain: str = "") -> list[Scene]:
    """All scenes of one domain, or of all that the document has. Raises MailError."""
    fitted, scenes = enclosed(held)
    with tempfile.TemporaryDirectory(prefix="postroom-rehearsal-") as folder:
        async with _staged(Path(folder), fitted) as rehearsal:
            for name in await rehearsal.domains():
                if domain in ("", name):
                    await _fairly(rehearsal, name, rehearsal.play(name))
            return scenes + rehearsal.scenes


async def _fairly(rehearsal: Rehearsal, domain: str, playing: Awaitable[None]) -> None:
    """What keeps a domain from being played is told, and the next one is."""
    try:
        await playing
    except (Unexpected, ServerClosed, TimeoutError) as error:
        why = f"the rehearsal of {domain} broke off: {str(error) or type(error).__name__}"
        rehearsal.scenes.append(Scene(domain, "the rehearsal", "broke off", [], why))


def main() -> int:
    """Read, play, write."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asked: dict[str, Any] = json.load(sys.stdin)
    try:
        scenes = asyncio.run(rehearse(asked["document"], asked.get("domain", "")))
    except MailError as error:
        json.dump({"error": str(error)}, sys.stdout)
        return 1
    json.dump({"scenes": [asdict(each) for each in scenes]}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
