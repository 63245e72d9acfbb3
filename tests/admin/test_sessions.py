"""postroom.admin.sessions: all workers are asked, and who may ask for what."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from postroom.admin import Caller, sessions
from postroom.admin.questions import (
    CloseSession,
    Closing,
    FindLines,
    FindSessions,
    LinesFound,
    SessionsFound,
    SessionView,
)
from postroom.core.bus import Answers, Missing, Question
from postroom.core.errors import Malformed, Misuse, NotAllowed, NotFound, Unreachable
from postroom.core.ids import SESSION, external
from postroom.core.settings import Role
from tests.admin.housing import Admin

ONE, TWO = external(SESSION, 1 << 40), external(SESSION, 2 << 40)
KEEPER = Caller(7, Role.DOMAIN_ADMIN, "example.org")


def session(worker: int, id_: str, since: str, who: str = "ann@example.org") -> SessionView:
    return SessionView(
        id_, worker, "imap", "imaps", "192.0.2.1", "", "TLSv1.3 X", who, since, "idle in INBOX", 9
    )


@dataclass
class Workers:
    """What workers answer, and what they were asked."""

    answers: Answers[Any]
    asked: list[Question[Any]] = field(default_factory=list)

    async def ask(self, question: Question[Any], deadline: float = 5) -> Answers[Any]:
        self.asked.append(question)
        return self.answers


def with_workers(admin: Admin, by: dict[int, Any], **missing: Missing) -> Workers:
    gone = {int(name[1:]): why for name, why in missing.items()}
    workers = Workers(Answers(by, gone))
    admin.house = replace(admin.house, ask=workers.ask)
    return workers


async def test_the_sessions_of_all_workers_are_one_list(admin: Admin) -> None:
    workers = with_workers(
        admin,
        {
            0: SessionsFound((session(0, TWO, "2026-01-02"),), 1),
            1: SessionsFound((session(1, ONE, "2026-01-01"),), 7),
        },
        w2=Missing.LATE,
    )
    found = await admin.json(
        "session list", limit=10, ip="192.0.2.77/24", account="Ann@EXAMPLE.org"
    )
    assert [each.id for each in found.sessions] == [ONE, TWO]  # the oldest first
    assert found.more == 6
    assert [(each.worker, each.why) for each in found.missing] == [(2, "it did not answer in time")]
    (asked,) = workers.asked
    assert isinstance(asked, FindSessions)
    assert (asked.network, asked.account, asked.limit) == ("192.0.2.0/24", "Ann@example.org", 10)
    told = found.told_within(0)
    assert "idle in INBOX" in told
    assert "and 6 more" in told
    assert told.endswith("WITHOUT worker 2: it did not answer in time")


async def test_what_cannot_be_is_not_asked(admin: Admin) -> None:
    workers = with_workers(admin, {})
    for wrong in ({"ip": "nowhere"}, {"limit": 0}, {"limit": 10_001}):
        with pytest.raises(Misuse):
            await admin.do("session list", **wrong)
    for lines in (0, 2_001):
        with pytest.raises(Misuse):
            await admin.do("log tail", lines=lines)
    with pytest.raises(Malformed):
        await admin.do("session close", id="all")
    assert workers.asked == []


async def test_without_a_server_there_is_nobody_to_ask(admin: Admin) -> None:
    for name, asked in (("session list", {}), ("session close", {"id": ONE}), ("log tail", {})):
        with pytest.raises(Unreachable, match="not running"):
            await admin.do(name, **asked)


async def test_a_domains_administrator_sees_the_own_domain_alone(admin: Admin) -> None:
    workers = with_workers(admin, {0: SessionsFound((), 0)})
    keeper = admin.by(KEEPER)
    await keeper.do("session list", domain="Example.org")
    (asked,) = workers.asked
    assert isinstance(asked, FindSessions)
    assert asked.domain == "example.org"  # the workers look at it
    for denied in ({}, {"domain": "other.org"}, {"account": "ann@example.org"}):
        with pytest.raises(NotAllowed):
            await keeper.do("session list", **denied)
    with pytest.raises(NotAllowed):
        await keeper.do("session close", id=ONE)
    with pytest.raises(NotAllowed):
        await keeper.do("log tail")
    assert len(workers.asked) == 1
    workers.answers = Answers({0: Closing(True, True)}, {})
    closed = await keeper.do("session close", id=ONE, domain="example.org")
    assert closed.closed
    assert workers.asked[1] == CloseSession(ONE, "example.org")


async def test_a_session_is_closed_where_it_is(admin: Admin) -> None:
    with_workers(admin, {0: Closing(False), 1: Closing(True, True)}, w2=Missing.GONE)
    closed = await admin.json("session close", id=ONE)
    assert (closed.worker, closed.closed) == (1, True)
    with_workers(admin, {0: Closing(True, False)})
    assert "at work" in (await admin.do("session close", id=ONE)).told()


async def test_where_all_answer_a_session_that_none_has_does_not_exist(admin: Admin) -> None:
    with_workers(admin, {0: Closing(False), 1: Closing(False)})
    with pytest.raises(NotFound):
        await admin.do("session close", id=ONE)
    with_workers(admin, {0: Closing(False)}, w1=Missing.GONE)
    with pytest.raises(Unreachable, match="worker 1: it is not there"):
        await admin.do("session close", id=ONE)


def line(time: str, event: str, **more: object) -> str:
    return json.dumps({"time": time, "level": "info", "logger": "x", "event": event, **more})


async def test_the_lines_of_all_workers_are_one_log(admin: Admin) -> None:
    early, late = line("2026-01-01T00:00:01Z", "came"), line("2026-01-01T00:00:03Z", "left", n=1)
    between = line("2026-01-01T00:00:02Z", "signed in", session=ONE, who="Ann Other")
    workers = with_workers(
        admin, {0: LinesFound((early, late)), 1: LinesFound((between,))}, w2=Missing.FAILED
    )
    found = await admin.json("log tail", lines=2, session=ONE, id="r1")
    assert workers.asked == [FindLines(2, ONE, "r1")]
    assert [(each.worker, each.line["event"]) for each in found.lines] == [
        (1, "signed in"),
        (0, "left"),
    ]
    first, second, missing = found.told().splitlines()
    assert first == f'2026-01-01T00:00:02Z info    [1] x: signed in session={ONE} who="Ann Other"'
    assert second.endswith("left n=1")
    assert missing == "WITHOUT worker 2: it failed, and its log says how"


async def test_the_log_is_followed_from_place_to_place(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PATIENCE", 0.0)
    new = LinesFound((line("2026-01-01T00:00:02Z", "left"),), "12.9", lost=3)
    workers = with_workers(admin, {0: new, 1: LinesFound((), "13.4")}, w2=Missing.LATE)
    found = await admin.json("log tail", follow=True, after="0:12.5,2:14.7")
    assert workers.asked == [FindLines(2_000, after={"0": "12.5", "2": "14.7"})]
    assert found.place == "0:12.9,1:13.4,2:14.7", "who did not answer is asked from there again"
    assert found.more_told().splitlines() == [
        "WITHOUT 3 lines of worker 0: read too late",
        "2026-01-01T00:00:02Z info    [0] x: left",
    ]
    workers.answers = Answers({0: LinesFound((), "12.9")}, {})
    found = await admin.json("log tail", follow=True, after="0:12.9")
    assert (found.lines, found.more_told(), found.goes_on()) == ((), "", {"after": "0:12.9"})
    for wrong in ("0", "a:1.1", "0:1.1,", "0:1.1;1:1.1", "0:1." + "1" * 20_000):
        with pytest.raises(Misuse, match="no place"):
            await admin.do("log tail", follow=True, after=wrong)
