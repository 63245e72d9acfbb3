"""The session's state, and how it keeps up with a mailbox that others change. RFC 3501 §3."""

from __future__ import annotations

import array
import asyncio
import ssl
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from postroom.access import Authenticator, Conversation, Identity
from postroom.core.bus import Bus
from postroom.core.clock import Clock
from postroom.core.errors import Malformed, NotFound
from postroom.core.ids import Ids
from postroom.core.settings import Chain
from postroom.domain.directory import people
from postroom.domain.events import Changed
from postroom.domain.mailboxes import folders, reading
from postroom.domain.mailboxes.flags import Registry
from postroom.domain.mailboxes.flags import registry as read_registry
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import Pick, Quota
from postroom.domain.mailboxes.reading import Changes
from postroom.domain.policy import Policy
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings, RetentionSettings
from postroom.net.connection import Peer
from postroom.protocols.imap.kept import Kept
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.view import Neighbours, Of, Range, Ranges, View, Views
from postroom.store.sql import Tx
from postroom.wire.imap import (
    Command,
    Cursor,
    Kind,
    NeedLiteral,
    SequenceSet,
    flags,
    status_line,
    untagged,
)

DAY_MS: Final = 24 * 3600 * 1000
LINES: Final = 500
"""Untagged responses in one write, and between two looks at whether the peer reads."""


class State(Enum):
    """RFC 3501 §3."""

    NOT_SIGNED_IN = "not authenticated"
    SIGNED_IN = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


class Appending(Protocol):
    """An APPEND under way: the server hands it what streams in. RFC 3501 §6.3.11."""

    tag: bytes

    async def literal(self, need: NeedLiteral) -> bool: ...

    def chunk(self, data: memoryview) -> None: ...

    async def literal_end(self) -> None: ...

    async def part(self, args: Cursor, more: bool) -> None: ...

    def abort(self) -> None: ...


class Output(Protocol):
    """Where a session writes to, with back-pressure."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def abort(self) -> None:
        """End the connection at once: what was begun cannot be finished."""
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions of one worker share."""

    house: MailHouse
    authenticator: Authenticator
    bus: Bus[Changed]
    views: Views
    tls: Callable[[], ssl.SSLContext] | None
    kept: Kept = field(default_factory=Kept)

    @property
    def clock(self) -> Clock:
        return self.house.clock

    @property
    def ids(self) -> Ids:
        return self.house.ids


@dataclass(slots=True)
class Selected:
    """The mailbox that is open, as far as the client has been told."""

    mailbox: Mailbox
    view: View
    registry: Registry
    read_only: bool
    recent: list[Range] = field(default_factory=list)  # UIDs that are \\Recent here
    own: set[int] = field(default_factory=set)  # modseqs of our own STOREs: told already
    result: Ranges = field(default_factory=Ranges)  # what `$` means: UIDs. RFC 5182
    saved_flags: dict[int, bytes] = field(default_factory=dict)
    saved_recent: dict[int, bytes] = field(default_factory=dict)

    def flags_of(self, bits: int, uid: int) -> bytes:
        """`(\\Seen …)` as this client sees it."""
        if self.recent and any(lo <= uid <= hi for lo, hi in self.recent):
            return self._recent_flags(bits)
        return self._flags(bits)

    def _flags(self, bits: int) -> bytes:
        found = self.saved_flags.get(bits)
        if found is None:
            found = self.saved_flags[bits] = flags(self.registry.flags(bits))
        return found

    def _recent_flags(self, bits: int) -> bytes:
        found = self.saved_recent.get(bits)
        if found is None:
            found = flags((*self.registry.flags(bits), "\\Recent"))
            self.saved_recent[bits] = found
        return found

    def flags_column(self, sets: Sequence[int], uids: Sequence[int]) -> list[bytes]:
        """`flags_of` for many, whose UIDs ascend: one look-up for each message."""
        told = {bits: self._flags(bits) for bits in set(sets)}
        column = [told[bits] for bits in sets]
        for lo, hi in self.recent:
            first, end = bisect_left(uids, lo), bisect_right(uids, hi)
            column[first:end] = [self._recent_flags(bits) for bits in sets[first:end]]
        return column

    def flags_of_run(self, run: Neighbours) -> list[bytes]:
        """`flags_of` for neighbours in the view."""
        told = {mark: self._flags(run.sets[mark]) for mark in set(run.marks)}
        column = list(map(told.__getitem__, run.marks))
        for lo, hi in self.recent:
            first, end = bisect_left(run.uids, lo), bisect_right(run.uids, hi)
            if first < end:
                told = {mark: self._recent_flags(run.sets[mark]) for mark in set(run.marks)}
                column[first:end] = map(told.__getitem__, run.marks[first:end])
        return column

    def forget_names(self) -> None:
        """The names of keywords changed."""
        self.saved_flags.clear()
        self.saved_recent.clear()

    def recent_count(self) -> int:
        """How many messages of the view are \\Recent."""
        return sum(self.view.below(hi + 1) - self.view.below(lo) for lo, hi in self.recent)


