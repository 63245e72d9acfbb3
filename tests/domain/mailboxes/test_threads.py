from __future__ import annotations

import pytest

from postroom.domain.mailboxes import threads
from postroom.store.sql import Statement
from tests.domain.making import Town, letter

THREADS = Statement("SELECT id, thread FROM message WHERE account = :account")
REFS = Statement("SELECT DISTINCT thread FROM thread_ref WHERE account = :account")


def add(
    town: Town, own: str, *references: str, subject: str = "Plans", of: str = "ann"
) -> tuple[int, int]:
    """The message's id and the thread it was told."""
    raw = letter(subject, own, references)
    account = town.ann if of == "ann" else town.root
    (stored,) = town.append(town.box(of=account), raw, of=account)
    return stored.message, stored.thread


def kept(town: Town) -> dict[int, int]:
    return dict(town.store.read(lambda tx: tx.all(THREADS, account=town.ann.id)))


def test_an_answer_joins_its_thread(town: Town) -> None:
    first, thread = add(town, "<1@x>")
    assert thread == first
    assert add(town, "<2@x>", "<1@x>", subject="Re: Plans")[1] == thread
    assert add(town, "<3@x>", "<0@x>", "<2@x>", subject="Re: [list] RE: Plans")[1] == thread
    assert add(town, "<9@x>")[1] != thread


def test_an_answer_that_came_first_is_joined(town: Town) -> None:
    _, thread = add(town, "<2@x>", "<1@x>", subject="Re: Plans")
    assert add(town, "<1@x>")[1] == thread


def test_another_subject_does_not_take_a_thread_over(town: Town) -> None:
    """Whoever knows a Message-ID could put a message into the middle of a conversation."""
    _, thread = add(town, "<1@x>")
    _, hijacked = add(town, "<2@x>", "<1@x>", subject="Win a prize")
    assert hijacked != thread
    assert add(town, "<3@x>", "<2@x>", subject="Win a prize")[1] == hijacked
    assert add(town, "<4@x>", "<2@x>", subject="Re: Plans")[1] not in (hijacked,)


def test_threads_are_of_one_account(town: Town) -> None:
    _, thread = add(town, "<1@x>")
    assert add(town, "<2@x>", "<1@x>", of="root")[1] != thread


def test_without_ids_a_message_is_its_own_thread(town: Town) -> None:
    first, thread = add(town, "")
    second, other = add(town, "")
    assert (thread, other) == (first, second)


def test_who_joins_two_threads_merges_the_smaller_into_the_larger(town: Town) -> None:
    _, small = add(town, "<1@x>")
    _, large = add(town, "<2@x>")
    add(town, "<3@x>", "<2@x>")
    assert small != large
    _, joined = add(town, "<4@x>", "<1@x>", "<2@x>")
    assert joined == large
    assert set(kept(town).values()) == {large}
    # What is referred to later is of the merged thread too.
    assert add(town, "<5@x>", "<1@x>")[1] == large
    rows = town.store.read(lambda tx: tx.all(REFS, account=town.ann.id))
    assert rows == [(large,)]


def test_the_order_of_arrival_does_not_decide_who_belongs_together(town: Town) -> None:
    chain = [(f"<{n}@y>", [f"<{n - 1}@y>"] if n else []) for n in range(8)]
    for own, references in (chain[k] for k in (5, 0, 7, 2, 4, 1, 6, 3)):
        add(town, own, *references)
    assert len(set(kept(town).values())) == 1


def test_a_thread_too_large_for_a_unit_stays_by_itself(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "UNIT_ROWS", 2)
    for n in range(3):
        add(town, f"<a{n}@x>", "<a0@x>" if n else "<root@x>")
    _, other = add(town, "<b0@x>")
    for n in range(1, 4):
        add(town, f"<b{n}@x>", "<b0@x>")
    before = kept(town)
    _, joined = add(town, "<c@x>", "<a0@x>", "<b0@x>")
    assert joined == other
    assert {k: v for k, v in kept(town).items() if k in before} == before


def test_many_references_are_looked_at_from_both_ends(town: Town) -> None:
    _, first = add(town, "<0@z>")
    many = [f"<{n}@z>" for n in range(90)]
    assert add(town, "<x@z>", *many)[1] == first
    _, late = add(town, "<l@z>")
    others = [f"<q{n}@z>" for n in range(90)]
    assert add(town, "<y@z>", *others, "<l@z>")[1] == late
    assert threads.MOST_REFERENCES == 20
