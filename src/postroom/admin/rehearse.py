"""`rehearse`: the configuration as it is, tried in a small internet of its own.

The trial is a process of its own (`postroom.testing.rehearsal`) with stores of its own, a clock
of its own and a world of one fake host on loopback: it is given the configuration as a document,
without passwords and secrets, and neither the stores nor the network of this server. What no small
internet can tell is whether a smart host is there: that alone is asked of the world, by the running
server, which goes the way that its mail would go.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import postroom
from postroom.admin import document
from postroom.admin.house import AdminHouse
from postroom.core.errors import Misuse, NotFound, Unreachable
from postroom.core.operations import argument, operation
from postroom.core.settings import Role
from postroom.domain.changes import configuration
from postroom.domain.changes.configuration import Configuration
from postroom.formats.address import canonical_domain
from postroom.mailflow.relay import Trial, try_host
from postroom.mailflow.routing import NextHop, smart_hop
from postroom.mailflow.settings import RelaySettings
from postroom.store.sql import Tx

SECONDS: Final = 300.0
"""How long a rehearsal may take: hundreds of aliases are played in some of them."""
_STAGE: Final = (sys.executable, "-m", "postroom.testing.rehearsal")
_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(postroom.__file__)))


@dataclass(frozen=True, slots=True)
class RehearseWhat:
    """What to try."""

    domain: str = argument("Of this domain alone", default="", option=True)
    dial: bool = argument(
        "Connect to the smart host as for mail: greet, start TLS, sign in, and leave",
        default=False,
    )
    verbose: bool = argument("Say of each journey why it went as it did", default=False)


@dataclass(frozen=True, slots=True)
class SceneView:
    """One journey: what was tried, what came of it, and why; `outcome` is that in a few words."""

    domain: str
    tried: str
    came: str
    because: tuple[str, ...]
    wrong: str
    outcome: str

    def told(self, *, whole: bool = False) -> str:
        """A line; if it is not as one would expect, or `whole`, with all that is known."""
        if not self.wrong and not whole:
            return f"  ok     {self.tried}: {self.outcome}"
        lines = [f"  {'WRONG' if self.wrong else 'ok   '}  {self.tried}", f"         {self.came}"]
        lines += [f"           {sentence}" for sentence in self.because]
        if self.wrong:
            lines.append(f"         NOT AS EXPECTED: {self.wrong}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class RehearsalReport:
    """All journeys. What an administrator would not expect is in `problems`."""

    scenes: tuple[SceneView, ...]
    problems: tuple[str, ...]
    verbose: bool = False

    def told(self) -> str:
        told: list[str] = []
        for domain, scenes in groupby(self.scenes, key=lambda each: each.domain):
            told.append(domain)
            told += [each.told(whole=self.verbose) for each in scenes]
        if self.problems:
            told.append(f"{len(self.problems)} not as expected:")
            told += [f"  {problem}" for problem in self.problems]
        else:
            told.append(f"{len(self.scenes)} journeys, all as expected.")
        return "\n".join(told)


@operation("rehearse", Role.ADMIN, changes=False, audited=True)
async def rehearse(house: AdminHouse, asked: RehearseWhat) -> RehearsalReport:
    """Try the configuration in a small internet: mail from outside to an account, to postmaster
    and abuse, by each alias, and to nobody; mail from an account to others, taken and refused; and
    a stranger who would send through this server. Says of each what came of it, and where that is
    not as one would expect, what was decided and why; then it is refused (exit code 1). Nothing of
    it touches the stores or the network of this server.

    A smart host is looked up as for mail, by the running server, and with `--dial` spoken to: then
    it hears our name, and our password where one is set, but no mail."""

    def look(tx: Tx) -> Configuration:
        return configuration.read(tx, secrets=False)

    held = await house.flow.mail.read_much(look)
    domain = canonical_domain(asked.domain) if asked.domain else ""
    if domain and domain not in (held.domains or ()):
        raise NotFound(f"There is no domain {domain}")
    outside = await _outside(house, [domain] if domain else ["", *(held.domains or ())], asked.dial)
    told = await _staged(json.dumps({"document": document.render(held), "domain": domain}))
    inside = (
        SceneView(s["domain"], s["tried"], s["came"], tuple(s["because"]), s["wrong"], s["outcome"])
        for s in told["scenes"]
    )
    asked_of = {each.tried for each in outside}
    scenes = (*outside, *(each for each in inside if each.tried not in asked_of))
    problems = tuple(each.wrong for each in scenes if each.wrong)
    return RehearsalReport(scenes, problems, asked.verbose)


async def _outside(house: AdminHouse, domains: Sequence[str], dial: bool) -> list[SceneView]:
    """The smart hosts by which mail of these domains leaves; the empty one is the server's own."""
    flow = house.flow

    def look(tx: Tx) -> tuple[RelaySettings, dict[NextHop, tuple[str, list[str]]]]:
        found: dict[NextHop, tuple[str, list[str]]] = {}
        server = flow.policies.current(tx, flow.chain("")).of(RelaySettings)
        for domain in domains:
            policy = flow.policies.latest(flow.chain("", domain))
            hop = smart_hop(policy)
            if hop is not None:
                named = policy.of(RelaySettings).smart_host
                found.setdefault(hop, (named, []))[1].append(domain or "server")
        return server, found

    settings, hops = await flow.mail.read_much(look)
    scenes: list[SceneView] = []
    for hop, (named, whose) in hops.items():
        if house.dialer is None:
            tried = Trial("not looked for: the server is not running")
        else:
            tried = await try_host(flow, house.dialer, hop, settings, dial=dial)
        wrong = f"mail waits for the smart host {named}: {tried.wrong}" if tried.wrong else ""
        place = whose[0] if len(whose) == 1 else f"{whose[0]} and {len(whose) - 1} more"
        about = f"the smart host {named}"
        scenes.append(SceneView(place, about, tried.came, tried.because, wrong, tried.came))
    return scenes


async def _staged(asked: str) -> dict[str, Any]:
    """Have it played; raises Unreachable if that could not be done, Misuse if it may not."""
    pipe = asyncio.subprocess.PIPE
    stage = await asyncio.create_subprocess_exec(
        *_STAGE,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={**os.environ, "PYTHONPATH": _PACKAGE},
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await stage.communicate(asked.encode())
    except TimeoutError as error:
        raise Unreachable(f"The rehearsal did not end in {SECONDS:g} seconds") from error
    finally:
        if stage.returncode is None:
            stage.kill()
            await stage.wait()
    try:
        told: dict[str, Any] = json.loads(out)
    except ValueError as error:
        last = err.decode(errors="replace").strip().splitlines()[-1:]
        why = "; ".join(last) or f"the process ended with {stage.returncode}"
        raise Unreachable("The rehearsal broke off", detail=why) from error
    if "error" in told:
        raise Misuse(f"The configuration cannot be played: {told['error']}")
    return told
