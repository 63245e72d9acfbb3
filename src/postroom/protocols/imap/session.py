"""The session's state, and how it keeps up with a mailbox that others change. RFC 3501 §3."""

from __future__ import annotations

import array
import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from postroom.domain.mailboxes import reading, rights, sharing
from postroom.domain.mailboxes.flags import Registry
from postroom.domain.mailboxes.flags import registry as read_registry
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import Pick, Quota
from postroom.domain.mailboxes.reading import Changes
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.sharing import Reached
from postroom.domain.policy import Policy
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings, RetentionSettings
from postroom.net.connection import Peer
from postroom.protocols.imap.kept import Kept
from postroom.protocols.imap.languages import I_DEFAULT, Language
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.progress import Progress
from postroom.protocols.imap.selected import Selected
from postroom.protocols.imap.view import Of, Range, Ranges, View, Views
from postroom.protocols.imap.watching import Watch
from postroom.store.sql import Tx
from postroom.wire.imap import (
    Command,
    Cursor,
    Kind,
    NeedLiteral,
    SequenceSet,
    continuation,
    flags,
    mailbox_name,
    status_line,
    untagged,
)

DAY_MS: Final = 24 * 3600 * 1000
LINES: Final = 500
"""Untagged responses in one write, and between two looks at whether the peer reads; ranges in one
VANISHED."""


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
    holder: int = 0  # this worker's number: `server.house.holder_of`

    @property
    def clock(self) -> Clock:
        return self.house.clock

    @property
    def ids(self) -> Ids:
        return self.house.ids


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
        self.qresync = False  # removals are told by UID: RFC 7162 §3.2.10
        self.rev2 = False  # the client speaks IMAP4rev2: RFC 9051 §6.3.1
        self.utf8_accept = False  # UTF8=ACCEPT was enabled: RFC 6855 §3
        self.uidonly = False  # message numbers are not spoken of: RFC 9586 §3
        self.client: str = ""  # what ID said, for the log
        self.idling: bytes | None = None  # the tag of an IDLE under way
        self.watch: Watch | None = None  # what NOTIFY asked for: RFC 5465
        self.sasl: tuple[bytes, Conversation] | None = None  # an AUTHENTICATE and its tag
        self.starttls: bytes | None = None  # its tag: upgrade next
        self.compress: bytes | None = None  # its tag: compress next
        self.compressed = False  # RFC 4978
        self.progress = Progress(shared.clock)  # of the command under way
        self.appending: Appending | None = None  # an APPEND whose messages stream in
        self.looked: int | None = None  # modseq of the open mailbox when the command began
        self.may_expunge = True  # of the command under way: RFC 3501 §7.4.1
        self.language: Language = I_DEFAULT  # what people are told is said in it: RFC 5255
        self.bad = 0
        self.signed_in: Callable[[], None] = lambda: None
        self.signed_out: Callable[[], None] = lambda: None
        self.speaks_utf8: Callable[[], None] = lambda: None

    # --- writing -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.output.write(data)

    def tell(self, tag: bytes | None, kind: Kind, text: str, code: bytes | None = None) -> None:
        """A status response."""
        self.output.write(self.status(tag, kind, text, code))

    def status(self, tag: bytes | None, kind: Kind, text: str, code: bytes | None = None) -> bytes:
        """A status response, in the session's language; written by the caller."""
        catalogue = self.language.catalogue
        if catalogue is None:
            return status_line(tag, kind, code, text)
        return status_line(tag, kind, code, catalogue.say(text), utf8=True)

    def go_on(self, text: str) -> None:
        """A continuation for people to read, in the session's language."""
        catalogue = self.language.catalogue
        if catalogue is None:
            self.output.write(continuation(text))
        else:
            self.output.write(continuation(catalogue.say(text), utf8=True))

    async def finish(
        self,
        command: Command,
        text: str,
        code: bytes | None = None,
        *,
        look: bool = True,
        highest: bool = False,
    ) -> None:
        """The end of a command that went well: what others did, then its tagged reply.

        Without `look`, what they had done when the command began: enough for one that was short
        and changed nothing itself. With `highest`, a client that keeps up by modseq hears up to
        which one it has been told everything: RFC 7162 §3.2.7.
        """
        await self.catch_up(expunge=self.may_expunge, look=look)
        if highest and self.condstore and self.selected is not None:
            code = b"HIGHESTMODSEQ %d" % self.selected.view.stamp
        self.tell(command.tag, "OK", text, code)

    def come_so_far(self, done: int, goal: int) -> None:
        """Of a command that may take long, where an untagged response may stand: RFC 9585."""
        if code := self.progress.due(done, goal):
            self.tell(None, "OK", f"{done} of {goal}, please wait", code)

    def name(self, path: str) -> bytes:
        """A mailbox name as this client reads it. RFC 3501 §5.1.3, RFC 9051 §5.1."""
        return mailbox_name(path, self.rev2 or self.utf8_accept)

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

    def policy(self, tx: Tx, owner: int | None = None) -> Policy:
        """What applies to this session, or to what another account owns."""
        house = self.shared.house
        if owner is None or owner == self.account:
            return house.policies.current(tx, self.chain())
        domain = people.by_id(tx, owner).domain
        return house.policies.current(tx, house.chain(self.peer.listener, domain, owner))

    async def quota(self, owner: int | None = None) -> Quota:
        """What the account may hold, or the owner of a mailbox that is written to."""
        policy = await self.shared.house.mail.read(self.policy, owner)
        held = policy.of(QuotaSettings)
        return Quota(held.octets, held.messages)

    async def retention(self, owner: int | None = None) -> int:
        """How long what is expunged can be brought back, in milliseconds."""
        policy = await self.shared.house.mail.read(self.policy, owner)
        return policy.of(RetentionSettings).deleted_days * DAY_MS

    async def still_welcome(self) -> bool:
        """Rights may have changed since the sign-in: one point read, and in the same snapshot the
        modseq of the open mailbox, and what may be done in it if it is another's."""
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
            box = self.selected.mailbox
            self.looked = reading.modseq(tx, box.id)
            self.selected.rights = rights.of(tx, self.account, box)
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
        if selected is None:
            return
        if look or not self.up_to_date:
            changes = await self._news(selected)
            if changes is not None and (expunge or not changes.vanished):
                await self._apply(selected, changes)
        fetches = self.watch is not None and bool(self.watch.filters.opened.items)
        if not (fetches and selected.came):  # what NOTIFY fetches of them comes first
            await self.tell_contexts()

    async def tell_contexts(self) -> None:
        """What the changes that were told mean for the results that the client follows: behind
        them, so that it knows the messages. RFC 5267 §4.3.3, RFC 5465 §5.1, §7."""
        selected = self.selected
        if selected is None or not selected.stirred or self.state is State.LOGOUT:
            return
        if not selected.rights & Right.READ:
            return
        if len(selected.stirred) > LINES:
            uids = await asyncio.to_thread(_ascending, selected.stirred)
        else:
            uids = _ascending(selected.stirred)
        came = frozenset(selected.came)
        for each in tuple(selected.contexts.values()):
            await each.changed(uids, came)
        del selected.stirred[:], selected.came[:]  # not before: what fails is done again

    async def catch_up_partly(self, *, expunge: bool, flags: bool) -> None:
        """`catch_up` between commands, where a client may have asked for less than everything:
        the next command tells the rest. RFC 5465 §5, §6.1.2."""
        selected = self.selected
        changes = await self._news(selected) if selected is not None else None
        if selected is None or changes is None:
            return
        if flags and (expunge or not changes.vanished):
            await self._apply(selected, changes)
        else:
            await self._apply_part(selected, changes, expunge=expunge)

    async def _news(self, selected: Selected) -> Changes | None:
        """What happened since the view was taken; None if there is nothing to tell."""
        if not selected.rights & Right.READ:
            return None  # it was taken away: nothing of the mailbox is told any more
        mail = self.shared.house.mail
        try:
            changes, registry = await mail.read(self._changes, selected)
        except NotFound:
            self._mailbox_gone()
            return None
        self.announce(selected, registry)
        return changes if changes.mailbox.modseq != selected.view.stamp else None

    def announce(self, selected: Selected, registry: Registry) -> None:
        """Tell keywords that are new to the account. RFC 3501 §7.2.6."""
        if registry.names == selected.registry.names:
            return
        selected.registry = registry
        selected.forget_names()
        self.write(untagged(b"FLAGS", flags(registry.names)))
        if not selected.read_only:
            told = b"PERMANENTFLAGS " + flags(selected.permanent())
            self.tell(None, "OK", "These are kept", told)

    def _changes(self, tx: Tx, selected: Selected) -> tuple[Changes, Registry]:
        box, stamp = selected.mailbox, selected.view.stamp
        found = reading.changes(tx, box.id, stamp)
        if found.mailbox.modseq > stamp and _forgotten(tx, box.account, stamp):
            there = reading.uids(tx, box.id)
            gone = sorted(set(selected.view.all_uids()).difference(there))
            found = replace(found, vanished=tuple(gone))
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
        gone = [uid for uid in changes.vanished if old.number(uid)]
        await self._leave_contexts(selected, gone)
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
        selected.ahead = False
        own, selected.own = selected.own, set()
        await self._tell_gone(old, gone)
        await self._tell_added(selected, added)
        await self.write_lines(
            [
                self.flags_line(selected, uid, bits, modseq)
                for uid, bits, modseq in changes.flags
                if uid < highest and modseq not in own
            ]
        )
        selected.stir((uid for uid, _, _ in changes.flags), added)

    async def _apply_part(self, selected: Selected, changes: Changes, *, expunge: bool) -> None:
        """Tell what came and, with `expunge`, what went, but no flags. The view keeps its stamp,
        since not all up to a later one is told; it is this session's own from here on."""
        old, highest = selected.view, selected.mailbox.uidnext
        added = [uid for uid, _, _ in changes.flags if uid >= highest]
        gone = [uid for uid in changes.vanished if old.number(uid)] if expunge else []
        selected.mailbox = changes.mailbox
        if not added and not gone:
            return
        await self._leave_contexts(selected, gone)
        selected.view = old.changed(added, gone, old.stamp)
        selected.ahead = True
        await self._tell_gone(old, gone)
        await self._tell_added(selected, added)
        selected.stir(added, added)

    async def _leave_contexts(self, selected: Selected, gone: Sequence[int]) -> None:
        """Before removals are told: RFC 5267 §4.3.4."""
        for each in tuple(selected.contexts.values()) if gone else ():
            await each.gone(gone)

    async def _tell_gone(self, old: View, gone: Sequence[int]) -> None:
        """Of a view, the UIDs that are there no more."""
        if self.qresync or self.uidonly:
            # What came and went between two looks was never counted: RFC 7162 §3.2.10.2.
            await self.tell_vanished(Ranges(gone))
            return
        # From the last to the first: each number means what it meant before. RFC 3501 §7.4.1.
        numbers = [old.number(uid) for uid in reversed(gone)]
        await self.write_lines([b"* %d EXPUNGE\r\n" % number for number in numbers])

    async def _tell_added(self, selected: Selected, added: Sequence[int]) -> None:
        if not added:
            return
        if not self.rev2:  # it knows nothing of \\Recent: RFC 9051 Appendix E
            await self._claim_recent(selected, added)
        self.write(b"* %d EXISTS\r\n" % selected.view.size)
        if not self.rev2:
            self.write(b"* %d RECENT\r\n" % selected.recent_count())

    async def write_lines(self, lines: Sequence[bytes]) -> None:
        """Write many responses; the peer's reading sets the pace, and others have their turn."""
        for start in range(0, len(lines), LINES):
            self.write(b"".join(lines[start : start + LINES]))
            await self.output.drain()
            if len(lines) > LINES:
                await asyncio.sleep(0)

    async def tell_vanished(self, ranges: Iterable[Range], *, earlier: bool = False) -> None:
        """Write which UIDs vanished, in responses of bounded size. RFC 7162 §3.2.10."""
        head = b"* VANISHED (EARLIER) " if earlier else b"* VANISHED "
        pace = Pace(self.shared.clock)
        held: list[bytes] = []
        for lo, hi in ranges:
            held.append(b"%d:%d" % (lo, hi) if lo < hi else b"%d" % lo)
            if len(held) == LINES or pace.over:
                self.write(head + b",".join(held) + b"\r\n")
                held.clear()
                await self.output.drain()
                if pace.over:
                    await pace.rest()
        if held:
            self.write(head + b",".join(held) + b"\r\n")

    def caught_up(
        self, selected: Selected, stamp: int, sets: Mapping[int, Sequence[int]] | None = None
    ) -> None:
        """All that happened up to `stamp` was our own doing and left every UID in its place;
        `sets` are the flags that changed."""
        if stamp != selected.view.stamp:
            view = selected.view.changed((), (), stamp, sets)
            selected.view = self.shared.views.keep(self.viewed, view)
        for uids in (sets or {}).values():
            selected.stir(uids)
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
        if known is not None and known.stamp == selected.view.stamp and not selected.ahead:
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
        if self.uidonly:
            more = b" MODSEQ (%d)" % modseq if self.condstore else b""
            return b"* %d UIDFETCH (FLAGS %b%b)\r\n" % (uid, shown, more)  # RFC 9586 §3
        if self.condstore:
            return b"* %d FETCH (UID %d FLAGS %b MODSEQ (%d))\r\n" % (number, uid, shown, modseq)
        if self.rev2 or self.watch is not None:  # RFC 9051 §7.5.2, RFC 5465 §5.1
            return b"* %d FETCH (UID %d FLAGS %b)\r\n" % (number, uid, shown)
        return b"* %d FETCH (FLAGS %b)\r\n" % (number, shown)

    # --- telling unasked -------------------------------------------------------------------------

    def followed(self) -> frozenset[int]:
        """The accounts whose changes this session has to tell of without being asked, in IDLE
        (RFC 2177) or between commands (RFC 5465); none: it tells at its commands alone."""
        if self.watch is None and self.idling is None:
            return frozenset()
        owners: set[int] = set()
        if self.watch is not None:
            if self.watch.filters.silent:
                return frozenset()
            owners.update(self.watch.owners)
        owners.add(self.account)
        if self.selected is not None:
            owners.add(self.selected.mailbox.account)
        return frozenset(owners)

    async def tell_of_open(self) -> None:
        """What there is to tell of the open mailbox without being asked."""
        if self.watch is None:
            if self.idling is not None:
                await self.catch_up(expunge=True)
            return
        asked = self.watch.filters.opened
        if asked.messages:
            # IDLE is a command during which removals may be told: RFC 5465 §4.
            expunge = not asked.delayed or self.idling is not None
            await self.catch_up_partly(expunge=expunge, flags=asked.flags)

    def placed(self, box: int, uids: Iterable[int]) -> None:
        """What the client itself puts into the open mailbox is not fetched for it, unless it asks.
        RFC 5465 §5.2."""
        selected, watch = self.selected, self.watch
        if selected is None or watch is None or selected.mailbox.id != box:
            return
        if watch.filters.opened.items:
            selected.placed.update(uids)

    # --- choosing messages -----------------------------------------------------------------------

    def ranges(self, messages: SequenceSet, *, uid: bool) -> list[Range]:
        """The chosen messages as ranges of message numbers.

        Raises NoSuchMessage for a number that does not exist (RFC 3501 §6.4.8 makes that
        harmless for UIDs only).
        """
        if not uid:
            self.need_uids()
        view = self.open.view
        if messages.saved:
            return view.by_uid(self.open.result)  # what was removed since is not in it: RFC 5182
        if uid:
            return view.by_uid(messages.resolve(view.last_uid))
        found = messages.resolve(view.size)
        if found and found[-1][1] > view.size:
            raise NoSuchMessage
        return view.by_number(found)

    def need_uids(self) -> None:
        """A command that speaks of message numbers: raises UidRequired where they are no more."""
        if self.uidonly:
            raise UidRequired

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
        self.qresync = False
        self.rev2 = False
        self.utf8_accept = False
        self.uidonly = False
        self.client = ""
        self.watch = None
        self.language = I_DEFAULT
        self.bad = 0
        self.signed_out()

    async def find(self, path: str, needs: Right = Right.READ) -> Mailbox:
        """The mailbox at a path, an own one or another's in which the account has those rights;
        raises NotFound, MissingRight."""
        return (await self.reach(path, needs)).mailbox

    async def reach(self, path: str, needs: Right = Right.READ) -> Reached:
        """`find`, with all rights that the account has there."""
        found = await self.shared.house.mail.read(sharing.reach, self.account, path)
        rights.check(found.rights, needs)
        return found


