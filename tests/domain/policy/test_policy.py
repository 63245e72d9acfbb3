from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from postroom.core.errors import Misuse, NotFound
from postroom.core.settings import (
    SERVER,
    SETTINGS,
    Chain,
    Place,
    Scope,
    Value,
    chain,
    group,
    setting,
)
from postroom.domain import policy
from postroom.domain.events import DirectoryChanged
from postroom.domain.policy import Assignment, Policies, history
from postroom.domain.policy.history import ChangeSet, Note
from postroom.store.sql import Statement
from tests.domain.making import NOW, Direct

EVERYWHERE = (Scope.SERVER, Scope.NODE, Scope.LISTENER, Scope.DOMAIN, Scope.ACCOUNT)
ACCOUNT = Place(Scope.ACCOUNT, "7")
DOMAIN = Place(Scope.DOMAIN, "a.test")
LISTENER = Place(Scope.LISTENER, "smtp")
NODE = Place(Scope.NODE, "n1")
ALL = chain(ACCOUNT, DOMAIN, LISTENER, NODE)


@dataclass(frozen=True, slots=True)
class Knobs:
    """Settings that exist for these tests alone."""

    limit: int = setting(10, "A number.", scopes=EVERYWHERE, at_least=1, at_most=100)
    name: str = setting("none", "A text.", scopes=EVERYWHERE)
    strict: bool = setting(False, "A choice.", scopes=(Scope.SERVER,))
    hosts: tuple[str, ...] = setting((), "A list.", scopes=EVERYWHERE)


@pytest.fixture(autouse=True)
def declared() -> Iterator[None]:
    group("policytests")(Knobs)
    yield
    for name in [name for name in SETTINGS if name.startswith("policytests.")]:
        del SETTINGS[name]


def put(store: Direct, *given: tuple[Place, str, Value | None], number: int = 1) -> ChangeSet:
    assignments = [Assignment(place, f"policytests.{name}", value) for place, name, value in given]
    return store.write(policy.change, assignments, number, NOW, 5, "because")


def seen(store: Direct, policies: Policies, along: Chain = ALL) -> Knobs:
    return store.read(policies.current, along).of(Knobs)


# --- which value applies ------------------------------------------------------------------


def test_the_nearest_place_wins(store: Direct) -> None:
    policies = Policies()
    assert seen(store, policies) == Knobs()
    for n, place in enumerate((SERVER, NODE, LISTENER, DOMAIN, ACCOUNT), start=20):
        put(store, (place, "limit", n), number=n)
        assert seen(store, policies).limit == n
        origin = store.read(policies.current, ALL).origin("policytests.limit")
        assert origin == str(place)
    # Others have what their own chain gives.
    assert seen(store, policies, chain(DOMAIN)).limit == 23
    assert seen(store, policies, chain(Place(Scope.ACCOUNT, "8"), DOMAIN)).limit == 23
    assert seen(store, policies, chain(Place(Scope.DOMAIN, "b.test"))).limit == 20
    assert seen(store, policies, chain()).limit == 20
    # And without the nearest, the next one is it.
    put(store, (ACCOUNT, "limit", None), (DOMAIN, "limit", None), number=99)
    assert seen(store, policies).limit == 22


def test_each_value_knows_where_it_comes_from(store: Direct) -> None:
    put(store, (SERVER, "limit", 20), (DOMAIN, "name", "ours"))
    found = store.read(Policies().current, ALL)
    effective = found.effective(Knobs)
    assert effective.values == Knobs(limit=20, name="ours")
    assert effective.origins == {"policytests.limit": SERVER, "policytests.name": DOMAIN}
    assert found.origin("policytests.hosts") == "default"
    assert found.origin("policytests.name") == "domain:a.test"
    assert found.of(Knobs) is found.of(Knobs)


def test_every_type_of_value_comes_back_as_it_was(store: Direct) -> None:
    put(
        store,
        (SERVER, "hosts", ("a", "\N{SNOWMAN}", 'q"')),
        (SERVER, "strict", True),
        (SERVER, "name", "nul \x00 and \ud83d\ude00"),
    )
    found = seen(store, Policies(), chain())
    assert found.hosts == ("a", "\N{SNOWMAN}", 'q"')
    assert found.strict is True
    assert found.name.startswith("nul \x00 and ")


# --- when it applies ----------------------------------------------------------------------


def test_a_change_is_seen_by_another_worker_at_once(store: Direct) -> None:
    one, two = Policies(), Policies()
    assert seen(store, one).limit == seen(store, two).limit == 10
    for n in (11, 12, 13):
        put(store, (SERVER, "limit", n), number=n)
        assert seen(store, two).limit == n
    assert one.latest(ALL).of(Knobs).limit == 10, "until it looks"
    assert seen(store, one).limit == 13


