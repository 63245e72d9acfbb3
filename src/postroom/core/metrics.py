"""What a process counts of itself: counters, gauges and histograms, declared once.

    REFUSED = counter("auth.refused", "sign-ins", "Refused sign-ins by reason", label="reason")
    REFUSED.add(label="throttled")

Names are dotted, and the unit stands beside the name, not in it. Values are of this process
since its start. Count on the loop: nothing here takes a lock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

MOST_LABELS: Final = 200
"""Values of a label; further ones are counted together, for a peer may have made them."""
OTHER: Final = "other"

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of a histogram of times."""


class Metric:
    """One declared metric."""

    kind: ClassVar[str]
    __slots__ = ("help", "label", "name", "unit")

    def __init__(self, name: str, unit: str, text: str, label: str) -> None:
        self.name = name
        self.unit = unit
        self.help = text
        self.label = label  # what its values are told apart by; empty: there is one value

    def values(self) -> dict[str, Any]:
        """JSON-ready values by label; under "" where there is no label."""
        raise NotImplementedError


METRICS: Final[dict[str, Metric]] = {}
"""Every declared metric by name."""

M = TypeVar("M", bound=Metric)


def _declare(metric: M) -> M:
    if metric.name in METRICS:
        raise ValueError(f"metric {metric.name} is declared twice")
    METRICS[metric.name] = metric
    return metric


class Counter(Metric):
    """Only rises."""

    kind = "counter"
    __slots__ = ("_held",)

    def __init__(self, name: str, unit: str, text: str, label: str) -> None:
        super().__init__(name, unit, text, label)
        self._held: dict[str, int] = {}

    def add(self, number: int = 1, label: str = "") -> None:
        held = self._held
        if label not in held and len(held) >= MOST_LABELS:
            label = OTHER
        held[label] = held.get(label, 0) + number

    def values(self) -> dict[str, Any]:
        return dict(self._held)


class Gauge(Metric):
    """Rises and falls; read from its source when somebody asks."""

    kind = "gauge"
    __slots__ = ("_read",)

    def __init__(self, name: str, unit: str, text: str) -> None:
        super().__init__(name, unit, text, "")
        self._read: Callable[[], float] | None = None

    def read_from(self, read: Callable[[], float]) -> None:
        """Where the value is to be read; a later source replaces an earlier one."""
        self._read = read

    def values(self) -> dict[str, Any]:
        return {} if self._read is None else {"": self._read()}


class Histogram(Metric):
    """How often a value fell below each bound, and their sum."""

    kind = "histogram"
    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, name: str, unit: str, text: str, bounds: Sequence[float]) -> None:
        super().__init__(name, unit, text, "")
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def values(self) -> dict[str, Any]:
        if not any(self._counts):
            return {}
        buckets: dict[str, int] = {}
        below = 0
        for bound, count in zip(self._bounds, self._counts, strict=False):
            below += count
            buckets[f"{bound:g}"] = below
        total = below + self._counts[-1]
        return {"": {"count": total, "sum": round(self._sum, 6), "at_most": buckets}}


def counter(name: str, unit: str, text: str, *, label: str = "") -> Counter:
    """Declare a counter."""
    return _declare(Counter(name, unit, text, label))


def gauge(name: str, unit: str, text: str) -> Gauge:
    """Declare a gauge."""
    return _declare(Gauge(name, unit, text))


def histogram(name: str, unit: str, text: str, *, bounds: Sequence[float] = SECONDS) -> Histogram:
    """Declare a histogram; `bounds` are the upper ends of its buckets, ascending."""
    if list(bounds) != sorted(set(bounds)):
        raise ValueError(f"the bounds of {name} do not ascend")
    return _declare(Histogram(name, unit, text, bounds))


def snapshot() -> dict[str, dict[str, Any]]:
    """Every metric that has a value: kind, unit, help, label, values."""
    told: dict[str, dict[str, Any]] = {}
    for name, metric in sorted(METRICS.items()):
        values = metric.values()
        if values:
            told[name] = {
                "kind": metric.kind,
                "unit": metric.unit,
                "help": metric.help,
                "label": metric.label,
                "values": values,
            }
    return told


def merged(of: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The snapshots of workers as one: counters and histograms added up, a gauge by worker."""
    told: dict[str, dict[str, Any]] = {}
    for worker, snapped in sorted(of.items()):
        for name, metric in snapped.items():
            if metric["kind"] == Gauge.kind:
                into = told.setdefault(name, {**metric, "label": "worker", "values": {}})
                into["values"][str(worker)] = metric["values"][""]
                continue
            into = told.setdefault(name, {**metric, "values": {}})
            for label, value in metric["values"].items():
                before = into["values"].get(label)
                into["values"][label] = value if before is None else _sum(before, value)
    return dict(sorted(told.items()))


def _sum(left: Any, right: Any) -> Any:
    """Two values of a counter, or of a histogram with the same bounds."""
    if not isinstance(left, Mapping):
        return left + right
    buckets = {
        bound: left["at_most"].get(bound, 0) + right["at_most"].get(bound, 0)
        for bound in {**left["at_most"], **right["at_most"]}
    }
    return {
        "count": left["count"] + right["count"],
        "sum": round(left["sum"] + right["sum"], 6),
        "at_most": buckets,
    }
