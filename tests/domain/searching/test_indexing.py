"""The index of searches on both engines: whatever happens, no message that holds a string is
missing from its candidates."""

from __future__ import annotations

import asyncio
import base64
from array import array
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.core.clock import Instant, SystemClock
from postroom.core.ids import Ids
from postroom.domain import searching
from postroom.domain.directory.people import Account
from postroom.domain.mailboxes import cleaning, folders, messages, reading
from postroom.domain.mailboxes.messages import UNLIMITED
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.searching import indexing, tables
from postroom.domain.searching.indexing import Indexer
from postroom.formats.folding import fold
from postroom.formats.texts import texts
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.store.search import ALWAYS, SPAN, pack, trigrams
from postroom.store.sql import Tx, sql
from postroom.store.units import Database
from tests.domain.making import NOW, Direct, Town, letter, opened
from tests.stores import open_index

EVERY: Final = Pick(1, (1 << 32) - 1)
WORDS: Final = (
    "alpha",
    "Bravo",
    "grün",
    "ÉTÉ",
    "日本語の",
    "ab",
    "needle",
    "\N{DESERET CAPITAL LETTER LONG I}x\N{GRINNING FACE}",
)


class Library:
    """A town's mail with an index of it."""

    def __init__(self, town: Town, mail: Database, index: Database) -> None:
        self.town = town
        self.mail = mail
        self.index = index
        self.indexer = Indexer(
            mail, index, Blobs("no-such-folder", Files(), Ids(SystemClock())), SystemClock(),
            Ids(SystemClock()),
        )  # fmt: skip

    async def work(self) -> None:
        """All that is to be done."""
        while await self.indexer.step():
            pass

    async def found_work(self) -> bool:
        """Whether a walk over the accounts finds anything to do."""
        self.indexer.worked = False
        await self.work()
        return self.indexer.worked

    async def candidates(self, box: int, needle: str, of: Account | None = None) -> set[int] | None:
        """UIDs that may hold a string; None where the index knows nothing."""
        account = (of or self.town.ann).id
        wanted = [trigrams(fold(needle))]
        told = await self.index.read_much(searching.narrow, account, box, wanted)
        if told is None:
            return None
        if told.damaged:
            await self.index.write_later(searching.break_segments, told.damaged)
        below = await self.mail.read_much(searching.lying, box, told.candidates[0])
        every = await self.mail.read(reading.uids, box)
        return {uid for uid in below if uid <= told.uid} | {u for u in every if u > told.uid}

    async def holding(self, box: int, needle: str) -> set[int]:
        """UIDs that hold a string, by looking."""
        rows = await self.mail.read(reading.brief, box, EVERY)
        return {row.uid for row in rows if await self.mail.read_much(self._holds, row.blob, needle)}

    def _holds(self, tx: Tx, blob: int, needle: str) -> bool:
        raw = self.indexer.blobs.read(tx, blob)
        return any(
            fold(needle) in fold("".join(piece.text for piece in text)) for text in texts(raw)
        )

    async def segments(self, of: Account | None = None) -> list[tuple[int, int, int]]:
        """Those that count: (id, state, messages)."""
        return await self.index.read(_segments, (of or self.town.ann).id)


def _segments(tx: Tx, account: int) -> list[tuple[int, int, int]]:
    return tx.all(tables.SEGMENTS_OF, account=account)


Play = Callable[[Library], Awaitable[None]]


def play(store: Direct, town: Town, run: Play) -> None:
    """Open the stores, run, close them."""

    async def whole() -> None:
        index = open_index(store.engine, store.place)
        try:
            async with opened(store) as mail:
                await run(Library(town, mail, index))
        finally:
            await index.close()

    asyncio.run(whole())