class Session:
    """One connection's protocol state; knows no socket."""

    def __init__(self, shared: Shared, peer: Peer, session_id: str, output: Output) -> None:
        self.shared = shared
        self.peer = peer
        self.id = session_id
        self.output = output
        self.state = State.NOT_SIGNED_IN
        self.identity: Identity | None = None
        self.selected: Selected | None = None
        self.condstore = False
        self.client: str = ""  # what ID said, for the log
        self.idling: bytes | None = None  # the tag of an IDLE under way
        self.sasl: tuple[bytes, Conversation] | None = None  # an AUTHENTICATE and its tag
        self.starttls: bytes | None = None  # its tag: upgrade next
        self.appending: Appending | None = None  # an APPEND whose messages stream in
        self.looked: int | None = None  # modseq of the open mailbox when the command began
        self.may_expunge = True  # of the command under way: RFC 3501 §7.4.1
        self.bad = 0
        self.signed_in: Callable[[], None] = lambda: None
        self.signed_out: Callable[[], None] = lambda: None

    # --- writing -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.output.write(data)

    def tell(self, tag: bytes | None, kind: Kind, text: str, code: bytes | None = None) -> None:
        """A status response."""
        self.output.write(status_line(tag, kind, code, text))

    async def finish(
        self, command: Command, text: str, code: bytes | None = None, *, look: bool = True
    ) -> None:
        """The end of a command that went well: what others did, then its tagged reply.

        Without `look`, what they had done when the command began: enough for one that was short
        and changed nothing itself.
        """
        await self.catch_up(expunge=self.may_expunge, look=look)
        self.tell(command.tag, "OK", text, code)

    # --- what it may do ------------------------------------------------------------------------

    @property
    def account(self) -> int:
        assert self.identity is not None  # the table lets only those in who signed in
        return self.identity.account

    @property
    def actor(self) -> int:
        assert self.identity is not None
        return self.identity.principal

    def chain(self) -> Chain:
        """The places whose settings apply to this session."""
        assert self.identity is not None
        domain = self.identity.address.domain
        return self.shared.house.chain(self.peer.listener, domain, self.account)

    def policy(self, tx: Tx) -> Policy:
        return self.shared.house.policies.current(tx, self.chain())

    async def quota(self) -> Quota:
        """What the account may hold."""
        policy = await self.shared.house.mail.read(self.policy)
        held = policy.of(QuotaSettings)
        return Quota(held.octets, held.messages)

    async def retention(self) -> int:
        """How long what is expunged can be brought back, in milliseconds."""
        policy = await self.shared.house.mail.read(self.policy)
        return policy.of(RetentionSettings).deleted_days * DAY_MS

    async def still_welcome(self) -> bool:
        """Rights may have changed since the sign-in: one point read, and in the same snapshot the
        modseq of the open mailbox."""
        if self.identity is None:
            return True
        try:
            epoch, state = await self.shared.house.mail.read(self._look)
        except NotFound:
            return False
        return epoch == self.identity.epoch and state == "active"

    def _look(self, tx: Tx) -> tuple[int, str]:
        self.looked = None
        if self.selected is not None:
            self.looked = reading.modseq(tx, self.selected.mailbox.id)
        return people.epoch(tx, self.actor)

    # --- keeping up ----------------------------------------------------------------------------

    @property
    def up_to_date(self) -> bool:
        """The view is the mailbox as it was when the command began, or as it was later."""
        return self.looked is not None and self.open.view.stamp >= self.looked

    async def catch_up(self, *, expunge: bool, look: bool = True) -> None:
        """Tell the client what others did to the open mailbox.

        Without `expunge` (during FETCH, STORE, SEARCH: RFC 3501 §7.4.1) nothing is told while
        removals wait, so that numbers keep their meaning; the next command tells all. Without
        `look`, nothing is read if nothing had happened when the command began.
        """
        selected = self.selected
        if selected is None or (not look and self.up_to_date):
            return
        mail = self.shared.house.mail
        try:
            changes, registry = await mail.read(self._changes, selected)
        except NotFound:
            self._mailbox_gone()
            return
        self.announce(selected, registry)
        if changes.mailbox.modseq == selected.view.stamp:
            return
        if changes.vanished and not expunge:
            return
        await self._apply(selected, changes)

    def announce(self, selected: Selected, registry: Registry) -> None:
        """Tell keywords that are new to the account. RFC 3501 §7.2.6."""
        if registry.names == selected.registry.names:
            return
        selected.registry = registry
        selected.forget_names()
        self.write(untagged(b"FLAGS", flags(registry.names)))
        if not selected.read_only:
            permanent = registry.names if registry.full else (*registry.names, "\\*")
            self.tell(None, "OK", "These are kept", b"PERMANENTFLAGS " + flags(permanent))

    def _changes(self, tx: Tx, selected: Selected) -> tuple[Changes, Registry]:
        found = reading.changes(tx, selected.mailbox.id, selected.view.stamp)
        registry = selected.registry
        if found.flags:
            registry = read_registry(tx, selected.mailbox.account)
        return found, registry

    def _mailbox_gone(self) -> None:
        """Another session deleted the mailbox: nothing in it means anything any more."""
        self.tell(None, "BYE", "The mailbox was deleted")
        self.state = State.LOGOUT

    async def _apply(self, selected: Selected, changes: Changes) -> None:
        old, highest = selected.view, selected.mailbox.uidnext
        added = [uid for uid, _, _ in changes.flags if uid >= highest]
        gone = [number for uid in changes.vanished if (number := old.number(uid))]
        stamp = changes.mailbox.modseq
        known = self.shared.views.get(self.viewed)
        if known is None or known.stamp != stamp:
            # No other session has made it already.
            sets: dict[int, list[int]] = {}
            for uid, bits, _ in changes.flags:
                sets.setdefault(bits, []).append(uid)
            view = old.changed(added, changes.vanished, stamp, sets)
            known = self.shared.views.keep(self.viewed, view)
        selected.view, selected.mailbox = known, changes.mailbox
        own, selected.own = selected.own, set()
        # From the last to the first: each number means what it meant before. RFC 3501 §7.4.1.
        await self.write_lines([b"* %d EXPUNGE\r\n" % number for number in reversed(gone)])
        if added:
            await self._claim_recent(selected, added)
            self.write(b"* %d EXISTS\r\n" % selected.view.size)
            self.write(b"* %d RECENT\r\n" % selected.recent_count())
        await self.write_lines(
            [
                self.flags_line(selected, uid, bits, modseq)
                for uid, bits, modseq in changes.flags
                if uid < highest and modseq not in own
            ]
        )

    async def write_lines(self, lines: Sequence[bytes]) -> None:
        """Write many responses; the peer's reading sets the pace, and others have their turn."""
        for start in range(0, len(lines), LINES):
            self.write(b"".join(lines[start : start + LINES]))
            await self.output.drain()
            if len(lines) > LINES:
                await asyncio.sleep(0)

    def caught_up(
        self, selected: Selected, stamp: int, sets: Mapping[int, Sequence[int]] | None = None
    ) -> None:
        """All that happened up to `stamp` was our own doing and left every UID in its place;
        `sets` are the flags that changed."""
        if stamp != selected.view.stamp:
            view = selected.view.changed((), (), stamp, sets)
            selected.view = self.shared.views.keep(self.viewed, view)
        selected.own.clear()

    # --- flags, from the view --------------------------------------------------------------------

    @property
    def viewed(self) -> Of:
        """Under what the view of the open mailbox is shared."""
        return Of(self.open.mailbox.id, self.actor)

    async def know_flags(self, first: int, last: int) -> bool:
        """Make the view know the flags of messages, by number, as of its stamp.

        False if it cannot: others changed the mailbox, and the client was not told yet.
        """
        selected = self.open
        known = self.shared.views.get(self.viewed)
        if known is not None and known.stamp == selected.view.stamp:
            selected.view = known  # another session may have read them
        pace = Pace(self.shared.clock)
        while (span := selected.view.unread(first, last)) is not None:
            if pace.over:
                await pace.rest()
            modseq, sets = await self.shared.house.mail.read(_flag_sets, selected.mailbox.id, *span)
            if modseq != selected.view.stamp:
                return False
            selected.view = self.shared.views.keep(self.viewed, selected.view.read(sets))
        return True

    async def _claim_recent(self, selected: Selected, added: Sequence[int]) -> None:
        """Which new messages are \\Recent here: those that no session was told of before."""
        state, recent, view = self.shared.house.state, selected.recent, selected.view
        floor = await state.read(reading.recent_floor, selected.mailbox.id)
        first, last = max(floor, added[0]), added[-1]
        if first > last:
            return
        if recent and view.below(first) == view.below(recent[-1][1] + 1):
            first = recent.pop()[0]  # neighbours: a session that idles for weeks keeps one range
        recent.append((first, last))
        if not selected.read_only:
            state.note(reading.raise_recent, selected.mailbox.id, last + 1)

    def flags_line(self, selected: Selected, uid: int, bits: int, modseq: int) -> bytes:
        """An untagged FETCH with the flags of one message. RFC 3501 §7.4.2, RFC 7162 §3.2."""
        number = selected.view.number(uid)
        if not number:
            return b""
        shown = selected.flags_of(bits, uid)
        if self.condstore:
            return b"* %d FETCH (UID %d FLAGS %b MODSEQ (%d))\r\n" % (number, uid, shown, modseq)
        return b"* %d FETCH (FLAGS %b)\r\n" % (number, shown)

    # --- choosing messages -----------------------------------------------------------------------

    def ranges(self, messages: SequenceSet, *, uid: bool) -> list[Range]:
        """The chosen messages as ranges of message numbers.

        Raises NoSuchMessage for a number that does not exist (RFC 3501 §6.4.8 makes that
        harmless for UIDs only).
        """
        view = self.open.view
        if messages.saved:
            return view.by_uid(self.open.result)  # what was removed since is not in it: RFC 5182
        if uid:
            return view.by_uid(messages.resolve(view.last_uid))
        found = messages.resolve(view.size)
        if found and found[-1][1] > view.size:
            raise NoSuchMessage
        return view.by_number(found)

    @property
    def open(self) -> Selected:
        assert self.selected is not None  # the table asks for the state
        return self.selected

    def close_mailbox(self) -> None:
        """No mailbox is open any more."""
        self.selected = None
        if self.state is State.SELECTED:
            self.state = State.SIGNED_IN

    def sign_out(self) -> None:
        """Forget who signed in, and all that was said since. RFC 8437 §2."""
        self.close_mailbox()
        self.state = State.NOT_SIGNED_IN
        self.identity = None
        self.condstore = False
        self.client = ""
        self.bad = 0
        self.signed_out()

    async def find(self, path: str) -> Mailbox:
        """The mailbox at a path; raises NotFound."""
        boxes = await self.shared.house.mail.read(folders.tree, self.account)
        return boxes.find(path)


