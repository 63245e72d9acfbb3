"""Makes the index: reads what came since, gathers segments of it, merges small ones.

Everything here can end at any instant. A segment counts with the unit that finishes it and moves
the marks; what is left of one that was not finished is removed. Contents are read and decoded in
threads, with a pause after each message: mail goes first.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import structlog

from postroom.core import metrics
from postroom.core.clock import Clock, Instant
from postroom.core.errors import Corrupt
from postroom.core.ids import ACCOUNT, BLOB, Ids, external
from postroom.domain import searching
from postroom.domain.searching import PAGE, State, tables
from postroom.formats import headers
from postroom.formats.folding import fold
from postroom.formats.headers import HEADER_MAX
from postroom.formats.texts import texts
from postroom.store.blobs import Blobs
from postroom.store.search import SPAN, Collector, Segment, pack, renumbered
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS, Database

TRIGRAMS_MOST: Final = 50_000
"""Distinct trigrams of one message; who has more is a candidate always."""

OCTETS_MOST: Final = 16 * 1024 * 1024
"""A larger message is not decoded for the index: it is a candidate always."""

BATCH: Final = 32
"""Messages that are read in one go,"""
BATCH_OCTETS: Final = 1024 * 1024
"""and their octets; a larger message goes alone."""

GATHERING: Final = 60.0
"""Seconds after which a segment is finished with what it has."""

REST: Final = 0.5
"""Seconds of rest for each second of decoding."""

SETS: Final = 1_000
"""Sets in one unit."""

FEW: Final = 8
"""Segments of like size that are merged to one; the sizes are 8 times apart."""

SOURCES_MOST: Final = 64
"""Segments that are merged in one go."""

ABANDONED: Final = 3600 * 1000
"""Milliseconds after which a segment that was not finished is nobody's."""

INDEXED: Final = metrics.counter("search.indexed", "messages", "Messages that were indexed")
MERGED: Final = metrics.counter("search.merged", "segments", "Segments merged into others")

_GONE: Final = 4  # a segment is written anew once more than one in so many is removed
_log: Final = structlog.get_logger("postroom.search")


