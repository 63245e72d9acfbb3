"""Folders that others may use, and public folders."""

from __future__ import annotations

import pytest

from postroom.admin import Caller
from postroom.core.errors import AlreadyExists, InUse, Malformed, NotAllowed, NotFound
from postroom.core.ids import ACCOUNT, internal
from postroom.core.settings import Role
from postroom.domain.mailboxes import sharing
from postroom.domain.mailboxes.rights import Right
from postroom.mailflow import upkeep
from tests.admin.housing import Admin

ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@other.example"


@pytest.fixture
async def town(admin: Admin) -> dict[str, int]:
    """Two accounts of one domain, one of another; their ids."""
    await admin.do("domain create", domain="other.example")
    made = {each: await admin.do("account create", address=each) for each in (ANN, BOB, EVE)}
    return {each: internal(ACCOUNT, view.id) for each, view in made.items()}


async def share(admin: Admin, owner: str, folder: str, to: str, letters: str) -> dict[str, str]:
    told = await admin.do("folder share", owner=owner, folder=folder, to=to, rights=letters)
    return {each.who: each.rights for each in told}


async def reached(admin: Admin, viewer: int, path: str) -> Right:
    found = await admin.stores.mail.read(sharing.reach, viewer, path)
    return found.rights


async def test_a_folder_is_shared_and_shared_no_more(admin: Admin, town: dict[str, int]) -> None:
    all_ = "lrswipkxteacd"
    assert await share(admin, ANN, "inbox", BOB, "edit") == {ANN: all_, BOB: "lrswipted"}
    assert await reached(admin, town[BOB], f"Shared/{ANN}/INBOX") & Right.EXPUNGE
    assert await share(admin, ANN, "INBOX", "anyone", "read") == {
        ANN: all_,
        BOB: "lrswipted",
        "anyone": "lr",
    }
    assert await share(admin, ANN, "INBOX", f"-{BOB}", "w") == {
        ANN: all_,
        BOB: "lrswipted",
        "anyone": "lr",
        f"-{BOB}": "w",
    }
    told = await admin.do("folder rights", owner=ANN, folder="INBOX")
    assert {each.who for each in told} == {ANN, BOB, "anyone", f"-{BOB}"}
    for whom in (BOB, "anyone", f"-{BOB}"):
        await share(admin, ANN, "INBOX", whom, "none")
    with pytest.raises(NotFound):
        await reached(admin, town[BOB], f"Shared/{ANN}/INBOX")


async def test_all_below_a_folder_is_shared_with_it(admin: Admin, town: dict[str, int]) -> None:
    flow = admin.house.flow
    ids = iter([flow.ids.new() for _ in range(4)])
    await flow.mail.write(sharing.create, town[ANN], "Work/2026/May", ids, flow.clock.now())
    await admin.do("folder share", owner=ANN, folder="Work", to=BOB, rights="lr", below=True)
    for path in ("Work", "Work/2026", "Work/2026/May"):
        assert await reached(admin, town[BOB], f"Shared/{ANN}/{path}") == Right.LOOKUP | Right.READ


async def test_what_cannot_be_is_refused(admin: Admin, town: dict[str, int]) -> None:
    for wrong, error in (
        (("nobody@example.org", "INBOX", BOB, "lr"), NotFound),
        ((ANN, "Absent", BOB, "lr"), NotFound),
        ((ANN, "INBOX", "nobody@example.org", "lr"), NotFound),
        ((ANN, "INBOX", BOB, "quick"), Malformed),
        ((ANN, "INBOX", ANN, "lr"), NotAllowed),
        (("example.org", "News", BOB, "lr"), NotFound),
        (("nowhere.example", "News", BOB, "lr"), NotFound),
    ):
        with pytest.raises(error):
            await share(admin, *wrong)
    assert town


async def test_who_administers_a_domain_shares_within_it(
    admin: Admin, town: dict[str, int]
) -> None:
    head = admin.by(Caller(town[BOB], Role.DOMAIN_ADMIN, domain="example.org"))
    await share(head, ANN, "INBOX", BOB, "read")
    for whom in (EVE, "@other.example"):
        with pytest.raises(NotAllowed):
            await share(head, ANN, "INBOX", whom, "read")
    with pytest.raises(NotAllowed):
        await share(head, EVE, "INBOX", BOB, "read")
    await share(admin, ANN, "INBOX", EVE, "read")
    assert await reached(admin, town[EVE], f"Shared/{ANN}/INBOX")


async def test_public_folders_are_made_shared_and_deleted(
    admin: Admin, town: dict[str, int]
) -> None:
    domain = "example.org"
    assert await admin.do("public list", domain=domain) == ()
    await admin.do("public create", domain=domain, folder="News/2026")
    with pytest.raises(AlreadyExists):
        await admin.do("public create", domain=domain, folder="News")
    assert [each.folder for each in await admin.do("public list", domain=domain)] == [
        "News",
        "News/2026",
    ]
    assert await reached(admin, town[ANN], "Public/News") == Right.LOOKUP | Right.READ
    assert await share(admin, domain, "News", BOB, "lrip") == {"anyone": "lr", BOB: "lrip"}
    assert await reached(admin, town[BOB], "Public/News") & Right.INSERT
    await admin.do("public create", domain=domain, folder="News/Staff")
    told = await admin.do("folder rights", owner=domain, folder="News/Staff")
    assert {each.who: each.rights for each in told} == {"anyone": "lr", BOB: "lrip"}
    for whom in (EVE, "@other.example"):
        with pytest.raises(NotFound):
            await share(admin, domain, "News", whom, "lr")
    with pytest.raises(NotFound):
        await reached(admin, town[EVE], "Public/News")
    with pytest.raises(InUse):
        await admin.do("public delete", domain=domain, folder="News")
    await admin.do("public delete", domain=domain, folder="News/2026")
    assert [each.folder for each in await admin.do("public list", domain=domain)] == [
        "News",
        "News/Staff",
    ]


async def test_a_domain_goes_when_its_public_folders_are_gone(admin: Admin) -> None:
    await admin.do("domain create", domain="third.example")
    await admin.do("public create", domain="third.example", folder="News")
    with pytest.raises(InUse):
        await admin.do("domain delete", domain="third.example")
    await admin.do("public delete", domain="third.example", folder="News")
    assert await admin.do("public list", domain="third.example") == ()
    await admin.do("public create", domain="third.example", folder="News")  # as if for the first
    await admin.do("public delete", domain="third.example", folder="News")
    await admin.do("domain delete", domain="third.example")
    while await upkeep.empty_accounts(admin.house.flow):
        pass
    assert (await admin.do("check")).problems == ()


async def test_public_folders_are_no_account(admin: Admin, town: dict[str, int]) -> None:
    await admin.do("public create", domain="example.org", folder="News")
    told = await admin.do("account list", domain="example.org")
    assert {each.address for each in told} >= {ANN, BOB}
    assert not any(each.address.startswith(("@", '"')) for each in told)
    assert (await admin.do("check")).problems == ()
