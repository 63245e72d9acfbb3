"""`postroom check`: verifies every hash, counter and reference, and rebuilds what is derived.

It reads in pages, beside a running server; a finding is looked at twice, so that a unit in
between is no finding. What is derived (counters, parses) can be put right; what is not
(content, references) is reported and left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import MailError, NotFound
from postroom.core.ids import ACCOUNT, BLOB, MAILBOX, MESSAGE, external
from postroom.domain.mailboxes import messages, rights
from postroom.domain.mailboxes.change import begin_all
from postroom.domain.mailboxes.checking import flags
from postroom.domain.mailboxes.checking import tables as checking
from postroom.domain.mailboxes.marked.blocks import SIZE
from postroom.domain.mailboxes.shares import tables as shares
from postroom.domain.searching import checking as searches
from postroom.domain.searching.indexing import Indexer
from postroom.formats.parsed import MAKER_VERSION, parse
from postroom.store import journal
from postroom.store import tables as store_tables
from postroom.store.blobs import Blobs, Facts, Place
from postroom.store.blobs import facts as blob_facts
from postroom.store.sql import Row, Tx
from postroom.store.units import Database

PAGE: Final = 500
PAGE_OCTETS: Final = 64 * 1024 * 1024
WORST: Final = 1_000
"""Findings that are listed; beyond them only the count grows."""
BLOCKS_NAMED: Final = 5
"""Ranges of UIDs that a finding names."""


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


async def check(
    mail: Database, blobs: Blobs, *, repair: bool, indexer: Indexer | None = None
) -> Report:
    """Look at everything once, and at what `indexer` keeps; with `repair`, put right what is
    derived."""
    report = Report()
    for line in await mail.damage():
        report.problem(f"the engine says: {line}")
    await _blobs(mail, blobs, report)
    await _messages(mail, blobs, report, repair=repair)
    await _mailboxes(mail, report, repair=repair)
    await _accounts(mail, report, repair=repair)
    if indexer is not None:
        async for finding, repaired in searches.look(indexer, repair=repair):
            if repaired:
                report.repaired.append(finding)
            else:
                report.problem(finding)
    return report


# --- content ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Page:
    """Some blobs that were read: the last one's id, how many octets, and who looks wrong."""

    last: int
    blobs: int
    octets: int
    suspects: tuple[int, ...]


async def _blobs(mail: Database, blobs: Blobs, report: Report) -> None:
    after = 0
    while (page := await mail.read_much(_blob_page, blobs, after)) is not None:
        after = page.last
        report.count("blobs", page.blobs)
        report.count("octets", page.octets)
        for blob in page.suspects:
            finding = await mail.read_much(_blob, blobs, blob)
            if finding is not None:
                report.problem(finding)


def _blob_page(tx: Tx, blobs: Blobs, after: int) -> _Page | None:
    # A page ends early when it has read much: no snapshot is to be held for minutes.
    rows = tx.all(store_tables.BLOBS_AFTER, after=after, limit=PAGE)
    count = octets = 0
    suspects: list[int] = []
    for blob, sha256, size, stored, place, table, _ in rows:
        known = Facts(blob, sha256, size, stored, Place(place), table)
        if _content(tx, blobs, known) is not None:
            suspects.append(blob)
        after = blob
        count += 1
        octets += size
        if octets >= PAGE_OCTETS:
            break
    return _Page(after, count, octets, tuple(suspects)) if rows else None


def _blob(tx: Tx, blobs: Blobs, blob: int) -> str | None:
    """A second look, in a fresh snapshot: it may have been removed or compressed meanwhile."""
    try:
        return _content(tx, blobs, blob_facts(tx, blob))
    except NotFound:
        return None


def _content(tx: Tx, blobs: Blobs, known: Facts) -> str | None:
    try:
        if blobs.hashed(tx, known) == known.sha256:
            return None
    except MailError as error:
        return f"blob {external(BLOB, known.id)}: {error.detail or error}"
    return f"blob {external(BLOB, known.id)}: the content has another hash"


