"""Operations on domains, accounts and aliases."""

from __future__ import annotations

import pytest

from postroom.access import Attempt
from postroom.admin import Caller
from postroom.core.errors import (
    AlreadyExists,
    InUse,
    Malformed,
    Misuse,
    NotAllowed,
    NotAuthenticated,
    NotFound,
)
from postroom.core.settings import Role
from postroom.domain.directory import aliases, people
from postroom.domain.mailboxes import folders
from postroom.formats.address import parse_mailbox
from tests.admin.housing import Admin


async def signs_in(admin: Admin, login: str, password: str) -> bool:
    attempt = Attempt("PLAIN", login, password, None, "imaps", "imap")
    try:
        await admin.house.authenticator.authenticate(attempt)
    except NotAuthenticated:
        return False
    return True


async def test_domains_come_and_go(admin: Admin) -> None:
    made = await admin.json("domain create", domain="BÜCHER.example")
    assert made.domain == "xn--bcher-kva.example"
    listed = await admin.json("domain list")
    assert [each.domain for each in listed] == ["example.org", "xn--bcher-kva.example"]
    with pytest.raises(AlreadyExists):
        await admin.do("domain create", domain="bücher.example")
    assert (await admin.do("domain delete", domain="bücher.EXAMPLE")).domain == made.domain
    with pytest.raises(NotFound):
        await admin.do("domain show", domain="bücher.example")


async def test_a_new_domain_has_its_system_addresses(admin: Admin) -> None:
    """RFC 5321 §4.5.1, RFC 2142 §4: they lead to who administers the default domain."""
    await admin.do("settings set", name="server.default_domain", value="example.org")
    await admin.do("domain create", domain="plain.example")
    assert (await admin.do("domain show", domain="plain.example")).aliases == 0, "nobody is there"
    await admin.do("account create", address="far@plain.example", role="admin")
    await admin.do("account create", address="root@example.org", role="admin")
    await admin.do("account create", address="later@example.org", role="admin")
    made = await admin.do("domain create", domain="b.example")
    assert made.aliases == 2
    for local in ("postmaster", "abuse"):
        address = f"{local}@b.example"
        (way,) = await admin.do("alias show", address=address)
        assert way.target == "root@example.org"
        found = await admin.stores.mail.read(aliases.resolve, parse_mailbox(address.upper()))
        assert len(found.destinations) == 1


async def test_system_addresses_lead_where_they_are_told_to_or_are_not_made(admin: Admin) -> None:
    await admin.do("account create", address="root@example.org", role="admin")
    await admin.do("account create", address="ann@example.org")
    await admin.do("domain create", domain="b.example", administrator="Ann@example.org")
    assert {each.target for each in await admin.do("alias list", domain="b.example")} == {
        "ann@example.org"
    }
    await admin.do("domain create", domain="c.example", no_aliases=True)
    assert await admin.do("alias list", domain="c.example") == ()
    with pytest.raises(Misuse):
        await admin.do("domain create", domain="d.example", no_aliases=True, administrator="a@b.c")


async def test_a_domain_goes_with_its_system_addresses_and_no_others(admin: Admin) -> None:
    await admin.do("account create", address="root@example.org", role="admin")
    await admin.do("domain create", domain="b.example")
    await admin.do("alias create", address="info@b.example", target="root@example.org")
    with pytest.raises(InUse):
        await admin.do("domain delete", domain="b.example")
    assert len(await admin.do("alias list", domain="b.example")) == 3
    await admin.do("alias delete", address="info@b.example")
    await admin.do("domain delete", domain="b.example")
    assert await admin.do("alias list") == ()


@pytest.mark.parametrize("name", ["", "[192.0.2.1]", "a b", "-x.example", "x" * 300, "a@b"])
async def test_what_is_no_domain_is_malformed(admin: Admin, name: str) -> None:
    with pytest.raises(Malformed):
        await admin.do("domain create", domain=name)


