"""The configuration as a document: exported, compared, applied."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.access import Attempt
from postroom.core.errors import MailError, Malformed, Misuse, NotAllowed, NotFound, StoreFailed
from postroom.domain.changes import configuration
from postroom.domain.directory import people
from postroom.domain.mailboxes import folders
from postroom.formats.address import parse_mailbox
from tests.admin.housing import Admin

ANN = "ann@example.org"
TOWN = """
format = 1
domains = ["example.org", "b.example"]

[settings."server"]
"smtp.max_hops" = 40

[settings."domain:b.example"]
"quota.octets" = 7

[settings."account:ann@example.org"]
"quota.messages" = 9

[[accounts]]
address = "Ann@example.org"
name = "Ann"
role = "admin"

[[accounts]]
address = "bob@b.example"
state = "frozen"

[[aliases]]
address = "info@example.org"
targets = ["ann@example.org", "bob@b.example"]

[[aliases]]
address = "sales-*@b.example"
targets = ["x@elsewhere.example"]
"""


@pytest_asyncio.fixture(autouse=True)
async def root(admin: Admin) -> None:
    """Somebody who administers, whatever comes and goes."""
    await admin.do("account create", address="root@example.org", role="admin")


async def export(admin: Admin, *, secrets: bool = False) -> str:
    text: str = (await admin.json("config export", secrets=secrets)).document
    return text


async def apply(admin: Admin, text: str, **more: Any) -> Any:
    return await admin.json("config apply", file=text, **more)


def told(changes: Any) -> list[str]:
    return [f"{each.did} {each.kind} {each.name}" for each in changes.changes]


async def test_a_document_makes_all_that_it_names(admin: Admin) -> None:
    planned = await admin.json("config diff", file=TOWN)
    made = await apply(admin, TOWN, reason="a new town")
    assert planned.changes == made.changes
    assert told(made) == [
        "made domain b.example",
        "made account Ann@example.org",
        "made account bob@b.example",
        "made alias info@example.org -> ann@example.org",
        "made alias info@example.org -> bob@b.example",
        "made alias sales-*@b.example -> x@elsewhere.example",
        "made setting server smtp.max_hops",
        "made setting domain:b.example quota.octets",
        "made setting account:ann@example.org quota.messages",
    ]
    shown = await admin.do("account show", address=ANN)
    assert (shown.address, shown.name, shown.role) == ("Ann@example.org", "Ann", "admin")
    assert (await admin.do("account show", address="bob@b.example")).state == "frozen"
    quota = await admin.do("settings get", name="quota.messages", at=f"account:{ANN}")
    assert quota.value == 9
    ann = await admin.stores.mail.read(people.account, parse_mailbox(ANN))
    tree = await admin.stores.mail.read(folders.tree, ann.id)
    assert {"INBOX", "Sent"} <= set(tree.by_path)
    (change_set,) = made.change_sets
    found = await admin.do("changes show", id=change_set)
    assert (found.operation, found.reason) == ("config apply", "a new town")
    assert made.told().splitlines()[-1].startswith("Without a password: 2 new accounts.")


async def test_what_was_applied_is_applied_and_its_revert_leaves_nothing_of_it(
    admin: Admin,
) -> None:
    before = await export(admin, secrets=True)
    made = await apply(admin, TOWN)
    again = await apply(admin, TOWN)
    assert (again.changes, again.change_sets) == ((), ())
    assert again.told() == "All is as the document says: nothing was changed."
    await admin.do("changes revert", id=made.change_sets[0], force=False)
    assert await export(admin, secrets=True) == before


async def test_a_partial_document_touches_nothing_else(admin: Admin) -> None:
    await apply(admin, TOWN)
    before = (await export(admin)).splitlines()
    made = await apply(admin, 'format = 1\n[[accounts]]\naddress = "bob@b.example"\nname = "Bob"\n')
    assert told(made) == ["changed account bob@b.example"]
    assert (made.changes[0].was, made.changes[0].now) == ({"name": ""}, {"name": "Bob"})
    after = (await export(admin)).splitlines()
    assert [line for line in after if line not in before] == ['name = "Bob"']
    assert len(after) == len(before)


async def test_a_dry_run_changes_nothing(admin: Admin) -> None:
    before, known = await export(admin), await admin.do("changes list")
    planned = await apply(admin, TOWN, dry_run=True)
    assert planned.change_sets == ()
    assert planned.told().endswith("9 changes to make; none was made.")
    assert (await export(admin), await admin.do("changes list")) == (before, known)


# --- pruning ------------------------------------------------------------------------------------


async def test_what_a_document_lacks_goes_only_when_it_is_to_be_pruned(admin: Admin) -> None:
    before = await export(admin)
    await apply(admin, TOWN)
    full = await export(admin)
    assert (await apply(admin, before)).changes == ()
    pruned = await apply(admin, before, prune=True)
    assert {line.partition(" ")[0] for line in told(pruned)} == {"deleted"}
    assert await export(admin) == before
    await admin.do("changes revert", id=pruned.change_sets[0])
    assert await export(admin) == full


async def test_a_document_leaves_somebody_to_administer(admin: Admin) -> None:
    before = await export(admin)
    with pytest.raises(NotAllowed, match="administer"):
        await apply(admin, "format = 1\naccounts = []", prune=True)
    assert await export(admin) == before


async def test_sections_that_a_document_does_not_have_are_not_pruned(admin: Admin) -> None:
    await apply(admin, TOWN)
    only = 'format = 1\n[[aliases]]\naddress = "info@example.org"\ntargets = ["ann@example.org"]'
    made = await apply(admin, only, prune=True)
    assert sorted(told(made)) == [
        "deleted alias info@example.org -> bob@b.example",
        "deleted alias sales-*@b.example -> x@elsewhere.example",
    ]


async def test_an_alias_that_a_document_has_stays_though_its_target_goes(admin: Admin) -> None:
    await apply(admin, TOWN)
    await admin.do("account create", address="cora@b.example")
    await admin.do("alias create", address="c@b.example", target="cora@b.example")
    aliased = '[[aliases]]\naddress = "c@b.example"\ntargets = ["cora@b.example"]\n'
    text = f'{TOWN}{aliased}[[accounts]]\naddress = "root@example.org"\n'
    assert "deleted account cora@b.example" in told(await apply(admin, text, prune=True))
    assert len(await admin.do("alias show", address="c@b.example")) == 1
    assert (await apply(admin, text, prune=True)).changes == ()


async def test_one_takes_over_from_another_in_one_document(admin: Admin) -> None:
    """An alias becomes an account, and the administration goes from one to the other."""
    await apply(admin, TOWN)
    pruned = await apply(
        admin,
        'format = 1\naliases = []\n[[accounts]]\naddress = "info@example.org"\nrole = "admin"\n'
        '[[accounts]]\naddress = "bob@b.example"\n',
        prune=True,
    )
    assert "deleted account Ann@example.org" in told(pruned)
    assert (await admin.do("account show", address="info@example.org")).role == "admin"


# --- secrets ------------------------------------------------------------------------------------


async def signs_in(admin: Admin, password: str) -> bool:
    attempt = Attempt("PLAIN", ANN, password, None, "imaps", "imap")
    try:
        await admin.house.authenticator.authenticate(attempt)
    except MailError:
        return False
    return True


async def test_verifiers_are_exported_when_asked_for_and_make_the_password_right(
    admin: Admin,
) -> None:
    await admin.do("account create", address=ANN, password="correct horse")
    assert "argon2" not in await export(admin)
    told_all = await export(admin, secrets=True)
    assert "argon2" in told_all
    assert "correct horse" not in told_all
    await admin.do("account password", address=ANN, password="another horse")
    made = await apply(admin, told_all)
    assert told(made) == [f"changed password {ANN}"]
    assert "argon2" not in made.told() + repr(await admin.do("changes list"))
    assert await signs_in(admin, "correct horse")
    # Without verifiers a document leaves passwords alone.
    assert (await apply(admin, await export(admin))).changes == ()
    await admin.do("changes revert", id=made.change_sets[0])
    assert await signs_in(admin, "another horse")


async def test_an_account_without_a_password_is_exported_as_such(admin: Admin) -> None:
    await apply(admin, TOWN)
    text = await export(admin, secrets=True)
    assert "password = {}" in text
    assert (await apply(admin, text)).changes == ()


# --- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nonsense", Malformed),
        ('format = 1\n[[accounts]]\naddress = "x@nowhere.example"', NotFound),
        ('format = 1\n[[aliases]]\naddress = "x@nowhere.example"\ntargets = ["a@b.example"]',
         NotFound),
        ('format = 1\n[settings."server"]\n"no.such" = 1', NotFound),
        ('format = 1\n[settings."server"]\n"smtp.max_hops" = "many"', Misuse),
        ('format = 1\n[settings."server"]\n"smtp.max_hops" = 5', Misuse),
        ('format = 1\n[settings."domain:example.org"]\n"smtp.max_hops" = 30', Misuse),
        ('format = 1\n[settings."domain:nowhere.example"]\n"quota.octets" = 30', NotFound),
        ('format = 1\n[settings."account:x@example.org"]\n"quota.octets" = 30', NotFound),
        ('format = 1\n[settings."moon"]\n"quota.octets" = 30', Misuse),
    ],
)  # fmt: skip
async def test_a_document_that_cannot_be_changes_nothing(
    admin: Admin, text: str, error: type[MailError]
) -> None:
    before = await export(admin)
    whole = text.replace("format = 1", 'format = 1\ndomains = ["new.example"]')
    for operation in ("config diff", "config apply"):
        with pytest.raises(error):
            await admin.do(operation, file=whole)
    assert await export(admin) == before


async def test_what_the_store_refuses_refuses_the_whole(admin: Admin) -> None:
    await apply(admin, TOWN)
    before = await export(admin)
    with pytest.raises(MailError, match="is an account"):
        await apply(
            admin,
            'format = 1\ndomains = ["new.example"]\n'
            '[[aliases]]\naddress = "ann@example.org"\ntargets = ["bob@b.example"]',
        )
    assert await export(admin) == before


async def test_a_document_larger_than_a_unit_is_applied_in_pieces(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "UNIT", 40)
    before = await export(admin)
    made = await apply(admin, TOWN, reason="much")
    assert len(made.change_sets) > 1
    assert (await apply(admin, TOWN)).changes == ()
    sets = [await admin.do("changes show", id=each) for each in made.change_sets]
    assert {each.reason for each in sets} == {"much"}
    for each in reversed(made.change_sets):
        await admin.do("changes revert", id=each)
    assert await export(admin) == before


async def test_where_a_later_piece_is_refused_the_earlier_ones_are_named(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "UNIT", 4)
    await apply(admin, TOWN)
    with pytest.raises(StoreFailed, match=r"is an account.*can be reverted: c\w+") as refused:
        await apply(
            admin,
            'format = 1\ndomains = ["new.example"]\n'
            '[[aliases]]\naddress = "x@example.org"\ntargets = ["bob@b.example"]\n'
            '[[aliases]]\naddress = "ann@example.org"\ntargets = ["bob@b.example"]',
        )
    for each in str(refused.value).partition("reverted: ")[2].split(", "):
        await admin.do("changes revert", id=each)


# --- whatever there is --------------------------------------------------------------------------

_DOMAINS = st.sampled_from(["example.org", "b.example", "c.example"])
_ADDRESSES = st.builds("{}@{}".format, st.sampled_from(["a", "B", '"c d"', "ü"]), _DOMAINS)
_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=8)
_ACCOUNT = st.fixed_dictionaries(
    {"address": _ADDRESSES, "name": _NAMES, "role": st.sampled_from(["user", "admin"])}
)
_ALIAS = st.fixed_dictionaries(
    {"address": st.builds("{}@{}".format, st.sampled_from(["x", "y*", '"q q"']), _DOMAINS),
     "target": _ADDRESSES | st.just("far@elsewhere.example")}
)  # fmt: skip
_SETTING = st.one_of(
    st.fixed_dictionaries(
        {"name": st.just("quota.octets"), "value": st.sampled_from("579"),
         "at": _ADDRESSES.map("account:{}".format) | _DOMAINS.map("domain:{}".format)}
    ),
    st.fixed_dictionaries(
        {"name": st.just("server.hostname"), "value": _NAMES, "at": st.just("node:2")}
    ),
)  # fmt: skip
_TOWNS = st.tuples(
    st.lists(_DOMAINS, max_size=3),
    st.lists(_ACCOUNT, max_size=4),
    st.lists(_ALIAS, max_size=4),
    st.lists(_SETTING, max_size=4),
)


async def build(admin: Admin, town: Any) -> None:
    """As much of it as can be."""
    domains, accounts, aliases, values = town
    steps = [("domain create", {"domain": name}) for name in domains]
    steps += [("account create", asked) for asked in accounts]
    steps += [("alias create", asked) for asked in aliases]
    steps += [("settings set", asked) for asked in values]
    for name, asked in steps:
        try:
            await admin.do(name, **asked)
        except MailError:
            continue  # there already, or its domain is not: the town is a little smaller


@settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(one=_TOWNS, other=_TOWNS)
async def test_an_export_applied_changes_nothing_and_leads_back_from_anywhere(
    admin: Admin, one: Any, other: Any
) -> None:
    await build(admin, one)
    here = await export(admin, secrets=True)
    for prune in (False, True):
        assert (await apply(admin, here, prune=prune)).changes == ()
        assert (await apply(admin, await export(admin), prune=prune)).changes == ()
    await build(admin, other)
    await apply(admin, here, prune=True)
    assert await export(admin, secrets=True) == here
