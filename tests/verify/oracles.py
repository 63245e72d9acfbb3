"""SPF, DKIM and DMARC beside pyspf, dkimpy and authheaders: thousands of made-up cases, one answer.

Each case is judged by us and by them. Where the two differ there is a reason, which names the line
of an RFC; one without a reason is a failure. How often each reason was needed is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from tests.trust import oracles
from tests.trust.oracles import Judged
from tools.verification import Form, Report

COUNTS: Final = {Form.SHORT: 400, Form.LONG: 5_000}
COLUMNS: Final = ("check", "cases", "agree", "differ with a reason", "differ without")


class Oracle(NamedTuple):
    """Who is asked, and a case from a source of randomness: what both say."""

    name: str
    ask: Callable[[Random], Judged]


ORACLES: Final = (
    Oracle("SPF, pyspf", oracles.spf),
    Oracle("DKIM, dkimpy", oracles.dkim),
    Oracle("DMARC, authheaders", oracles.dmarc),
)


def run(form: Form) -> Report:
    """Every oracle, from one seed."""
    rows: list[tuple[str, ...]] = []
    failures: list[str] = []
    for oracle in ORACLES:
        reasons: Counter[str] = Counter()
        agree = without = 0
        for number in range(COUNTS[form]):
            found = oracle.ask(Random(f"{oracle.name}:{number}"))
            if found.ours == found.theirs:
                agree += 1
            elif found.reason:
                reasons[found.reason] += 1
            else:
                without += 1
                failures.append(f"{oracle.name}, case {number}: {found}")
        counts = (COUNTS[form], agree, reasons.total(), without)
        rows.append((oracle.name, *(f"{count:,}" for count in counts)))
        rows += [(f"… {reason}", "", "", f"{n:,}", "") for reason, n in reasons.most_common()]
    return Report(COLUMNS, tuple(rows), tuple(failures[:50]))
