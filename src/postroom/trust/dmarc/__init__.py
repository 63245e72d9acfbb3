"""DMARC: whether the author's domain stands behind a message, and what it wants if not. RFC 9989.

`authors` reads the From fields, `evaluate` checks each domain of them against what SPF and DKIM
found, `strictest` picks the check that decides, `dispose` says what is done. DNS is asked by
`Lookups`, never by sockets. `report` writes what is told to those who asked for it (RFC 9990).
`reading` reads what others tell of our domains, once `unpacking` opened it.
"""

from __future__ import annotations

from postroom.trust.dmarc.author import Authors
from postroom.trust.dmarc.author import read as authors
from postroom.trust.dmarc.author import read_of as authors_of
from postroom.trust.dmarc.discover import MOST_QUERIES, Policy, Walks, targets
from postroom.trust.dmarc.disposition import Disposition, Wanted, dispose
from postroom.trust.dmarc.evaluate import DEADLINE, evaluate, evaluate_by, strictest
from postroom.trust.dmarc.record import Record, mailbox, select
from postroom.trust.dmarc.result import UNCHECKED, DmarcCode, DmarcResult, Identifier, Request

__all__ = [
    "DEADLINE",
    "MOST_QUERIES",
    "UNCHECKED",
    "Authors",
    "Disposition",
    "DmarcCode",
    "DmarcResult",
    "Identifier",
    "Policy",
    "Record",
    "Request",
    "Walks",
    "Wanted",
    "authors",
    "authors_of",
    "dispose",
    "evaluate",
    "evaluate_by",
    "mailbox",
    "select",
    "strictest",
    "targets",
]
