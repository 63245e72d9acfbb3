"""The ledger: what it takes for kept, and every way of breaking a promise that it finds."""

from __future__ import annotations

import hashlib

import pytest

from postroom.testing.promises import (
    INBOX,
    Answered,
    Asked,
    Box,
    Boxes,
    Denied,
    Done,
    Event,
    Found,
    Ledger,
    Numbered,
    Offered,
    Told,
    packed,
    unpacked,
)

ANN, BOB = "ann@example.test", "bob@example.test"
CONTENT = b"Message-ID: <1@x.example>\r\nSubject: Hello\r\n\r\nGood morning.\r\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def offered(mail: str = "1@x.example", *accounts: str) -> Offered:
    return Offered(mail, SHA256, len(CONTENT), accounts or (ANN,))


def taken(mail: str = "1@x.example", *accounts: str) -> list[Event]:
    return [offered(mail, *accounts), Answered(mail, taken=True)]


def inbox(*mails: str, uidnext: int | None = None, first: int = 1) -> Boxes:
    messages = {uid: Found(mail) for uid, mail in enumerate(mails, first)}
    return {INBOX: Box(7, uidnext or first + len(mails), messages)}


def with_flags(*flags: str) -> Boxes:
    return {INBOX: Box(7, 2, {1: Found("1@x.example", frozenset(flags))})}


# --- mail -----------------------------------------------------------------------------------------


def test_a_taken_message_is_there_once() -> None:
    assert Ledger(taken()).broken({ANN: inbox("1@x.example")}) == []


def test_a_taken_message_that_is_not_there_is_lost() -> None:
    (problem,) = Ledger(taken()).broken({ANN: inbox()})
    assert "promised and is lost" in problem


def test_a_message_that_is_there_twice_is_told() -> None:
    (problem,) = Ledger(taken()).broken({ANN: inbox("1@x.example", "1@x.example")})
    assert "once too often" in problem


def test_a_message_with_other_octets_is_told() -> None:
    ledger = Ledger(taken())
    found = ledger.recognise(b"Received: x\r\n" + CONTENT.replace(b"Good", b"Bad."))
    (problem,) = ledger.broken({ANN: {INBOX: Box(7, 2, {1: found})}})
    assert "not those that were sent" in problem


def test_a_message_is_recognised_below_its_trace_fields() -> None:
    ledger = Ledger(taken())
    assert ledger.recognise(b"Received: x\r\n" + CONTENT) == Found("1@x.example")
    assert ledger.recognise(b"Subject: x\r\n\r\n").wrong
    assert ledger.recognise(CONTENT.replace(b"<1@", b"<2@")).wrong == "nobody sent it"


@pytest.mark.parametrize("there", [inbox(), inbox("1@x.example")])
def test_a_message_without_an_answer_may_be_there_or_not(there: Boxes) -> None:
    assert Ledger([offered()]).broken({ANN: there}) == []


def test_a_message_without_an_answer_reaches_all_or_none() -> None:
    ledger = Ledger([offered("1@x.example", ANN, BOB)])
    assert ledger.broken({ANN: inbox(), BOB: inbox()}) == []
    assert ledger.broken({ANN: inbox("1@x.example"), BOB: inbox("1@x.example")}) == []
    (problem,) = ledger.broken({ANN: inbox("1@x.example"), BOB: inbox()})
    assert "1 of 2 recipients" in problem


def test_a_refused_message_is_nowhere() -> None:
    ledger = Ledger([offered(), Answered("1@x.example", taken=False)])
    assert ledger.broken({ANN: inbox()}) == []
    assert ledger.broken({ANN: inbox("1@x.example")})


def test_a_refused_message_that_a_client_saw_is_told() -> None:
    seen = Told(ANN, INBOX, 1, "1@x.example")
    ledger = Ledger([offered(), seen, Answered("1@x.example", taken=False)])
    assert any("was refused" in p for p in ledger.broken({ANN: inbox("1@x.example")}))


def test_what_was_settled_by_a_look_does_not_come_later() -> None:
    ledger = Ledger([offered()])
    ledger.adopt({ANN: inbox()})
    assert ledger.broken({ANN: inbox("1@x.example")})


def test_what_was_found_is_promised_from_then_on() -> None:
    ledger = Ledger([offered()])
    ledger.adopt({ANN: inbox("1@x.example")})
    assert ledger.broken({ANN: inbox("1@x.example")}) == []
    assert ledger.broken({ANN: inbox(uidnext=2)})


# --- numbers --------------------------------------------------------------------------------------


def test_a_uid_never_means_another_message() -> None:
    ledger = Ledger([*taken(), *taken("2@x.example"), Told(ANN, INBOX, 1, "1@x.example")])
    problems = ledger.broken({ANN: inbox("2@x.example", "1@x.example")})
    assert any("became" in problem for problem in problems)


def test_a_client_that_sees_a_uid_change_is_told() -> None:
    events = [*taken(), Told(ANN, INBOX, 1, "1@x.example"), Told(ANN, INBOX, 1, "2@x.example")]
    assert Ledger(events).broken({ANN: inbox("2@x.example")})