@dataclass(slots=True)
class Indexer:
    """What indexing works with, and where it is in its walk over the accounts."""

    mail: Database
    index: Database
    blobs: Blobs
    clock: Clock
    ids: Ids
    after: int = field(default=0, init=False)
    """The account that was looked at last: whoever has much mail, or mail that cannot be indexed,
    keeps nobody waiting."""
    worked: bool = field(default=False, init=False)
    """Something was indexed since somebody last set this."""
    behind: bool = field(default=False, init=False)
    """An account had more than was indexed of it, likewise."""

    # --- the walk -------------------------------------------------------------------------------

    async def step(self) -> bool:
        """The next piece of what is to be done; False where the walk comes to its end."""
        if await self.index.write_later(searching.remove, UNIT_ROWS, self._abandoned()):
            return True
        broken = await self.index.read(_broken)
        if broken is not None:
            await self._renew(*broken)
            return True
        looked_at = await self.mail.read(_accounts, self.after)
        if not looked_at:
            self.after = 0
            return False
        known = await self.index.read(searching.tallies, [account for account, _ in looked_at])
        for account, modseq in looked_at:
            self.after = account
            if account not in known or known[account].modseq != modseq:
                self.worked = True
                await self.account(account)
                return True
        return True

    def _abandoned(self) -> Instant:
        return Instant(self.clock.now() - ABANDONED)

    async def tidy(self, after: int) -> int | None:
        """Once a night: forget who is gone, and write full segments where there are small ones.
        A few accounts from `after` on; returns where to go on, or None."""
        page = await self.index.read(_indexed, after)
        if not page:
            return None
        there = await self.mail.read(_modseqs, [account for account, _ in page])
        for account, _ in page:
            if account not in there:
                await self.index.write_later(searching.forget, account)
                continue
            while await self.merge(account, thorough=True):
                pass
        return page[-1][0]

    async def reconcile(self) -> int:
        """Forget accounts of which the index knows more than the mail does, as after an older copy
        of the mail was put back; returns how many. Once, before anybody is served."""
        after, forgotten = 0, 0
        while page := await self.index.read(_indexed, after):
            after = page[-1][0]
            there = await self.mail.read(_modseqs, [account for account, _ in page])
            for account, modseq in page:
                if there.get(account, -1) < modseq:
                    await self.index.write_later(searching.forget, account)
                    forgotten += 1
        return forgotten

    # --- an account -----------------------------------------------------------------------------

    async def account(self, account: int) -> None:
        """Index what came into an account since it was looked at, up to a segment of it, and merge
        where there are many segments."""
        seen = await self.mail.read(_seen, account)
        marks = await self.index.read(searching.marks, account)
        if seen is None or seen.modseq < marks.modseq or _beyond(seen, marks):
            await self.index.write_later(searching.forget, account)
            if seen is None:
                return
        elif all(marks.uids.get(box, 0) >= last - 1 for box, last in seen.uidnext.items()):
            await self.index.write_later(searching.looked, account, marks, seen.modseq)
            return
        segment = self.ids.new()
        now = self.clock.now()
        marks = await self.index.write_later(searching.begin, segment, account, now)
        gathered = _Gathered(account, self.clock.monotonic() + GATHERING)
        uids: dict[int, int] = {}
        done = True
        for box, uidnext in seen.uidnext.items():
            if marks.uids.get(box, 0) < uidnext - 1:
                uids[box] = await self._mailbox(gathered, box, marks.uids.get(box, 0), uidnext - 1)
                done = done and uids[box] >= uidnext - 1
            if gathered.full or self.clock.monotonic() >= gathered.ends:
                done = False
                break
        self.behind = self.behind or not done
        # The account is looked at again as long as its mark is not its modseq.
        modseq = seen.modseq if done else marks.modseq
        if not await self._keep(segment, gathered, modseq=modseq, uids=uids):
            return
        gone = [box for box in marks.uids if box not in seen.uidnext]
        if gone:
            await self.index.write_later(searching.forget_mailboxes, gone)
        await self.merge(account)

    async def _mailbox(self, gathered: _Gathered, box: int, mark: int, last: int) -> int:
        """Gather what lies above a mark, up to where it ends or the segment does; the new mark."""
        while mark < last:
            if gathered.full or self.clock.monotonic() >= gathered.ends:
                return mark
            rows = await self.mail.read(_placed, box, mark)
            if not rows:
                return last
            messages = [row[1] for row in rows]
            known = await self.index.read(_known, gathered.account, messages)
            # One message may lie at two UIDs: it is gathered once.
            fresh = {row[1]: (row[1], row[2], row[3]) for row in rows if row[1] not in known}
            await self._gather(
                gathered, [each for each in fresh.values() if each[0] not in gathered.there]
            )
            mark = rows[-1][0]
        return mark

    async def _gather(self, gathered: _Gathered, wanted: Iterable[tuple[int, int, int]]) -> None:
        """Decode some (message, blob, size), at most as many as the segment takes."""
        for batch in _batches(wanted):
            contents = await self.mail.read_much(_read, self.blobs, batch)
            for (message, _, _), raw in zip(batch, contents, strict=True):
                began = self.clock.monotonic()
                found = await asyncio.to_thread(collected, raw) if raw is not None else None
                gathered.add(message, found)
                INDEXED.add()
                # After each: whoever is served meanwhile waits for one message, not for many.
                await asyncio.sleep(REST * (self.clock.monotonic() - began))

    async def _keep(
        self,
        segment: int,
        gathered: _Gathered,
        *,
        instead_of: Sequence[int] = (),
        modseq: int | None = None,
        uids: Mapping[int, int] | None = None,
    ) -> bool:
        """Write a gathered segment and let it count."""
        index, messages = self.index, gathered.messages
        for first in range(0, len(messages), UNIT_ROWS):
            some = messages[first : first + UNIT_ROWS]
            await index.write_later(searching.add_members, segment, first, some)
        sets = gathered.segment.packed()
        while some_sets := await asyncio.to_thread(_some, sets):
            await index.write_later(searching.add_sets, segment, some_sets)
        return await index.write_later(
            searching.finish,
            segment,
            gathered.account,
            len(messages),
            instead_of=instead_of,
            modseq=modseq,
            uids=uids,
        )

    async def _renew(self, broken: int, account: int) -> None:
        """Make a segment anew of which a set could not be read."""
        _log.warning("a segment of the search index is made anew", account=_name(account))
        segment = self.ids.new()
        await self.index.write_later(searching.begin, segment, account, self.clock.now())
        members = await self.index.read_much(_members, broken)
        gathered = _Gathered(account, 0.0)
        for first in range(0, len(members), PAGE):
            wanted = [message for _, message in members[first : first + PAGE]]
            await self._gather(gathered, await self.mail.read(_contents, wanted))
        if not await self._keep(segment, gathered, instead_of=[broken]):
            _log.info("what was indexed anew was forgotten meanwhile", account=_name(account))

    # --- merging ----------------------------------------------------------------------------------

    async def merge(self, account: int, *, thorough: bool = False) -> bool:
        """Merge some segments of an account into one, if it has many of like size; `thorough`, if
        any two fit into one or much of one is gone. Whether there was anything to do."""
        rows = await self.index.read(_segments, account)
        live = sorted((held, segment) for segment, state, held in rows if state == State.LIVE)
        sources = _fitting(live) if thorough else _alike(live)
        if not sources and thorough:
            sources = await self._thinned(live)
        if not sources:
            return False
        target = self.ids.new()
        await self.index.write_later(searching.begin, target, account, self.clock.now())
        places, kept = await self._places(account, sources)
        for first in range(0, len(kept), UNIT_ROWS):
            some = kept[first : first + UNIT_ROWS]
            await self.index.write_later(searching.add_members, target, first, some)
        try:
            await self._merge_sets(target, sources, places)
        except Corrupt as error:
            _log.warning("segments cannot be merged", account=_name(account), reason=error.detail)
            await self.index.write_later(searching.abandon, target)
            await self.index.write_later(searching.break_segments, sources)
            return False
        fits = await self.index.write_later(
            searching.finish, target, account, len(kept), instead_of=sources
        )
        if fits:
            MERGED.add(len(sources))
        return fits

    async def _thinned(self, live: Sequence[tuple[int, int]]) -> list[int]:
        """A segment much of which is removed by now."""
        for held, segment in live:
            members = await self.index.read_much(_members, segment)
            there = await self._there([message for _, message in members])
            if held - len(there) > held // _GONE:
                return [segment]
        return []

    async def _there(self, messages: Sequence[int]) -> set[int]:
        there: set[int] = set()
        for first in range(0, len(messages), PAGE):
            some = messages[first : first + PAGE]
            there.update(await self.mail.read(_existing, some))
        return there

    async def _places(
        self, account: int, sources: Sequence[int]
    ) -> tuple[list[list[int]], list[int]]:
        """For each source, the new number of each of its messages or -1; and who is kept."""
        places: list[list[int]] = []
        kept: list[int] = []
        seen: set[int] = set()
        for source in sources:
            members = await self.index.read_much(_members, source)
            there = await self._there([message for _, message in members])
            mine = [-1] * (members[-1][0] + 1 if members else 0)
            for number, message in members:
                if message in there and message not in seen:
                    seen.add(message)
                    mine[number] = len(kept)
                    kept.append(message)
            places.append(mine)
        return places, kept

    async def _merge_sets(
        self, target: int, sources: Sequence[int], places: Sequence[Sequence[int]]
    ) -> None:
        """A few trigrams at a time, from all sources. Raises Corrupt."""
        after: int | None = -2
        while after is not None:
            began = self.clock.monotonic()
            sets, after = await self.index.read_much(_merged, sources, places, after)
            if sets:
                await self.index.write_later(searching.add_sets, target, sets)
            await asyncio.sleep(REST * (self.clock.monotonic() - began))