def note(*words: str) -> bytes:
    """A message whose text, in base64, holds these words."""
    body = base64.encodebytes(" ".join(words).encode()).replace(b"\n", b"\r\n")
    head = (
        b"From: z@b.test\r\nSubject: n\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    return head + body


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    mails=st.lists(st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=5), max_size=12),
    later=st.lists(st.lists(st.sampled_from(WORDS), max_size=3), max_size=3),
    needles=st.lists(st.sampled_from(WORDS) | st.text(min_size=3, max_size=4), max_size=4),
    thorough=st.booleans(),
)  # fmt: skip
def test_no_message_that_holds_a_string_is_missing_whatever_was_indexed(
    store: Direct,
    town: Town,
    mails: list[list[str]],
    later: list[list[str]],
    needles: list[str],
    thorough: bool,
) -> None:
    box = town.folder(f"F{next(town.ids)}")
    for words in mails:
        town.append(box, note(*(w.encode(errors="replace").decode() for w in words)))

    async def run(library: Library) -> None:
        await library.work()
        for words in later:
            town.append(box, note(*words))
        if thorough:
            assert await library.indexer.tidy(0) is not None
        for needle in needles:
            if len(fold(needle)) < 3:
                continue
            told = await library.candidates(box, needle)
            assert told is None or await library.holding(box, needle) <= told
        await library.work()
        told = await library.candidates(box, "needle")
        assert told is None or told == await library.holding(box, "needle")

    play(store, town, run)


def test_a_rare_word_leaves_one_candidate(store: Direct, town: Town) -> None:
    box = town.box()
    for n in range(60):
        town.append(box, note(f"number{n:03}", "common"))

    async def run(library: Library) -> None:
        assert await library.candidates(box, "number007") is None
        await library.work()
        assert await library.candidates(box, "number007") == {8}
        assert await library.candidates(box, "Common") == set(range(1, 61))
        assert await library.candidates(box, "never was") == set()
        town.append(box, note("other"))
        assert await library.candidates(box, "number007") == {8, 61}

    play(store, town, run)


