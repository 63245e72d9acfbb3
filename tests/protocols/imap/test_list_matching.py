"""protocols.imap.listing: which names a pattern matches, and what LIST and LSUB answer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.domain.mailboxes.folders import Mailbox, Tree
from postroom.protocols.imap import listing
from postroom.protocols.imap.listing import Listed, Pattern
from postroom.wire.imap import Cursor, List, ListSelect, parse_list, parse_lsub

# --- arranging ----------------------------------------------------------------------------------


def tree_of(
    paths: Iterable[str], subscribed: Iterable[str] = (), roles: dict[str, str] | None = None
) -> Tree:
    """A tree with these paths and all above them."""
    every = sorted({"/".join(p.split("/")[:n]) for p in paths for n in range(1, 40)} - {""})
    ids = {path: n for n, path in enumerate(every, 1)}
    wanted = set(subscribed)
    uses = {"INBOX": "inbox", **(roles or {})}
    return Tree(
        Mailbox(
            id=ids[path],
            account=1,
            parent=ids.get(path.rpartition("/")[0], 0),
            name=path.rpartition("/")[2],
            role=uses.get(path, ""),
            subscribed=path in wanted,
            uidvalidity=1,
            uidnext=1,
            modseq=1,
            total=0,
            unseen=0,
            deleted=0,
            size=0,
            created_modseq=1,
            changed_modseq=1,
        )
        for path in every
    )


def list_of(tree: Tree, arguments: bytes) -> list[Listed]:
    asked = parse_list(Cursor(arguments))
    wanted = listing.patterns(asked.reference, asked.patterns)
    return list(listing.list_answers(tree, list(listing.matching(tree, wanted)), asked))


def lsub_of(tree: Tree, arguments: bytes) -> dict[str, tuple[bytes, ...]]:
    asked = parse_lsub(Cursor(arguments))
    assert asked.pattern is not None
    wanted = listing.patterns(asked.reference, (asked.pattern,))
    names = list(listing.matching(tree, wanted))
    return {each.named.path: each.attributes for each in listing.lsub_answers(tree, names, asked)}


def paths(found: Iterable[Listed]) -> list[str]:
    return [each.named.path for each in found]


# --- patterns -----------------------------------------------------------------------------------

names = st.lists(st.text("aAbéI%*", min_size=1, max_size=4), min_size=1, max_size=4).map("/".join)
wildcards = st.text("ab/éI%*", max_size=10)


def by_regex(pattern: str, path: str) -> bool:
    made = {"*": ".*", "%": "[^/]*"}
    whole = "".join(made.get(c) or re.escape(c) for c in pattern)
    return re.fullmatch(whole, path, re.DOTALL) is not None


@settings(max_examples=600)
@given(wildcards, names)
def test_a_pattern_matches_what_its_meaning_says(pattern: str, path: str) -> None:
    assert Pattern(pattern).matches(path) is by_regex(pattern, path)


@settings(max_examples=300)
@given(names, st.data())
def test_a_pattern_made_of_a_name_matches_it(path: str, data: st.DataObject) -> None:
    lo = data.draw(st.integers(0, len(path)))
    hi = data.draw(st.integers(lo, len(path)))
    assert Pattern(path[:lo] + "*" + path[hi:]).matches(path)
    if "/" not in path[lo:hi]:
        assert Pattern(path[:lo] + "%" + path[hi:]).matches(path)


@pytest.mark.parametrize("pattern", ["inbox", "InBoX", "inb*", "%nbox", "INBOX", "*"])
def test_inbox_is_inbox_in_any_case(pattern: str) -> None:
    assert Pattern(pattern).matches("INBOX")


def test_only_inbox_at_the_top_has_no_case() -> None:
    assert Pattern("inbox/a").matches("INBOX/a")
    assert not Pattern("inbox/a").matches("INBOX/A")
    assert not Pattern("x/inbox").matches("x/INBOX")
    assert not Pattern("inboxes").matches("INBOXES")


@pytest.mark.parametrize("unit", ["*a", "%a", "*%a", "a%*a"])
def test_a_hostile_pattern_costs_no_more_than_its_length(unit: str) -> None:
    pattern = Pattern(unit * (4096 // len(unit)) + "b")
    started = time.thread_time()
    assert not pattern.matches("a" * 8000)
    assert time.thread_time() - started < 2, "a matcher that goes back would need years"


def test_patterns_longer_than_any_name_are_passed_over() -> None:
    """RFC 9051 §6.3.9."""
    assert len(listing.patterns("", ("a" * 8000, "*"))) == 2
    (first, last) = listing.patterns("", ("a" * 8000, "b" * 8000, "c"))
    assert first.matches("a" * 8000)
    assert last.matches("c")
    assert listing.patterns("x/", ("*" * 9000,)) == []


def test_the_reference_is_put_before_every_pattern() -> None:
    below, other = listing.patterns("Work/", ("%", "a/%"))
    assert below.matches("Work/x") and not below.matches("x")
    assert other.matches("Work/a/x")


def test_a_decomposed_pattern_matches_a_composed_name() -> None:
    (pattern,) = listing.patterns("", ("Cafe\u0301",))
    assert pattern.matches("Caf\u00e9")


# --- the walk -----------------------------------------------------------------------------------

trees = st.lists(names, min_size=1, max_size=12)


@given(trees, st.lists(wildcards, min_size=1, max_size=3))
def test_the_walk_finds_just_what_the_patterns_match(some: list[str], asked: list[str]) -> None:
    tree = tree_of(some)
    patterns = [Pattern(each) for each in asked]
    found = [each.path for each in listing.matching(tree, patterns)]
    assert len(found) == len(set(found))
    assert set(found) == {p for p in tree.by_path if any(each.matches(p) for each in patterns)}


@given(trees)
def test_the_order_is_inbox_then_by_name_and_parents_before_children(some: list[str]) -> None:
    tree = tree_of([*some, "INBOX/x"])
    found = list(listing.matching(tree, [Pattern("*")]))
    order = [(each.path != "INBOX" and not each.path.startswith("INBOX/"),) for each in found]
    assert order == sorted(order)
    rest = [each.path.split("/") for each in found if not each.path.startswith("INBOX")]
    assert rest == sorted(rest)
    assert all(each.depth == len(each.path.split("/")) for each in found)
    assert all(each.mailbox is tree.by_path[each.path] for each in found)


# --- LIST ---------------------------------------------------------------------------------------

# The mailboxes of RFC 5258 §5, as far as they exist.
FRUIT = ["INBOX", "Fruit", "Fruit/Apple", "Fruit/Banana", "Tofu", "Vegetable/Broccoli"]


def test_a_percent_stays_on_its_level() -> None:
    tree = tree_of(FRUIT)
    assert paths(list_of(tree, b' "" %')) == ["INBOX", "Fruit", "Tofu", "Vegetable"]
    assert paths(list_of(tree, b' "" %/%')) == [
        "Fruit/Apple",
        "Fruit/Banana",
        "Vegetable/Broccoli",
    ]
    assert paths(list_of(tree, b" Fruit/ *")) == ["Fruit/Apple", "Fruit/Banana"]


def test_children_and_special_uses_are_always_told() -> None:
    tree = tree_of(FRUIT, roles={"Tofu": "sent"})
    told = {each.named.path: each.attributes for each in list_of(tree, b' "" *')}
    assert told["Fruit"] == (b"\\HasChildren",)
    assert told["Tofu"] == (b"\\HasNoChildren", b"\\Sent")
    assert told["INBOX"] == (b"\\HasNoChildren",)


def test_nothing_can_lie_below_the_deepest_level() -> None:
    deep = "/".join("d" * 32)
    found = list_of(tree_of([deep]), b' "" ' + deep.encode())
    assert found[0].attributes == (b"\\HasNoChildren", b"\\Noinferiors")


def test_subscribed_is_told_when_it_is_asked_for() -> None:
    tree = tree_of(FRUIT, subscribed=["Tofu"])
    asked = {
        each.named.path: each.attributes for each in list_of(tree, b' "" * RETURN (SUBSCRIBED)')
    }
    assert b"\\Subscribed" in asked["Tofu"] and b"\\Subscribed" not in asked["Fruit"]
    assert len(asked) == len(tree.by_path)
    (chosen,) = list_of(tree, b' (SUBSCRIBED) "" *')
    assert chosen.named.path == "Tofu" and b"\\Subscribed" in chosen.attributes


def test_several_patterns_name_each_mailbox_once() -> None:
    assert paths(list_of(tree_of(FRUIT), b' "" (% Fruit Fruit/*)')) == [
        "INBOX",
        "Fruit",
        "Fruit/Apple",
        "Fruit/Banana",
        "Tofu",
        "Vegetable",
    ]


def test_special_use_selects_and_remote_changes_nothing() -> None:
    tree = tree_of(FRUIT, roles={"Tofu": "trash"})
    assert paths(list_of(tree, b' (SPECIAL-USE) "" *')) == ["Tofu"]
    assert paths(list_of(tree, b' (REMOTE) "" %')) == paths(list_of(tree, b' "" %'))


def test_recursive_match_tells_of_a_parent_by_its_children() -> None:
    # RFC 5258 §5, example 8: only foo's children are subscribed.
    tree = tree_of(["foo2/bar1", "foo2/bar2", "foo1"], subscribed=["foo2/bar2"])
    (found,) = list_of(tree, b' (RECURSIVEMATCH SUBSCRIBED) "" %')
    assert (found.named.path, found.child_info) == ("foo2", (b'"SUBSCRIBED"',))
    assert b"\\Subscribed" not in found.attributes
    # The child itself is told of: its parent needs no response. RFC 5258 §3.5.
    assert paths(list_of(tree, b' (RECURSIVEMATCH SUBSCRIBED) "" *')) == ["foo2/bar2"]
    # Without RECURSIVEMATCH nothing on this level is subscribed.
    assert list_of(tree, b' (SUBSCRIBED) "" %') == []


def test_a_chosen_parent_of_a_chosen_child_says_so() -> None:
    tree = tree_of(["a/b"], subscribed=["a", "a/b"])
    found = {
        e.named.path: e.child_info for e in list_of(tree, b' (SUBSCRIBED RECURSIVEMATCH) "" *')
    }
    assert found == {"a": (b'"SUBSCRIBED"',), "a/b": ()}
    plain = {e.named.path: e.child_info for e in list_of(tree, b' (SUBSCRIBED) "" *')}
    assert plain == {"a": (), "a/b": ()}


@settings(max_examples=200)
@given(trees, st.data(), wildcards, st.booleans(), st.booleans(), st.booleans())
def test_list_answers_what_rfc_5258_says(
    some: list[str],
    data: st.DataObject,
    pattern: str,
    by_subscription: bool,
    by_use: bool,
    recursive: bool,
) -> None:
    every = sorted(tree_of(some).by_path)
    subscribed = data.draw(st.sets(st.sampled_from(every)))
    used = data.draw(st.sets(st.sampled_from(every)))
    tree = tree_of(some, subscribed, dict.fromkeys(used, "junk"))
    select: set[ListSelect] = set()
    select |= {ListSelect.SUBSCRIBED} if by_subscription else set()
    select |= {ListSelect.SPECIAL_USE} if by_use else set()
    select |= {ListSelect.RECURSIVEMATCH} if recursive and select else set()
    asked = List("", (pattern,), frozenset(select), extended=True)
    named = list(listing.matching(tree, listing.patterns("", (pattern,))))
    found = {e.named.path: bool(e.child_info) for e in listing.list_answers(tree, named, asked)}

    def meets(path: str) -> bool:
        return (not by_subscription or path in subscribed) and (not by_use or path in used)

    matched = {path for path in every if by_regex(pattern, path)}
    expected = {path for path in matched if meets(path)}
    below = {p: {q for q in every if q.startswith(p + "/") and meets(q)} for p in every}
    if ListSelect.RECURSIVEMATCH in select:
        expected |= {path for path in matched if below[path] - matched}
        assert found == {path: bool(below[path]) for path in expected}
    else:
        assert found == dict.fromkeys(expected, False)


# --- LSUB ---------------------------------------------------------------------------------------


def test_lsub_tells_of_subscriptions_alone() -> None:
    tree = tree_of(FRUIT, subscribed=["Fruit/Apple", "Tofu"])
    assert lsub_of(tree, b' "" *') == {"Fruit/Apple": (), "Tofu": ()}


def test_lsub_with_a_percent_tells_of_the_level_above_a_subscription() -> None:
    # RFC 3501 §6.3.9: foo/bar is subscribed, foo is not.
    tree = tree_of(["foo/bar/baz", "other"], subscribed=["foo/bar/baz"])
    assert lsub_of(tree, b' "" %') == {"foo": (b"\\Noselect",)}
    assert lsub_of(tree, b' "" foo/%') == {"foo/bar": (b"\\Noselect",)}
    assert lsub_of(tree, b' "" foo/bar/%') == {"foo/bar/baz": ()}
    assert lsub_of(tree, b' "" foo') == {}