async def _messages(mail: Database, blobs: Blobs, report: Report, *, repair: bool) -> None:
    after = 0
    while rows := await mail.read_much(_message_page, after):
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
    return tx.all(checking.MESSAGES_AFTER, after=after, limit=PAGE)


def _odd(tx: Tx, ids: list[int]) -> list[str]:
    odd = [
        f"placement {external(MAILBOX, box)} {uid}: does not fit its message or mailbox"
        for box, uid, _ in tx.all(checking.ODD_PLACEMENTS, ids=ids)
    ]
    odd += [
        f"placement {external(MAILBOX, box)} {uid}: its size is not its content's"
        for box, uid in tx.all(checking.ODD_SIZES, ids=ids)
    ]
    odd += [
        f"message {external(MESSAGE, message)}: lies nowhere and cannot be brought back"
        for (message,) in tx.all(checking.UNPLACED, ids=ids)
    ]
    return odd


async def _parse_again(
    mail: Database, blobs: Blobs, report: Report, blob: int, name: str, *, repair: bool
) -> None:
    if not repair:
        report.problem(f"message {name}: its parse is missing or old")
        return
    try:
        raw = await mail.read_much(blobs.read, blob)
        parsed = await asyncio.to_thread(parse, raw)
        await mail.write_later(messages.store_parsed, blob, parsed)
    except MailError as error:
        report.problem(f"message {name}: it cannot be parsed again: {error.detail or error}")
    else:
        report.repaired.append(f"message {name}: parsed again")


# --- counters -------------------------------------------------------------------------------------


async def _mailboxes(mail: Database, report: Report, *, repair: bool) -> None:
    after = 0
    while rows := await mail.read_much(_mailbox_page, after):
        after = rows[-1][0]
        ids = [row[0] for row in rows]
        report.count("mailboxes", len(rows))
        for box in ids:
            finding = await mail.read_much(_mailbox, box)
            if finding is None:
                continue
            if not repair:
                report.problem(finding)
            elif await mail.write_later(_correct_mailbox, box):
                report.repaired.append(finding)
        for box in await mail.read_much(_adrift, ids):
            report.problem(f"mailbox {external(MAILBOX, box)}: its parent is gone, nobody sees it")
        await _shares(mail, report, ids, repair=repair)


async def _shares(mail: Database, report: Report, ids: list[int], *, repair: bool) -> None:
    """Rights and subscriptions that nobody can have: they say nothing, so they may go."""
    rows = await mail.read_much(_odd_shares, ids)
    if rows and repair:
        rows = await mail.write_later(_forget_shares, ids)
    for box, kind, principal in rows:
        finding = f"mailbox {external(MAILBOX, box)}: a {kind} of {principal}, who cannot have it"
        if repair:
            report.repaired.append(finding)
        else:
            report.problem(finding)


def _odd_shares(tx: Tx, ids: list[int]) -> list[tuple[int, str, int]]:
    odd = tx.all(shares.ODD_RIGHTS, ids=ids, all=int(rights.ALL))
    found = [(box, "right", principal) for box, principal, _ in odd]
    odd = tx.all(shares.ODD_SUBSCRIPTIONS, ids=ids)
    return found + [(box, "subscription", principal) for box, principal in odd]


def _forget_shares(tx: Tx, ids: list[int]) -> list[tuple[int, str, int]]:
    found = _odd_shares(tx, ids)
    for box, principal, negative in tx.all(shares.ODD_RIGHTS, ids=ids, all=int(rights.ALL)):
        tx.run(shares.DROP_RIGHTS, mailbox=box, principal=principal, negative=negative)
    for box, principal in tx.all(shares.ODD_SUBSCRIPTIONS, ids=ids):
        tx.run(shares.DROP_SUBSCRIPTION, mailbox=box, principal=principal)
    return found


def _adrift(tx: Tx, ids: list[int]) -> list[int]:
    return [row[0] for row in tx.all(checking.ADRIFT, ids=ids)]


def _mailbox_page(tx: Tx, after: int) -> list[Row]:
    return tx.all(checking.MAILBOXES_AFTER, after=after, limit=PAGE)


