"""SEARCH with the index of message texts answers as without it, whatever state the index is in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import StoreFailed
from postroom.domain import searching
from postroom.domain.searching.indexing import Indexer, collected
from postroom.formats import headers
from postroom.formats.folding import fold
from postroom.formats.texts import texts
from postroom.formats.words import decode_words
from postroom.protocols.imap import narrowing
from postroom.protocols.imap.commands import search as searched
from postroom.protocols.imap.text import Found, HeaderText, look
from postroom.store.search import number, trigrams
from postroom.store.sql import Tx, sql
from postroom.testing.imap import ImapClient
from postroom.wire.imap import (
    And,
    BodyContains,
    HasFlag,
    HeaderContains,
    Not,
    Or,
    SearchKey,
    TextContains,
)
from tests.protocols.imap.serving import ANN, Room, message, new_bus, serve
from tests.stores import open_index, open_mail

WORDS: Final = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "grüße", "hotel", "India", "julia",
)  # fmt: skip

QUESTIONS: Final = (
    "BODY alpha", "BODY ALPHA BODY bravo", "TEXT charlie", "NOT BODY delta", "BODY never",
    "OR BODY echo BODY foxtrot", "OR BODY echo SEEN", "NOT (BODY alpha BODY bravo)",
    "BODY hotel NOT BODY india", "OR (BODY alpha NOT TEXT bravo) (TEXT india UNSEEN)",
    "FROM zoe BODY julia", "HEADER X-Tag delta", "HEADER X-Tag del", "HEADER X-Tag de", "BODY ph",
    "SUBJECT echo BODY bravo", "TO ann TEXT bravo", "BODY lpha TEXT oxtro", 'BODY ""',
    "NOT NOT BODY charlie", "2:20 BODY alpha", "UID 5:* OR FROM alpha TEXT delta", "CC carol",
)  # fmt: skip


class Indexed:
    """A room whose house keeps an index."""

    def __init__(self, room: Room, indexer: Indexer) -> None:
        self.room = room
        self.indexer = indexer
        self.chance = random.Random(4)

    async def fill(self, count: int, path: str = "INBOX") -> None:
        """Messages of a few words each."""
        for _ in range(count):
            words = self.chance.sample(WORDS, 3)
            tag = f"X-Tag: {self.chance.choice(WORDS[:6])}\r\nCc: carol@c.example\r\n".encode()
            fields = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            fields += b"Content-Transfer-Encoding: 8bit\r\n"
            fields += tag if self.chance.random() < 0.5 else b""
            flags = ("\\Seen",) if self.chance.random() < 0.5 else ()
            subject = self.chance.choice(WORDS[:6])
            raw = message(subject, " ".join(words).encode() + b"\r\n", fields)
            await self.room.deliver(raw, flags=flags, path=path)

    async def work(self) -> None:
        while await self.indexer.step():
            pass

    async def agree(self, client: ImapClient, of: str = "") -> None:
        """Each question has the same answer with the index as without."""
        for question in QUESTIONS:
            answers = []
            for indexer in (None, self.indexer):
                self.room.house.indexer = indexer
                reply = await client.command(f"UID SEARCH {of}{question}")
                assert reply.ok, question
                answers.append(reply["SEARCH"][0].data)
            assert answers[0] == answers[1], question


@asynccontextmanager
async def _indexed(engine: str, place: str, folder: Path) -> AsyncIterator[Indexed]:
    bus = new_bus()
    mail, state = open_mail(engine, place, bus.tell)
    index = open_index(engine, place)
    try:
        async with serve(folder, mail, state, bus) as room:
            house = room.house
            house.indexer = Indexer(mail, index, house.blobs, house.clock, house.ids)
            yield Indexed(room, house.indexer)
    finally:
        await mail.close()
        await state.close()
        await index.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small mailboxes are narrowed too."""
    monkeypatch.setattr(narrowing, "WORTH", 1)


@pytest_asyncio.fixture
async def indexed(tmp_path: Path, small: None) -> AsyncIterator[Indexed]:
    """Over SQLite."""
    async with _indexed("sqlite", str(tmp_path), tmp_path) as made:
        yield made