async def test_a_domain_in_use_stays(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org")
    await admin.do("alias create", address="info@example.org", target="ann@example.org")
    shown = await admin.do("domain show", domain="example.org")
    assert (shown.accounts, shown.aliases) == (1, 1)
    with pytest.raises(InUse):
        await admin.do("domain delete", domain="example.org")


async def test_settings_of_a_domain_go_with_it(admin: Admin) -> None:
    await admin.do("domain create", domain="gone.example")
    await admin.do("settings set", name="quota.octets", value="5", at="domain:gone.example")
    await admin.do("domain delete", domain="gone.example")
    assert not [d for d in await admin.do("settings diff") if "gone" in d.at]
    await admin.do("domain create", domain="gone.example")
    shown = await admin.do("settings get", name="quota.octets", at="domain:gone.example")
    assert shown.origin == "default"


async def test_a_new_account_can_sign_in_and_has_its_folders(admin: Admin) -> None:
    made = await admin.json(
        "account create", address="Ann.Other@example.org", name="Ann", password="correct horse"
    )
    assert (made.address, made.password) == ("Ann.Other@example.org", "")
    assert await signs_in(admin, "ann.other", "correct horse")
    shown = await admin.json("account show", address="ANN.OTHER@example.org")
    assert (shown.name, shown.role, shown.state, shown.id) == ("Ann", "user", "active", made.id)
    account = await admin.stores.mail.read(people.account, parse_mailbox(made.address))
    tree = await admin.stores.mail.read(folders.tree, account.id)
    assert {"INBOX", "Sent", "Trash"} <= set(tree.by_path)


async def test_a_password_is_made_up_where_none_is_given(admin: Admin) -> None:
    made = await admin.do("account create", address="ann@example.org")
    assert await signs_in(admin, "ann", made.password)
    again = await admin.do("account password", address="ann@example.org")
    assert again.password != made.password
    assert not await signs_in(admin, "ann", made.password)
    assert await signs_in(admin, "ann", again.password)


async def test_a_weak_password_is_refused(admin: Admin) -> None:
    with pytest.raises(NotAllowed, match="at least 8"):
        await admin.do("account create", address="ann@example.org", password="short")
    with pytest.raises(NotFound):
        await admin.do("account show", address="ann@example.org")


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("ann", Malformed),
        ("ann@", Malformed),
        ("ann@elsewhere.example", NotFound),
        ("an*@example.org", Malformed),
        ("ann@example.org", AlreadyExists),
        ("info@example.org", AlreadyExists),
    ],
)
async def test_an_account_needs_a_free_address_of_ours(
    admin: Admin, address: str, error: type[Exception]
) -> None:
    await admin.do("account create", address="Ann@example.org")
    await admin.do("alias create", address="Info@example.org", target="ann@example.org")
    with pytest.raises(error):
        await admin.do("account create", address=address)


