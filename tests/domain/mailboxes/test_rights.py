from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached, Malformed, NotAllowed, NotFound
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.events import Changed, Type
from postroom.domain.mailboxes import cleaning, folders, reading, rights
from postroom.domain.mailboxes.rights import ALL, NONE, Entry, MissingRight, Right, Subject
from postroom.domain.mailboxes.shares import tables as shares
from postroom.store.sql import Statement, Tx
from tests.domain.making import DAY, NOW, Town, checked

LETTERS = "lrswipkxtea"


def put(town: Town, box: int, identifier: str, letters: str, mode: str = "") -> str:
    """SETACL by the owner; the rights that the entry has then."""
    owner = town.store.read(people.by_id, town.store.read(folders.get, box).account)
    whom = town.store.read(rights.subject, owner, identifier, beyond=True)
    after = town.store.write(
        rights.put,
        box,
        whom,
        rights.parse(letters),
        NOW,
        owner.id,
        add=mode == "+",
        remove=mode == "-",
    )
    return "".join(letter for letter in rights.written(after) if letter in LETTERS)


def held(town: Town, viewer: Account, box: int) -> str:
    row = town.store.read(folders.get, box)
    found = rights.written(town.store.read(rights.of, viewer.id, row))
    return "".join(letter for letter in found if letter in LETTERS)


def _run(tx: Tx, statement: Statement, row: dict[str, int]) -> int:
    return tx.run(statement, **row)


def listed(town: Town, box: int) -> dict[str, str]:
    row = town.store.read(folders.get, box)
    return {e.identifier: rights.written(e.rights) for e in town.store.read(rights.entries, row)}


def test_each_letter_is_a_right_and_back() -> None:
    assert [rights.written(rights.parse(letter))[0] for letter in LETTERS] == list(LETTERS)
    assert rights.parse("") == NONE
    assert rights.parse(LETTERS) == ALL
    for wrong in ("q", "L", "lr ", "1", "\u00e9"):
        with pytest.raises(Malformed):
            rights.parse(wrong)


@given(st.sets(st.sampled_from(LETTERS + "cd")))
def test_the_two_rights_of_old_stand_for_their_members(letters: set[str]) -> None:
    """RFC 4314 §2.1.1."""
    meant = (letters - {"c", "d"}) | set("kx" * ("c" in letters) + "te" * ("d" in letters))
    found = rights.parse("".join(letters))
    assert found == rights.parse("".join(meant))
    old = set("c" * bool(meant & set("kx")) + "d" * bool(meant & set("te")))
    assert set(rights.written(found)) == meant | old


def test_an_owner_has_all_rights_and_nobody_else_has_any(town: Town) -> None:
    box = town.box()
    assert held(town, town.ann, box) == LETTERS
    assert held(town, town.root, box) == ""
    assert listed(town, box) == {"ann@a.test": "lrswipkxteacd"}


def test_an_owner_cannot_lock_himself_out(town: Town) -> None:
    box = town.box()
    for identifier, letters, mode in (
        ("ann", "lr", ""),
        ("ann", "", ""),
        ("ann@a.test", "a", "-"),
        ("-ann", "l", ""),
        ("-ann", "l", "+"),
    ):
        with pytest.raises(NotAllowed):
            put(town, box, identifier, letters, mode)
    assert put(town, box, "ann", "lr", "+") == LETTERS
    assert put(town, box, "ann", LETTERS) == LETTERS
    put(town, box, "-anyone", LETTERS)
    assert held(town, town.ann, box) == LETTERS


def test_what_is_given_less_what_is_taken(town: Town) -> None:
    box = town.box()
    bob = town.person("bob@a.test")
    put(town, box, "anyone", "lrs")
    assert (held(town, bob, box), held(town, town.root, box)) == ("lrs", "lrs")
    put(town, box, "bob", "wi")
    assert held(town, bob, box) == "lrswi"
    put(town, box, "-bob@a.test", "rw")
    assert (held(town, bob, box), held(town, town.root, box)) == ("lsi", "lrs")
    put(town, box, "-anyone", "s")
    assert (held(town, bob, box), held(town, town.root, box)) == ("li", "lr")
    assert listed(town, box) == {
        "ann@a.test": "lrswipkxteacd",
        "anyone": "lrs",
        "bob@a.test": "wi",
        "-bob@a.test": "rw",
        "-anyone": "s",
    }


def test_anyone_ends_at_the_domain(town: Town) -> None:
    """Attack class 16: who is a tenant elsewhere is nobody here, and learns of nobody."""
    town.store.write(people.create_domain, next(town.ids), "b.test", NOW)
    eve = town.person("eve@b.test")
    box = town.box()
    put(town, box, "anyone", LETTERS)
    assert held(town, eve, box) == ""
    for identifier in ("eve@b.test", "nobody@b.test", "@b.test", "@c.test", "@"):
        with pytest.raises(NotFound, match="There is no such identifier"):
            town.store.read(rights.subject, town.ann, identifier)
    put(town, box, "@b.test", "l")
    put(town, box, "eve@b.test", "r")
    assert held(town, eve, box) == "lr"
    assert listed(town, box)["@b.test"] == "l"


def test_entries_are_set_added_to_and_taken_from(town: Town) -> None:
    """RFC 4314 §3.1."""
    box = town.box()
    town.person("bob@a.test")
    assert put(town, box, "bob", "lr") == "lr"
    assert put(town, box, "bob", "si", "+") == "lrsi"
    assert put(town, box, "bob", "lq"[:1], "-") == "rsi"
    assert put(town, box, "bob", "w") == "w"
    assert put(town, box, "bob", "w", "-") == ""
    assert "bob@a.test" not in listed(town, box)
    assert put(town, box, "bob", "d", "+") == "te"
    for unknown in ("carol", "carol@a.test", "", "-", "a b", "\u00e9@@", "x" * 300):
        with pytest.raises(NotFound):
            put(town, box, unknown, "l")


