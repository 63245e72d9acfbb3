"""Operations on the queue: look, hold back, let go, try now, delete.

A message is named by its trace id, as it stands in the log, in Received fields and in replies.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.admin.changes import bounded
from postroom.admin.house import AdminHouse, number_of
from postroom.admin.render import DETAIL
from postroom.core.clock import Instant, iso
from postroom.core.errors import Misuse
from postroom.core.ids import TRACE, external
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain.queue import LOCAL, REMOTE, Hop, QueuedMessage, Recipient, byhand
from postroom.domain.queue.byhand import Waiting
from postroom.formats import headers
from postroom.mailflow import quarantine
from postroom.mailflow.routing import NextHop, Way, parse_next_hop
from postroom.store.sql import Tx

_ID = "The message's id, as `queue list` and `trace` show it"


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """How much of the queue."""

    limit: int = argument("How many recipients at most, the first due first", default=100)


@dataclass(frozen=True, slots=True)
class QueueLine:
    """A recipient who waits. `id` is the message's, for `trace`."""

    id: str
    sender: str
    recipient: str
    next_hop: str
    octets: int
    attempts: int
    due: str
    expires: str = field(metadata=DETAIL)
    reply: str


@dataclass(frozen=True, slots=True)
class ListQueue:
    """How much of the queue, and of what."""

    limit: int = argument("How many recipients at most, the first due first", default=100)
    quarantined: bool = argument("What is in quarantine alone, the oldest first", default=False)


@operation("queue list", Role.ADMIN, changes=False)
async def list_queue(house: AdminHouse, asked: ListQueue) -> tuple[QueueLine, ...]:
    """List what waits to be delivered, here or elsewhere, and what is in quarantine."""

    def look(tx: Tx) -> list[Waiting]:
        return byhand.listed(tx, bounded(asked.limit), quarantined=asked.quarantined)

    return tuple(_line(each) for each in await house.flow.mail.read_much(look))


def _line(waiting: Waiting) -> QueueLine:
    recipient = waiting.recipient
    message = recipient.message
    return QueueLine(
        external(TRACE, message.trace),
        message.reverse_path or "<>",
        recipient.address,
        _hop(waiting.hop),
        message.size,
        recipient.attempts,
        _next_try(recipient),
        iso(message.expires_at),
        recipient.last_reply,
    )


def _next_try(recipient: Recipient) -> str:
    if recipient.quarantined:
        return _QUARANTINED
    return "held" if recipient.held else iso(recipient.due)


_QUARANTINED = "quarantined"
_WHEN = {"held": "held back", _QUARANTINED: "in quarantine"}


def _hop(hop: Hop) -> str:
    return hop.next_hop if hop.queue == REMOTE else hop.queue


# --- one message ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueuedId:
    """A message that waits."""

    id: str = argument(_ID)

    def number(self) -> int:
        """The id as the store has it; raises Malformed."""
        return number_of(TRACE, self.id, "a message")


@dataclass(frozen=True, slots=True)
class QueuedView:
    """A message that waits, and for whom."""

    id: str
    sender: str
    octets: int
    arrived: str
    expires: str
    came_by: str
    recipients: tuple[QueueLine, ...]

    @property
    def _ends(self) -> str:
        """What is done in the end, if nobody does anything."""
        held = all(each.due == _QUARANTINED for each in self.recipients)
        return "deleted" if held else "returned"

    def told(self) -> str:
        lines = [
            f"{self.id} from {self.sender}, {counted(self.octets, 'octet')}, "
            f"came by {self.came_by}",
            f"arrived {self.arrived}, is {self._ends} after {self.expires}",
        ]
        for each in self.recipients:
            when = _WHEN.get(each.due, f"next at {each.due}")
            lines.append(
                f"  {each.recipient} by {each.next_hop}: "
                f"tried {counted(each.attempts, 'time')}, {when}"
            )
            if each.reply:
                lines.append(f"    {each.reply}")
        return "\n".join(lines)


@operation("queue show", Role.ADMIN, changes=False)
async def show_queued(house: AdminHouse, asked: QueuedId) -> QueuedView:
    """Show a message that waits: for whom, since when, and what the last attempt said."""

    def look(tx: Tx) -> tuple[QueuedMessage, list[Waiting]]:
        return byhand.messages(tx, asked.number())[0], byhand.of_trace(tx, asked.number())

    message, waiting = await house.flow.mail.read_much(look)
    return QueuedView(
        external(TRACE, message.trace),
        message.reverse_path or "<>",
        message.size,
        iso(message.arrived_at),
        iso(message.expires_at),
        message.origin,
        tuple(_line(each) for each in waiting),
    )


