"""The session's state: what it says and how, and what it may do. RFC 3501 §3."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Sequence
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
from postroom.domain.mailboxes import reading, rights, sharing
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import Quota
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.sharing import Reached
from postroom.domain.policy import Policy
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings, RetentionSettings
from postroom.net.connection import Peer
from postroom.protocols.imap.kept import Kept
from postroom.protocols.imap.languages import I_DEFAULT, Language
from postroom.protocols.imap.progress import Progress
from postroom.protocols.imap.selected import Selected
from postroom.protocols.imap.view import Of, Range, Views
from postroom.protocols.imap.watching import Watch
from postroom.store.sql import Tx
from postroom.wire.imap import (
    Cursor,
    Kind,
    NeedLiteral,
    SequenceSet,
    continuation,
    flags,
    mailbox_name,
    status_line,
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

    def write(self, data: bytes) -> None:
        """Say it, at the latest with the next flush."""
        ...

    def flush(self) -> None:
        """Nothing that was written waits."""
        ...

    async def drain(self) -> None:
        """Flush, and wait for the peer."""
        ...

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

    async def write_lines(self, lines: Sequence[bytes]) -> None:
        """Write many responses; the peer's reading sets the pace, and others have their turn."""
        for start in range(0, len(lines), LINES):
            self.write(b"".join(lines[start : start + LINES]))
            await self.output.drain()
            if len(lines) > LINES:
                await asyncio.sleep(0)

    def come_so_far(self, done: int, goal: int) -> None:
        """Of a command that may take long, where an untagged response may stand: RFC 9585."""
        if code := self.progress.due(done, goal):
            self.tell(None, "OK", f"{done} of {goal}, please wait", code)
            self.output.flush()

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
        return await self.shared.house.mail.read(self._quota, owner)

    def _quota(self, tx: Tx, owner: int | None) -> Quota:
        held = self.policy(tx, owner).of(QuotaSettings)
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
        if self.selected is not None and self.selected.rights != self.selected.told_rights:
            self._tell_rights(self.selected)
        return epoch == self.identity.epoch and state == "active"

    def _tell_rights(self, selected: Selected) -> None:
        """What may be done in the open mailbox changed, and with it perhaps the flags that can be
        changed; a client that may not read it any more hears nothing of it. RFC 4314 §5.1.1."""
        if not selected.rights & Right.READ:
            return
        changed = selected.permanent() != selected.permanent(selected.told_rights)
        selected.told_rights = selected.rights
        if changed:
            self.tell_permanent(selected)

    def tell_permanent(self, selected: Selected) -> None:
        """The flags that can be changed for good. RFC 3501 §7.1."""
        told = b"PERMANENTFLAGS " + flags(selected.permanent())
        self.tell(None, "OK", "These are kept", told)

    def _look(self, tx: Tx) -> tuple[int, str]:
        self.looked = None
        if self.selected is not None:
            box = self.selected.mailbox
            self.looked = reading.modseq(tx, box.id)
            self.selected.rights = rights.of(tx, self.account, box)
        return people.epoch(tx, self.actor)

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

    @property
    def viewed(self) -> Of:
        """Under what the view of the open mailbox is shared."""
        return Of(self.open.mailbox.id, self.actor)

    def enable_condstore(self) -> None:
        """From now on modseqs are told; of the open mailbox, up to which one all was told. RFC 7162
        §3.1."""
        if not self.condstore:
            self.condstore = True
            if self.selected is not None:
                self.tell_highest()

    def tell_highest(self) -> None:
        """Up to which modseq all that happened in the open mailbox was told. RFC 7162 §3.1.2.1."""
        stamp = max(1, self.open.view.stamp)
        self.tell(None, "OK", "The highest modseq", b"HIGHESTMODSEQ %d" % stamp)

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

    async def reach_to_fill(self, path: str) -> tuple[Reached, Quota]:
        """`reach` with the right to place messages there, and what its owner may hold."""

        def unit(tx: Tx) -> tuple[Reached, Quota]:
            reached = sharing.reach(tx, self.account, path)
            rights.check(reached.rights, Right.INSERT)
            return reached, self._quota(tx, reached.mailbox.account)

        return await self.shared.house.mail.read(unit)


class NoSuchMessage(Malformed):
    """A message number beyond the mailbox: BAD. RFC 3501 §9, seq-number."""

    sentence = "There is no such message"


class UidRequired(Malformed):
    """Message numbers after UIDONLY was enabled: BAD with its code. RFC 9586 §3."""

    sentence = "Messages are named by UID alone"
