"""The history: what a change set holds, and how it is found."""

from __future__ import annotations

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached, NotFound
from postroom.domain.policy import history
from postroom.domain.policy.history import Change, Image, Note, difference
from tests.domain.making import NOW, Direct


def made(store: Direct, number: int, *diff: Change, author: int = 5, reverts: int = 0) -> None:
    note = Note(number, Instant(NOW + number), author, "zoo feed", "hungry", reverts)
    store.write(history.record, note, diff)


def change(kind: str, key: str, name: str) -> Change:
    return Change(kind, key, name, None, {"x": 1})


@pytest.mark.parametrize(
    ("was", "is_", "differs"),
    [
        (None, {"a": 1}, (None, {"a": 1})),
        ({"a": 1, "b": 2}, None, ({"a": 1, "b": 2}, None)),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ({"b": 2}, {"b": 3})),
        ({"a": 1}, {"a": 1, "b": 3}, ({"b": None}, {"b": 3})),
    ],
)
def test_a_difference_holds_what_differs(
    was: Image | None, is_: Image | None, differs: tuple[Image | None, Image | None]
) -> None:
    found = difference("lion", "1", "Leo", was, is_)
    assert (found.was, found.is_) == differs


def test_a_change_set_comes_back_as_it_was_written(store: Direct) -> None:
    diff = (
        Change("lion", "1", "Leo \N{LION FACE}", None, {"grams": 5, "likes": ["a", "b"]}),
        Change("lion", "2", "Lea", {"grams": 1}, {"grams": None}),
        Change("cage", "3", "big", {"n": 1 << 62}, None),
    )
    made(store, 7, *diff, reverts=3)
    found = store.read(history.get, 7)
    assert found.note == Note(7, Instant(NOW + 7), 5, "zoo feed", "hungry", 3)
    assert found.diff == diff
    assert store.read(history.find, 8) is None
    with pytest.raises(NotFound):
        store.read(history.get, 8)


def test_change_sets_are_found_by_object_name_kind_and_author(store: Direct) -> None:
    made(store, 1, change("account", "a1", "Ann@a.test"))
    made(store, 2, change("alias", "9", "info@a.test -> ann@a.test"), author=6)
    made(store, 3, change("setting", "account:1 quota.octets", "account:ann@a.test quota.octets"))
    made(store, 4, change("account", "a1", "anna@a.test"), reverts=1)

    def of(key: str, limit: int = 9) -> list[int]:
        return [each.id for each in store.read(history.of, key, limit)]

    assert of("account a1") == [4, 1]
    assert of("account a1", 1) == [4]
    assert of(history.named(" ANN@a.test ")) == [3, 2, 1]
    assert of(history.named("info@a.test")) == [2]
    assert of(history.named("quota.octets")) == [3]
    assert of(history.named("account:ann@a.test")) == [3]
    assert of(history.reverting(1)) == [4]
    assert of("nobody") == []
    assert [each.id for each in store.read(history.latest, 2)] == [4, 3]
    assert [each.id for each in store.read(history.by, 6, 9)] == [2]
    assert [each.id for each in store.read(history.latest_of_kind, "setting", 9)] == [3]


def test_what_one_change_set_holds_is_bounded(
    store: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST", 2)
    with pytest.raises(LimitReached):
        made(store, 1, *(change("lion", str(n), "x") for n in range(3)))
    made(store, 1, *(change("lion", str(n), "x") for n in range(2)))


def test_what_nobody_could_keep_is_kept_in_another_form(store: Direct) -> None:
    made(store, 1, change("lion", "1", "nul \0 and half \ud800, " + "x" * 9_000))
    assert len(store.read(history.of, "lion 1", 9)) == 1


def test_old_change_sets_are_forgotten_with_their_keys(store: Direct) -> None:
    for number in range(1, 6):
        made(store, number, change("lion", "1", "Leo"))
    before = Instant(NOW + 4)
    assert store.write(history.forget, before, 2) == 2
    assert store.write(history.forget, before, 2) == 1
    assert store.write(history.forget, before, 2) == 0
    assert [each.id for each in store.read(history.of, "lion 1", 9)] == [5, 4]
