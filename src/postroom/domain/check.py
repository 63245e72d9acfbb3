"""`postroom check`: verifies every hash, counter and reference, and rebuilds what is derived.

It reads in pages, beside a running server; a finding is looked at twice, so that a unit in
between is no finding. What is derived (counters, parses) can be put right; what is not
(content, references) is reported and left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import MailError
from postroom.core.ids import ACCOUNT, BLOB, MAILBOX, MESSAGE, external
from postroom.domain.mailboxes import messages, tables
from postroom.formats.parsed import MAKER_VERSION, parse
from postroom.store import tables as store_tables
from postroom.store.blobs import Blobs, Facts, Place
from postroom.store.sql import Row, Tx
from postroom.store.units import Database

PAGE: Final = 500
WORST: Final = 1_000
"""Findings that are listed; beyond them only the count grows."""


@dataclass(slots=True)
class Report:
    """What was looked at, what is wrong, and what was put right."""

    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    found: int = 0

    @property
    def clean(self) -> bool:
        return self.found == 0

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def problem(self, text: str) -> None:
        self.found += 1
        if len(self.problems) < WORST:
            self.problems.append(text)


async def check(mail: Database, blobs: Blobs, *, repair: bool) -> Report:
    """Look at everything once; with `repair`, put right what is derived."""
    report = Report()
    await _engine(mail, report)
    await _pages(mail, lambda tx, after: _blobs(tx, blobs, after, report))
    await _messages(mail, blobs, report, repair=repair)
    await _mailboxes(mail, report, repair=repair)
    await _accounts(mail, report, repair=repair)
    for account, kind in await mail.read(lambda tx: tx.all(tables.LATE_TYPES)):
        report.problem(f"account {external(ACCOUNT, account)}: type {kind} is ahead of its log")
    return report


async def _engine(mail: Database, report: Report) -> None:
    for line in await mail.damage():
        report.problem(f"the engine says: {line}")


async def _pages(mail: Database, look: Callable[[Tx, int], int | None]) -> None:
    after: int | None = 0
    while after is not None:
        at = after
        after = await mail.read_much(lambda tx, at=at: look(tx, at))  # type: ignore[misc]  # bound


# --- content ------------------------------------------------------------------------------------


def _blobs(tx: Tx, blobs: Blobs, after: int, report: Report) -> int | None:
    rows = tx.all(store_tables.BLOBS_AFTER, after=after, limit=PAGE)
    for blob, sha256, size, stored, place, table, _ in rows:
        known = Facts(blob, sha256, size, stored, Place(place), table)
        report.count("blobs")
        report.count("octets", size)
        try:
            if blobs.hashed(tx, known) != sha256:
                report.problem(f"blob {external(BLOB, blob)}: the content has another hash")
        except MailError as error:
            report.problem(f"blob {external(BLOB, blob)}: {error.detail or error}")
    return rows[-1][0] if rows else None


async def _messages(mail: Database, blobs: Blobs, report: Report, *, repair: bool) -> None:
    after = 0
    while True:
        rows = await mail.read_much(_message_page, after)
        if not rows:
            return
        after = rows[-1][0]
        ids = [row[0] for row in rows]
        report.count("messages", len(rows))
        for message, _, blob, size, version, _ in rows:
            name = external(MESSAGE, message)
            if size is None:
                report.problem(f"message {name}: its content is gone")
            elif version is None or version < MAKER_VERSION:
                await _parse_again(mail, blobs, report, blob, name, repair=repair)
        for finding in await mail.read_much(_odd, ids):
            report.problem(finding)


def _message_page(tx: Tx, after: int) -> list[Row]:
    return tx.all(tables.MESSAGES_AFTER, after=after, limit=PAGE)


def _odd(tx: Tx, ids: list[int]) -> list[str]:
    odd = [
        f"placement {external(MAILBOX, box)} {uid}: does not fit its message or mailbox"
        for box, uid, _ in tx.all(tables.ODD_PLACEMENTS, ids=ids)
    ]
    odd += [
        f"placement {external(MAILBOX, box)} {uid}: its size is not its content's"
        for box, uid in tx.all(tables.ODD_SIZES, ids=ids)
    ]
    odd += [
        f"message {external(MESSAGE, message)}: lies nowhere and cannot be brought back"
        for (message,) in tx.all(tables.UNPLACED, ids=ids)
    ]
    return odd


async def _parse_again(
    mail: Database, blobs: Blobs, report: Report, blob: int, name: str, *, repair: bool
) -> None:
    if not repair:
        report.problem(f"message {name}: its parse is missing or old")
        return
    raw = await mail.read_much(lambda tx: blobs.read(tx, blob))
    await mail.write_later(messages.store_parsed, blob, parse(raw))
    report.repaired.append(f"message {name}: parsed again")


# --- counters -------------------------------------------------------------------------------------


async def _mailboxes(mail: Database, report: Report, *, repair: bool) -> None:
    after = 0
    while rows := await mail.read_much(_mailbox_page, after):
        after = rows[-1][0]
        for row in rows:
            report.count("mailboxes")
            finding = await mail.read_much(_mailbox, row[0])
            if finding is None:
                continue
            if not repair:
                report.problem(finding)
            elif await mail.write_later(_correct_mailbox, row[0]):
                report.repaired.append(finding)


def _mailbox_page(tx: Tx, after: int) -> list[Row]:
    return tx.all(tables.MAILBOXES_AFTER, after=after, limit=PAGE)


def _mailbox(tx: Tx, box: int) -> str | None:
    """What is wrong with a mailbox's counters, within one snapshot."""
    row = tx.one(tables.MAILBOXES_AFTER, after=box - 1, limit=1)
    truth = tx.one(tables.MAILBOX_TRUTH, mailbox=box)
    if row is None or row[0] != box or truth is None:
        return None
    _, _, uidnext, modseq, total, unseen, deleted, size = row
    name = f"mailbox {external(MAILBOX, box)}"
    counted = tuple(map(int, truth[:4]))
    if (total, unseen, deleted, size) != counted:
        return f"{name}: says {(total, unseen, deleted, size)}, holds {counted}"
    if uidnext <= truth[4]:
        return f"{name}: UIDNEXT {uidnext} is not above UID {truth[4]}"
    if modseq < truth[5]:
        return f"{name}: modseq {modseq} is below a message's {truth[5]}"
    return None


