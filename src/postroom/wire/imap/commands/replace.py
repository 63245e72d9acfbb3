"""REPLACE: which message, then the arguments of an APPEND of one message. RFC 8508 §5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.wire.imap.commands.append import Append, parse_append
from postroom.wire.imap.cursor import Cursor
from postroom.wire.imap.sequence import SequenceSet

LAST: Final = SequenceSet.parse(b"*")


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE or UID REPLACE."""

    message: SequenceSet  # one number, or `*`
    append: Append


def parse_replace(args: Cursor) -> Replace:
    """From the number to the message literal; neither a set nor `$` is a number."""
    args.sp()
    star = args.accept(b"*")
    message = LAST if star else SequenceSet.of([args.nz_number()])
    return Replace(message, parse_append(args))
