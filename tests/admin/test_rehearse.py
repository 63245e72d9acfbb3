"""The configuration tried in the small internet: what is told, and what is not as expected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from postroom.admin.cli import Finds
from postroom.admin.rehearse import RehearsalReport, SceneView
from postroom.core.errors import NotFound
from postroom.domain import queue, trace
from postroom.testing.internet import Internet, small_internet
from postroom.testing.rehearsal import FRIEND, REFUSED, Scene, rehearse
from tests.admin.housing import Admin

SOUND = """format = 1
domains = ["example.org"]

[settings."server"]
"server.default_domain" = "example.org"

[[accounts]]
address = "ann@example.org"
role = "admin"

[[aliases]]
address = "postmaster@example.org"
targets = ["ann@example.org"]

[[aliases]]
address = "abuse@example.org"
targets = ["ann@example.org"]
"""


def scene(scenes: list[Scene], tried: str) -> Scene:
    (found,) = [each for each in scenes if tried in each.tried]
    return found


def wrong(scenes: list[Scene]) -> list[str]:
    return [each.wrong for each in scenes if each.wrong]


async def test_a_sound_configuration_does_what_one_expects_and_says_why() -> None:
    out = '[[aliases]]\naddress = "out@example.org"\ntargets = ["x@far.example"]\n'
    scenes = await rehearse(SOUND + out)
    assert wrong(scenes) == []
    told = scene(scenes, "mail from outside to the account ann@example.org")
    assert told.came.startswith("taken: 250 2.0.0")
    assert "  It lies in INBOX as UID 1 (no flags)." in told.because
    told = scene(scenes, "whom nobody knows")
    assert told.came.startswith("refused: 550 5.1.1")
    assert any("by the rule known" in each for each in told.because)
    told = scene(scenes, f"to {FRIEND}")
    assert any("mx.everywhere [127.0.2.1] took it over TLS" in each for each in told.because)
    told = scene(scenes, "that others refuse")
    assert any("The sender was told in the notice" in each for each in told.because)
    assert REFUSED in " ".join(told.because)
    told = scene(scenes, "a stranger's mail")
    assert told.came.startswith("refused: 550 5.7.1")
    told = scene(scenes, "by the alias out@")
    assert any("x@far.example is reached by the mail exchangers" in e for e in told.because)


async def test_what_leads_nowhere_and_who_is_missing_is_found() -> None:
    document = SOUND.replace('"abuse@example.org"', '"info@example.org"').replace(
        'targets = ["ann@example.org"]\n\n', 'targets = ["gone@example.org", "ann@example.org"]\n\n'
    )
    found = wrong(await rehearse(document))
    assert len(found) == 2
    assert found[0].startswith("abuse@example.org takes no mail from outside: 550 5.1.1")
    lead = "the alias postmaster@example.org leads to gone@example.org, which takes no mail"
    assert found[1].startswith(lead)


async def test_who_has_all_mail_of_a_domain_is_told_and_is_no_mistake() -> None:
    every = '[[aliases]]\naddress = "*@example.org"\ntargets = ["ann@example.org"]\n'
    scenes = await rehearse(SOUND + every)
    assert wrong(scenes) == []
    told = scene(scenes, "whom nobody knows")
    assert told.came.startswith("taken")
    assert any("is an alias of ann@example.org" in each for each in told.because)


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("hub.example.net:587", ""),
        ("[192.0.2.1]:25", ""),
        ("hub.example.net:port", "cannot be one"),
        ("mail.example.org", "is this server"),
    ],
)
async def test_a_smart_host_is_played_or_cannot_be_one(host: str, why: str) -> None:
    """The one that is set is not reached, whatever it is."""
    held = SOUND.replace(
        '"server.default', f'"relay.smart_host" = "{host}"\n"relay.tls" = "must"\n"server.default'
    )
    scenes = await rehearse(held)
    assert [why in each for each in wrong(scenes)] == ([True] if why else [])
    told = scene(scenes, f"to {FRIEND}")
    assert any("took it over TLS" in each for each in told.because)


async def test_policy_that_keeps_people_from_sending_is_found() -> None:
    """Limits count as they are set: here nobody has room for a report."""
    tight = SOUND.replace('"server.default', '"quota.octets" = 100\n"server.default')
    found = wrong(await rehearse(tight))
    assert any("ann@example.org takes no mail from outside: 452 4.2.2" in each for each in found)
    assert any("hears nothing of mail that others refuse" in each for each in found)


async def test_the_operation_plays_what_the_store_holds_and_leaves_it_as_it_is(
    admin: Admin,
) -> None:
    await admin.do("account create", address="ann@example.org")
    await admin.do("alias create", address="postmaster@example.org", target="ann@example.org")
    report = await admin.json("rehearse", domain="EXAMPLE.org")
    assert isinstance(report, Finds)  # so the command ends with 1
    assert isinstance(report, RehearsalReport)
    (problem,) = report.problems
    assert problem.startswith("abuse@example.org takes no mail from outside")
    assert "NOT AS EXPECTED: abuse@example.org" in report.told()
    assert "1 not as expected:" in report.told()
    fine = RehearsalReport(tuple(each for each in report.scenes if not each.wrong), ())
    assert fine.told().endswith(f"{len(fine.scenes)} journeys, all as expected.")
    assert await admin.stores.mail.read(trace.latest) == []
    assert await admin.stores.mail.read(queue.waiting, 10) == []


async def test_a_journey_is_a_line_and_only_what_went_wrong_is_told_whole(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org")
    await admin.do("alias create", address="postmaster@example.org", target="ann@example.org")
    report = await admin.json("rehearse")
    lines = report.told().splitlines()
    assert lines[:3] == [
        "example.org",
        "  ok     mail from outside to the account ann@example.org: taken, for ann@example.org",
        "  ok     mail from outside to postmaster@: taken, for ann@example.org",
    ]
    assert f"  ok     mail from ann@example.org to {FRIEND}: taken, and it left" in lines
    assert "  ok     a stranger's mail to a third server: refused, 550 5.7.1" in lines
    at = lines.index("  WRONG  mail from outside to abuse@")
    assert lines[at + 1].startswith("         refused: 550 5.1.1")
    assert any("by the rule known" in each for each in lines[at + 2 :])
    (wrong,) = [each for each in report.scenes if each.wrong]
    # The domain, a line each, what came of the wrong one, and the sum.
    assert len(lines) == 1 + len(report.scenes) + len(wrong.because) + 2 + 2
    whole = (await admin.json("rehearse", verbose=True)).told()
    assert "It lies in INBOX as UID 1" in whole
    assert len(whole.splitlines()) > 3 * len(lines) // 2


# --- the smart host, which is outside ---------------------------------------------------------


@pytest_asyncio.fixture
async def dialing(admin: Admin, tmp_path: Path) -> AsyncIterator[tuple[Internet, Admin]]:
    """An administrator whose server reaches a small internet."""
    async with small_internet(tmp_path / "town") as town:
        house = await town.open("mail.example.org")
        dialer = house.workers[0].remote._dialer
        reaching = replace(admin.house, dialer=dialer)
        yield town, Admin(reaching, admin.stores, admin.clock)


async def smart_scene(admin: Admin, **how: bool) -> SceneView:
    report = await admin.json("rehearse", **how)
    assert isinstance(report, RehearsalReport)
    assert report.problems == tuple(each.wrong for each in report.scenes if each.wrong)
    (found,) = [each for each in report.scenes if "smart host" in each.tried]
    return found


async def test_without_a_running_server_nobody_looks_for_the_smart_host(admin: Admin) -> None:
    await admin.do("settings set", name="relay.smart_host", value="hub.example")
    told = await smart_scene(admin)
    assert (told.domain, told.tried) == ("server and 1 more", "the smart host hub.example")
    assert told.came == "not looked for: the server is not running"
    assert not told.wrong


async def test_a_smart_host_is_looked_up_and_spoken_to_if_that_is_asked_for(
    dialing: tuple[Internet, Admin],
) -> None:
    town, admin = dialing
    hub = await town.server(name="hub.example")
    await admin.do("settings set", name="relay.smart_host", value="hub.example")
    told = await smart_scene(admin)
    assert (told.outcome, told.wrong) == (f"found at {hub.ip}", "")
    assert hub.visits == []
    told = await smart_scene(admin, dial=True)
    assert told.outcome == (
        f"found at {hub.ip}, and takes us without encryption, without a sign-in"
    )
    assert told.because == (
        f'hub.example [{hub.ip}] on port {hub.port} greets with "hub.example ESMTP".',
    )
    assert hub.visits[0].commands == ["EHLO", "QUIT"]


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        ("", "We could not find the host that relay.smart_host names: hub.example does not exist"),
        ("554 5.7.1 Not you", "hub.example: 554 5.7.1 Not you"),
    ],
)
async def test_a_smart_host_that_would_keep_mail_waiting_is_found(
    dialing: tuple[Internet, Admin], greeting: str, why: str
) -> None:
    town, admin = dialing
    if greeting:
        (await town.server(name="hub.example")).answers("GREETING", greeting)
    await admin.do("settings set", name="relay.smart_host", value="hub.example")
    told = await smart_scene(admin, dial=True)
    assert told.wrong.startswith(f"mail waits for the smart host hub.example: {why}")


async def test_each_domain_is_told_its_own_smart_host(dialing: tuple[Internet, Admin]) -> None:
    town, admin = dialing
    await admin.do("domain create", domain="b.example")
    await town.server(name="hub.example")
    at = "domain:b.example"
    await admin.do("settings set", name="relay.smart_host", value="hub.example", at=at)
    told = await smart_scene(admin)
    assert (told.domain, told.wrong) == ("b.example", "")
    report = await admin.json("rehearse", domain="example.org")
    assert not [each for each in report.scenes if "smart host" in each.tried]


async def test_a_domain_that_is_not_there_is_not_played(admin: Admin) -> None:
    with pytest.raises(NotFound):
        await admin.do("rehearse", domain="other.test")
