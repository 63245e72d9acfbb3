"""The same mailbox and the same commands for Postroom and for Dovecot: the answers are compared.

At least 2,000 messages, real, malformed and made up, are appended to both with the same flags and
dates. Then both hear the same scripts: FETCH of every data item, SEARCH, SORT, THREAD, STORE,
COPY, MOVE, EXPUNGE, and what QRESYNC tells a client that comes back. Answers are brought to one
form (order, case and quoting that mean nothing are taken away) and must be equal. A difference
that remains is a failure, unless `tests.differential.explained` names it with the line of an RFC.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from postroom.formats.parsed import parse
from postroom.server.instance import Layout
from postroom.testing import rounds
from postroom.testing.corpus import messages as corpus
from postroom.testing.imap import ImapClient, Literal, Reply
from postroom.testing.smtp import trusting_context
from postroom.testing.victim import PATIENCE, Victim
from postroom.wire.imap.sequence import compress
from tests.differential.answers import Answer, answer_of
from tests.differential.explained import equally_late, explain
from tests.differential.mail import is_text, malformed, published, tangled
from tests.differential.scripts import scripts
from tests.protocols.imap.dovecot import IMAP, dovecot_home, dovecot_session
from tools.verification import Form, Report

_BATCH: Final = 40
_DATES: Final = 28
_MARKS: Final = {"validity": "UIDVALIDITY", "modseq": "HIGHESTMODSEQ"}


def run(form: Form) -> Report:
    """One campaign; without Dovecot there is nothing to compare with."""
    columns = ("script", "commands", "answers compared", "equal", "explained", "unexplained")
    if not IMAP.exists():
        return Report(columns, (("Dovecot is not installed",) + ("0",) * 5,))
    campaign = asyncio.run(_campaign(2_000 if form is Form.LONG else 300))
    return Report(columns, (*campaign.rows(), *campaign.reasons()), tuple(campaign.failures()))


def mails(count: int) -> list[bytes]:
    """So many messages of every kind; the same ones each time."""
    whole = [*published(), *malformed(count // 4, 5), *tangled(count // 5, 7)]
    Random(3).shuffle(whole)
    whole = whole[: count * 3 // 4]
    small = (raw for raw in corpus(count * 2, 11) if len(raw) < 400_000)
    whole += [next(small) for _ in range(count - len(whole))]
    Random(4).shuffle(whole)
    return whole


async def _campaign(count: int) -> Campaign:
    raws = mails(count)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="postroom-differential-"))
        layout = Layout(os.path.join(folder, "data"))
        (address,) = people = rounds.addresses(1)
        await rounds.furnish(layout, people)
        victim = Victim(layout, _no_questions)
        stack.callback(victim.close)
        await victim.start()

        async def ours() -> ImapClient:
            client = await ImapClient.connect(
                "127.0.0.1", 993 + victim.offset, tls=trusting_context(), patience=PATIENCE
            )
            stack.push_async_callback(client.close)
            await client.login(address, rounds.PASSWORD)
            return client

        home = await stack.enter_async_context(dovecot_home())

        async def theirs() -> ImapClient:
            return await stack.enter_async_context(dovecot_session(Path(home)))

        campaign = Campaign(raws)
        campaign.unlike |= {n for n, raw in enumerate(raws, 1) if not is_text(raw)}
        await campaign.run(ours, theirs)
        return campaign


async def _no_questions() -> None:
    """The first client will see whether the doors answer."""


@dataclass
class Tally:
    """What came of a script."""

    commands: int = 0
    compared: int = 0
    differing: int = 0  # of these, the explained ones
    explained: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)


@dataclass
class Campaign:
    """Both servers with the same mail, and what they answered."""

    raws: list[bytes]
    tallies: dict[str, Tally] = field(default_factory=dict)
    unlike: set[int] = field(default_factory=set)
    """UIDs of messages whose header section is not read alike: they have no place in an order."""

    def rows(self) -> tuple[tuple[str, ...], ...]:
        return tuple(
            (
                name,
                f"{t.commands:,}",
                f"{t.compared:,}",
                f"{t.compared - t.differing - len(t.unexplained):,}",
                f"{t.differing:,}",
                f"{len(t.unexplained):,}",
            )
            for name, t in self.tallies.items()
        )

    def reasons(self) -> Iterator[tuple[str, ...]]:
        """How often each reason was given, as rows below."""
        total: Counter[str] = Counter()
        for tally in self.tallies.values():
            total.update(tally.explained)
        for why, count in total.most_common():
            yield why, "", "", "", f"{count:,}", ""

    def failures(self) -> Iterator[str]:
        for name, tally in self.tallies.items():
            yield from (f"{name}: {each}" for each in tally.unexplained[:12])

    async def run(
        self,
        ours: Callable[[], Awaitable[ImapClient]],
        theirs: Callable[[], Awaitable[ImapClient]],
    ) -> None:
        """Fill both, then every script in turn, on one session of each."""
        clients = [await ours(), await theirs()]
        await asyncio.gather(*(self._fill(client) for client in clients))
        marks = [await _mark(client) for client in clients]
        for script in scripts(len(self.raws)):
            alike = sorted({*range(1, len(self.raws) + 1)} - self.unlike)
            for mark in marks:
                mark["alike"] = compress(alike).decode("ascii")
            tally = self.tallies[script.name] = Tally()
            if script.again:
                clients = [await ours(), await theirs()]
            for command in script.commands:
                told = [
                    answer_of(await client.command(_filled(command, mark), patience=120))
                    for client, mark in zip(clients, marks, strict=True)
                ]
                tally.commands += 1
                self._compare(tally, command, *told)

    async def _fill(self, client: ImapClient) -> None:
        for start in range(0, len(self.raws), _BATCH):
            parts: list[str | Literal] = ["APPEND INBOX"]
            for n, raw in enumerate(self.raws[start : start + _BATCH], start):
                parts += [f" ({_flags(n)}) {_date(n)} ", Literal(raw, sync=False)]
            said = await client.command(*parts, patience=120)
            if not said.ok:
                raise AssertionError(f"APPEND: {said.text}")

    def _sent(self, uid: int) -> int | None:
        return parse(self.raws[uid - 1]).sent_at

    def _compare(self, tally: Tally, command: str, ours: Answer, theirs: Answer) -> None:
        for key in sorted({*ours, *theirs}, key=str):
            tally.compared += 1
            mine, other = ours.get(key), theirs.get(key)
            if mine == other:
                continue
            uid, item = key
            if item == "ENVELOPE" or command.startswith("UID SEARCH SENT"):
                self.unlike.add(uid)
            raw = self.raws[uid - 1] if 0 < uid <= len(self.raws) else b""
            if command.startswith("UID THREAD REFS "):
                reasons = equally_late(mine, other, self._sent)
            else:
                reasons = explain(command, item, raw, mine, other)
            if reasons:
                tally.differing += 1
                tally.explained.update(reasons)
            else:
                about = f"{command[:60]} {uid or ''} {item}".strip()
                tally.unexplained.append(f"{about}: {mine!r:.300} for {other!r:.300}")


async def _mark(client: ImapClient) -> dict[str, str]:
    """What the server says of INBOX before anything is changed."""
    said = await client.command("SELECT INBOX (CONDSTORE)")
    return {name: _number(said, code) for name, code in _MARKS.items()}


def _number(said: Reply, code: str) -> str:
    data = said.code_data(code)
    assert data is not None, said
    return str(data[0])


def _filled(command: str, mark: dict[str, str]) -> str:
    for name, value in mark.items():
        command = command.replace("{" + name + "}", value)
    return command


def _flags(n: int) -> str:
    rng = Random(n)
    return " ".join(rng.sample(("\\Seen", "\\Flagged", "\\Answered", "work"), rng.randint(0, 2)))


def _date(n: int) -> str:
    return f'"{1 + n * 7 % _DATES:02}-Jan-2026 {n % 24:02}:00:00 +0000"'
