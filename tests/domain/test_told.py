"""What was told to whom about mail in their name: settled once, in one unit with its message."""

from __future__ import annotations

from postroom.core.clock import Instant
from postroom.domain.feedback import sent
from postroom.domain.feedback.sent import Listed, Told
from tests.domain.making import Direct

DAY = 20_000
NOW = Instant(1_000_000)
LATER = Instant(2_000_000)
TO = Told("d@a.example", 700, 7)
NOT = Told("d@b.example", why="b.example does not say that it takes them")


def settled(store: Direct, domain: str, day: int = DAY, *told: Told, why: str = "") -> bool:
    return store.write(sent.settle, domain, day, f"{domain}@here", told, why, NOW)


def test_a_day_is_settled_once(store: Direct) -> None:
    assert settled(store, "a.example", DAY, TO, NOT)
    assert not settled(store, "a.example", DAY, Told("e@a.example", 1, 8))
    assert settled(store, "a.example", DAY + 1)
    assert store.read(sent.latest, "a.example", 10) == [
        Listed("a.example", DAY + 1, NOW, "a.example@here", False, Told("")),
        Listed("a.example", DAY, NOW, "a.example@here", False, TO),
        Listed("a.example", DAY, NOW, "a.example@here", False, NOT),
    ]


def test_what_waits_comes_again_until_it_is_settled(store: Direct) -> None:
    store.write(sent.postpone, "a.example", DAY, "no answer", LATER, NOW)
    assert store.read(sent.again, DAY, NOW, 10) == []
    assert store.read(sent.again, DAY, LATER, 10) == [("a.example", DAY)]
    assert store.read(sent.again, DAY + 1, LATER, 10) == []
    (listed,) = store.read(sent.latest, "", 10)
    assert (listed.waits, listed.told.why) == (True, "no answer")
    store.write(sent.postpone, "a.example", DAY, "still none", Instant(LATER + 1), LATER)
    assert store.read(sent.again, DAY, LATER, 10) == []
    assert settled(store, "a.example", DAY, TO)
    store.write(sent.postpone, "a.example", DAY, "too late", LATER, NOW)
    assert store.read(sent.again, DAY, Instant(LATER + 9), 10) == []
    (listed,) = store.read(sent.latest, "", 10)
    assert (listed.waits, listed.told) == (False, TO)


def test_a_walk_through_a_day_goes_on_where_it_was(store: Direct) -> None:
    assert store.read(sent.reached, DAY) == ""
    settled(store, "b.example")
    store.write(sent.postpone, "c.example", DAY, "no answer", LATER, NOW)
    settled(store, "d.example", DAY + 1)
    assert store.read(sent.reached, DAY) == "c.example"


def test_those_of_one_domain_are_listed_by_themselves_and_bounded(store: Direct) -> None:
    for n in range(3):
        settled(store, "a.example", DAY + n, TO)
        settled(store, "b.example", DAY + n, why="it has no DMARC record any more")
    found = store.read(sent.latest, "", 3)
    assert [(each.day - DAY, each.policy_domain) for each in found] == [
        *((2, "a.example"), (2, "b.example"), (1, "a.example")),
    ]
    assert [each.policy_domain for each in store.read(sent.latest, "b.example", 9)] == (
        ["b.example"] * 3
    )
    assert found[1].told.why == "it has no DMARC record any more"


def test_what_is_old_is_forgotten_with_its_addresses(store: Direct) -> None:
    settled(store, "a.example", DAY, TO, NOT)
    settled(store, "a.example", DAY + 1, TO)
    assert store.write(sent.forget, DAY) == 0
    assert store.write(sent.forget, DAY + 1) == 1
    assert [each.day for each in store.read(sent.latest, "", 10)] == [DAY + 1]
    assert settled(store, "a.example", DAY, TO)  # the addresses of the first are gone, too


def test_strange_text_is_kept_on_both_engines(store: Direct) -> None:
    settled(store, "a.example", DAY, Told("x", why="a\0b\ud800"), why="\0")
    (listed,) = store.read(sent.latest, "", 10)
    assert listed.told.why.startswith("a")
