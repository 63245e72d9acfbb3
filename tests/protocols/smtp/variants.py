"""What some receiver somewhere takes for the end of a message. Attack class 1."""

from __future__ import annotations

import itertools
import re

ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b"\r\0\n")
"""What some receiver somewhere takes for the end of a line."""

VARIANTS = sorted(
    {
        variant
        for before, after in itertools.product(ENDS, ENDS)
        if not (variant := before + b"." + after).endswith(b"\r\n.\r\n")
    }
    | {
        b"\r\n.\r",  # and what follows is no LF
        b"\n..\r\n", b"\r\n.\x0b\r\n", b"\r\n.\x0c\r\n", b"\n.\n.\r\n", b"\r\r.\r\r",
        b"\r\n.\x85", b"\n\n.\n\n", b"\r\n.\xe2\x80\xa8",
    }
)  # fmt: skip

_NAIVE_END = re.compile(rb"(?:\r\n|\n|\r)\.(?:\r\n|\n|\r)")


def is_strict(content: bytes) -> bool:
    """No bare CR, LF or NUL: text like any other, and no reason to refuse."""
    rest = content.replace(b"\r\n", b"")
    return not any(octet in rest for octet in b"\r\n\0")


def naive_ends(said: bytes) -> int:
    """How many messages end for a reader that takes any mixture of CR and LF for a line end."""
    return len(_NAIVE_END.findall(said))


def strict_ends(said: bytes) -> int:
    """How many end for a reader of RFC 5321 §4.1.1.4."""
    return said.count(b"\r\n.\r\n")
