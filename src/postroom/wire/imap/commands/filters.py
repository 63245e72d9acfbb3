"""Which mailboxes are meant, by NOTIFY and ESEARCH. RFC 5465 §8, RFC 7377 §4."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from postroom.wire.imap.cursor import BadSyntax, Cursor

NAMES_MOST: Final = 256
"""Mailboxes that one command names, in all of its filters."""


class Which(StrEnum):
    """Sets of mailboxes. RFC 5465 §6, RFC 7377 §2.2."""

    SELECTED = "SELECTED"
    SELECTED_DELAYED = "SELECTED-DELAYED"
    INBOXES = "INBOXES"
    PERSONAL = "PERSONAL"
    SUBSCRIBED = "SUBSCRIBED"
    SUBTREE = "SUBTREE"
    SUBTREE_ONE = "SUBTREE-ONE"
    MAILBOXES = "MAILBOXES"


OPEN: Final = frozenset({Which.SELECTED, Which.SELECTED_DELAYED})
"""They mean the mailbox that is open."""

_NAMING: Final = frozenset({Which.SUBTREE, Which.SUBTREE_ONE, Which.MAILBOXES})


def parse_filter(args: Cursor) -> tuple[Which, tuple[str, ...]]:
    """`filter-mailboxes`: the set, and the names that those have which name mailboxes."""
    try:
        which = Which(args.keyword().decode("ascii"))
    except ValueError:
        raise BadSyntax("These mailboxes are not known here") from None
    if which not in _NAMING:
        return which, ()
    args.sp()
    if args.peek() == b"(":
        return which, tuple(dict.fromkeys(args.list(Cursor.mailbox)))
    return which, (args.mailbox(),)