@pytest_asyncio.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def indexed_both(
    request: pytest.FixtureRequest, tmp_path: Path, small: None
) -> AsyncIterator[Indexed]:
    """Over each engine."""
    engine = str(request.param)
    place = str(tmp_path) if engine == "sqlite" else str(request.getfixturevalue("postgres_url"))
    async with _indexed(engine, place, tmp_path) as made:
        yield made


async def test_answers_are_those_of_a_scan_in_every_state_of_the_index(
    indexed_both: Indexed,
) -> None:
    indexed, room = indexed_both, indexed_both.room
    await indexed.fill(30)
    client = await room.client(mailbox="INBOX")
    await indexed.agree(client)  # nothing is indexed
    await indexed.work()
    await indexed.agree(client)  # all is
    await indexed.fill(10)
    assert (await client.command("NOOP")).ok
    await indexed.agree(client)  # some is
    await room.remove([3, 4, 5, 33])
    await indexed.agree(client)  # the client has not heard of it
    assert (await client.command("NOOP")).ok
    await indexed.work()
    await indexed.agree(client)
    await indexed.indexer.index.write_later(_spoil)
    await indexed.agree(client)  # no set can be read
    await indexed.work()
    await indexed.agree(client)
    await indexed.indexer.index.write_later(searching.forget, room.accounts[ANN])
    await indexed.agree(client)  # made anew


_SPOIL = sql("UPDATE segment_set SET numbers = :numbers WHERE trigram > 0")


def _spoil(tx: Tx) -> None:
    tx.run(_SPOIL, numbers=b"\7")


async def test_what_was_copied_and_moved_is_found_where_it_lies(indexed: Indexed) -> None:
    room = indexed.room
    await indexed.fill(20)
    await indexed.work()
    await room.create("Other")
    client = await room.client(mailbox="INBOX")
    assert (await client.command("UID COPY 1:10 Other")).ok
    assert (await client.command("UID MOVE 8:15 Other")).ok
    await indexed.agree(client)
    assert (await client.command("SELECT Other")).ok
    await indexed.agree(client)
    await indexed.work()
    await indexed.agree(client)
    assert (await client.command("RENAME Other Elsewhere")).ok
    assert (await client.command("SELECT Elsewhere")).ok
    await indexed.agree(client)


