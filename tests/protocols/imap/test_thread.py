"""THREAD and UID THREAD: the algorithms, and the command over sockets. RFC 5256."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.clock import Instant
from postroom.protocols.imap.conversations import (
    Joined,
    Node,
    by_latest,
    by_references,
    by_subject,
    rendered,
)
from postroom.wire.imap import Value
from tests.protocols.imap.serving import Room


def joined(
    name: str, *references: str, subject: str = "", answers: bool = False, sent: int = 0
) -> Joined:
    return Joined(
        name.encode(), tuple(each.encode() for each in references), subject, answers, sent
    )


def told(top: list[Node], count: int) -> str:
    return rendered(top, range(1, count + 1)).decode()


def threads(*messages: Joined) -> str:
    return told(by_references(messages), len(messages))


# --- REFERENCES, step by step ---------------------------------------------------------------------


def test_a_reply_lies_below_what_it_answers() -> None:
    assert threads(joined("a"), joined("b", "a"), joined("c", "a", "b")) == "(1 2 3)"
    assert threads(joined("c", "a", "b"), joined("b", "a"), joined("a")) == "(3 2 1)"
    assert threads(joined("a"), joined("b", "a"), joined("c", "a")) == "(1 (2)(3))"


def test_siblings_go_by_date_then_by_place() -> None:
    assert threads(joined("a", sent=9), joined("b", "a", sent=5), joined("c", "a", sent=3)) == (
        "(1 (3)(2))"
    )
    assert threads(joined("x", sent=2), joined("y", sent=1), joined("z", sent=1)) == "(2)(3)(1)"


def test_a_missing_parent_holds_several_together_and_vanishes_over_one() -> None:
    assert threads(joined("b", "a"), joined("c", "a")) == "((1)(2))"
    assert threads(joined("b", "a")) == "(1)"
    assert threads(joined("c", "x", "a"), joined("d", "x", "b")) == "((1)(2))"
    assert threads(joined("d", "a", "b", "c"), joined("e", "a", "b", "c")) == "((1)(2))"


def test_the_sent_date_of_a_missing_parent_is_its_first_child_s() -> None:
    messages = (joined("b", "a", sent=9), joined("c", "a", sent=2), joined("z", sent=5))
    assert threads(*messages) == "((2)(1))(3)"


def test_a_later_message_s_own_last_reference_counts() -> None:
    # What "c" said of "b" gives way to what "b" says of itself: step (1) B.
    assert threads(joined("c", "a", "b"), joined("b", "x"), joined("a"), joined("x")) == (
        "(3)(4 2 1)"
    )


def test_the_first_of_a_message_id_has_it() -> None:
    assert threads(joined("a"), joined("a"), joined("b", "a")) == "(1 3)(2)"


def test_loops_are_not_made() -> None:
    assert threads(joined("a", "b"), joined("b", "a")) == "(2 1)"
    assert threads(joined("a", "a")) == "(1)"
    assert threads(joined("a", "b", "c"), joined("b", "c", "a"), joined("c", "a", "b")) in (
        "(3 2 1)", "(2 1 3)", "(2 3 1)", "(1 2 3)", "(3 1 2)", "(1 3 2)",
    )  # fmt: skip


# --- step (5): subjects ---------------------------------------------------------------------------


def test_threads_of_one_subject_become_one() -> None:
    assert threads(joined("a", subject="S"), joined("b", subject="S")) == "((1)(2))"
    assert threads(joined("a", subject="S"), joined("b", subject="S", answers=True)) == "(1 2)"
    assert threads(joined("a", subject="S", answers=True), joined("b", subject="S")) == "(2 1)"
    both = [joined("a", subject="S", answers=True), joined("b", subject="S", answers=True)]
    assert threads(*both) == "((1)(2))"


def test_threads_without_a_subject_stay_apart() -> None:
    assert threads(joined("a"), joined("b")) == "(1)(2)"


def test_dummies_of_one_subject_become_one() -> None:
    dummies = [joined("b", "a", subject="S", sent=1), joined("c", "a", subject="S", sent=2)]
    others = [joined("e", "d", subject="S", sent=3), joined("f", "d", subject="S", sent=4)]
    assert threads(*dummies, *others) == "((1)(2)(3)(4))"
    assert threads(*dummies, joined("x", subject="S", sent=9)) == "((1)(2)(3))"
    assert threads(joined("x", subject="S"), *dummies) == "((1)(2)(3))"


# --- ORDEREDSUBJECT -------------------------------------------------------------------------------


def test_subjects_in_the_order_of_their_first_messages() -> None:
    messages = [
        joined("a", subject="S", sent=5), joined("b", subject="T", sent=1),
        joined("c", subject="S", sent=3), joined("d", subject="S", sent=9),
        joined("e", subject="T", sent=2),
    ]  # fmt: skip
    assert told(by_subject(messages), 5) == "(2 5)(3 (1)(4))"


# --- REFS -----------------------------------------------------------------------------------------


def latest(*messages: Joined) -> str:
    return told(by_latest(messages), len(messages))


def test_refs_does_not_look_at_subjects() -> None:
    assert latest(joined("a", subject="S"), joined("b", subject="S", answers=True)) == "(1)(2)"
    assert latest(joined("b", "a", subject="S"), joined("c", "a", subject="T")) == "((1)(2))"


def test_refs_tells_the_thread_of_the_latest_message_last() -> None:
    messages = (joined("a", sent=1), joined("x", sent=5), joined("b", "a", sent=9))
    assert latest(*messages) == "(2)(1 3)"
    assert threads(*messages) == "(1 3)(2)"
    below = (joined("a", sent=1), joined("b", "a", sent=7), joined("c", "a", sent=3))
    assert latest(*below, joined("x", sent=5)) == "(4)(1 (3)(2))"
    dummies = (joined("b", "a", sent=9), joined("c", "a", sent=2))
    assert latest(*dummies, joined("z", sent=5), joined("y", sent=9)) == "(3)((2)(1))(4)"


# --- the RFC's own examples of the response -------------------------------------------------------


def test_responses_are_written_as_the_rfc_writes_them() -> None:
    """RFC 5256 §4, THREAD response."""
    first = [
        Node(2),
        Node(3, [Node(6, [Node(4, [Node(23)]), Node(44, [Node(7, [Node(96)])])])]),
    ]
    assert rendered(first, range(100)) == b"(2)(3 6 (4 23)(44 7 96))"
    assert rendered([Node(None, [Node(3), Node(5)])], range(9)) == b"((3)(5))"
    assert rendered([], []) == b""


# --- properties -----------------------------------------------------------------------------------

IDS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b""])
MESSAGES = st.lists(
    st.builds(
        Joined,
        IDS,
        st.lists(IDS.filter(bool), max_size=5).map(tuple),
        st.sampled_from(["", "S", "T"]),
        st.booleans(),
        st.integers(0, 4),
    ),
    max_size=12,
)


@given(MESSAGES)
@settings(max_examples=400)
def test_every_message_is_told_once_and_dummies_only_at_the_top(messages: list[Joined]) -> None:
    for algorithm in (by_references, by_latest, by_subject):
        seen: list[int] = []
        work = list(algorithm(messages))
        for node in work:
            assert node.at is not None or len(node.children) > 1
        while work:
            node = work.pop()
            if node.at is not None:
                seen.append(node.at)
            assert all(child.at is not None for child in node.children)
            work += node.children
        assert sorted(seen) == list(range(len(messages)))


# --- hostile references ---------------------------------------------------------------------------

MANY = 5_000


def _chain(backwards: bool) -> list[Joined]:
    made = [joined(f"m{n}", f"m{n - 1}") for n in range(MANY)]
    return made[::-1] if backwards else made


HOSTILE = {
    "a chain": _chain(False),
    "a chain that comes backwards": _chain(True),
    "a ring": [joined(f"m{n}", f"m{(n + 1) % MANY}") for n in range(MANY)],
    "all refer to all": [
        joined(f"m{n}", *(f"m{(n * 7 + k * 13) % MANY}" for k in range(50))) for n in range(MANY)
    ],
    "dummies in a chain": [
        joined(f"m{n}", *(f"d{n * 20 + k}" for k in range(21))) for n in range(MANY // 10)
    ],
    "one id for all": [joined("m", "x", "m") for _ in range(MANY)],
    "one subject for all": [joined(f"m{n}", subject="S", answers=n % 2 > 0) for n in range(MANY)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_references_cost_linear_time(name: str) -> None:
    messages = HOSTILE[name]
    started = time.process_time()
    text = told(by_references(messages), len(messages))
    assert time.process_time() - started < 3
    numbers = text.replace("(", " ").replace(")", " ").split()
    assert sorted(map(int, numbers)) == list(range(1, len(messages) + 1))


# --- over sockets ---------------------------------------------------------------------------------


def mail(name: str, subject: str, day: int, about: str = "") -> bytes:
    return (
        f"From: z@a.example\r\nMessage-ID: <{name}@x>\r\nSubject: {subject}\r\n{about}"
        f"Date: {day} Jan 2026 00:00:00 +0000\r\n\r\nbody\r\n"
    ).encode()


async def fill(room: Room) -> None:
    await room.deliver(
        mail("1", "Lunch", 3),
        mail("2", "Re: Lunch", 4, "References: <1@x>\r\n"),
        mail("3", "Supper", 5, "In-Reply-To: <1@x> from Zoe <no@x>\r\n"),
        mail("4", "Other", 1, "References: nothing here\r\nIn-Reply-To: <2@x>\r\n"),
        mail("5", "fwd: tea", 2),
        mail("6", "Tea", 9),
        mail("7", "again", 8, "References: <1@x>\r\n\t<2@x> <4@x>\r\n"),
    )


async def test_both_algorithms(room_both: Room) -> None:
    await fill(room_both)
    client = await room_both.client()
    for _ in range(2):  # from the store, then from what is kept
        reply = await client.command("THREAD REFERENCES UTF-8 ALL")
        assert [each.data for each in reply["THREAD"]] == [((1, (2, 4, 7), (3,)), (6, 5))]
        reply = await client.command("THREAD ORDEREDSUBJECT US-ASCII ALL")
        data: tuple[Value, ...] = ((4,), (5, 6), (1, 2), (3,), (7,))
        assert [each.data for each in reply["THREAD"]] == [data]


async def test_refs(room: Room) -> None:
    await fill(room)
    client = await room.client()
    reply = await client.command("THREAD REFS UTF-8 ALL")
    assert reply["THREAD"][0].data == ((5,), (1, (2, 4, 7), (3,)), (6,))
    assert b"THREAD=REFS" in (await client.command("CAPABILITY"))["CAPABILITY"][0].data


async def test_only_what_matches_is_threaded(room: Room) -> None:
    await fill(room)
    await room.remove([1])
    client = await room.client()
    reply = await client.command("UID THREAD REFERENCES UTF-8 UID 2:4")
    assert reply["THREAD"][0].data == (((2, 4), (3,)),)
    reply = await client.command("THREAD REFERENCES UTF-8 1:2")
    assert reply["THREAD"][0].data == (((1,), (2,)),)
    reply = await client.command("THREAD REFERENCES UTF-8 ANSWERED")
    assert reply.ok
    assert reply["THREAD"][0].data == ()


async def test_ids_that_differ_only_in_quoting_are_one(room: Room) -> None:
    """RFC 5256 §3, REFERENCES."""
    await room.deliver(
        b'Message-ID: <"01KF8JCEOCBS0045PS"@xxx.yyy.example>\r\n\r\n',
        b"Message-ID: <2@a>\r\nReferences: <01KF8JCEOCBS0045PS@xxx.yyy.example>\r\n\r\n",
        b'Message-ID: <3@a>\r\nIn-Reply-To: <"01KF8\\JCEOCBS0045PS"@xxx.yyy.example>\r\n\r\n',
        b'Message-ID: <4@a>\r\nReferences: <"01KF8JCEOCBS0045PS@xxx.yyy.example>\r\n\r\n',
    )
    client = await room.client()
    reply = await client.command("THREAD REFERENCES UTF-8 ALL")
    (told,) = reply["THREAD"]
    assert told.data[0] == (1, (2,), (3,))


async def test_a_message_without_a_date_goes_by_its_arrival(room: Room) -> None:
    raw = b"Subject: undated\r\n\r\nbody\r\n"
    await room.deliver(mail("1", "one", 5))
    await room.deliver(raw, at=Instant(1_767_312_000_000))  # 2 January
    client = await room.client()
    reply = await client.command("THREAD ORDEREDSUBJECT UTF-8 ALL")
    assert reply["THREAD"][0].data == ((2,), (1,))


@pytest.mark.parametrize(
    "text",
    [
        "THREAD",
        "THREAD UTF-8 ALL",
        "THREAD NEWEST UTF-8 ALL",
        "THREAD REFERENCES UTF-8",
        "THREAD REFERENCES ALL",
        "THREAD REFERENCES UTF-8 NONSENSE",
    ],
)
async def test_what_is_wrong_is_refused(room: Room, text: str) -> None:
    client = await room.client()
    reply = await client.command(text)
    assert reply.kind in ("BAD", "NO"), reply
    assert not reply["THREAD"]


async def test_many_messages_are_threaded_in_a_thread(room: Room) -> None:
    chance = random.Random(7)
    raws = [
        mail(str(n), f"s{n}", 1 + n % 28, f"References: <{chance.randrange(n)}@x>\r\n" if n else "")
        for n in range(300)
    ]
    await room.deliver(*raws)
    client = await room.client()
    reply = await client.command("THREAD REFERENCES UTF-8 ALL")
    (each,) = reply["THREAD"]
    numbers = str(each.data).replace("(", " ").replace(")", " ").replace(",", " ").split()
    assert sorted(map(int, numbers)) == list(range(1, 301))
    assert len(each.data) == 1
