"""What is wrong in DNS, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"  # mail is lost, refused or distrusted now
    WARNING = "warning"  # some receivers, or some day
    ADVICE = "advice"  # it works, and could be better


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause. The sentence says what is wrong and what follows from it."""

    code: str  # a fixed word for each class of fault
    severity: Severity
    owner: str  # the name in DNS
    kind: str  # the type of record
    sentence: str
    remedy: str = ""


def error(code: str, owner: str, kind: str, sentence: str, remedy: str = "") -> Finding:
    return Finding(code, Severity.ERROR, owner, kind, sentence, remedy)


def warning(code: str, owner: str, kind: str, sentence: str, remedy: str = "") -> Finding:
    return Finding(code, Severity.WARNING, owner, kind, sentence, remedy)


def advice(code: str, owner: str, kind: str, sentence: str, remedy: str = "") -> Finding:
    return Finding(code, Severity.ADVICE, owner, kind, sentence, remedy)