@dataclass(frozen=True, slots=True)
class ReadQueued:
    """What of a message that waits."""

    id: str = argument(_ID)
    whole: bool = argument("The content too, up to a million octets", default=False)


@dataclass(frozen=True, slots=True)
class QueuedText:
    """A message that waits, as it lies there; `octets` says how long it is in all."""

    id: str
    octets: int
    text: str

    def told(self) -> str:
        return self.text.replace("\r\n", "\n")


@operation("queue read", Role.ADMIN, changes=False, audited=True)
async def read_queued(house: AdminHouse, asked: ReadQueued) -> QueuedText:
    """Read the header of a message that waits or is in quarantine, to decide what becomes of it;
    with `--whole` its content too."""
    number = number_of(TRACE, asked.id, "a message")

    def look(tx: Tx) -> tuple[QueuedMessage, bytes]:
        message = byhand.messages(tx, number)[0]
        return message, house.flow.blobs.read(tx, message.blob, 0, _READ)

    message, content = await house.flow.mail.read_much(look)
    shown = content if asked.whole else content[: headers.scan(content).end]
    return QueuedText(external(TRACE, number), message.size, shown.decode("utf-8", "replace"))


_READ = 1_000_000


@dataclass(frozen=True, slots=True)
class Touched:
    """For how many recipients something was done."""

    recipients: int

    def told(self) -> str:
        return counted(self.recipients, "recipient")


@operation("queue hold", Role.ADMIN)
async def hold_queued(house: AdminHouse, asked: QueuedId) -> Touched:
    """Keep a message from being tried, and from being returned, until it is let go."""
    return Touched(await house.flow.mail.write(byhand.hold_back, asked.number()))


@operation("queue release", Role.ADMIN)
async def release_queued(house: AdminHouse, asked: QueuedId) -> Touched:
    """Let go of a message that was held back or is in quarantine: it is tried at once."""
    return Touched(await quarantine.release(house.flow, asked.number()))


@dataclass(frozen=True, slots=True)
class RetryWhat:
    """A message, or all that waits for a domain or host."""

    id: str = argument(_ID, default="", option=True)
    next_hop: str = argument(
        "A domain, or a next hop as `queue destinations` shows it", default="", option=True
    )


@operation("queue retry", Role.ADMIN)
async def retry_queued(house: AdminHouse, asked: RetryWhat) -> Touched:
    """Try a message now, or all that waits for a domain or host."""
    if bool(asked.id) == bool(asked.next_hop):
        raise Misuse("Name a message by --id, or a domain by --next-hop")
    now = house.flow.clock.now()
    if asked.id:
        number = number_of(TRACE, asked.id, "a message")
        return Touched(await house.flow.mail.write(byhand.retry, number, now))
    hop = _hop_of(asked.next_hop)
    return Touched(await house.flow.mail.write_much(byhand.retry_destination, hop, now))


def _hop_of(text: str) -> Hop:
    if text == LOCAL:
        return Hop(LOCAL, "")
    if ":" in text and not text.startswith("["):
        return parse_next_hop(text).hop
    return NextHop(Way.EXCHANGERS, text.lower()).hop


@operation("queue delete", Role.ADMIN)
async def delete_queued(house: AdminHouse, asked: QueuedId) -> Touched:
    """Take a message out of the queue for good, without a word to its sender. Copies that were
    delivered stay, and so does its trace. What is in quarantine is deleted likewise."""
    return Touched(await house.flow.mail.write(byhand.delete, asked.number()))


# --- destinations -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DestinationLine:
    """A next hop that has mail."""

    next_hop: str
    recipients: int
    due: str
    failures: int  # rounds in a row in which nobody there could be reached
    tried: str
    served: str  # until when a worker holds it


@operation("queue destinations", Role.ADMIN, changes=False)
async def list_destinations(house: AdminHouse, asked: QueueLimit) -> tuple[DestinationLine, ...]:
    """List the domains and hosts that mail waits for, those with most of it first."""
    now = house.flow.clock.now()
    found = await house.flow.mail.read_much(byhand.destinations, bounded(asked.limit))
    return tuple(
        DestinationLine(
            _hop(each.hop),
            each.recipients,
            _due(each.due, now),
            each.failures,
            iso(each.tried_at) if each.tried_at else "never",
            iso(each.leased_until) if each.leased_until and each.leased_until > now else "",
        )
        for each in found
    )


def _due(due: Instant, now: Instant) -> str:
    """A time far away means that all of it is held back."""
    if due > now + _FAR:
        return "held"
    return "now" if due <= now else iso(due)


_FAR = 400 * 24 * 3600 * 1000  # milliseconds