def test_nothing_changed_means_the_same_policy(store: Direct) -> None:
    policies = Policies()
    put(store, (SERVER, "limit", 11))
    first = store.read(policies.current, ALL)
    assert store.read(policies.current, ALL) is first
    put(store, (SERVER, "limit", 12), number=2)
    assert store.read(policies.current, ALL) is not first
    assert first.of(Knobs).limit == 11, "one message meets one policy"


def test_chains_that_are_kept_are_bounded(store: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_MOST_CHAINS", 5)
    policies = Policies()
    for n in range(30):
        assert seen(store, policies, chain(Place(Scope.ACCOUNT, str(n)))).limit == 10
    assert len(policies._made) <= 5


# --- changing -----------------------------------------------------------------------------


def told(made: ChangeSet) -> list[tuple[str, object, object]]:
    return [(change.key, change.was, change.is_) for change in made.diff]


def test_a_change_set_says_what_was_and_what_is(store: Direct) -> None:
    put(store, (SERVER, "limit", 20), (SERVER, "hosts", ("a", "b")))
    put(store, (SERVER, "limit", 21), (SERVER, "hosts", None), (DOMAIN, "name", "x"), number=2)
    newest, oldest = store.read(history.latest, 10)
    assert newest.note == Note(2, NOW, 5, "", "because")
    assert told(oldest) == [
        ("server policytests.limit", None, {"value": 20}),
        ("server policytests.hosts", None, {"value": ["a", "b"]}),
    ]
    assert told(newest) == [
        ("server policytests.limit", {"value": 20}, {"value": 21}),
        ("server policytests.hosts", {"value": ["a", "b"]}, None),
        ("domain:a.test policytests.name", None, {"value": "x"}),
    ]
    assert [made.id for made in store.read(history.latest, 1)] == [2]


def test_what_it_returns_is_what_is_kept(store: Direct) -> None:
    made = put(store, (SERVER, "hosts", ("a", "b")), (SERVER, "limit", 20))
    assert store.read(history.latest, 1) == [made]


def test_what_stays_as_it_is_is_no_change(store: Direct) -> None:
    put(store, (SERVER, "limit", 20), (SERVER, "name", "x"))
    assert told(put(store, (SERVER, "limit", 20), (SERVER, "name", None), number=2)) == [
        ("server policytests.name", {"value": "x"}, None)
    ]


def test_a_change_is_made_whole_or_not_at_all(store: Direct) -> None:
    put(store, (SERVER, "limit", 20))
    policies = Policies()
    before = store.read(policies.current, ALL)
    store.events.clear()
    for bad, error in (
        ((SERVER, "limit", 0), Misuse),
        ((SERVER, "limit", "many"), Misuse),
        ((DOMAIN, "strict", True), Misuse),
        ((SERVER, "nothing", 1), NotFound),
    ):
        with pytest.raises(error):
            put(store, (SERVER, "name", "half"), bad, number=9)
    assert store.read(policies.current, ALL) is before
    assert len(store.read(history.latest, 10)) == 1
    assert store.events == []
    put(store, (SERVER, "name", "whole"), number=10)
    assert store.events == [DirectoryChanged()]


# --- what an earlier or later release left ------------------------------------------------


def test_what_no_release_declares_any_more_is_passed_over(store: Direct) -> None:
    put(store, (SERVER, "limit", 20), (SERVER, "name", "kept"))
    del SETTINGS["policytests.limit"]
    assert store.read(policy.stored) == {SERVER: {"policytests.name": "kept"}}
    assert store.read(policy.unfit) == ["server policytests.limit: no such setting"]


def test_a_value_that_fits_no_more_is_the_default_again_and_told(store: Direct) -> None:
    """A release may narrow a bound: the server has to run all the same."""
    put(store, (SERVER, "limit", 90), (DOMAIN, "name", "kept"))
    narrowed = dataclasses.replace(SETTINGS["policytests.limit"], at_most=50)
    SETTINGS["policytests.limit"] = narrowed
    found = seen(store, Policies())
    assert (found.limit, found.name) == (10, "kept")
    (told,) = store.read(policy.unfit)
    assert told.startswith("server policytests.limit: ")
    assert "50" in told


def test_a_scope_of_a_later_release_is_passed_over(store: Direct) -> None:
    put(store, (SERVER, "limit", 20))
    row = Statement("""
        INSERT INTO setting (scope, object, name, value, change_set)
        VALUES ('galaxy', 'x', 'policytests.limit', '30', 1)
    """)
    store.write(lambda tx: tx.run(row))
    assert seen(store, Policies()).limit == 20
    assert store.read(policy.unfit) == ["galaxy:x policytests.limit: no such scope"]
