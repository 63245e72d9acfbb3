"""`rehearse`: the configuration as it is, tried in a small internet of its own.

The trial is a process of its own (`postroom.testing.rehearsal`) with stores of its own, a clock
of its own and a world of one fake host on loopback: it is given the configuration as a document,
without passwords and secrets, and neither the stores nor the network of this server.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
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
from postroom.store.sql import Tx

SECONDS: Final = 300.0
"""How long a rehearsal may take: hundreds of aliases are played in some of them."""
_STAGE: Final = (sys.executable, "-m", "postroom.testing.rehearsal")
_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(postroom.__file__)))


@dataclass(frozen=True, slots=True)
class RehearseWhat:
    """What to try."""

    domain: str = argument("Of this domain alone", default="", option=True)


@dataclass(frozen=True, slots=True)
class SceneView:
    """One journey: what was tried, what came of it, and why."""

    domain: str
    tried: str
    came: str
    because: tuple[str, ...]
    wrong: str

    def told(self) -> str:
        lines = [f"{self.domain}: {self.tried}", f"  {self.came}"]
        lines += [f"    {sentence}" for sentence in self.because]
        if self.wrong:
            lines.append(f"  NOT AS EXPECTED: {self.wrong}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class RehearsalReport:
    """All journeys. What an administrator would not expect is in `problems`."""

    scenes: tuple[SceneView, ...]
    problems: tuple[str, ...]

    def told(self) -> str:
        told = [scene.told() for scene in self.scenes]
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
    a stranger who would send through this server. Says of each what was decided and why, and is
    refused (exit code 1) if something is not as one would expect. Nothing of it touches the stores
    or the network of this server, so whether a smart host is found in DNS is not asked."""

    def look(tx: Tx) -> Configuration:
        return configuration.read(tx, secrets=False)

    held = await house.flow.mail.read_much(look)
    domain = canonical_domain(asked.domain) if asked.domain else ""
    if domain and domain not in (held.domains or ()):
        raise NotFound(f"There is no domain {domain}")
    told = await _staged(json.dumps({"document": document.render(held), "domain": domain}))
    scenes = tuple(
        SceneView(s["domain"], s["tried"], s["came"], tuple(s["because"]), s["wrong"])
        for s in told["scenes"]
    )
    return RehearsalReport(scenes, tuple(each.wrong for each in scenes if each.wrong))


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
        raise Unreachable("The rehearsal broke off", detail="; ".join(last)) from error
    if "error" in told:
        raise Misuse(f"The configuration cannot be played: {told['error']}")
    return told
