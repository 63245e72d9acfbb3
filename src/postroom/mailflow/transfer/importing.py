"""Import: items of a source become messages of an account, each once however often it is run.

What a mailbox holds already is known by the hash of its content, and counted: a source that has
a message twice brings it twice. The unit looks again at what has come since, under the account's
lock, so that two imports of one source at the same time bring each message once.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final

from postroom.core.clock import Instant, iso
from postroom.core.errors import (
    Busy,
    LimitReached,
    Malformed,
    OverQuota,
    TooLarge,
)
from postroom.core.ids import MESSAGE, external
from postroom.domain.directory.people import Account
from postroom.domain.mailboxes import change, folders, messages, reading
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes.messages import NewMessage, Quota
from postroom.formats.parsed import Parsed, parse
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings, SmtpSettings
from postroom.mailflow.transfer.items import Item, Source, SourceFolder, readable, why
from postroom.mailflow.transfer.line_ends import ToCrlf
from postroom.mailflow.transfer.names import targets
from postroom.mailflow.transfer.receipt import (
    FAILED,
    IMPORTED,
    LEFT_OUT,
    THERE,
    WOULD,
    Line,
    Receipt,
)
from postroom.mailflow.transfer.threads import in_thread
from postroom.store.blobs import Form, NewBlob, Spool
from postroom.store.sql import Tx

BATCH: Final = 50
BATCH_OCTETS: Final = 8 << 20
"""What one unit takes, and what is held in memory but for one larger message."""

PROBLEMS: Final = 20
"""How many are told in words; the receipt has all."""

_PAGE: Final = 5_000  # digests that are read at once
_KEY: Final = 16  # octets of a digest by which content is known
_PATIENCE: Final = 300  # tries, a fifth of a second apart, while the store is busy
_PAUSE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be imported, into which account, and by whom."""

    account: Account
    into: str = ""
    dry_run: bool = False
    actor: int = 0


@dataclass(slots=True)
class Imported:
    """What an import came to. A dry run counts as imported what would be."""

    imported: int = 0
    there: int = 0
    failed: int = 0
    left_out: int = 0
    octets: int = 0
    mailboxes: int = 0
    problems: list[str] = field(default_factory=list)

    def count(self, line: Line) -> None:
        status = line["status"]
        if status in (IMPORTED, WOULD):
            self.imported += 1
            self.octets += line["size"]
        elif status == THERE:
            self.there += 1
        elif status == LEFT_OUT:
            self.left_out += 1
        else:
            self.problem(f"{line['source']}: {line['why']}")

    def problem(self, text: str) -> None:
        self.failed += 1
        if len(self.problems) < PROBLEMS:
            self.problems.append(text)


async def bring(house: MailHouse, source: Source, asked: Asked, receipt: Receipt) -> Imported:
    """Bring all items of the source into the account.

    What cannot be brought is a line of the receipt that says why, and the rest goes on. Raises
    Malformed for an `into` that can be no mailbox, and what ends all: StoreFull, StoreFailed,
    ShuttingDown, NotFound if the account goes away; what was brought until then stays, and is in
    the receipt.
    """
    return await _Import(house, source, asked, receipt).run()


@dataclass(slots=True)
class _Holding:
    """What a mailbox holds, by content, that no item of the source has claimed yet."""

    box: int  # 0 in a dry run, for one that is not made
    path: str
    left: Counter[bytes] = field(default_factory=Counter)
    next_uid: int = 1

    def take(self, digest: bytes) -> bool:
        key = digest[:_KEY]
        if not self.left[key]:
            return False
        self.left[key] -= 1
        return True