async def test_state_role_and_name_can_be_changed(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org", password="correct horse")
    frozen = await admin.json("account state", address="ann@example.org", state="frozen")
    assert frozen.state == "frozen"
    assert not await signs_in(admin, "ann", "correct horse")
    with pytest.raises(Malformed):
        await admin.do("account state", address="ann@example.org", state="asleep")
    chief = await admin.do("account role", address="ann@example.org", role="domain-admin")
    assert chief.role is Role.DOMAIN_ADMIN
    assert (await admin.do("account name", address="ann@example.org", name="Änn")).name == "Änn"
    for wrong in ("a\nb", "\x1b[2J", "x" * 201):
        with pytest.raises(Malformed):
            await admin.do("account name", address="ann@example.org", name=wrong)


async def test_a_renamed_account_keeps_all_and_its_former_address_leads_to_it(
    admin: Admin,
) -> None:
    made = await admin.do("account create", address="ann@example.org", password="correct horse")
    await admin.do("domain create", domain="b.example")
    await admin.do("alias create", address="info@b.example", target="ann@example.org")
    await admin.do("settings set", name="quota.octets", value="5", at="account:ann@example.org")
    renamed = await admin.json("account rename", address="Ann@example.org", to="Anna@b.example")
    assert (renamed.address, renamed.id) == ("Anna@b.example", made.id)
    assert await signs_in(admin, "anna@b.example", "correct horse")
    assert {(each.address, each.target) for each in await admin.do("alias list")} == {
        ("info@b.example", "anna@b.example"),
        ("ann@example.org", "anna@b.example"),
    }
    shown = await admin.do("settings get", name="quota.octets", at="account:anna@b.example")
    assert shown.value == 5
    # Another case of the same address makes no alias to itself.
    await admin.do("account rename", address="anna@b.example", to="ANNA@b.example")
    assert len(await admin.do("alias list")) == 2
    await admin.do("account rename", address="anna@b.example", to="x@b.example", no_alias=True)
    assert {each.target for each in await admin.do("alias list")} == {"x@b.example"}
    assert len(await admin.do("alias list")) == 2


@pytest.mark.parametrize(
    ("to", "error"),
    [
        ("bob@example.org", AlreadyExists),
        ("info@example.org", AlreadyExists),
        ("ann@elsewhere.example", NotFound),
        ("an*@example.org", Malformed),
        ("nobody", Malformed),
    ],
)
async def test_a_new_address_is_free_and_of_ours(
    admin: Admin, to: str, error: type[Exception]
) -> None:
    for local in ("ann", "bob"):
        await admin.do("account create", address=f"{local}@example.org")
    await admin.do("alias create", address="info@example.org", target="bob@example.org")
    with pytest.raises(error):
        await admin.do("account rename", address="ann@example.org", to=to)
    assert (await admin.do("account show", address="ann@example.org")).state == "active"


async def test_an_alias_that_would_lead_there_twice_leads_there_once(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org")
    for target in ("ann@example.org", "anna@example.org"):
        await admin.do("alias create", address="info@example.org", target=target)
    await admin.do("account rename", address="ann@example.org", to="anna@example.org")
    (way,) = await admin.do("alias show", address="info@example.org")
    assert way.target == "anna@example.org"


async def test_a_deleted_account_is_out_of_sight_and_its_address_free(admin: Admin) -> None:
    old = await admin.do("account create", address="ann@example.org", password="correct horse")
    await admin.do("alias create", address="info@example.org", target="ann@example.org")
    await admin.do("settings set", name="quota.octets", value="5", at="account:ann@example.org")
    await admin.do("account delete", address="ann@example.org")
    assert await admin.do("account list") == ()
    assert await admin.do("alias list") == ()
    assert not [d for d in await admin.do("settings diff") if d.name.startswith("quota")]
    assert not await signs_in(admin, "ann", "correct horse")
    new = await admin.do("account create", address="ann@example.org")
    assert new.id != old.id


async def test_somebody_is_left_to_administer(admin: Admin) -> None:
    await admin.do("account create", address="root@example.org", role="admin")
    for operation, more in (
        ("account delete", {}),
        ("account state", {"state": "frozen"}),
        ("account role", {"role": "user"}),
    ):
        with pytest.raises(NotAllowed, match="administer"):
            await admin.do(operation, address="root@example.org", **more)
    await admin.do("account create", address="second@example.org", role="admin")
    await admin.do("account delete", address="root@example.org")


async def test_aliases_come_and_go(admin: Admin) -> None:
    for name in ("ann", "bob"):
        await admin.do("account create", address=f"{name}@example.org")
        await admin.do("alias create", address="sales@example.org", target=f"{name}@example.org")
    made = await admin.json("alias create", address="sales-*@example.org", target="ann@example.org")
    assert made.address == "sales-*@example.org"
    listed = await admin.json("alias list", domain="example.org")
    assert [(each.address, each.target) for each in listed] == [
        ("sales@example.org", "ann@example.org"),
        ("sales@example.org", "bob@example.org"),
        ("sales-*@example.org", "ann@example.org"),
    ]
    one = await admin.do("alias delete", address="sales@example.org", target="bob@example.org")
    assert one.removed == 1
    assert (await admin.do("alias delete", address="sales@example.org")).removed == 1
    with pytest.raises(NotFound):
        await admin.do("alias delete", address="sales@example.org")
    assert await admin.do("alias show", address="SALES-*@example.org") == (listed[2],)


# --- who may ----------------------------------------------------------------------------------

CHIEF = Caller(7, Role.DOMAIN_ADMIN, "example.org")


async def test_a_domains_administrator_acts_in_that_domain_alone(admin: Admin) -> None:
    await admin.do("domain create", domain="other.example")
    chief = admin.by(CHIEF)
    await chief.do("account create", address="ann@EXAMPLE.org", password="correct horse")
    await chief.do("alias create", address="info@example.org", target="ann@example.org")
    assert len(await chief.do("account list", domain="example.org")) == 1
    for operation, asked in (
        ("account create", {"address": "eve@other.example"}),
        ("account list", {}),
        ("account list", {"domain": "other.example"}),
        ("alias create", {"address": "x@other.example", "target": "ann@example.org"}),
        ("alias create", {"address": "x@example.org", "target": "eve@other.example"}),
        ("domain create", {"domain": "third.example"}),
        ("domain list", {}),
        ("settings list", {}),
        ("settings set", {"name": "quota.octets", "value": "1", "at": "domain:example.org"}),
        ("trace", {"what": "ann@example.org"}),
        ("check", {}),
    ):
        with pytest.raises(NotAllowed):
            await chief.do(operation, **asked)


async def test_nobody_gives_or_acts_on_a_role_above_their_own(admin: Admin) -> None:
    await admin.do("account create", address="root@example.org", role="admin")
    await admin.do("account create", address="spare@example.org", role="admin")
    await admin.do("account create", address="ann@example.org")
    chief = admin.by(CHIEF)
    for operation, asked in (
        ("account create", {"address": "eve@example.org", "role": "admin"}),
        ("account role", {"address": "ann@example.org", "role": "admin"}),
        ("account role", {"address": "root@example.org", "role": "user"}),
        ("account password", {"address": "root@example.org", "password": "mine now!"}),
        ("account state", {"address": "root@example.org", "state": "disabled"}),
        ("account name", {"address": "root@example.org", "name": "Eve"}),
        ("account delete", {"address": "root@example.org"}),
    ):
        with pytest.raises(NotAllowed):
            await chief.do(operation, **asked)
    await chief.do("account role", address="ann@example.org", role="domain-admin")


async def test_a_user_performs_nothing_here(admin: Admin) -> None:
    user = admin.by(Caller(8, Role.USER, "example.org"))
    with pytest.raises(NotAllowed):
        await user.do("account show", address="ann@example.org")


async def test_an_administrator_without_a_domain_is_none_of_any(admin: Admin) -> None:
    nowhere = admin.by(Caller(9, Role.DOMAIN_ADMIN, ""))
    with pytest.raises(NotAllowed):
        await nowhere.do("account list")


async def test_another_operations_input_is_misuse(admin: Admin) -> None:
    with pytest.raises(Misuse):
        await admin.do("domain show", address="x@example.org")
    with pytest.raises(Misuse):
        await admin.do("domain show")
    with pytest.raises(NotFound):
        await admin.do("domain paint")
