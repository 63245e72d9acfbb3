"""Operations on settings: what applies where, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postroom.admin import ServerView
from postroom.core.clock import Instant
from postroom.core.errors import InUse, Malformed, Misuse, NotFound
from postroom.core.settings import SETTINGS, chain
from postroom.domain import policy
from postroom.domain.policy import history
from postroom.mailflow.settings import QuotaSettings
from postroom.store.sql import Statement
from tests.admin.housing import Admin


async def test_the_nearest_value_applies_and_its_origin_is_told(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org")
    for at, value in (
        ("server", "100"),
        ("domain:Example.org", "200"),
        ("account:Ann@example.org", "300"),
    ):
        await admin.json("settings set", name="quota.messages", value=value, at=at)
    expected = {
        "": (100, "server"),
        "server": (100, "server"),
        "node:1": (100, "server"),
        "domain:example.org": (200, "domain:example.org"),
        "account:ann@example.org": (300, "account:ann@example.org"),
    }
    for at, (applies, origin) in expected.items():
        shown = await admin.json("settings get", name="quota.messages", at=at)
        assert (shown.value, shown.origin, shown.default) == (applies, origin, 0)
    unset = await admin.do("settings unset", name="quota.messages", at="account:ann@example.org")
    assert (unset.value, unset.origin) == (200, "domain:example.org")


async def test_a_change_applies_at_once(admin: Admin) -> None:
    flow = admin.house.flow
    await admin.do("settings set", name="quota.octets", value="77")
    policy = await flow.mail.read(flow.policies.current, chain())
    assert policy.of(QuotaSettings).octets == 77


async def test_a_setting_tells_all_about_itself(admin: Admin) -> None:
    shown = await admin.json("settings get", name="smtp.max_size")
    declared = SETTINGS["smtp.max_size"]
    assert (shown.unit, shown.help) == (declared.unit, declared.help)
    assert shown.scopes == ("server", "node", "listener")
    told = shown.told()
    assert "smtp.max_size = 52428800 octets" in told
    assert "default" in told


async def test_all_settings_are_listed_with_value_and_origin(admin: Admin) -> None:
    await admin.do("settings set", name="smtp.max_hops", value="30", at="listener:smtp")
    everything = await admin.json("settings list")
    assert [each.name for each in everything] == sorted(SETTINGS)
    there = await admin.json("settings list", prefix="smtp.max_h", at="listener:smtp")
    assert [(each.name, each.value, each.origin) for each in there] == [
        ("smtp.max_hops", 30, "listener:smtp")
    ]
    (here,) = await admin.do("settings list", prefix="smtp.max_hops")
    assert (here.value, here.origin) == (50, "default")


async def test_the_diff_shows_what_somebody_set(admin: Admin) -> None:
    before = len(await admin.do("settings diff"))
    await admin.do("settings set", name="smtp.max_hops", value="30", at="listener:smtp")
    await admin.do("settings set", name="smtp.max_hops", value="50", at="node:1")
    diff = await admin.json("settings diff")
    assert len(diff) == before + 2
    assert [(d.at, d.value, d.default) for d in diff if d.name == "smtp.max_hops"] == [
        ("listener:smtp", 30, 50),
        ("node:1", 50, 50),
    ]


async def test_the_history_says_who_when_and_why(admin: Admin) -> None:
    await admin.do("settings set", name="smtp.max_hops", value="30", reason="a loop")
    admin.clock.advance(60)
    await admin.do("settings unset", name="smtp.max_hops", reason="mended")
    last, first = (await admin.json("settings history", limit=2))[:2]
    assert (first.name, first.was, first.now, first.reason) == (
        "smtp.max_hops", "(not set)", "30", "a loop",
    )  # fmt: skip
    assert (last.was, last.now, last.reason) == ("30", "(not set)", "mended")
    assert first.by == "the command line"
    assert last.changed > first.changed
    with pytest.raises(Misuse):
        await admin.do("settings history", limit=0)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"name": "smtp.nothing", "value": "1"}, NotFound),
        ({"name": "smtp.max_hops", "value": "many"}, Misuse),
        ({"name": "smtp.max_hops", "value": "5"}, Misuse),
        ({"name": "smtp.max_hops", "value": "30", "at": "domain:example.org"}, Misuse),
        ({"name": "smtp.max_hops", "value": "30", "at": "moon"}, Misuse),
        ({"name": "smtp.max_hops", "value": "30", "at": "server:x"}, Misuse),
        ({"name": "smtp.max_hops", "value": "30", "at": "node:one"}, Misuse),
        ({"name": "quota.octets", "value": "30", "at": "domain:nowhere.example"}, NotFound),
        ({"name": "quota.octets", "value": "30", "at": "account:nobody@example.org"}, NotFound),
        ({"name": "quota.octets", "value": "30", "at": "account:nobody"}, Malformed),
    ],
)
async def test_what_does_not_fit_changes_nothing(
    admin: Admin, asked: dict[str, str], error: type[Exception]
) -> None:
    before = await admin.do("settings diff")
    with pytest.raises(error):
        await admin.do("settings set", **asked)
    assert await admin.do("settings diff") == before


async def test_a_setting_of_an_account_follows_it_and_nobody_else(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org")
    await admin.do("settings set", name="quota.octets", value="5", at="account:ann@example.org")
    await admin.do("account delete", address="ann@example.org")
    await admin.do("account create", address="ann@example.org")
    shown = await admin.do("settings get", name="quota.octets", at="account:ann@example.org")
    assert (shown.value, shown.origin) == (0, "default")


async def test_why_a_value_applies_is_told_place_by_place(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org")
    name = "quota.octets"
    await admin.do("settings set", name=name, value="100", reason="the disk is small")
    admin.clock.advance(60)
    await admin.do("settings set", name=name, value="200", at="domain:example.org", reason="more")
    steps = await admin.json("settings explain", name=name, at="account:ann@example.org")
    assert [(each.at, each.value, each.applies, each.reason) for each in steps] == [
        ("account:ann@example.org", "(not set)", False, ""),
        ("domain:example.org", "200", True, "more"),
        ("server", "100", False, "the disk is small"),
        ("default", "0", False, ""),
    ]
    assert steps[1].by == "the command line"
    assert steps[1].set > steps[2].set
    assert (await admin.do("changes show", id=steps[1].change_set)).reason == "more"
    (*_, default) = await admin.json("settings explain", name="smtp.max_hops")
    assert (default.at, default.value, default.applies) == ("default", "50", True)


async def test_a_value_is_explained_though_its_history_is_forgotten(admin: Admin) -> None:
    await admin.do("settings set", name="smtp.max_hops", value="30")
    later = Instant(admin.clock.now() + 1)
    while await admin.stores.mail.write(history.forget, later):
        pass
    here = (await admin.do("settings explain", name="smtp.max_hops", at="server"))[0]
    assert (here.value, here.applies, here.by, here.change_set) == ("30", True, "", "")


async def test_what_another_release_left_can_be_unset(admin: Admin) -> None:
    row = Statement("""
        INSERT INTO setting (scope, object, name, value, change_set)
        VALUES ('server', '', 'smtp.max_hops', '3', 1)
    """)  # below what this release takes
    await admin.stores.mail.write(lambda tx: tx.run(row))
    await admin.do("settings unset", name="smtp.max_hops")
    assert await admin.stores.mail.read(policy.unfit) == []


async def test_a_value_that_would_never_apply_is_refused(admin: Admin) -> None:
    set_ = {"name": "smtp.max_size", "value": "70000"}
    await admin.do("settings set", **set_, at="listener:smpt")  # a stopped server has not said
    document = 'format = 1\n[settings."listener:smtps"]\n"smtp.max_hops" = 40\n'
    listeners = ("smtp 127.0.0.1 25", "smtp ::1 25", "imaps ::1 993")
    admin.house = replace(admin.house, server=lambda: ServerView("ready", (), listeners))
    with pytest.raises(Misuse, match="no listener smpt; there are imaps, smtp"):
        await admin.do("settings set", **set_, at="listener:smpt")
    with pytest.raises(Misuse, match="no listener smtps"):
        await admin.do("config apply", file=document)
    await admin.do("settings set", **set_, at="listener:smtp")
    await admin.do("settings unset", name="smtp.max_size", at="listener:smpt")


async def test_the_default_domain_is_one_of_ours_and_stays(admin: Admin) -> None:
    with pytest.raises(NotFound, match=r"no domain b\.example"):
        await admin.do("settings set", name="server.default_domain", value="b.example")
    document = 'format = 1\n[settings.server]\n"server.default_domain" = "b.example"\n'
    with pytest.raises(NotFound, match=r"no domain b\.example"):
        await admin.do("config apply", file=document)
    await admin.do("config apply", file=document.replace("= 1\n", '= 1\ndomains = ["b.example"]\n'))
    with pytest.raises(InUse, match=r"b\.example is the server's default domain"):
        await admin.do("domain delete", domain="B.example")
    await admin.do("settings unset", name="server.default_domain")
    await admin.do("domain delete", domain="b.example")
