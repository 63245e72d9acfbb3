"""Which mailboxes a LIST names and what is said of each: pure, over one tree of mailboxes.

RFC 3501 §6.3.8 and §6.3.9, RFC 5258, RFC 6154, RFC 3348.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from postroom.domain.mailboxes.folders import DEPTH, INBOX, SEPARATOR, Mailbox, Tree
from postroom.domain.mailboxes.sharing import is_level
from postroom.formats.folding import nfc
from postroom.wire.imap import List, ListReturn, ListSelect, Lsub

PATTERNS_LENGTH: Final = 8192
"""Characters of all patterns of one command: the longest path has no more."""

# RFC 6154 §2, RFC 8457 §4. An inbox needs no attribute: its name says it.
SPECIAL_USES: Final = {
    role: b"\\" + role.capitalize().encode("ascii")
    for role in ("all", "archive", "drafts", "flagged", "important", "junk", "sent", "trash")
}


class Pattern:
    """`*` stands for anything, `%` for anything but a separator. RFC 3501 §6.3.8.

    The places reached in the pattern are the bits of one number, which moves along with the
    characters of a name: linear in the name whatever the pattern is, and mailboxes share the
    work of the path above them.
    """

    __slots__ = ("_done", "_loops", "_places", "_settled", "_star")

    START: Final = 1

    def __init__(self, text: str) -> None:
        star = percent = at = 0
        places: dict[str, int] = {}  # character -> the places that it leads on from
        for character in text:
            if character == "*":
                star |= 1 << at
            elif character == "%":
                percent |= 1 << at
            else:
                places[character] = places.get(character, 0) | 1 << at
                at += 1
        self._places = places
        self._star = star
        self._loops = star | percent
        self._done = 1 << at
        self._settled = self._done & star

    def after(self, state: int, text: str, *, fold: bool = False) -> int:
        """The state behind `text`; 0 if nothing below can match. `fold`: small letters match
        the capitals of `text` too.
        """
        places = self._places
        for character in text:
            if not state or state & self._settled:
                break
            leads = places.get(character, 0)
            if fold:
                leads |= places.get(character.lower(), 0)
            stay = state & (self._star if character == SEPARATOR else self._loops)
            state = (state & leads) << 1 | stay
        return state

    def done(self, state: int) -> bool:
        """Whether the text so far matches."""
        return bool(state & self._done)

    def matches(self, path: str) -> bool:
        """Whether a whole path matches; INBOX at its top in any case. RFC 3501 §5.1."""
        top, slash, rest = path.partition(SEPARATOR)
        state = self.after(self.START, top, fold=top == INBOX)
        return self.done(self.after(state, slash + rest))


def patterns(reference: str, asked: Sequence[str]) -> list[Pattern]:
    """The patterns below a reference, which is put before each; what is longer than any name is
    passed over, as RFC 9051 §6.3.9 has it."""
    found: list[Pattern] = []
    room = PATTERNS_LENGTH
    for pattern in asked:
        whole = reference + pattern
        if len(whole) <= room:
            room -= len(whole)
            found.append(Pattern(nfc(whole)))
    return found


@dataclass(frozen=True, slots=True)
class Named:
    """A mailbox whose path matches."""

    path: str
    depth: int  # 1 at the top
    mailbox: Mailbox


def matching(tree: Tree, wanted: Sequence[Pattern]) -> Iterator[Named]:
    """The mailboxes that any pattern matches: INBOX first, each followed by those below it."""
    waiting = [(box, "", 1, [Pattern.START] * len(wanted)) for box in reversed(_in_order(tree, 0))]
    while waiting:
        box, above, depth, states = waiting.pop()
        fold = depth == 1 and box.name == INBOX
        states = [
            pattern.after(state, box.name, fold=fold)
            for pattern, state in zip(wanted, states, strict=True)
        ]
        path = above + box.name
        if any(map(Pattern.done, wanted, states)):
            yield Named(path, depth, box)
        below = [
            pattern.after(state, SEPARATOR) for pattern, state in zip(wanted, states, strict=True)
        ]
        if any(below):
            path += SEPARATOR
            waiting += [(b, path, depth + 1, below) for b in reversed(_in_order(tree, box.id))]


def _in_order(tree: Tree, parent: int) -> list[Mailbox]:
    return sorted(tree.children(parent), key=lambda box: (box.role != "inbox", box.name))


def _bare(tree: Tree) -> set[int]:
    """The levels below which there is no mailbox: names that are subscribed to, and what lies
    above these alone."""
    levels = {box for box, each in tree.by_id.items() if is_level(each)}
    return levels - _above(tree, tree.by_id.keys() - levels) if levels else levels


def _above(tree: Tree, boxes: Iterable[int]) -> set[int]:
    """All that lie above these mailboxes."""
    found: set[int] = set()
    for box in boxes:
        parent = tree.by_id[box].parent
        while parent in tree.by_id and parent not in found:
            found.add(parent)
            parent = tree.by_id[parent].parent
    return found


@dataclass(frozen=True, slots=True)
class Listed:
    """One response of LIST or LSUB."""

    named: Named
    attributes: tuple[bytes, ...]
    child_info: tuple[bytes, ...] = ()
    """Which selection options a mailbox below it meets. RFC 5258 §3.5."""
    chosen: bool = True
    """It meets them itself; else no STATUS and no METADATA follows. RFC 5819 §3, RFC 9590 §4."""

    @property
    def closed(self) -> Listed:
        """As one that cannot be opened. RFC 5819 §2."""
        if b"\\Noselect" in self.attributes:
            return self
        return replace(self, attributes=(*self.attributes, b"\\Noselect"))


def list_answers(tree: Tree, names: Sequence[Named], asked: List) -> Iterator[Listed]:
    """What LIST answers, given the mailboxes whose names match.

    With RECURSIVEMATCH, one that is not chosen itself is told of because of what lies below it
    and is not told of otherwise. RFC 5258 §3.5.
    """
    select = asked.select
    base = sorted(select & {ListSelect.SUBSCRIBED, ListSelect.SPECIAL_USE})
    bare = _bare(tree)
    chosen = {box.id for box in tree.by_id.values() if _meets(box, select)}
    if ListSelect.SUBSCRIBED not in select:
        chosen -= bare
    above: set[int] = set()
    above_untold: set[int] = set()
    if ListSelect.RECURSIVEMATCH in select:
        above = _above(tree, chosen)
        above_untold = _above(tree, chosen - {name.mailbox.id for name in names})
    tells = ListReturn.SUBSCRIBED in asked.returns or ListSelect.SUBSCRIBED in select
    quoted = tuple(b'"' + option.encode("ascii") + b'"' for option in base)
    for name in names:
        box = name.mailbox.id
        if box in chosen or box in above_untold:
            attributes = _attributes(tree, name, bare, subscribed=tells)
            yield Listed(name, attributes, quoted if box in above else (), box in chosen)


def _meets(box: Mailbox, select: frozenset[ListSelect]) -> bool:
    if ListSelect.SUBSCRIBED in select and not box.subscribed:
        return False
    return ListSelect.SPECIAL_USE not in select or box.role in SPECIAL_USES


def _attributes(tree: Tree, name: Named, bare: set[int], *, subscribed: bool) -> tuple[bytes, ...]:
    """RFC 3501 §7.2.2; children (RFC 3348) and special uses (RFC 6154 §2) are always told."""
    found = [b"\\NonExistent", b"\\Noselect"] if is_level(name.mailbox) else []  # RFC 5258 §3
    below = any(child.id not in bare for child in tree.children(name.mailbox.id))
    found.append(b"\\HasChildren" if below else b"\\HasNoChildren")
    if name.depth >= DEPTH:
        found.append(b"\\Noinferiors")
    if subscribed and name.mailbox.subscribed:
        found.append(b"\\Subscribed")  # RFC 5258 §3.4
    if name.mailbox.role in SPECIAL_USES:
        found.append(SPECIAL_USES[name.mailbox.role])
    return tuple(found)


def lsub_answers(tree: Tree, names: Sequence[Named], asked: Lsub) -> Iterator[Listed]:
    """What LSUB answers. RFC 3501 §6.3.9.

    Where `%` ends above a subscribed mailbox, the level that it ends at is told of, \\Noselect.
    """
    chosen = {box.id for box in tree.by_id.values() if box.subscribed}
    levels: set[int] = set()
    if asked.pattern is not None and "%" in asked.pattern:
        levels = _above(tree, chosen - {name.mailbox.id for name in names})
    for name in names:
        if name.mailbox.id in chosen:
            yield Listed(name, ())
        elif name.mailbox.id in levels:
            yield Listed(name, (b"\\Noselect",))
