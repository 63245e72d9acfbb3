"""A smart host tried before mail depends on it: whether it is found, and whether it takes us.

No mail is offered. Called by admin, for `rehearse`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import SecretUnreadable
from postroom.mailflow.house import MailHouse
from postroom.mailflow.relay.dialing import Dialer, NobodyThere
from postroom.mailflow.relay.smarthost import SmartHost, smart_host
from postroom.mailflow.routing import NextHop
from postroom.mailflow.settings import RelaySettings
from postroom.net.smtp import Facts

SECONDS: Final = 60.0
"""How long a smart host has for all of its answers: whoever asks waits for them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it, and the sentences that say so; `wrong` if mail would wait."""

    came: str
    because: tuple[str, ...] = ()
    wrong: str = ""


async def try_host(
    house: MailHouse, dialer: Dialer, hop: NextHop, settings: RelaySettings, *, dial: bool
) -> Trial:
    """Look up the host behind a next hop that an administrator named; with `dial` connect, greet,
    start TLS and sign in, as for mail, and leave."""
    try:
        addresses = await dialer.find(hop, settings)
    except NobodyThere as error:
        return Trial("not to be reached", (), error.reply)
    found = f"found at {', '.join(map(str, addresses))}"
    if not dial:
        return Trial(found)
    try:
        async with asyncio.timeout(SECONDS):
            smart = await smart_host(house, hop)
            channel = await dialer.dial(hop, settings, smart)
            await channel.quit()
    except NobodyThere as error:
        why = f"{error.host}: {error.reply}" if error.host else error.reply
        return Trial(f"{found}, and of no use", error.tried, why)
    except SecretUnreadable as error:
        return Trial(f"{found}, and not asked", (), str(error))
    except TimeoutError:
        why = f"{hop.name} did not answer within {SECONDS:g} seconds"
        return Trial(f"{found}, and silent", (), why)
    return Trial(f"{found}, and takes us{_how(channel.facts, smart)}", _facts(channel.facts))


def _how(facts: Facts, smart: SmartHost | None) -> str:
    """The two things that an operator wants to know of a smart host that takes mail."""
    line = " without encryption" if facts.tls is None else f" over {facts.tls.version}"
    if smart is None or smart.credentials is None:
        return f"{line}, without a sign-in"
    return f"{line}, signed in as {smart.credentials.user} by {facts.signed_in}"


def _facts(facts: Facts) -> tuple[str, ...]:
    where = f"{facts.host} [{facts.ip}]" if not facts.host.startswith("[") else facts.host
    lines = [f'{where} on port {facts.port} greets with "{facts.banner}".']
    if facts.tls is not None:
        believed = "is believed" if facts.verified else "is not asked for"
        lines.append(f"{facts.tls.cipher}; its certificate {believed}.")
    return tuple(lines)
