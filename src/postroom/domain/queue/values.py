"""The queue's values, and when what waits is tried again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain.queue import tables
from postroom.store.sql import Row

LOCAL: Final = "local"
"""The queue of our own accounts; its one next hop has no name."""
REMOTE: Final = "remote"
"""The queue of other servers; `mailflow.nexthop` says how a next hop is written."""
COMPOSED: Final = "composed"
"""The queue of what we wrote ourselves and intake has not judged yet."""

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
_FIRST_WAITS: Final = (3 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE)
LONGEST_WAIT: Final = 4 * HOUR
EXPIRY: Final = 5 * DAY
EXPIRY_NULL_SENDER: Final = 2 * DAY


def later(now: Instant, attempts: int, longest: int = LONGEST_WAIT) -> Instant:
    """When to try again after `attempts` (>= 1) failures: 3, 15, 30, 60 minutes, then doubling
    up to `longest` milliseconds. RFC 5321 §4.5.4.1."""
    if attempts <= len(_FIRST_WAITS):
        wait = _FIRST_WAITS[max(attempts, 1) - 1]
    else:
        wait = _FIRST_WAITS[-1] << min(attempts - len(_FIRST_WAITS), 8)
    return Instant(now + min(wait, longest))


@dataclass(frozen=True, slots=True)
class Patience:
    """How what waits is tried. In milliseconds."""

    longest: int = LONGEST_WAIT  # between two tries, at most
    notice: int = 0  # after which the sender is told of the delay; 0: never


def next_try(recipient: Recipient, now: Instant, patience: Patience) -> Instant:
    """When a recipient who was just tried in vain is tried again.

    Also when its sender is to hear of the delay, and when its time is over: both are told after
    one more try, and not only when the next one would have come.
    """
    message = recipient.message
    due = later(now, recipient.attempts + 1, patience.longest)
    moments = [Instant(max(message.expires_at, now + MINUTE))]
    if patience.notice and not recipient.warned:
        moments.append(Instant(message.arrived_at + patience.notice))
    return min([due, *(each for each in moments if each > now)])


def expiry(now: Instant, reverse_path: str | None) -> Instant:
    """Until when a message is tried unless a setting says otherwise. RFC 5321 §4.5.4.1; sooner
    where nobody waits for it."""
    return Instant(now + (EXPIRY if reverse_path is not None else EXPIRY_NULL_SENDER))


class Hop(NamedTuple):
    """Where a recipient goes next: a queue, and a next hop within it."""

    queue: str
    next_hop: str


LOCALLY: Final = Hop(LOCAL, "")
COMPOSED_HERE: Final = Hop(COMPOSED, "")


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """One envelope. `trace` is its transit's id, by which people name it; a transit whose copies
    differ for our accounts and for others has one for each."""

    id: int
    trace: int
    blob: int
    size: int
    reverse_path: str | None
    envid: str | None
    ret: str | None
    arrived_at: Instant
    expires_at: Instant
    utf8: bool = False
    eight_bit: bool = False
    origin: str = ""


@dataclass(frozen=True, slots=True)
class NewRecipient:
    """A recipient who has to wait."""

    address: str
    account: int | None
    role: str
    flags: tuple[str, ...]
    notify: tuple[str, ...]
    orcpt: str | None
    due: Instant
    attempts: int = 0
    last_reply: str = ""
    hop: Hop = LOCALLY
    quarantined: bool = False  # then it is not due before it is let go


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient as it waits."""

    message: QueuedMessage
    n: int
    address: str
    account: int | None
    role: str
    flags: tuple[str, ...]
    attempts: int
    due: Instant
    last_reply: str
    notify: tuple[str, ...] = ()
    orcpt: str | None = None
    held: bool = False
    warned: bool = False
    last_at: Instant | None = None
    quarantined: bool = False  # `held`, not by an administrator but by a rule

    @property
    def key(self) -> tuple[int, int]:
        """What names it in the queue."""
        return self.message.id, self.n


@dataclass(frozen=True, slots=True)
class Lease:
    """A destination that is ours until `until`; `fence` must match every outcome."""

    destination: int
    queue: str
    next_hop: str
    fence: int
    until: Instant
    failures: int = 0


class LostLease(NotFound):
    """The lease was taken over: what this worker did counts no more."""

    sentence = "The lease on this destination was taken over"


def recipient_of(row: Row) -> Recipient:
    """The columns of `tables._RECIPIENT`, in their order."""
    (n, address, account, role, flags, notify, orcpt, attempts, due, held, warned, last_at,
     last_reply, *message) = row  # fmt: skip
    return Recipient(
        message_of(message),
        n,
        address,
        account,
        role,
        tuple(json.loads(flags)) if flags != "[]" else (),
        attempts,
        due,
        last_reply,
        tuple(notify.split(",")) if notify else (),
        orcpt,
        bool(held),
        bool(warned),
        Instant(last_at) if last_at else None,
        held == tables.QUARANTINED,
    )


def message_of(row: Sequence[Any]) -> QueuedMessage:
    """The columns of a message, in the order of `tables.MESSAGES_OF_TRACE`."""
    number, trace, blob, size, path, envid, ret, utf8, eight, origin, arrived, expires = row
    return QueuedMessage(
        number, trace, blob, size, path, envid, ret, arrived, expires, bool(utf8), bool(eight),
        origin,
    )  # fmt: skip