@dataclass(slots=True)
class _Taken:
    """An item whose content was taken: what the receipt says of it, and what is to be stored."""

    line: dict[str, Any]
    spool: Spool | None = None
    parsed: Parsed | None = None
    flags: tuple[str, ...] = ()
    received_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A message whose blob is made."""

    line: dict[str, Any]
    blob: NewBlob
    message: NewMessage


@dataclass(frozen=True, slots=True)
class _Placed:
    """What the unit did with each message of its batch, in order."""

    results: tuple[dict[str, Any], ...]
    left: Counter[bytes]  # what others brought meanwhile, and the batch did not claim
    next_uid: int


class _Import:
    """One run."""

    def __init__(self, house: MailHouse, source: Source, asked: Asked, receipt: Receipt) -> None:
        self._house = house
        self._source = source
        self._asked = asked
        self._account = asked.account.id
        self._receipt = receipt
        self._done = Imported()
        self._quota = Quota()
        self._max_size = 0
        self._used = (0, 0)  # in a dry run: what the account would hold

    async def run(self) -> Imported:
        mail = self._house.mail
        self._quota, self._max_size = await mail.read(self._limits)
        self._used = await mail.read(reading.usage, self._account)
        if self._asked.into:
            folders.split(self._asked.into)  # raises Malformed
        await self._note([_line_of(item) for item in self._source.problems])
        boxes = await mail.read(folders.tree, self._account)
        roles = {b.role: path for path, b in boxes.by_path.items() if b.role}
        into = self._asked.into
        by_folder = targets((f.path for f in self._source.folders), roles, into)
        if into and self._source.single:
            by_folder = dict.fromkeys(by_folder, folders.canonical(into))
        groups: dict[str, list[SourceFolder]] = {}
        for folder in self._source.folders:
            groups.setdefault(by_folder[folder.path], []).append(folder)
        for path, of in groups.items():
            await self._folder(path, of)
        self._done.mailboxes = len(groups)
        return self._done

    def _limits(self, tx: Tx) -> tuple[Quota, int]:
        house, account = self._house, self._asked.account
        chain_ = house.chain("", account.domain, account.id)
        settings = house.policies.current(tx, chain_)
        held = settings.of(QuotaSettings)
        return Quota(held.octets, held.messages), settings.of(SmtpSettings).max_size

    async def _note(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._done.count(line)
        if lines:
            await in_thread(self._receipt.add, lines)

    # --- a mailbox ----------------------------------------------------------------------------

    async def _folder(self, path: str, of: Sequence[SourceFolder]) -> None:
        """All folders of the source that go into one mailbox."""
        refused = ""
        holding = _Holding(0, path)
        try:
            holding.box = await self._mailbox(path, of)
        except (LimitReached, Malformed) as error:
            refused = f"The mailbox {path} cannot be made: {error}"
        if holding.box:
            await self._load(holding)
        items = chain.from_iterable(folder.items() for folder in of)
        while True:
            taken, more = await in_thread(self._take, items, holding, refused)
            try:
                await self._place(holding, taken)
            finally:
                for each in taken:
                    if each.spool is not None:
                        each.spool.drop()
            await self._note([each.line for each in taken])
            if not more:
                return

    async def _mailbox(self, path: str, of: Sequence[SourceFolder]) -> int:
        """The id of the mailbox, which is made if it is not there; 0 in a dry run without it."""
        house, asked = self._house, self._asked
        said = self._source.subscribed
        subscribed = said is not None and any(folder.path in said for folder in of)

        def unit(tx: Tx, made: Sequence[int], now: Instant) -> int:
            there = folders.tree(tx, self._account).by_path.get(path)
            if there is None:
                box = folders.create(tx, self._account, path, iter(made), now, asked.actor)
            else:
                box = there.id
            # A client shows what one is subscribed to, so what is new is, if nobody says no.
            if subscribed or (there is None and said is None):
                folders.subscribe(tx, self._account, path, now, asked.actor, wanted=True)
            return box

        if asked.dry_run:
            boxes = await house.mail.read(folders.tree, self._account)
            folders.split(path)
            return boxes.by_path[path].id if path in boxes.by_path else 0
        ids = [house.ids.new() for _ in range(folders.DEPTH)]
        return await house.mail.write(unit, ids, house.clock.now())

    async def _load(self, holding: _Holding) -> None:
        while True:
            rows = await self._house.mail.read_much(
                reading.digests, holding.box, holding.next_uid, _PAGE
            )
            holding.left.update(digest[:_KEY] for _, digest in rows)
            if rows:
                holding.next_uid = rows[-1][0] + 1
            if len(rows) < _PAGE:
                return

    # --- reading, in a thread -----------------------------------------------------------------

    def _take(
        self, items: Iterator[Item], holding: _Holding, refused: str
    ) -> tuple[list[_Taken], bool]:
        """The next batch, and whether there is more. What is there already is not parsed."""
        batch: list[_Taken] = []
        octets = 0
        try:
            for item in items:
                batch.append(self._taken(item, holding, refused))
                spool = batch[-1].spool
                octets += spool.size if spool is not None else 0
                if len(batch) >= BATCH or octets >= BATCH_OCTETS:
                    return batch, True
        except BaseException:
            for each in batch:
                if each.spool is not None:
                    each.spool.drop()
            raise
        return batch, False

    def _taken(self, item: Item, holding: _Holding, refused: str) -> _Taken:
        line = _line_of(item, holding.path)
        if item.problem:
            return _Taken(line)
        spool = self._house.blobs.spool()
        try:
            problem, whole = self._copy(item, spool)
            if whole:
                line["source_sha256"] = item.original.sha256().hex()
            if not problem:
                line["sha256"] = spool.sha256().hex()
                line["size"] = spool.size
            if problem or refused:
                line["why"] = problem or refused
            elif self._receipt.take(holding.path, item.original.sha256()):
                holding.take(spool.sha256())  # it may lie there still
                line["status"] = THERE
            elif holding.take(spool.sha256()):
                line["status"] = THERE
            else:
                parsed = parse(spool.content())
                line["message_id"] = _text(parsed.message_id)
                kept = _Taken(line, spool, parsed, item.flags, item.received_at)
                if kept.received_at is None and parsed.sent_at is not None and parsed.sent_at >= 0:
                    kept.received_at = Instant(parsed.sent_at)
                return kept
        except OSError as error:
            line["why"] = f"It cannot be read: {why(error)}"
        except BaseException:
            spool.drop()
            raise
        spool.drop()
        return _Taken(line)

    def _copy(self, item: Item, spool: Spool) -> tuple[str, bool]:
        """Take the content, with CRLF: what is wrong with it, or nothing; whether all was read.

        What is refused is read to its end even so, as the receipt has its hash, unless it seems
        to have none.
        """
        ends, problem = ToCrlf(), ""
        for piece in item.chunks:
            if item.original.size > 2 * self._max_size:
                return str(TooLarge()), False
            if problem:
                continue
            if b"\0" in piece:
                problem = "A message may not hold NUL"
                continue
            spool.write(ends.feed(piece))
            if spool.size > self._max_size:
                problem = str(TooLarge())
        if not problem:
            spool.write(ends.flush())
            if not spool.size:
                problem = "It is empty"
        return problem, True

    # --- writing ------------------------------------------------------------------------------

    async def _place(self, holding: _Holding, taken: Sequence[_Taken]) -> None:
        """Store what is to be stored of a batch; each line says then what became of it."""
        house = self._house
        ready: list[_Ready] = []
        for each in taken:
            if each.spool is None or each.parsed is None:
                continue
            if self._asked.dry_run:
                each.line.update(self._would(each.spool.size))
                continue
            (blob,) = (await house.blobs.finish(each.spool, [Form()])).stored
            message = NewMessage(
                id=house.ids.new(),
                blob=blob.id,
                size=blob.size,
                received_at=each.received_at if each.received_at is not None else house.clock.now(),
                parsed=each.parsed,
                flags=each.flags,
            )
            ready.append(_Ready(each.line, blob, message))
        if not ready:
            return
        placed = await self._written(holding, ready)
        for stored, result in zip(ready, placed.results, strict=True):
            stored.line.update(result)
        holding.left.update(placed.left)
        holding.next_uid = placed.next_uid

    def _would(self, size: int) -> dict[str, Any]:
        octets, count = self._used
        quota = self._quota
        over = (quota.octets and octets + size > quota.octets) or (
            quota.messages and count + 1 > quota.messages
        )
        if over:
            return {"why": str(OverQuota())}
        self._used = (octets + size, count + 1)
        return {"status": WOULD}

    async def _written(self, holding: _Holding, ready: Sequence[_Ready]) -> _Placed:
        """The unit, in the background's lane; it waits while the store is busy with people."""
        house = self._house
        tries = 0
        while True:
            try:
                return await house.mail.write_later(
                    _append,
                    self._account,
                    holding.box,
                    tuple(ready),
                    holding.next_uid,
                    self._quota,
                    house.clock.now(),
                    self._asked.actor,
                )
            except Busy:
                tries += 1
                if tries == _PATIENCE:
                    raise
            await asyncio.sleep(_PAUSE)


