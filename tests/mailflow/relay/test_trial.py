"""A smart host tried without any mail: what is said of it is what mail would meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.core.settings import SERVER
from postroom.mailflow.nexthop import parse_host
from postroom.mailflow.relay import Trial, try_host
from postroom.mailflow.settings import RelaySettings
from postroom.store.sql import Tx
from postroom.testing.dns import Fault, What
from postroom.testing.mx import RemoteMx
from postroom.testing.plays import Play
from tests.mailflow.relay.test_smart_host import HUB, Hub, hub


async def tried(it: Hub, *, dial: bool = True, host: str = HUB) -> Trial:
    """A trial of the host; no mail was offered to anybody."""
    flow = it.house.flow

    def look(tx: Tx) -> RelaySettings:
        return flow.policies.current(tx, flow.chain("")).of(RelaySettings)

    settings = await flow.mail.read(look)
    dialer = it.house.workers[0].remote._dialer
    found = await try_host(flow, dialer, parse_host(host), settings, dial=dial)
    assert isinstance(it.host, RemoteMx)
    assert all("MAIL" not in each.commands for each in it.host.visits)
    return found


async def test_who_takes_us_is_told_with_how_and_left_in_good_order(
    play: Play, tmp_path: Path
) -> None:
    it = await hub(play, tmp_path)
    await it.set(user="postroom", password="swordfish")
    found = await tried(it)
    assert found.wrong == ""
    assert found.came == (
        f"found at {it.host.ip}, and takes us over TLSv1.3, signed in as postroom by PLAIN"
    )
    assert "its certificate is believed" in found.because[1]
    assert "swordfish" not in repr(found)
    assert it.host.visits[0].quit
    assert not it.host.complaints


async def test_without_dialling_dns_alone_is_asked(play: Play, tmp_path: Path) -> None:
    it = await hub(play, tmp_path)
    await it.set(user="postroom", password="swordfish")
    assert await tried(it, dial=False) == Trial(f"found at {it.host.ip}")
    assert it.host.visits == []


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"password": "swordfisk"}, f"{HUB}: sign-in: 535 5.7.8 wrong"),
        ({}, "relay.smart_host_user is set, and relay.smart_host_password is not"),
        ({"password": "swordfish", "tls": "implicit"}, f"{HUB}: "),
    ],
)
async def test_who_would_not_take_us_is_told_with_its_word(
    play: Play, tmp_path: Path, values: dict[str, str], why: str
) -> None:
    it = await hub(play, tmp_path)
    await it.set(SERVER, user="postroom", **values)
    found = await tried(it)
    assert found.wrong.startswith(why)
    assert found.came.startswith(f"found at {it.host.ip}, and ")
    assert "takes us" not in found.came


async def test_who_is_not_found_is_told_as_mail_would_be(play: Play, tmp_path: Path) -> None:
    it = await hub(play, tmp_path)
    play.town.zones.fault(HUB, None, Fault(What.SERVFAIL))
    found = await tried(it)
    assert found.came == "not to be reached"
    assert found.wrong.startswith("We could not find the host that relay.smart_host names: ")
    assert "servfail" in found.wrong


async def test_who_says_nothing_is_not_waited_for_without_end(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await hub(play, tmp_path)
    monkeypatch.setattr("postroom.mailflow.relay.trial.SECONDS", 0.2)
    it.host.falls_silent("GREETING")
    found = await tried(it)
    assert found.wrong == f"{HUB} did not answer within 0.2 seconds"
