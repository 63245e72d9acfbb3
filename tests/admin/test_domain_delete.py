"""`domain delete`: what keeps a domain, what goes with it, and that all of it comes back."""

from __future__ import annotations

import pytest

from postroom.core.errors import InUse, NotAllowed, NotFound
from tests.admin.housing import Admin


async def inhabited(admin: Admin, people: int) -> None:
    """b.example with so many accounts, and an administrator elsewhere."""
    await admin.do("account create", address="root@example.org", role="admin")
    await admin.do("domain create", domain="b.example")
    for n in range(people):
        await admin.do("account create", address=f"u{n}@b.example")


async def test_who_lives_in_a_domain_is_named(admin: Admin) -> None:
    await inhabited(admin, 1)
    with pytest.raises(InUse, match=r"b\.example still has 1 account \(u0@b\.example\): delete"):
        await admin.do("domain delete", domain="b.example")
    for n in range(1, 7):
        await admin.do("account create", address=f"u{n}@b.example")
    await admin.do("alias create", address="info@b.example", target="u0@b.example")
    with pytest.raises(InUse) as caught:
        await admin.do("domain delete", domain="b.example")
    said = str(caught.value)
    assert "7 accounts (u0@b.example, u1@b.example, " in said
    assert "u4@b.example, …) and 1 alias (info@b.example): " in said
    assert "--with-accounts" in said
    assert "postmaster" not in said


async def test_all_goes_in_one_change_set_and_comes_back(admin: Admin) -> None:
    await inhabited(admin, 2)
    await admin.do("alias create", address="info@b.example", target="u0@b.example")
    await admin.do("alias create", address="far@b.example", target="far@elsewhere.example")
    await admin.do("alias create", address="in@example.org", target="u1@b.example")
    await admin.do("settings set", name="quota.messages", value="9", at="account:u0@b.example")
    accounts = await admin.do("account list", domain="b.example")
    aliases = await admin.do("alias list")
    gone = await admin.json("domain delete", domain="b.example", with_accounts=True)
    assert (gone.accounts, gone.aliases) == (2, 2)
    assert gone.told().startswith("b.example is deleted, with 2 accounts and 2 aliases.")
    with pytest.raises(NotFound):
        await admin.do("domain show", domain="b.example")
    assert [each.address for each in await admin.do("account deleted")] == [
        "u0@b.example",
        "u1@b.example",
    ]
    await admin.do("changes revert", id=gone.change_set)
    assert await admin.do("account list", domain="b.example") == accounts
    assert {(a.address, a.target) for a in await admin.do("alias list")} == {
        (a.address, a.target) for a in aliases
    }
    at = "account:u0@b.example"
    assert (await admin.do("settings get", name="quota.messages", at=at)).value == 9


async def test_the_last_administrator_keeps_a_domain_whole(admin: Admin) -> None:
    await admin.do("domain create", domain="b.example")
    await admin.do("account create", address="ann@b.example")
    await admin.do("account create", address="root@b.example", role="admin")
    with pytest.raises(NotAllowed):
        await admin.do("domain delete", domain="b.example", with_accounts=True)
    assert len(await admin.do("account list", domain="b.example")) == 2


async def test_an_empty_domain_goes_by_itself(admin: Admin) -> None:
    await admin.do("account create", address="root@example.org", role="admin")
    await admin.do("domain create", domain="b.example", administrator="root@example.org")
    gone = await admin.json("domain delete", domain="b.example")
    assert gone.told().startswith("b.example is deleted. To bring it back:\n  postroom changes")