def _correct_mailbox(tx: Tx, box: int) -> bool:
    if _mailbox(tx, box) is None:
        return False
    truth = tx.one(tables.MAILBOX_TRUTH, mailbox=box)
    assert truth is not None  # an aggregate always answers
    total, unseen, deleted, size, last, _ = map(int, truth)
    tx.run(
        tables.CORRECT_MAILBOX,
        id=box,
        total=total,
        unseen=unseen,
        deleted=deleted,
        size=size,
        last=last,
    )
    return True


async def _accounts(mail: Database, report: Report, *, repair: bool) -> None:
    after = 0
    while rows := await mail.read_much(_account_page, after):
        after = rows[-1][0]
        for row in rows:
            report.count("accounts")
            finding = await mail.read_much(_account, row[0])
            if finding is None:
                continue
            if not repair:
                report.problem(finding)
            elif await mail.write_later(_correct_account, row[0]):
                report.repaired.append(finding)


def _account_page(tx: Tx, after: int) -> list[Row]:
    return tx.all(tables.ACCOUNTS_AFTER, after=after, limit=PAGE)


def _account(tx: Tx, account: int) -> str | None:
    row = tx.one(tables.ACCOUNTS_AFTER, after=account - 1, limit=1)
    truth = tx.one(tables.ACCOUNT_TRUTH, account=account)
    if row is None or row[0] != account or truth is None:
        return None
    _, modseq, octets, count = row
    name = f"account {external(ACCOUNT, account)}"
    counted = (int(truth[0]), int(truth[1]))
    if (octets, count) != counted:
        return f"{name}: says {(octets, count)} octets and messages, holds {counted}"
    if modseq < truth[2]:
        return f"{name}: modseq {modseq} is below a mailbox's {truth[2]}"
    return None


def _correct_account(tx: Tx, account: int) -> bool:
    if _account(tx, account) is None:
        return False
    truth = tx.one(tables.ACCOUNT_TRUTH, account=account)
    assert truth is not None  # an aggregate always answers
    octets, count, modseq = map(int, truth)
    tx.run(tables.CORRECT_ACCOUNT, id=account, octets=octets, messages=count, modseq=modseq)
    return True