def _flag_sets(tx: Tx, box: int, first: int, last: int) -> tuple[int | None, list[tuple[int, int]]]:
    return reading.modseq(tx, box), reading.flag_sets(tx, box, first, last)


class NoSuchMessage(Malformed):
    """A message number beyond the mailbox: BAD. RFC 3501 §9, seq-number."""

    sentence = "There is no such message"


def picks(view: View, ranges: Sequence[Range], size: int) -> list[tuple[Range, Pick]]:
    """The chosen messages in pieces of at most `size`, each with what the store is asked.

    Neighbouring small ranges go together as a list; a long range goes without one.
    """
    made: list[tuple[Range, Pick]] = []
    held = array.array("I")
    first = last = 0
    for lo, hi in ranges:
        at = lo
        while at <= hi:
            end = min(hi, at + size - 1)
            alone = end - at + 1 >= size // 4
            if held and (alone or len(held) + end - at + 1 > size):
                made.append(((first, last), Pick.of(held.tolist())))
                held = array.array("I")
            if alone:
                made.append(((at, end), Pick(view.uid(at), view.uid(end))))
            else:
                first = first if held else at
                held += view.uids(at, end)
                last = end
            at = end + 1
    if held:
        made.append(((first, last), Pick.of(held.tolist())))
    return made


Run = Callable[[Session, Command], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table: a command says its tagged reply itself."""

    run: Run
    when: frozenset[State]
    expunge: bool = True  # may removals be told after it: not after FETCH, STORE, SEARCH
    sync: bool = True  # tell what others did before its tagged reply
