"""A journey of a letter as it is told: who sends, what the others do, who receives what.

    letter = await play.submits("ann@a.test", to="bob@far.example")
    await play.receives("ann@a.test", report_of="5.1.1", about="bob@far.example")
    await letter.became("bob@far.example", "returned", status="5.1.1")

A play asks as its people would: it submits over SMTP with a password, and looks into mailboxes.
What a letter became is asked of its trace, so a play that ends well was also explained well.
Each step ends when nothing more is due; what is not as told raises AssertionError with the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from postroom.formats import dsn
from postroom.formats.dsn import Action, RecipientStatus, Report
from postroom.testing.house import House, transit_of
from postroom.testing.internet import Internet
from postroom.wire.smtp import Reply

BODY: Final = b"Good morning.\r\n"


@dataclass(frozen=True, slots=True)
class Notice:
    """A delivery report as it lies in a mailbox."""

    content: bytes
    report: Report

    def about(self, address: str) -> RecipientStatus:
        """What it says of one recipient."""
        found = [r for r in self.report.recipients if r.final_recipient.value == address]
        said = [r.final_recipient.value for r in self.report.recipients]
        assert len(found) == 1, f"the report is about {said}, not {address}"
        return found[0]


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that a house took."""

    house: House
    trace: int
    message_id: str
    content: bytes

    async def events(self, to: str) -> list[dict[str, Any]]:
        """What the trace says became of a recipient, in order."""
        return [each for each in await self.house.events(self.trace) if each["to"] == to]

    async def became(self, to: str, *way: str, **told: object) -> dict[str, Any]:
        """The trace names exactly these stations of a recipient, and `told` at the last one."""
        events = await self.events(to)
        assert tuple(each["what"] for each in events) == way, f"the trace says: {events}"
        last = events[-1] if events else {}
        wrong = {key: last.get(key) for key, value in told.items() if last.get(key) != value}
        assert not wrong, f"the trace says {wrong}, not {told}"
        return last

    async def waits(self, to: str) -> str | None:
        """With which reply a recipient waits in the queue; None: he does not."""
        for each in await self.house.waiting():
            if each.message.trace == self.trace and each.address == to:
                return each.last_reply
        return None


class Play:
    """Told on a small internet."""

    def __init__(self, town: Internet) -> None:
        self.town = town
        self._read: dict[str, int] = {}
        self._written = 0

    # --- sending ------------------------------------------------------------------------------

    async def submits(
        self,
        sender: str,
        *,
        to: str | Sequence[str],
        subject: str = "Hello",
        body: bytes = BODY,
        fields: str = "",
        mail: str = "",
        rcpt: str = "",
        settles: bool = True,
    ) -> Letter:
        """Somebody of ours sends a letter from a mail client, and it goes as far as it gets.

        `mail` and `rcpt` are parameters of these commands, such as NOTIFY=NEVER. All recipients
        must be taken. Without `settles` the play goes on while the letter is on its way.
        """
        house = self.town.house_of(sender)
        whom = [to] if isinstance(to, str) else list(to)
        name, content = self._write(sender, whom[0], subject, body, fields)
        async with house.signed_in(sender) as client:
            await client.ask(f"MAIL FROM:<{sender}> {mail}".rstrip(), 250)
            for each in whom:
                await client.ask(f"RCPT TO:<{each}> {rcpt}".rstrip(), 250)
            await client.ask("DATA", 354)
            end = await client.content(content)
        assert end.positive, f"the submission was refused: {end}"
        if settles:
            await self.town.settle()
        return Letter(house, transit_of(end), name, content)

    async def brings(
        self,
        sender: str,
        *,
        to: str,
        mail: str = "",
        rcpt: str = "",
        body: bytes = BODY,
        fields: str = "",
    ) -> Letter:
        """A stranger's server brings a letter to the door of a house."""
        house = self.town.house_of(to)
        name, content = self._write(sender or "nobody@nowhere.example", to, "Hello", body, fields)
        async with house.stranger() as client:
            await client.ask(f"MAIL FROM:<{sender}> {mail}".rstrip(), 250)
            await client.ask(f"RCPT TO:<{to}> {rcpt}".rstrip(), 250)
            await client.ask("DATA", 354)
            end = await client.content(content)
        assert end.positive, f"the letter was refused: {end}"
        await self.town.settle()
        return Letter(house, transit_of(end), name, content)

    async def is_refused(self, sender: str, *, to: str) -> Reply:
        """A stranger's server offers a letter, and is told no; the reply."""
        house = self.town.house_of(to) if to.rpartition("@")[2] in self.domains else None
        house = house or next(iter(self.town.houses.values()))
        async with house.stranger() as client:
            said = await client.deliver(sender, [to], self._write(sender, to, "Hello", BODY, "")[1])
        await self.town.settle()
        assert not said.accepted, f"it was taken: {said.last}"
        return said.last

    @property
    def domains(self) -> set[str]:
        """The domains that have houses."""
        return {name.partition(".")[2] for name in self.town.houses}

    def _write(
        self, sender: str, to: str, subject: str, body: bytes, fields: str
    ) -> tuple[str, bytes]:
        self._written += 1
        name = f"<{self._written}@a.play>"
        head = (
            f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nMessage-ID: {name}\r\n"
            f"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n{fields}\r\n"
        )
        return name, head.encode() + body

    # --- receiving ----------------------------------------------------------------------------

    async def receives(self, address: str, letter: Letter | None = None) -> bytes:
        """The next message in somebody's INBOX, which is `letter` if one is named."""
        unread = await self._unread(address)
        assert unread, f"nothing came to {address}"
        self._read[address] = self._read.get(address, 0) + 1
        if letter is not None:
            assert letter.message_id.encode() in unread[0], f"another letter came: {unread[0]!r}"
            assert unread[0].endswith(letter.content), f"it is not as it was: {unread[0]!r}"
        return unread[0]

    async def receives_report(
        self, address: str, *, of: str, about: str, action: str = "failed"
    ) -> Notice:
        """The next message in somebody's INBOX is a delivery report: that status, that recipient.

        It has the form that RFC 3461 §6 and RFC 3464 want of every one.
        """
        content = await self.receives(address)
        report = dsn.parse(content)
        assert report is not None, f"this is no report: {content!r}"
        notice = Notice(content, report)
        said = notice.about(about)
        assert (str(said.status), said.action) == (of, Action(action)), f"the report says: {said}"
        assert content.startswith(b"Return-Path: <>\r\n"), "a report answers to nobody"
        assert b"\r\nAuto-Submitted: auto-replied\r\n" in content
        return notice

    async def receives_nothing(self, address: str) -> None:
        """Nothing new lies in somebody's INBOX."""
        unread = await self._unread(address)
        assert not unread, f"{len(unread)} came to {address}: {unread[0]!r}"

    async def _unread(self, address: str) -> list[bytes]:
        await self.town.settle()
        inbox = await self.town.house_of(address).inbox(address)
        return inbox[self._read.get(address, 0) :]
