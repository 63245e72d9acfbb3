"""Change sets: every administrative change leaves one, and each can be taken back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.access import Attempt
from postroom.admin import Caller
from postroom.core.errors import (
    AlreadyExists,
    InUse,
    MailError,
    Misuse,
    NotAllowed,
    NotAuthenticated,
    NotFound,
)
from postroom.core.ids import ACCOUNT, internal
from postroom.core.jobs import JOBS
from postroom.core.operations import OPERATIONS
from postroom.core.settings import Role
from postroom.domain.changes import settings as kept
from postroom.domain.directory import people
from postroom.formats.address import parse_mailbox
from tests.admin.housing import Admin

ANN, BOB = "ann@example.org", "bob@example.org"
DAY = 24 * 3600


async def state(admin: Admin) -> tuple[str, dict[str, str]]:
    """All that administration can change, passwords with it, and which account is which."""
    text = (await admin.do("config export", secrets=True)).document
    return text, {each.address: each.id for each in await admin.do("account list")}


async def sets(admin: Admin) -> list[Any]:
    return list(await admin.do("changes list", limit=1000))


async def last(admin: Admin) -> Any:
    return await admin.json("changes show", id=(await sets(admin))[0].id)


async def signs_in(admin: Admin, login: str, password: str) -> bool:
    attempt = Attempt("PLAIN", login, password, None, "imaps", "imap")
    try:
        await admin.house.authenticator.authenticate(attempt)
    except NotAuthenticated:
        return False
    return True


# --- each change leaves one ---------------------------------------------------------------------

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "domain create": ({"domain": "b.example"}, "domain b.example"),
    "domain delete": ({"domain": "empty.example"}, "domain empty.example"),
    "account create": ({"address": "new@example.org"}, "account new@example.org"),
    "account name": ({"address": ANN, "name": "Ann"}, f"account {ANN}"),
    "account role": ({"address": ANN, "role": "domain-admin"}, f"account {ANN}"),
    "account state": ({"address": ANN, "state": "frozen"}, f"account {ANN}"),
    "account password": ({"address": ANN, "password": "another horse"}, f"password {ANN}"),
    "account rename": ({"address": ANN, "to": "anna@example.org"}, f"account {ANN}"),
    "account delete": ({"address": ANN}, f"account {ANN}"),
    "account restore": ({"address": "old@example.org"}, "account old@example.org"),
    "alias create": ({"address": "x@example.org", "target": BOB}, f"alias x@example.org -> {BOB}"),
    "alias delete": ({"address": "info@example.org"}, f"alias info@example.org -> {ANN}"),
    "settings set": ({"name": "smtp.max_hops", "value": "30"}, "setting server smtp.max_hops"),
    "settings secret": (
        {"name": "relay.smart_host_password", "value": "swordfish", "at": "domain:example.org"},
        "setting domain:example.org relay.smart_host_password",
    ),
    "settings unset": (
        {"name": "quota.octets", "at": f"account:{ANN}"},
        f"setting account:{ANN} quota.octets",
    ),
    "config apply": (
        {"file": 'format = 1\ndomains = ["c.example"]', "prune": False},
        "domain c.example",
    ),
    "changes revert": ({"id": "the last"}, f"setting account:{ANN} quota.octets"),
}
LEAVE_NONE = {"account erase", "check", "jobs run"}
"""They change what no revert brings back, or nothing that is configured: the audit has them."""


def ours() -> set[str]:
    """The changing operations of the rooms that these tests are about."""
    words = ("domain", "account", "alias", "settings", "config", "changes", "check", "jobs")
    return {
        name
        for name, operation in OPERATIONS.items()
        if operation.changes and name.split()[0] in words
    }


def test_every_operation_that_changes_is_in_the_table() -> None:
    assert ours() == set(CHANGES) | LEAVE_NONE


@pytest.fixture
async def town(admin: Admin) -> Admin:
    """ann with an alias, a quota and a password; bob; an empty domain; a deleted account."""
    await admin.do("account create", address=ANN, password="correct horse")
    others = "".join(f'[[accounts]]\naddress = "{who}"\n' for who in (BOB, "old@example.org"))
    await admin.do("config apply", file=f"format = 1\n{others}")
    await admin.do("account delete", address="old@example.org")
    await admin.do("alias create", address="info@example.org", target=ANN)
    await admin.do("domain create", domain="empty.example")
    await admin.do("settings set", name="quota.octets", value="5", at=f"account:{ANN}")
    admin.clock.advance(1)
    return admin


@pytest.mark.parametrize("name", sorted(CHANGES))
async def test_a_change_leaves_one_change_set_and_its_revert_the_former_state(
    town: Admin, name: str
) -> None:
    asked, object_ = CHANGES[name]
    before, known = await state(town), await sets(town)
    if name == "changes revert":
        asked = {"id": known[0].id}
    by = town.by(
        Caller(internal(ACCOUNT, (await town.do("account show", address=BOB)).id), Role.ADMIN)
    )
    await by.do(name, reason="a good one", **asked)
    (made,) = [each for each in await sets(town) if each not in known]
    assert (made.operation, made.reason, made.by) == (name, "a good one", BOB)
    assert object_ in made.changed
    after = await state(town)
    assert after != before
    back = await town.json("changes revert", id=made.id, reason="it was not")
    assert (back.reverts, back.reason) == (made.id, "it was not")
    assert await state(town) == before
    assert (await town.json("changes show", id=made.id)).reverted_by == back.id
    # And a revert can be reverted.
    await town.do("changes revert", id=back.id)
    assert await state(town) == after


async def test_what_changes_nothing_leaves_no_change_set(town: Admin) -> None:
    known = await sets(town)
    await town.do("settings set", name="quota.octets", value="5", at=f"account:{ANN}")
    await town.do("account state", address=ANN, state="active")
    await town.do("account name", address=ANN, name="")
    for refused in ({"address": ANN}, {"address": "x@nowhere.example"}):
        with pytest.raises(MailError):
            await town.do("account create", **refused)
    assert await sets(town) == known


async def test_a_change_set_says_what_was_and_what_is(town: Admin) -> None:
    await town.do("account role", address=ANN, role="admin", reason="she runs it")
    made = await last(town)
    (change,) = made.changes
    assert (change.did, change.kind, change.name) == ("changed", "account", ANN)
    assert (change.was, change.now) == ({"role": "user"}, {"role": "admin"})
    told = made.told()
    assert "because: she runs it" in told
    assert f"~ account {ANN}  role: user -> admin" in told


async def test_no_secret_is_in_a_change_set(town: Admin) -> None:
    await town.do("account password", address=ANN, password="another horse")
    await town.do("changes revert", id=(await sets(town))[0].id)
    everything = [await town.do("changes show", id=each.id) for each in await sets(town)]
    text = json.dumps([each.told() for each in everything]) + repr(everything)
    for secret in ("correct horse", "another horse", "argon2", "SCRAM"):
        assert secret not in text


# --- taking back --------------------------------------------------------------------------------


async def test_a_reverted_password_is_the_former_one(town: Admin) -> None:
    await town.do("account password", address=ANN, password="another horse")
    made = await last(town)
    assert await signs_in(town, "ann", "another horse")
    await town.do("changes revert", id=made.id)
    assert await signs_in(town, "ann", "correct horse")
    assert not await signs_in(town, "ann", "another horse")
    await town.do("changes revert", id=(await last(town)).id)
    assert await signs_in(town, "ann", "another horse")


async def test_open_sessions_end_when_a_password_is_reverted(town: Admin) -> None:
    ann = await town.stores.mail.read(people.account, parse_mailbox(ANN))
    await town.do("account password", address=ANN, password="another horse")
    before = await town.stores.mail.read(people.epoch, ann.id)
    await town.do("changes revert", id=(await last(town)).id)
    assert (await town.stores.mail.read(people.epoch, ann.id)) > before


async def test_a_former_password_is_kept_for_a_time_alone(town: Admin) -> None:
    from_now = kept.ChangeRetention().passwords_days
    await town.do("account password", address=ANN, password="another horse")
    made = await last(town)
    town.clock.advance((from_now + 1) * DAY)
    await run_job(town, "changes.passwords")
    with pytest.raises(NotAllowed, match="kept no more"):
        await town.do("changes revert", id=made.id)
    await town.do("settings set", name="retention.passwords_days", value="0")
    await town.do("account password", address=ANN, password="a third horse")
    with pytest.raises(NotAllowed, match="kept no more"):
        await town.do("changes revert", id=(await last(town)).id)


async def run_job(admin: Admin, name: str) -> bool:
    more: bool = await JOBS[name].run(admin.house.flow)
    return more


async def test_what_was_changed_again_is_not_reverted_without_force(town: Admin) -> None:
    await town.do("account name", address=ANN, name="Ann")
    first = await last(town)
    await town.do("account name", address=ANN, name="Anna")
    second = await last(town)
    before = await state(town)
    with pytest.raises(InUse, match=f"account {ANN} was changed again since.*{second.id}"):
        await town.do("changes revert", id=first.id)
    assert await state(town) == before
    await town.do("changes revert", id=first.id, force=True)
    assert (await town.do("account show", address=ANN)).name == ""


async def test_another_field_of_the_same_object_is_no_conflict(town: Admin) -> None:
    await town.do("account name", address=ANN, name="Ann")
    first = await last(town)
    await town.do("account state", address=ANN, state="frozen")
    await town.do("changes revert", id=first.id)
    shown = await town.do("account show", address=ANN)
    assert (shown.name, shown.state) == ("", "frozen")


async def test_what_is_as_it_was_already_is_not_taken_back_again(town: Admin) -> None:
    await town.do("settings set", name="smtp.max_hops", value="30")
    made = await last(town)
    await town.do("changes revert", id=made.id)
    with pytest.raises(InUse, match="changed again since"):
        await town.do("changes revert", id=made.id)
    with pytest.raises(InUse, match="nothing to take back"):
        await town.do("changes revert", id=made.id, force=True)


async def test_a_field_of_what_is_gone_comes_back_with_it_alone(town: Admin) -> None:
    await town.do("account name", address=ANN, name="Ann")
    named = await last(town)
    await town.do("account delete", address=ANN)
    for force in (False, True):
        with pytest.raises(InUse):
            await town.do("changes revert", id=named.id, force=force)


async def test_a_revert_leaves_somebody_to_administer(town: Admin) -> None:
    await town.do("account role", address=ANN, role="admin")
    made = await last(town)
    with pytest.raises(NotAllowed, match="administer"):
        await town.do("changes revert", id=made.id)
    await town.do("account role", address=BOB, role="admin")
    await town.do("changes revert", id=made.id)


async def test_an_address_that_was_given_away_keeps_a_deletion_from_its_revert(
    town: Admin,
) -> None:
    await town.do("account delete", address=ANN)
    made = await last(town)
    await town.do("account create", address=ANN)
    with pytest.raises(AlreadyExists):
        await town.do("changes revert", id=made.id)


async def test_a_domain_comes_back_with_its_settings(town: Admin) -> None:
    await town.do("settings set", name="quota.octets", value="9", at="domain:empty.example")
    before = await state(town)
    await town.do("domain delete", domain="empty.example")
    await town.do("changes revert", id=(await last(town)).id)
    assert await state(town) == before


async def test_a_domain_whose_accounts_were_deleted_goes_and_all_comes_back(town: Admin) -> None:
    await town.do("account create", address="cora@empty.example", password="correct horse")
    before = await state(town)
    await town.do("account delete", address="cora@empty.example")
    gone = await last(town)
    await town.do("domain delete", domain="empty.example")
    domain = await last(town)
    assert "empty.example" not in [each.domain for each in await town.do("domain list")]
    (deleted,) = await town.do("account deleted", domain="empty.example")
    assert deleted.address == "cora@empty.example"
    with pytest.raises(NotFound, match=r"no domain empty\.example"):
        await town.do("changes revert", id=gone.id)
    await town.do("changes revert", id=domain.id)
    await town.do("changes revert", id=gone.id)
    assert await state(town) == before
    assert await signs_in(town, "cora@empty.example", "correct horse")


# --- finding ------------------------------------------------------------------------------------


async def test_changes_are_found_by_what_they_changed_and_by_whom(town: Admin) -> None:
    await town.do("account rename", address=ANN, to="anna@example.org")
    for name in (ANN, "ANNA@example.org", "info@example.org"):
        found = await town.do("changes list", object=name)
        assert found[0].operation == "account rename", name
    assert [each.operation for each in await town.do("changes list", object="quota.octets")] == [
        "settings set"
    ]
    assert await town.do("changes list", by=BOB) == ()
    with pytest.raises(Misuse):
        await town.do("changes list", limit=0)
    with pytest.raises(NotFound):
        await town.do("changes show", id="c0000000000000")


async def test_old_changes_are_kept_unless_a_setting_says_otherwise(town: Admin) -> None:
    known = await sets(town)
    town.clock.advance(400 * DAY)
    assert not await run_job(town, "changes.forget")
    assert await sets(town) == known
    await town.do("settings set", name="retention.changes_days", value="365")
    while await run_job(town, "changes.forget"):
        pass
    assert [each.operation for each in await sets(town)] == ["settings set"]


# --- whatever was done --------------------------------------------------------------------------

_DOMAINS = st.sampled_from(["example.org", "b.example"])
_ADDRESSES = st.builds("{}@{}".format, st.sampled_from("abc"), _DOMAINS)
_PLACES = st.one_of(
    st.just("server"), _DOMAINS.map("domain:{}".format), _ADDRESSES.map("account:{}".format)
)
_STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["domain create", "domain delete"]),
        st.fixed_dictionaries({"domain": _DOMAINS}),
    ),
    st.tuples(st.just("account create"), st.fixed_dictionaries({"address": _ADDRESSES})),
    st.tuples(
        st.sampled_from(["account delete", "account restore", "account password"]),
        st.fixed_dictionaries({"address": _ADDRESSES}),
    ),
    st.tuples(
        st.just("account rename"), st.fixed_dictionaries({"address": _ADDRESSES, "to": _ADDRESSES})
    ),
    st.tuples(
        st.just("account role"),
        st.fixed_dictionaries({"address": _ADDRESSES, "role": st.sampled_from(["user", "admin"])}),
    ),
    st.tuples(
        st.just("account state"),
        st.fixed_dictionaries(
            {"address": _ADDRESSES, "state": st.sampled_from(["active", "frozen"])}
        ),
    ),
    st.tuples(
        st.sampled_from(["alias create", "alias delete"]),
        st.fixed_dictionaries({"address": _ADDRESSES, "target": _ADDRESSES}),
    ),
    st.tuples(
        st.just("settings set"),
        st.fixed_dictionaries(
            {"name": st.just("quota.octets"), "value": st.sampled_from("579"), "at": _PLACES}
        ),
    ),
    st.tuples(
        st.just("settings unset"),
        st.fixed_dictionaries({"name": st.just("quota.octets"), "at": _PLACES}),
    ),
)


@settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(_STEPS, max_size=12), back=st.integers(0, 11))
async def test_reverting_to_any_point_restores_the_state_of_then(
    admin: Admin, steps: list[tuple[str, dict[str, str]]], back: int
) -> None:
    try:
        await admin.do("account create", address="root@example.org", role="admin")
    except AlreadyExists:
        pass  # an example before this one made it; it is there to administer, whatever happens
    seen: list[tuple[Any, Any]] = [(None, await state(admin))]
    for name, asked in steps:
        known = (await sets(admin))[0].id
        try:
            await admin.do(name, **asked)
        except MailError:
            assert await state(admin) == seen[-1][1], "what was refused changed nothing"
        newest = (await sets(admin))[0].id
        if newest != known:
            seen.append((newest, await state(admin)))
    point = back % len(seen)
    for change_set, _ in reversed(seen[point + 1 :]):
        await admin.do("changes revert", id=change_set)
    assert await state(admin) == seen[point][1]