async def test_sort_and_thread_are_narrowed_too(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await indexed.fill(20)
    client = await indexed.room.client(mailbox="INBOX")
    asked = ("UID SORT (SUBJECT) UTF-8 BODY alpha", "UID THREAD REFERENCES UTF-8 BODY alpha")
    before = [(await client.command(each)).untagged for each in asked]
    await indexed.work()
    read = _Counting(monkeypatch)
    assert [(await client.command(each)).untagged for each in asked] == before
    assert 0 < read.messages < 2 * 20


class _Counting:
    """How many messages SEARCH reads whole."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages = 0

        def counted(*args: Any) -> Found:
            self.messages += 1
            return look(*args)

        monkeypatch.setattr(searched, "look", counted)


async def test_only_candidates_are_read(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    await indexed.fill(30)
    await indexed.room.deliver(message("rare", b"a needle in the hay\r\n"))
    await indexed.work()
    client = await indexed.room.client(mailbox="INBOX")
    read = _Counting(monkeypatch)
    assert (await client.command("UID SEARCH BODY needle"))["SEARCH"][0].data == (31,)
    assert read.messages == 1
    assert (await client.command("UID SEARCH BODY absent"))["SEARCH"][0].data == ()
    assert read.messages == 1
    await indexed.room.configure("search.index", False)
    house = indexed.room.house
    await house.mail.read(house.policies.current, house.chain(""))
    assert (await client.command("UID SEARCH BODY needle"))["SEARCH"][0].data == (31,)
    assert read.messages == 32


async def test_an_index_that_fails_slows_a_search_and_does_not_fail_it(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await indexed.fill(5)
    await indexed.room.deliver(message("rare", b"a needle in the hay\r\n"))
    await indexed.work()
    client = await indexed.room.client(mailbox="INBOX")

    async def fails(*args: object) -> object:
        raise StoreFailed(detail="the disk is gone")

    monkeypatch.setattr(indexed.indexer.index, "read_much", fails)
    assert (await client.command("UID SEARCH BODY needle"))["SEARCH"][0].data == (6,)


async def test_a_search_while_all_is_indexed_and_merged(indexed: Indexed) -> None:
    await indexed.fill(20)
    client = await indexed.room.client(mailbox="INBOX")

    async def busy() -> None:
        for _ in range(6):
            await indexed.fill(2)
            await indexed.work()
            await indexed.indexer.tidy(0)

    at_work = asyncio.create_task(busy())
    while not at_work.done():
        await indexed.agree(client, "UID 1:20 ")
    await at_work
    await indexed.agree(client)


@pytest.mark.parametrize(
    ("key", "needed"),
    [
        (BodyContains("abc"), narrowing.Holds("ABC")),
        (BodyContains("ab"), None),
        (HeaderContains("Subject", "abc"), None),
        (HeaderContains("From", "abc"), narrowing.Holds("ABC")),
        (Not(BodyContains("abc")), None),
        (Or((BodyContains("abc"), HasFlag("\\Seen"))), None),
        (
            Or((BodyContains("abc"), TextContains("xyz"))),
            narrowing.Either((narrowing.Holds("ABC"), narrowing.Holds("XYZ"))),
        ),
        (
            And((BodyContains("abc"), HasFlag("\\Seen"), Not(TextContains("xyz")))),
            narrowing.Each((narrowing.Holds("ABC"),)),
        ),
        (And((HasFlag("\\Seen"), BodyContains("é"))), None),
    ],
)
def test_what_a_message_must_hold(key: SearchKey, needed: narrowing.Needs | None) -> None:
    assert narrowing.needs(key) == needed


_RAW: Final = st.one_of(
    st.builds(
        lambda fields, body: b"".join(fields) + b"\r\n" + body,
        st.lists(
            st.builds(
                lambda name, value, end: name + b":" + value + end,
                st.sampled_from([b"From", b"To", b"X-A", b"cc ", b"Content-Type", b"Subject"]),
                st.sampled_from(
                    [
                        b" =?utf-8?q?J=C3=B6rg?= =?utf-8?b?w6k=?= <j@b.example>",
                        b" multipart/mixed; boundary=b",
                        b" text/plain; charset=utf-16",
                        b" a\r\n b\0c\xff",
                        b" =?utf-8?q?cut",
                    ]
                )
                | st.binary(max_size=12),
                st.sampled_from([b"\r\n", b"\n", b"\r\n\t folded\r\n", b""]),
            ),
            max_size=5,
        ),
        st.sampled_from(
            [
                b"--b\r\nContent-Type: text/html\r\nX-In: inner\r\n\r\ncaf=C3=A9\r\n--b--\r\n",
                b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nhey\r\n--b--",
            ]
        )
        | st.binary(max_size=60),
    ),
    st.binary(max_size=80),
)


@settings(max_examples=150)
@given(_RAW, st.data())
def test_the_index_has_every_string_that_a_scan_finds(raw: bytes, data: st.DataObject) -> None:
    """Of whatever octets: in a field, in the header, in the body."""
    found = collected(raw)
    assert found is not None
    header = HeaderText(raw)
    held = [fold("".join(piece.text for piece in text)) for text in texts(raw)]
    text = data.draw(st.sampled_from(held))
    start = data.draw(st.integers(0, max(0, len(text) - 3)))
    needle = text[start : start + data.draw(st.integers(3, 8))]
    if len(needle) >= 3:
        seen = look(raw, {needle}, {needle})
        assert needle in seen.header | seen.body
        assert trigrams(needle) <= {number(each) for each in found}
    name = data.draw(st.sampled_from(["From", "To", "X-A", "Cc", "Content-Type"]))
    kept = {number(each) for each in found}
    for value in headers.scan(raw).all(name.encode()):
        folded = fold(decode_words(value))
        if len(folded) >= 3:
            assert header.contains(name, folded)
            assert trigrams(folded) <= kept
