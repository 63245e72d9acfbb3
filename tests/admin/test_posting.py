"""Addresses of folders, as an administrator gives and takes them."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.admin import Caller
from postroom.core.errors import AlreadyExists, NotAllowed, NotFound
from postroom.core.settings import Role
from postroom.domain.directory.aliases import resolve
from postroom.formats.address import parse_mailbox
from tests.admin.housing import Admin

ANN, EVE = "ann@example.org", "eve@other.example"
NEWS = "News@example.org"


@pytest.fixture
async def town(admin: Admin) -> None:
    """An account each in two domains, and a public folder of the first."""
    await admin.do("domain create", domain="other.example")
    for each in (ANN, EVE):
        await admin.do("account create", address=each)
    await admin.do("public create", domain="example.org", folder="Board/News")


async def leads(admin: Admin, address: str) -> int:
    found = await admin.stores.mail.read(resolve, parse_mailbox(address))
    return sum(bool(each.folder) for each in found.destinations)


async def give(admin: Admin, owner: str, folder: str, address: str, **more: Any) -> object:
    return await admin.do("folder address set", owner=owner, folder=folder, address=address, **more)


@pytest.mark.usefixtures("town")
async def test_an_address_is_given_shown_changed_and_taken(admin: Admin) -> None:
    await give(admin, "example.org", "Board/News", NEWS)
    await give(admin, ANN, "inbox", "inbox@example.org", anybody=True)
    told = await admin.do("folder address list", domain="example.org")
    assert [(t.address, t.owner, t.folder, t.posts) for t in told] == [
        ("inbox@example.org", ANN, "INBOX", "anybody"),
        (NEWS, "example.org", "Board/News", "who has the right p"),
    ]
    assert await leads(admin, "news@example.org") == 1
    await give(admin, "example.org", "Board/News", "news@example.org", anybody=True)
    told = await admin.do("folder address list", domain="example.org")
    assert [t.posts for t in told] == ["anybody", "anybody"]
    gone = await admin.do("folder address remove", address=NEWS)
    assert (gone.folder, gone.address) == ("Board/News", "news@example.org")
    assert await leads(admin, "news@example.org") == 0
    with pytest.raises(NotFound):
        await admin.do("folder address remove", address=NEWS)


@pytest.mark.usefixtures("town")
async def test_what_cannot_be_is_refused(admin: Admin) -> None:
    for owner, folder, address, error in (
        ("example.org", "Absent", NEWS, NotFound),
        ("example.org", "Board/News", "news@other.example", NotAllowed),
        ("example.org", "Board/News", ANN, AlreadyExists),
        (EVE, "INBOX", NEWS, NotAllowed),
        ("nowhere.example", "Board/News", "news@nowhere.example", NotFound),
    ):
        with pytest.raises(error):
            await give(admin, owner, folder, address)


@pytest.mark.usefixtures("town")
async def test_a_domain_s_administrator_stays_within_it(admin: Admin) -> None:
    await give(admin, "example.org", "Board/News", NEWS)
    other = admin.by(Caller(2, Role.DOMAIN_ADMIN, domain="other.example"))
    with pytest.raises(NotAllowed):
        await give(other, "example.org", "Board/News", "more@example.org")
    with pytest.raises(NotAllowed):
        await other.do("folder address remove", address=NEWS)
    with pytest.raises(NotAllowed):
        await other.do("folder address list", domain="example.org")


@pytest.mark.usefixtures("town")
async def test_a_folder_that_is_deleted_is_shown_no_more(admin: Admin) -> None:
    await give(admin, "example.org", "Board/News", NEWS)
    await admin.do("public delete", domain="example.org", folder="Board/News")
    assert await admin.do("folder address list", domain="example.org") == ()
    await admin.do("account create", address=NEWS)