class _Gathered:
    """A segment while it is gathered."""

    __slots__ = ("account", "ends", "messages", "segment", "there")

    def __init__(self, account: int, ends: float) -> None:
        self.account = account
        self.ends = ends
        self.segment = Segment()
        self.messages: list[int] = []
        self.there: set[int] = set()

    def add(self, message: int, trigrams: frozenset[str] | None) -> None:
        self.segment.add(trigrams)
        self.messages.append(message)
        self.there.add(message)

    @property
    def full(self) -> bool:
        """It has no room for another page."""
        return self.segment.count + PAGE > SPAN


def _batches(wanted: Iterable[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    batch: list[tuple[int, int, int]] = []
    octets = 0
    for each in wanted:
        if batch and (len(batch) >= BATCH or octets + each[2] > BATCH_OCTETS):
            yield batch
            batch, octets = [], 0
        batch.append(each)
        octets += each[2]
    if batch:
        yield batch


def _some(sets: Iterator[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    return list(islice(sets, SETS))


def _name(account: int) -> str:
    return external(ACCOUNT, account)


# --- which segments to merge ----------------------------------------------------------------------


def _alike(live: Sequence[tuple[int, int]]) -> list[int]:
    """`FEW` segments or more whose sizes are of one order, the smallest order that has so many."""
    orders: dict[int, list[tuple[int, int]]] = {}
    for held, segment in live:
        orders.setdefault((held.bit_length() - 1) // 3, []).append((held, segment))
    for _, like in sorted(orders.items()):
        if len(like) >= FEW:
            chosen = _together(like)
            if len(chosen) > 1:
                return chosen
    return []


def _fitting(live: Sequence[tuple[int, int]]) -> list[int]:
    """The smallest segments that fit into one."""
    chosen = _together(live)
    return chosen if len(chosen) > 1 else []


def _together(live: Sequence[tuple[int, int]]) -> list[int]:
    chosen: list[int] = []
    room = SPAN
    for held, segment in live:
        if held > room or len(chosen) == SOURCES_MOST:
            break
        room -= held
        chosen.append(segment)
    return chosen


# --- in a unit or a thread ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """An account as its mailboxes are."""

    modseq: int
    uidnext: Mapping[int, int]  # by mailbox


def _seen(tx: Tx, account: int) -> _Seen | None:
    modseqs = _modseqs(tx, [account])
    if account not in modseqs:
        return None
    return _Seen(modseqs[account], dict(tx.all(tables.MAILBOXES, account=account)))


def _beyond(seen: _Seen, marks: searching.Marks) -> bool:
    """The index knows of messages that were never there: it belongs to another store."""
    return any(uid >= seen.uidnext.get(box, uid + 1) for box, uid in marks.uids.items())


def _accounts(tx: Tx, after: int) -> list[tuple[int, int]]:
    return tx.all(tables.ACCOUNTS_AFTER, after=after, limit=PAGE)


def _modseqs(tx: Tx, accounts: Sequence[int]) -> dict[int, int]:
    return dict(tx.all(tables.MODSEQS, accounts=accounts))


def _placed(tx: Tx, box: int, after: int) -> list[tuple[int, int, int, int]]:
    return tx.all(tables.PLACED_AFTER, mailbox=box, after=after, limit=BATCH * 4)


def _existing(tx: Tx, messages: Sequence[int]) -> list[int]:
    return [row[0] for row in tx.all(tables.EXISTING, ids=messages)]


def _contents(tx: Tx, messages: Sequence[int]) -> list[tuple[int, int, int]]:
    return tx.all(tables.CONTENTS, ids=messages)


def _indexed(tx: Tx, after: int) -> list[tuple[int, int]]:
    return tx.all(tables.INDEXED_AFTER, after=after, limit=PAGE)


def _broken(tx: Tx) -> tuple[int, int] | None:
    row = tx.one(tables.BROKEN)
    return (row[0], row[1]) if row is not None else None


def _known(tx: Tx, account: int, messages: Sequence[int]) -> set[int]:
    rows = tx.all(tables.KNOWN, account=account, messages=messages)
    return {row[0] for row in rows}


def _members(tx: Tx, segment: int) -> list[tuple[int, int]]:
    return tx.all(tables.MEMBERS, segment=segment)


def _segments(tx: Tx, account: int) -> list[tuple[int, int, int]]:
    return tx.all(tables.SEGMENTS_OF, account=account)


def _read(tx: Tx, blobs: Blobs, batch: Sequence[tuple[int, int, int]]) -> list[bytes | None]:
    """The contents of some messages; None for one that is to be a candidate always."""
    contents: list[bytes | None] = []
    for _, blob, size in batch:
        if size > OCTETS_MOST:
            contents.append(None)
            continue
        try:
            contents.append(blobs.read(tx, blob))
        except Corrupt as error:
            _log.warning("not indexed", blob=external(BLOB, blob), detail=error.detail)
            contents.append(None)
    return contents


def collected(raw: bytes) -> frozenset[str] | None:
    """The trigrams of a message's folded texts; None if there are too many, or if its header is
    longer than what a scan looks at: it is then cut, and what lies at the cut reads otherwise."""
    collector = Collector(TRIGRAMS_MOST)
    block = headers.scan(raw)
    if block.over_cap or block.end > HEADER_MAX:
        return None
    for text in texts(raw):
        for piece in text:
            collector.feed(fold(piece.text))
            if collector.over:
                return None
        collector.stop()
    return None if collector.over else collector.found()


def _merged(
    tx: Tx, sources: Sequence[int], places: Sequence[Sequence[int]], after: int
) -> tuple[list[tuple[int, bytes]], int | None]:
    """The next sets of several segments as those of one, and where to go on. Raises Corrupt."""
    limit = max(1, SETS // len(sources))
    read = [tx.all(tables.SETS_AFTER, segment=s, after=after, limit=limit) for s in sources]
    # Beyond the first that was cut short, others may have more of the same trigrams.
    ends = [rows[-1][0] for rows in read if len(rows) == limit]
    last = min(ends) if ends else None
    sets: dict[int, array[int]] = {}
    for rows, mine in zip(read, places, strict=True):
        for trigram, numbers in rows:
            if last is not None and trigram > last:
                break
            renumbered(numbers, mine, sets.setdefault(trigram, array("H")))
    return [(trigram, pack(sets[trigram])) for trigram in sorted(sets) if sets[trigram]], last