@pytest.mark.parametrize(
    ("uidvalidity", "uidnext", "what"), [(8, 5, "UIDVALIDITY"), (7, 4, "went back")]
)
def test_numbers_stay(uidvalidity: int, uidnext: int, what: str) -> None:
    ledger = Ledger([Numbered(ANN, INBOX, 7, 5)])
    (problem,) = ledger.broken({ANN: {INBOX: Box(uidvalidity, uidnext, {})}})
    assert what in problem


def test_a_new_message_comes_above_uidnext() -> None:
    ledger = Ledger([Numbered(ANN, INBOX, 7, 5), *taken()])
    assert ledger.broken({ANN: inbox("1@x.example", first=5)}) == []
    assert ledger.broken({ANN: inbox("1@x.example", first=3, uidnext=6)})


def test_a_mailbox_that_is_gone_is_told() -> None:
    (problem,) = Ledger([Numbered(ANN, "Sent", 7, 1)]).broken({ANN: inbox()})
    assert "the mailbox is gone" in problem


# --- changes --------------------------------------------------------------------------------------

KNOWN: list[Event] = [*taken(), Told(ANN, INBOX, 1, "1@x.example")]
FLAG = Asked(ANN, "store", INBOX, (1,), add=("\\Seen",))


def test_a_done_change_holds() -> None:
    ledger = Ledger([*KNOWN, FLAG, Done(ANN)])
    assert ledger.broken({ANN: with_flags("\\Seen")}) == []
    assert ledger.broken({ANN: with_flags()})


def test_a_denied_change_did_not_happen() -> None:
    ledger = Ledger([*KNOWN, FLAG, Denied(ANN)])
    assert ledger.broken({ANN: with_flags()}) == []
    assert ledger.broken({ANN: with_flags("\\Seen")})


@pytest.mark.parametrize("there", [with_flags(), with_flags("\\Seen")])
def test_a_change_without_an_answer_may_hold_or_not(there: Boxes) -> None:
    assert Ledger([*KNOWN, FLAG]).broken({ANN: there}) == []


def test_a_change_of_several_holds_wholly_or_not_at_all() -> None:
    events = [*KNOWN, *taken("2@x.example"), Told(ANN, INBOX, 2, "2@x.example")]
    ledger = Ledger([*events, Asked(ANN, "store", INBOX, (1, 2), add=("\\Seen",))])
    half = inbox("1@x.example", "2@x.example")
    half[INBOX].messages[1] = Found("1@x.example", frozenset({"\\Seen"}))
    assert ledger.broken({ANN: half})


def test_what_was_expunged_stays_away() -> None:
    ledger = Ledger([*KNOWN, Asked(ANN, "expunge", INBOX, (1,)), Done(ANN)])
    assert ledger.broken({ANN: inbox(uidnext=2)}) == []
    assert ledger.broken({ANN: inbox("1@x.example")})


def test_a_copy_lies_where_it_was_said() -> None:
    ledger = Ledger([*KNOWN, Asked(ANN, "copy", INBOX, (1,), target="Archive"), Done(ANN, (9,))])
    both = inbox("1@x.example") | {"Archive": Box(8, 10, {9: Found("1@x.example")})}
    assert ledger.broken({ANN: both}) == []
    both["Archive"] = Box(8, 11, {10: Found("1@x.example")})
    assert ledger.broken({ANN: both})


def test_a_copy_without_an_answer_may_lie_there() -> None:
    ledger = Ledger([*KNOWN, Asked(ANN, "copy", INBOX, (1,), target="Archive")])
    both = inbox("1@x.example") | {"Archive": Box(8, 2, {1: Found("1@x.example")})}
    assert ledger.broken({ANN: both}) == []
    assert ledger.broken({ANN: inbox("1@x.example") | {"Archive": Box(8, 1, {})}}) == []


def test_an_appended_message_is_there_with_its_flags() -> None:
    asked = Asked(
        ANN, "append", "Sent", add=("\\Seen",), mail="1@x.example", sha256=SHA256, size=len(CONTENT)
    )
    ledger = Ledger([asked, Done(ANN, (4,))])
    seen = frozenset({"\\Seen"})
    assert ledger.recognise(CONTENT) == Found("1@x.example")
    boxes = inbox() | {"Sent": Box(9, 5, {4: Found("1@x.example", seen)})}
    assert ledger.broken({ANN: boxes}) == []
    assert ledger.broken({ANN: inbox() | {"Sent": Box(9, 5, {})}})


# --- marks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        offered("1@x.example", ANN, BOB),
        Answered("1@x.example", taken=True),
        Told(ANN, INBOX, 3, "1@x.example", ("\\Seen",)),
        Numbered(ANN, INBOX, 7, 5),
        FLAG,
        Done(ANN, (1, 2)),
        Denied(ANN),
    ],
)
def test_an_event_survives_a_recorders_log(event: Event) -> None:
    assert unpacked(*packed(event)) == event