def test_what_is_moved_copied_or_renamed_is_not_read_again(
    store: Direct, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, other = town.box(), town.folder("Other")
    town.append(box, note("needle"), count=3)

    async def run(library: Library) -> None:
        await library.work()
        town.store.write(messages.copy, town.ann.id, box, other, Pick(1, 2), UNLIMITED, NOW, 0)
        assert await library.candidates(other, "needle") is None
        with monkeypatch.context() as patched:
            patched.setattr(indexing, "_read", _must_not)
            await library.work()
        assert await library.candidates(other, "needle") == {1, 2}
        assert await library.candidates(other, "absent") == set()
        assert len(await library.segments()) == 1

    play(store, town, run)


def _must_not(*args: object) -> object:
    raise AssertionError("a message was read again")


def test_small_segments_are_merged_and_what_was_removed_is_forgotten(
    store: Direct, town: Town
) -> None:
    box = town.box()

    async def run(library: Library) -> None:
        for n in range(indexing.FEW):
            town.append(box, note(f"word{n}", "needle"), count=2)
            await library.indexer.account(town.ann.id)
        assert [held for _, _, held in await library.segments()] == [2 * indexing.FEW]
        town.store.write(messages.expunge, town.ann.id, box, Pick(1, 8), NOW, 0, retention=0)
        assert town.store.write(cleaning.forget_expired, Instant(NOW + 1)) == 8
        assert await library.candidates(box, "word6") == {13, 14}
        await library.indexer.tidy(0)
        ((_, _, held),) = await library.segments()
        assert held == 2 * indexing.FEW - 8
        assert await library.candidates(box, "word6") == {13, 14}
        assert await library.candidates(box, "word0") == set()
        await library.work()
        left = await library.index.read(_members, town.ann.id)
        assert len(left) == held

    play(store, town, run)


def _members(tx: Tx, account: int) -> list[int]:
    return [
        message
        for segment, _, _ in tx.all(tables.SEGMENTS_OF, account=account)
        for _, message in tx.all(tables.MEMBERS, segment=segment)
    ]


@pytest.mark.parametrize("ends_in", ["begin", "add_members", "add_sets", "finish"])
def test_whatever_a_crash_leaves_is_void_and_removed(
    store: Direct, town: Town, monkeypatch: pytest.MonkeyPatch, ends_in: str
) -> None:
    box = town.box()
    town.append(box, note("needle", "first"))

    async def run(library: Library) -> None:
        await library.work()
        town.append(box, note("needle", "second"))
        with monkeypatch.context() as patched:
            patched.setattr(library.index, "write_later", _until(library.index, ends_in))
            with pytest.raises(_Crash):
                await library.work()
            library.indexer.after = 0  # another process walks from the first account on
        assert await library.candidates(box, "second") == {2}
        assert await library.candidates(box, "first") == {1, 2}
        await library.work()
        assert await library.candidates(box, "second") == {2}
        assert await library.candidates(box, "first") == {1}
        with monkeypatch.context() as patched:
            patched.setattr(indexing, "ABANDONED", -1)
            await library.work()
        assert len(await library.segments()) == 2
        assert await library.index.read(_state_counts) == [(searching.State.LIVE, 2)]

    play(store, town, run)


class _Crash(Exception):
    pass


def _until(index: Database, name: str) -> Callable[..., Awaitable[Any]]:
    """Writes of units, up to the one of that name: the process ends before it."""
    write = index.write_later

    async def until(unit: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if unit.__name__ == name:
            raise _Crash
        return await write(unit, *args, **kwargs)

    return until


_STATES = sql("SELECT state, count(*) FROM segment GROUP BY state ORDER BY state")
_SPOIL = sql("UPDATE segment_set SET numbers = :numbers WHERE trigram = :trigram")
_RAISE_MARK = sql("UPDATE indexed_account SET modseq = modseq + 1000 WHERE account = :account")


def _state_counts(tx: Tx) -> list[tuple[int, int]]:
    return tx.all(_STATES)


def _spoil(tx: Tx, trigram: int, numbers: bytes) -> None:
    tx.run(_SPOIL, trigram=trigram, numbers=numbers)


@pytest.mark.parametrize("numbers", [b"", b"\7\0", b"\0\1", b"\0\xff\xff"])
def test_a_set_that_cannot_be_read_hides_nobody_and_is_made_anew(
    store: Direct, town: Town, numbers: bytes
) -> None:
    box = town.box()
    town.append(box, note("needle"))
    town.append(box, note("straw"))

    async def run(library: Library) -> None:
        await library.work()
        (nee,) = trigrams("NEE")
        await library.index.write_later(_spoil, nee, numbers)
        assert await library.candidates(box, "needle") == {1, 2}
        assert await library.candidates(box, "straw") == {1, 2}  # known to be broken by now
        await library.work()
        assert await library.candidates(box, "needle") == {1}
        assert await library.candidates(box, "straw") == {2}

    play(store, town, run)


def test_a_merge_that_meets_a_damaged_set_leaves_all_as_it_was(store: Direct, town: Town) -> None:
    box = town.box()

    async def run(library: Library) -> None:
        for word in ("needle", "straw"):
            town.append(box, note(word))
            await library.work()
        (nee,) = trigrams("NEE")
        await library.index.write_later(_spoil, nee, b"\7")
        await library.indexer.tidy(0)
        assert await library.candidates(box, "needle") == {1, 2}
        await library.work()
        await library.indexer.tidy(0)
        assert len(await library.segments()) == 1
        assert await library.candidates(box, "needle") == {1}

    play(store, town, run)


def test_what_is_forgotten_while_it_is_indexed_stays_forgotten(
    store: Direct, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = town.box()
    town.append(box, note("needle"))

    async def run(library: Library) -> None:
        await library.work()
        town.append(box, note("straw"))
        write = library.index.write_later

        async def forgetful(unit: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if unit is searching.finish:
                await write(searching.forget, town.ann.id)
            return await write(unit, *args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(library.index, "write_later", forgetful)
            await library.indexer.account(town.ann.id)
        assert await library.candidates(box, "needle") is None
        assert await library.segments() == []
        await library.work()
        assert await library.candidates(box, "needle") == {1}

    play(store, town, run)


def test_everything_is_made_anew_after_it_was_forgotten(store: Direct, town: Town) -> None:
    box = town.box()
    town.append(box, note("needle"))

    async def run(library: Library) -> None:
        await library.work()
        await library.index.write_later(searching.forget_all)
        assert await library.candidates(box, "needle") is None
        await library.work()
        assert await library.candidates(box, "needle") == {1}
        assert await library.index.read(_state_counts) == [(searching.State.LIVE, 1)]

    play(store, town, run)


def test_an_index_that_knows_more_than_the_mail_is_not_believed(store: Direct, town: Town) -> None:
    box = town.box()
    town.append(box, note("needle"))

    async def run(library: Library) -> None:
        await library.work()
        assert await library.indexer.reconcile() == 0
        await library.index.write_later(_raise, town.ann.id)
        assert await library.indexer.reconcile() == 1
        assert await library.candidates(box, "needle") is None
        await library.work()
        assert await library.candidates(box, "needle") == {1}

    play(store, town, run)


def _raise(tx: Tx, account: int) -> None:
    tx.run(_RAISE_MARK, account=account)


def test_mailboxes_and_accounts_that_are_gone_leave_no_marks(store: Direct, town: Town) -> None:
    box = town.folder("Gone")
    town.append(box, note("needle"))

    async def run(library: Library) -> None:
        await library.work()
        town.store.write(folders.delete, town.ann.id, "Gone", NOW, 0)
        while town.store.write(_empty):
            pass
        town.append(town.box(), note("straw"))
        await library.work()
        assert await library.candidates(box, "needle") is None
        marks = await library.index.read(searching.marks, town.ann.id)
        assert box not in marks.uids
        known = await library.index.read(searching.tallies, [town.ann.id, 77])
        assert list(known) == [town.ann.id]
        await library.index.write_later(searching.begin, 77_000, 77, NOW)
        await library.indexer.tidy(0)
        assert 77 not in await library.index.read(searching.tallies, [77])

    play(store, town, run)


def _empty(tx: Tx) -> bool:
    return cleaning.empty_doomed(tx, NOW, 0)


def test_who_is_too_large_or_has_too_many_trigrams_is_always_a_candidate(
    store: Direct, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = town.box()
    town.append(box, note("needle"))
    town.append(box, note("".join(map(chr, range(0x4E00, 0x4E00 + 500)))))
    town.append(box, letter(body=b"x" * 4000))
    monkeypatch.setattr(indexing, "TRIGRAMS_MOST", 300)
    monkeypatch.setattr(indexing, "OCTETS_MOST", 3000)

    async def run(library: Library) -> None:
        await library.work()
        assert await library.candidates(box, "needle") == {1, 2, 3}
        assert await library.candidates(box, "straw") == {2, 3}

    play(store, town, run)


def test_a_header_that_a_scan_cuts_is_not_indexed() -> None:
    assert indexing.collected(b"Subject: a\r\n\r\nabc") is not None
    assert indexing.collected(b"X: " + b"a" * (1 << 20) + b"\r\n\r\nabc") is None
    assert indexing.collected(b"X: a\r\n" * 5_001 + b"\r\nabc") is None


def test_many_accounts_are_walked_in_turn(store: Direct, town: Town) -> None:
    people = [town.person(f"p{n}@a.test") for n in range(4)]
    for each in people:
        town.append(town.box(of=each), note("needle"), of=each)

    async def run(library: Library) -> None:
        await library.work()
        for each in people:
            box = town.box(of=each)
            assert await library.candidates(box, "needle", each) == {1}
            assert await library.candidates(box, "straw", each) == set()
        assert await library.candidates(town.box(of=people[0]), "needle", people[1]) is None

    play(store, town, run)


def test_numbers_of_a_full_segment_are_kept(store: Direct, town: Town) -> None:
    """A set of all that a segment spans survives the engine."""

    async def run(library: Library) -> None:
        full = pack(array("H", range(SPAN)))
        await library.index.write_later(searching.begin, 5, town.ann.id, NOW)
        await library.index.write_later(searching.add_sets, 5, [(ALWAYS, full)])
        assert await library.index.write_later(searching.finish, 5, town.ann.id, SPAN)
        rows = await library.index.read(_sets, 5)
        assert rows == [(ALWAYS, full)]

    play(store, town, run)


def _sets(tx: Tx, segment: int) -> list[tuple[int, bytes]]:
    return tx.all(tables.SETS_AFTER, segment=segment, after=-2, limit=10)


def test_a_walk_that_finds_nothing_new_says_so(store: Direct, town: Town) -> None:
    """Empty accounts too are looked at once, not for ever."""
    town.append(town.box(), note("needle"))

    async def run(library: Library) -> None:
        await library.work()
        known = await library.index.read(searching.tallies, [town.root.id, town.ann.id])
        assert known.keys() == {town.root.id, town.ann.id}
        assert not await library.found_work()
        town.folder("More")  # a change that brings no mail
        assert await library.found_work()
        assert not await library.found_work()

    play(store, town, run)


def test_many_long_strings_are_asked_for_by_some_of_their_trigrams(
    store: Direct, town: Town
) -> None:
    long = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    box = town.box()
    town.append(box, note(long))
    town.append(box, note("other"))

    async def run(library: Library) -> None:
        await library.work()
        needles = [trigrams(fold(long[n:])) for n in range(200)] + [trigrams("OTHER")]
        told = await library.index.read_much(searching.narrow, town.ann.id, box, needles)
        assert told is not None
        assert [len(each) for each in told.candidates] == [1] * 201
        assert len(set(told.candidates)) == 2

    play(store, town, run)