def test_a_list_has_an_end(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "ENTRIES_MOST", 2)
    box = town.box()
    put(town, box, "anyone", "l")
    put(town, box, "root", "l")
    with pytest.raises(LimitReached):
        put(town, box, "-root", "l")
    assert put(town, box, "root", "r", "+") == "lr"


def test_a_change_of_rights_raises_both_epochs_and_tells_the_owners_log(town: Town) -> None:
    box, bob = town.box(), town.person("bob@a.test")

    def epoch(of: Account) -> int:
        return town.store.read(reading.account_state, of.id).rights_epoch

    before = epoch(town.ann), epoch(bob)
    town.store.events.clear()
    put(town, box, "bob", "l")
    assert (epoch(town.ann), epoch(bob)) == (before[0] + 1, before[1] + 1)
    state = town.store.read(reading.account_state, town.ann.id)
    # Bob is told too: what he sees changed, though nothing in his log did.
    seen = town.store.read(reading.account_state, bob.id)
    assert town.store.events == [
        Changed(town.ann.id, state.modseq, Type.MAILBOX),
        Changed(bob.id, seen.modseq, Type.MAILBOX),
    ]
    assert town.store.read(folders.get, box).changed_modseq == state.modseq
    put(town, box, "bob", "l")  # nothing new
    assert epoch(bob) == before[1] + 1


def test_what_is_made_below_a_mailbox_has_its_list(town: Town) -> None:
    work = town.folder("Work")
    town.person("bob@a.test")
    put(town, work, "bob", "lrk")
    put(town, work, "-anyone", "p")
    made = town.folder("Work/2026/May")
    assert listed(town, made) == listed(town, work)
    assert listed(town, town.box("Work/2026")) == listed(town, work)
    put(town, work, "bob", "")
    assert "bob@a.test" in listed(town, made)  # from then on it has its own


def test_nothing_is_left_of_who_is_erased(town: Town) -> None:
    bob, box = town.person("bob@a.test"), town.box()
    put(town, box, "bob", "lr")
    town.store.write(people.delete_account, bob, NOW)
    assert listed(town, box) == {"ann@a.test": "lrswipkxteacd"}
    while town.store.write(cleaning.empty_gone, bob.id, Instant(NOW + DAY)):
        pass
    assert town.store.read(lambda tx: tx.all(shares.RIGHTS_LIST, mailbox=box)) == []
    assert checked(town.store).clean


def test_check_finds_and_mends_rights_that_nobody_can_have(town: Town) -> None:
    box = town.box()
    for principal, letters in ((999_999, 1), (town.ann.id, 1), (town.root.id, 4096)):
        given_ = {"mailbox": box, "principal": principal, "negative": 0, "rights": letters}
        town.store.write(_run, shares.PUT_RIGHTS, given_)
    town.store.write(_run, shares.ADD_SUBSCRIPTION, {"principal": 999_999, "mailbox": box})
    assert checked(town.store).found == 4
    assert len(checked(town.store, repair=True).repaired) == 4
    assert checked(town.store).clean


def test_who_may_not_look_up_is_told_that_nothing_is_there() -> None:
    for held_, needs in itertools.product(Right, Right):
        if held_ == needs:
            rights.check(held_, needs)
        elif held_ is Right.LOOKUP:
            with pytest.raises(MissingRight):
                rights.check(held_, needs)
        else:
            with pytest.raises(NotFound):
                rights.check(held_, needs)


LINES = st.lists(
    st.tuples(
        st.sampled_from(["bob", "-bob", "anyone", "-anyone", "root", "-root"]),
        st.sets(st.sampled_from(LETTERS)),
        st.sampled_from(["", "+", "-"]),
    ),
    max_size=12,
)


@given(LINES)
@settings(max_examples=60)
def test_rights_are_what_the_lines_come_to(
    lines: list[tuple[str, set[str], str]],
) -> None:
    """Against a model of sets: what the entries sum up to, in whatever order they were set."""
    model: dict[str, set[str]] = {}
    for identifier, letters, mode in lines:
        had = model.get(identifier, set())
        model[identifier] = had | letters if mode == "+" else had - letters if mode else letters
    for viewer in ("bob", "root"):
        given_ = model.get(viewer, set()) | model.get("anyone", set())
        taken = model.get(f"-{viewer}", set()) | model.get("-anyone", set())
        rows = [
            (int(name.startswith("-")), int(rights.parse("".join(letters))))
            for name, letters in model.items()
            if name.removeprefix("-") in (viewer, "anyone")
        ]
        assert rights.summed(rows) == rights.parse("".join(given_ - taken))


def test_the_subject_of_an_identifier(town: Town) -> None:
    bob = town.person("bob@a.test")
    for identifier, expected in (
        ("bob", Subject(bob.id, False)),
        ("Bob@A.test", Subject(bob.id, False)),
        ("-BOB", Subject(bob.id, True)),
        ("Anyone", Subject(town.domain.id, False)),
        ("@a.test", Subject(town.domain.id, False)),
        ("-@a.test", Subject(town.domain.id, True)),
    ):
        assert town.store.read(rights.subject, town.ann, identifier) == expected
    assert Entry("bob", ALL) != Entry("bob", NONE)
