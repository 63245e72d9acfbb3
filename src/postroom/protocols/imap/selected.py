"""The mailbox that a session has open, as far as its client has been told. RFC 3501 §3.3."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import rights
from postroom.domain.mailboxes.flags import Registry
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.rights import NONE, Right
from postroom.protocols.imap.decoding import Memory
from postroom.protocols.imap.view import Neighbours, Range, Ranges, View
from postroom.wire.imap import FetchItem, flags


class Unasked(NamedTuple):
    """Messages that NOTIFY asked to have fetched when they came. RFC 5465 §5.2."""

    items: tuple[FetchItem, ...] = ()
    uids: Sequence[int] = ()  # ascending


class Following(Protocol):
    """The results of searches that the client is told the changes of. RFC 5267 §4.3."""

    @property
    def is_behind(self) -> bool:
        """The client was told of changes that the results were not held against yet."""
        ...

    @property
    def has_new(self) -> bool:
        """Messages came among these changes."""
        ...

    def stir(self, uids: Iterable[int], came: Iterable[int]) -> None:
        """The client was told of changes of these, and of some that `came`."""
        ...

    async def gone(self, uids: Sequence[int]) -> None:
        """These, ascending, are about to leave the view: tell first, while their numbers mean
        them."""
        ...

    async def tell(self, new: Unasked) -> None:
        """What the changes mean for the results, and before it, with what the searches want to
        have fetched of what comes in, `new`: of each message one response."""
        ...


@dataclass(slots=True)
class Selected:
    """The mailbox that is open, as far as the client has been told."""

    mailbox: Mailbox
    view: View
    registry: Registry
    read_only: bool
    rights: Right = rights.ALL  # as of the command under way: RFC 4314
    told_rights: Right = NONE  # those of which PERMANENTFLAGS spoke last
    recent: list[Range] = field(default_factory=list)  # UIDs that are \\Recent here
    own: set[int] = field(default_factory=set)  # modseqs of our own STOREs: told already
    result: Ranges = field(default_factory=Ranges)  # what `$` means: UIDs. RFC 5182
    saved_flags: dict[int, bytes] = field(default_factory=dict)
    saved_recent: dict[int, bytes] = field(default_factory=dict)
    decoding: Memory = field(default_factory=Memory)
    ahead: bool = False  # more was told than the view's stamp says: RFC 5465
    path: str = ""  # as it was opened
    fetched: int = 0  # UIDs from here on no NOTIFY has fetched for the client
    placed: set[int] = field(default_factory=set)  # of these, what it put there itself
    following: Following | None = None  # the results that the client follows: RFC 5267 §4.3

    def __post_init__(self) -> None:
        self.fetched = self.mailbox.uidnext
        self.told_rights = self.rights

    def stir(self, uids: Iterable[int], came: Iterable[int] = ()) -> None:
        """The client was told of changes of these, and of some that `came`."""
        if self.following is not None:
            self.following.stir(uids, came)

    def permanent(self, held: Right | None = None) -> tuple[str, ...]:
        """The flags that this client can change for good, with its rights or those that it held.
        RFC 3501 §7.1, RFC 4314 §5.1.1."""
        if self.read_only:
            return ()
        if held is None:
            held = self.rights
        kept = self.registry.names
        if held & _ALL_FLAGS != _ALL_FLAGS:
            kept = tuple([name for name in kept if may_change(held, name)])
        makes = held & Right.WRITE and not self.registry.full
        return (*kept, "\\*") if makes else kept

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


_OWN_RIGHT: Final = {"\\seen": Right.SEEN, "\\deleted": Right.DELETE_MESSAGES}
_ALL_FLAGS: Final = Right.SEEN | Right.WRITE | Right.DELETE_MESSAGES
_OWN_BITS: Final = bits.SEEN | bits.DELETED


def may_change(held: Right, flag: str) -> bool:
    """Whether somebody with these rights may set and clear a flag. RFC 4314 §4."""
    return bool(held & _OWN_RIGHT.get(flag.lower(), Right.WRITE))


def changeable(held: Right) -> int:
    """The bits of all flags that may be set and cleared. RFC 4314 §4."""
    found = -1 & ~_OWN_BITS if held & Right.WRITE else 0
    found |= bits.SEEN if held & Right.SEEN else 0
    return found | (bits.DELETED if held & Right.DELETE_MESSAGES else 0)
