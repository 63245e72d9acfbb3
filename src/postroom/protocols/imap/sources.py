"""Which mailboxes a set of them means, for NOTIFY and ESEARCH. Pure. RFC 5465 §6, RFC 7377 §2.2."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from postroom.domain.mailboxes.folders import SEPARATOR, canonical
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.sharing import Sight, is_level
from postroom.wire.imap import Source, Which


def holds(which: Which, names: Collection[str], path: str, *, own: bool, subscribed: bool) -> bool:
    """Whether a mailbox that need not be open belongs to a set; `names` are canonical."""
    match which:
        case Which.SUBSCRIBED:
            return subscribed
        case Which.MAILBOXES:
            return path in names
        case Which.SUBTREE_ONE:
            return path in names or path.rpartition(SEPARATOR)[0] in names
        case Which.SUBTREE:
            at = path
            while at and at not in names:
                at = at.rpartition(SEPARATOR)[0]
            return bool(at)
        case _:
            # INBOXES as well: rules deliver into any mailbox of one's own, and where that
            # set is not known it means PERSONAL. RFC 5465 §6.3.
            return own


class Found(NamedTuple):
    """A mailbox to look in."""

    path: str
    box: int
    total: int  # messages


def readable(sight: Sight, sources: Iterable[Source]) -> list[Found]:
    """The mailboxes that sources mean and that may be looked up and read, each once, by name.
    What is named and is not among them is passed over."""
    asked = [(each.which, frozenset(map(canonical, each.names))) for each in sources]
    found: list[Found] = []
    for path, box in sight.tree.by_path.items():
        own, subscribed = box.account == sight.viewer, box.subscribed
        if is_level(box) or not sight.rights_in(box) & Right.READ:
            continue
        if any(holds(*each, path, own=own, subscribed=subscribed) for each in asked):
            found.append(Found(path, box.id, box.total))
    return sorted(found)
