"""postroom.core.metrics: declared once, counted, read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from postroom.core import metrics


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    before = dict(metrics.METRICS)
    metrics.METRICS.clear()
    yield
    metrics.METRICS.clear()
    metrics.METRICS.update(before)


def test_what_was_never_counted_is_not_shown() -> None:
    metrics.counter("a", "things", "Things")
    metrics.gauge("b", "things", "Things")
    metrics.histogram("c", "seconds", "Times")
    assert metrics.snapshot() == {}


def test_a_counter_rises_by_label() -> None:
    counted = metrics.counter("door.refused", "peers", "Refused peers", label="reason")
    counted.add(label="full")
    counted.add(2, label="full")
    counted.add(label="late")
    assert metrics.snapshot() == {
        "door.refused": {
            "kind": "counter",
            "unit": "peers",
            "help": "Refused peers",
            "label": "reason",
            "values": {"full": 3, "late": 1},
        }
    }


def test_labels_are_bounded() -> None:
    counted = metrics.counter("x", "peers", "Peers", label="helo")
    for n in range(10_000):
        counted.add(label=f"peer{n}")
    values = counted.values()
    assert len(values) == metrics.MOST_LABELS + 1
    assert sum(values.values()) == 10_000


def test_a_gauge_is_read_when_somebody_asks() -> None:
    queued = metrics.gauge("queue", "messages", "Messages that wait")
    length = [3]
    queued.read_from(lambda: length[0])
    assert queued.values() == {"": 3}
    length.append(1)
    length[0] = 4
    assert queued.values() == {"": 4}


def test_a_histogram_counts_what_lies_below_each_bound() -> None:
    times = metrics.histogram("t", "seconds", "Times", bounds=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.0, 7.0):
        times.observe(value)
    assert times.values() == {
        "": {"count": 5, "sum": 8.65, "at_most": {"0.1": 2, "1": 4}},
    }


def test_mistakes_in_a_declaration_are_found_at_import() -> None:
    metrics.counter("twice", "x", "X")
    with pytest.raises(ValueError, match="twice"):
        metrics.gauge("twice", "x", "X")
    with pytest.raises(ValueError, match="ascend"):
        metrics.histogram("falls", "s", "S", bounds=(1.0, 0.5))


def test_the_snapshots_of_workers_become_one() -> None:
    def snapped(refused: int, queued: float, *times: float) -> dict[str, dict[str, Any]]:
        metrics.METRICS.clear()
        counted = metrics.counter("refused", "peers", "Refused", label="reason")
        counted.add(refused, label="late")
        counted.add(label=f"of {refused}")
        gauge = metrics.gauge("queue", "messages", "Messages that wait")
        gauge.read_from(lambda: queued)
        seconds = metrics.histogram("t", "seconds", "Times", bounds=(0.1, 1.0))
        for each in times:
            seconds.observe(each)
        return metrics.snapshot()

    told = metrics.merged({1: snapped(5, 7.0, 0.5, 7.0), 0: snapped(2, 4.0, 0.05)})
    assert told["refused"]["values"] == {"late": 7, "of 2": 1, "of 5": 1}
    assert (told["queue"]["label"], told["queue"]["values"]) == ("worker", {"0": 4.0, "1": 7.0})
    assert told["t"]["values"] == {
        "": {"count": 3, "sum": 7.55, "at_most": {"0.1": 1, "1": 2}},
    }
    assert metrics.merged({0: snapped(2, 4.0)})["refused"] == snapped(2, 4.0)["refused"]
    assert metrics.merged({}) == {}