@dataclass(frozen=True, slots=True)
class _Truth:
    """What the counters of a mailbox have to say."""

    counted: tuple[int, int, int, int]  # total, unseen, deleted, size
    last_uid: int
    modseq: int


def _mailbox_truth(tx: Tx, account: int, box: int) -> _Truth:
    highest = tx.one(checking.MAILBOX_HIGHEST, account=account, mailbox=box)
    assert highest is not None  # an aggregate always answers
    return _Truth(flags.counted(tx, box), int(highest[0]), int(highest[1]))


def _mailbox(tx: Tx, box: int) -> str | None:
    """What is wrong with a mailbox's counters, within one snapshot."""
    row = tx.one(checking.MAILBOXES_AFTER, after=box - 1, limit=1)
    if row is None or row[0] != box:
        return None
    _, account, uidnext, modseq, *says = row
    odd = flags.odd(tx, box)
    if odd:
        return f"mailbox {external(MAILBOX, box)}: its flags of {_blocks(odd)} do not fit"
    truth = _mailbox_truth(tx, account, box)
    name = f"mailbox {external(MAILBOX, box)}"
    if tuple(says) != truth.counted:
        return f"{name}: says {tuple(says)}, holds {truth.counted}"
    if uidnext <= truth.last_uid:
        return f"{name}: UIDNEXT {uidnext} is not above UID {truth.last_uid}"
    if modseq < truth.modseq:
        return f"{name}: modseq {modseq} is below a message's {truth.modseq}"
    return None


def _blocks(odd: Sequence[int]) -> str:
    named = ", ".join([f"{n * SIZE}:{n * SIZE + SIZE - 1}" for n in odd[:BLOCKS_NAMED]])
    return f"UIDs {named}" + (f" and {len(odd) - BLOCKS_NAMED} more" if odd[BLOCKS_NAMED:] else "")


def _correct_mailbox(tx: Tx, box: int) -> bool:
    row = tx.one(checking.MAILBOXES_AFTER, after=box - 1, limit=1)
    if row is None or row[0] != box:
        return False
    account = row[1]
    begin_all(tx, (account,))  # the lock: what is counted below stays true
    if _mailbox(tx, box) is None:
        return False
    for block in flags.odd(tx, box):
        flags.mend(tx, box, block)
    truth = _mailbox_truth(tx, account, box)
    total, unseen, deleted, size = truth.counted
    tx.run(
        checking.CORRECT_MAILBOX,
        id=box,
        total=total,
        unseen=unseen,
        deleted=deleted,
        size=size,
        last=truth.last_uid,
        modseq=truth.modseq,
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
    return tx.all(checking.ACCOUNTS_AFTER, after=after, limit=PAGE)


def _account_truth(tx: Tx, account: int) -> tuple[int, int, int]:
    """Octets, messages, and the highest modseq that was given."""
    held = tx.one(checking.ACCOUNT_TRUTH, account=account)
    highest = tx.one(checking.ACCOUNT_HIGHEST, account=account)
    assert held is not None  # an aggregate always answers
    assert highest is not None
    return int(held[0]), int(held[1]), max(int(highest[0] or 0), journal.last(tx, account))


def _account(tx: Tx, account: int) -> str | None:
    row = tx.one(checking.ACCOUNTS_AFTER, after=account - 1, limit=1)
    if row is None or row[0] != account:
        return None
    _, modseq, octets, count = row
    *counted, highest = _account_truth(tx, account)
    name = f"account {external(ACCOUNT, account)}"
    if [octets, count] != counted:
        return f"{name}: says {(octets, count)} octets and messages, holds {tuple(counted)}"
    if modseq < highest:
        return f"{name}: modseq {modseq} is below its log's {highest}"
    return None


def _correct_account(tx: Tx, account: int) -> bool:
    begin_all(tx, (account,))  # the lock: what is counted below stays true
    if _account(tx, account) is None:
        return False
    octets, count, modseq = _account_truth(tx, account)
    tx.run(checking.CORRECT_ACCOUNT, id=account, octets=octets, messages=count, modseq=modseq)
    return True