def _append(
    tx: Tx,
    account: int,
    box: int,
    batch: Sequence[_Ready],
    next_uid: int,
    quota: Quota,
    now: Instant,
    actor: int,
) -> _Placed:
    """Put into the mailbox what is not there and fits; one result for each message."""
    change.begin(tx, account)  # the lock: what is read below stays true
    since: list[tuple[int, bytes]] = []
    while rows := reading.digests(tx, box, next_uid, _PAGE):
        since += rows
        next_uid = rows[-1][0] + 1
    left = Counter(digest[:_KEY] for _, digest in since)
    octets, count = reading.usage(tx, account)
    results: list[dict[str, Any]] = []
    new: list[tuple[NewBlob, NewMessage]] = []
    placed: list[dict[str, Any]] = []
    for each in batch:
        key = each.blob.sha256[:_KEY]
        if left[key]:
            left[key] -= 1
            results.append({"status": THERE})
            continue
        size = each.message.size
        if (quota.octets and octets + size > quota.octets) or (
            quota.messages and count + 1 > quota.messages
        ):
            results.append({"why": str(OverQuota())})
            continue
        octets, count = octets + size, count + 1
        flags, lost = _keepable(tx, account, each.message.flags)
        result: dict[str, Any] = {
            "status": IMPORTED,
            "message": external(MESSAGE, each.message.id),
            "received": iso(each.message.received_at),
            "flags": flags,
        }
        if lost:
            result["flags_not_kept"] = lost
        results.append(result)
        placed.append(result)
        new.append((each.blob, replace(each.message, flags=tuple(flags))))
    if new:
        stored = messages.append(tx, account, box, new, quota, now, actor)
        for result, at in zip(placed, stored, strict=True):
            result["uid"] = at.uid
        next_uid = stored[-1].uid + 1
    return _Placed(tuple(results), left, next_uid)


def _keepable(tx: Tx, account: int, flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags that the account can keep, each once, and those that it cannot.

    A message without one of its keywords is better than no message.
    """
    kept: dict[str, str] = {}
    lost: list[str] = []
    for flag in flags:
        if flag.lower() == "\\recent" or flag.lower() in kept:
            continue
        try:
            bits.bits_for(tx, account, (flag,))
        except (Malformed, LimitReached):
            lost.append(flag)
        else:
            kept[flag.lower()] = flag
    return list(kept.values()), lost


def _line_of(item: Item, mailbox: str = "") -> dict[str, Any]:
    """What the receipt says of an item as long as nothing has become of it."""
    line: dict[str, Any] = {"source": item.source, "status": FAILED}
    if mailbox:
        line["mailbox"] = mailbox
    if item.problem:
        line["why"] = item.problem
    if item.left_out:
        line["status"] = LEFT_OUT
    return line


def _text(message_id: bytes | None) -> str:
    return readable(os.fsdecode(message_id)) if message_id else ""