def _ascending(uids: Iterable[int]) -> list[int]:
    return sorted(set(uids))


def _forgotten(tx: Tx, account: int, stamp: int) -> bool:
    """Of what was removed after `stamp`, something may not be known any more."""
    return reading.account_state(tx, account).floor_modseq > stamp


def _flag_sets(tx: Tx, box: int, first: int, last: int) -> tuple[int | None, list[tuple[int, int]]]:
    return reading.modseq(tx, box), reading.flag_sets(tx, box, first, last)


class NoSuchMessage(Malformed):
    """A message number beyond the mailbox: BAD. RFC 3501 §9, seq-number."""

    sentence = "There is no such message"


class UidRequired(Malformed):
    """Message numbers after UIDONLY was enabled: BAD with its code. RFC 9586 §3."""

    sentence = "Messages are named by UID alone"


def fetch_head(by_uid: bool) -> bytes:
    """A template of how a FETCH response begins, or a UIDFETCH. RFC 9586 §3."""
    return b"* %d UIDFETCH (" if by_uid else b"* %d FETCH ("


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
    needs: Right = Right.READ  # in the mailbox that is open, of commands that need one: RFC 4314
    expunge: bool = True  # may removals be told after it: not after FETCH, STORE, SEARCH
    sync: bool = True  # tell what others did before its tagged reply
