"""Deleted accounts: refused and signed out at once, brought back whole, then erased."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.access import Attempt
from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, LimitReached, NotAllowed, NotAuthenticated, NotFound
from postroom.core.ids import ACCOUNT, internal
from postroom.core.jobs import JOBS
from postroom.domain.changes.settings import ChangeRetention
from postroom.domain.directory import aliases, people
from postroom.domain.mailboxes import folders
from postroom.formats.address import parse_mailbox
from postroom.mailflow import upkeep
from tests.admin.housing import Admin

ANN = "ann@example.org"
DAY = 24 * 3600
DAYS = ChangeRetention().deleted_accounts_days


@pytest.fixture
async def town(admin: Admin) -> Admin:
    """ann with a password, a mailbox of her own, an alias and a quota."""
    made = await admin.do("account create", address=ANN, name="Ann", password="correct horse")
    await admin.do("alias create", address="info@example.org", target=ANN)
    await admin.do("settings set", name="quota.octets", value="5", at=f"account:{ANN}")
    flow, ann = admin.house.flow, internal(ACCOUNT, made.id)
    ids = iter([flow.ids.new() for _ in range(4)])
    await flow.mail.write(folders.create, ann, "Trains", ids, flow.clock.now(), ann)
    return admin


async def signs_in(admin: Admin) -> bool:
    attempt = Attempt("PLAIN", ANN, "correct horse", None, "imaps", "imap")
    try:
        await admin.house.authenticator.authenticate(attempt)
    except NotAuthenticated:
        return False
    return True


async def leads(admin: Admin, address: str) -> list[int]:
    found = await admin.stores.mail.read(aliases.resolve, parse_mailbox(address))
    return [each.account for each in found.destinations]


async def erase(admin: Admin) -> None:
    while await upkeep.empty_accounts(admin.house.flow):
        pass


async def state(admin: Admin) -> Any:
    ann = await admin.stores.mail.read(people.account, parse_mailbox(ANN))
    tree = await admin.stores.mail.read(folders.tree, ann.id)
    text = (await admin.do("config export", secrets=True)).document
    return text, await admin.do("account show", address=ANN), sorted(tree.by_path)


async def test_a_deleted_account_takes_no_mail_and_lets_nobody_in(town: Admin) -> None:
    assert await signs_in(town)
    gone = await town.json("account delete", address=ANN)
    assert gone.told().endswith(f"postroom account restore {ANN}")
    assert not await signs_in(town)
    for address in (ANN, "info@example.org"):
        assert await leads(town, address) == []
    assert await town.do("account list") == ()
    (listed,) = await town.json("account deleted")
    assert (listed.address, listed.id, listed.until) == (ANN, gone.id, gone.until)


@pytest.mark.parametrize("days", [0, DAYS - 1])
async def test_it_comes_back_whole(town: Admin, days: int) -> None:
    before = await state(town)
    await town.do("account delete", address=ANN)
    town.clock.advance(days * DAY)
    await erase(town)
    await town.json("account restore", address="ANN@example.org", reason="a mistake")
    assert await state(town) == before
    assert await signs_in(town)
    assert len(await leads(town, "info@example.org")) == 1
    assert await town.do("account deleted") == ()
    await erase(town)
    assert await state(town) == before


async def test_after_its_time_it_is_erased(town: Admin) -> None:
    made = await town.do("account delete", address=ANN)
    town.clock.advance(DAYS * DAY)
    for name, asked in (
        ("account restore", {"address": ANN}),
        ("changes revert", {"id": made.change_set}),
    ):
        with pytest.raises((NotFound, NotAllowed)):
            await town.do(name, **asked)
    await erase(town)
    with pytest.raises(NotFound):
        await town.stores.mail.read(people.by_id, internal(ACCOUNT, made.id))
    with pytest.raises(NotAllowed, match="erased"):
        await town.do("changes revert", id=made.change_set)


async def test_once_erasing_has_begun_it_does_not_come_back(town: Admin) -> None:
    """Even if the clock of who restores it goes after that of who erases it."""
    made = await town.do("account delete", address=ANN)
    account = internal(ACCOUNT, made.id)
    later = Instant(town.clock.now() + (DAYS + 1) * DAY * 1000)
    assert await town.stores.mail.write(people.begin_erasing, account, later)
    with pytest.raises(NotFound):
        await town.do("account restore", address=ANN)
    with pytest.raises(NotAllowed, match="erased"):
        await town.do("changes revert", id=made.change_set)


async def test_it_can_be_erased_at_once(town: Admin) -> None:
    gone = await town.json("account delete", address=ANN, now=True)
    assert gone.told() == f"{ANN} is deleted and is being erased."
    assert await town.do("account deleted") == ()
    await erase(town)
    with pytest.raises(NotFound):
        await town.stores.mail.read(people.by_id, internal(ACCOUNT, gone.id))


async def test_it_can_be_erased_before_its_time(town: Admin) -> None:
    gone = await town.do("account delete", address=ANN)
    await town.do("account erase", address=ANN, reason="she asked for it")
    with pytest.raises(NotFound):
        await town.do("account erase", address=ANN)
    await erase(town)
    with pytest.raises(NotFound):
        await town.stores.mail.read(people.by_id, internal(ACCOUNT, gone.id))


async def test_a_domain_may_keep_deleted_accounts_for_another_time(town: Admin) -> None:
    name = "retention.deleted_accounts_days"
    await town.do("settings set", name=name, value="2", at="domain:example.org")
    await town.do("account delete", address=ANN)
    town.clock.advance(3 * DAY)
    assert await town.do("account deleted") == ()
    await town.do("account create", address=ANN)
    await town.do("settings set", name=name, value="0", at="domain:example.org")
    assert (await town.do("account delete", address=ANN)).until == ""


async def test_its_address_is_free_and_then_keeps_it_from_coming_back(town: Admin) -> None:
    old = await town.do("account delete", address=ANN)
    await town.do("account create", address=ANN)
    with pytest.raises(AlreadyExists):
        await town.do("account restore", address=ANN)
    new = await town.do("account delete", address=ANN)
    # Two of that address: the last one, or the one that is meant.
    assert [each.id for each in await town.do("account deleted")] == [old.id, new.id]
    assert (await town.do("account restore", address=ANN)).id == new.id
    await town.do("account rename", address=ANN, to="new@example.org", no_alias=True)
    assert (await town.do("account restore", address=ANN, id=old.id)).id == old.id
    assert await signs_in(town)


async def test_an_account_alone_comes_back_from_a_change_of_many(town: Admin) -> None:
    await town.do("account create", address="root@example.org", role="admin")
    await town.do("account create", address="bob@example.org")
    text = 'format = 1\naliases = []\n[[accounts]]\naddress = "root@example.org"\n'
    await town.do("config apply", file=text, prune=True)
    await town.do("account restore", address=ANN)
    assert len(await leads(town, "info@example.org")) == 1
    quota = await town.do("settings get", name="quota.octets", at=f"account:{ANN}")
    assert quota.value == 5
    assert [each.address for each in await town.do("account list")] == [ANN, "root@example.org"]


async def test_a_domain_is_gone_when_its_last_account_is(town: Admin) -> None:
    await town.do("account delete", address=ANN)
    await town.do("domain delete", domain="example.org")
    assert await town.do("domain list") == ()
    with pytest.raises(NotFound, match="domain"):
        await town.do("account restore", address=ANN)
    # Another domain of that name is another domain.
    await town.do("domain create", domain="example.org")
    assert (await town.do("domain show", domain="example.org")).accounts == 0
    await town.do("account restore", address=ANN)
    assert (await town.do("domain show", domain="example.org")).accounts == 1
    await town.do("account delete", address=ANN)
    town.clock.advance(DAYS * DAY)
    await erase(town)
    await town.do("domain delete", domain="example.org")
    assert await town.stores.mail.read(people.domains) == []


async def test_the_last_administrator_cannot_be_deleted(town: Admin) -> None:
    await town.do("account role", address=ANN, role="admin")
    with pytest.raises(NotAllowed, match="administer"):
        await town.do("account delete", address=ANN)


async def test_jobs_of_administration_are_declared() -> None:
    assert {"changes.passwords", "changes.forget", "audit.forget", "accounts.empty"} <= set(JOBS)


async def test_an_account_with_more_aliases_than_a_unit_changes_stays(
    town: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.domain.changes.changing.MOST", 2)
    with pytest.raises(LimitReached, match="more than 2 things"):
        await town.do("account delete", address=ANN)
    assert await signs_in(town)
