"""What others tell of mail in our domains' names: counted once, and only if it is ours."""

from __future__ import annotations

from dataclasses import replace

from postroom.core.clock import Instant
from postroom.domain import reported
from postroom.domain.reported import (
    A_WEEK,
    AGGREGATE,
    DAY,
    FILED,
    FOREIGN,
    SOURCES,
    UNREADABLE,
    WAITING,
    Brought,
    Report,
    Source,
    Waiting,
)
from postroom.store import blobs
from postroom.store.sql import Tx, sql
from tests.domain.making import NOW, Direct, Town

TODAY = reported.day_of(NOW)
WEEK = reported.week_of(TODAY)
GOOD = Source("192.0.2.1", "pass", "pass", "pass", 10)
BAD = Source("203.0.113.7", "reject", "fail", "fail", 3)
HELD = sql("SELECT id FROM report_mail WHERE blob IS NOT NULL")
REPORT = Report(
    1, "a.test", AGGREGATE, "Far", "r1", Instant(NOW - DAY), NOW, (GOOD, BAD), {"errors": []}
)


def bring(town: Town, source: str = "192.0.2.9") -> Waiting:
    """A message that brings a report, accepted."""
    blob, _ = town.new(b"Subject: a report\r\n\r\n")
    brought = Brought(next(town.ids), 0, source, "d@a.test", "far.test")

    def unit(tx: Tx) -> None:
        blobs.insert(tx, blob, NOW)
        reported.accept(tx, brought, next(town.ids), blob.id, blob.size, NOW)

    town.store.write(unit)
    (waiting,) = [each for each in town.store.read(reported.unfiled, 100) if each.id == brought.id]
    assert waiting.state == WAITING
    return Waiting(brought.id, waiting.trace, NOW, "d@a.test", "far.test", blob.id, 0)


def file(town: Town, *reports: Report, why: str = "", voucher: str = "far.test") -> str:
    return town.store.write(reported.file, bring(town), voucher, reports, why, NOW)


def counted(store: Direct, domain: str = "a.test") -> dict[str, tuple[int, int]]:
    found = store.read(reported.summary, domain, WEEK - 1, 100)
    return {each.ip: (each.messages, each.aligned) for each in found.sources}


def test_a_report_is_counted_by_source(town: Town) -> None:
    assert file(town, REPORT) == FILED
    found = town.store.read(reported.summary, "a.test", WEEK - 1, 100)
    assert (found.messages, found.aligned, found.addresses, found.reporters) == (13, 10, 2, 1)
    assert found.dispositions == {"pass": 10, "reject": 3}
    assert found.kinds == {AGGREGATE: (1, 0)}
    assert counted(town.store) == {"192.0.2.1": (10, 10), "203.0.113.7": (3, 0)}
    (listed,) = town.store.read(reported.latest, "a.test", 10)
    assert (listed.messages, listed.aligned, listed.voucher) == (13, 10, "far.test")
    assert town.store.read(reported.one, 1) == listed
    assert not town.store.read(reported.latest, "b.test", 10)


def test_what_is_filed_twice_is_counted_once(town: Town) -> None:
    mail = bring(town)
    assert town.store.write(reported.file, mail, "far.test", [REPORT], "", NOW) == FILED
    assert town.store.write(reported.file, mail, "far.test", [REPORT], "", NOW) == ""
    assert file(town, replace(REPORT, id=2)) == FILED  # brought once more
    assert counted(town.store)["192.0.2.1"] == (10, 10)
    assert file(town, replace(REPORT, id=3, report_id="r2")) == FILED
    assert counted(town.store)["192.0.2.1"] == (20, 20)


def test_a_report_on_a_domain_that_is_not_ours_is_not_kept(town: Town) -> None:
    assert file(town, replace(REPORT, domain="b.test")) == FOREIGN
    assert not counted(town.store, "b.test")
    assert not town.store.read(reported.latest, "", 10)
    (kept,) = town.store.read(reported.unfiled, 10)
    assert (kept.state, kept.why) == (FOREIGN, "b.test is no domain of this server")


def test_nobody_can_come_before_a_reporter_with_his_words(town: Town) -> None:
    assert file(town, replace(REPORT, sources=(replace(BAD, messages=999),)), voucher="") == FILED
    assert not counted(town.store)  # nobody stands behind it
    assert file(town, replace(REPORT, id=2)) == FILED
    assert counted(town.store)["203.0.113.7"] == (3, 0)
    assert town.store.read(reported.summary, "a.test", WEEK - 1, 9).kinds == {AGGREGATE: (2, 1)}


def test_content_is_kept_only_while_it_is_needed(town: Town) -> None:
    assert file(town, REPORT) == FILED
    assert file(town, why="a packed report that is damaged") == UNREADABLE
    (kept,) = town.store.read(reported.unfiled, 10)
    assert kept.why == "a packed report that is damaged"

    held = town.store.read(lambda tx: [row[0] for row in tx.all(HELD)])
    assert held == [kept.id]


def test_sources_past_a_bound_are_counted_together(town: Town) -> None:
    many = tuple(
        Source(f"10.0.{n >> 8}.{n & 255}", "none", "fail", "fail", 1 + n)
        for n in range(SOURCES + 5)
    )
    assert file(town, replace(REPORT, sources=many)) == FILED
    found = town.store.read(reported.summary, "a.test", WEEK - 1, A_WEEK)
    assert found.messages == sum(each.messages for each in many)
    assert found.addresses == SOURCES + 1
    together = [each.messages for each in found.sources if not each.ip]
    assert together == [1 + 2 + 3 + 4 + 5]  # the smallest


def test_what_was_brought_today_is_known_by_source(town: Town) -> None:
    bring(town)
    bring(town)
    bring(town, "198.51.100.1")
    assert town.store.read(reported.brought_today, "192.0.2.9", NOW)[:2] == (2, 3)
    tomorrow = Instant(NOW + DAY)
    assert town.store.read(reported.brought_today, "192.0.2.9", tomorrow) == (0, 0, 0)


def test_old_reports_counts_and_messages_are_forgotten(town: Town) -> None:
    file(town, REPORT)
    file(town, why="no report")
    later = Instant(NOW + 8 * 7 * DAY)
    assert town.store.write(reported.forget, NOW) == 0
    assert town.store.write(reported.forget, later) == 3
    assert not town.store.read(reported.latest, "", 10)
    assert not counted(town.store)
    assert town.store.write(reported.forget_mail, UNREADABLE, NOW) == 0
    assert town.store.write(reported.forget_mail, UNREADABLE, later) == 1
    assert town.store.write(reported.forget_mail, FILED, later) == 1
    assert not town.store.read(reported.unfiled, 10)
