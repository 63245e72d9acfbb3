"""Replies that are the protocol's own, and the one table from the house's errors to its codes.

RFC 2449 §8 (IN-USE), RFC 3206 (SYS/TEMP, SYS/PERM, AUTH). What a command got wrong has no code.
"""

from __future__ import annotations

from typing import Final

from postroom.core import errors
from postroom.core.errors import MailError
from postroom.domain.mailboxes.maildrop import MaildropInUse
from postroom.wire.pop3 import Reply

# Without <...>: a client would take it for the timestamp that offers APOP. RFC 1939 §7.
GREETING: Final = Reply(True, "Postroom is ready")
GOODBYE: Final = Reply(True, "Goodbye")
UNKNOWN: Final = Reply(False, "There is no such command")
NOT_NOW: Final = Reply(False, "Not in this state")
SIGN_IN_AGAIN: Final = Reply(False, "Please sign in again", "AUTH")
TOO_MANY_ERRORS: Final = Reply(False, "Too many errors")
FAILED: Final = Reply(False, "Something went wrong here; it is in the log", "SYS/TEMP")
NOT_ALL_REMOVED: Final = Reply(False, "Some deleted messages were not removed", "SYS/TEMP")
BUSY: Final = Reply(False, "Too many connections, try again later", "SYS/TEMP")

CODES: Final[dict[type[MailError], str]] = {
    MaildropInUse: "IN-USE",
    errors.NotAuthenticated: "AUTH",
    errors.AuthUnavailable: "SYS/TEMP",
    errors.Busy: "SYS/TEMP",
    errors.StoreFailed: "SYS/TEMP",
    errors.ShuttingDown: "SYS/TEMP",
    errors.Corrupt: "SYS/PERM",
}


def of_error(error: MailError) -> Reply:
    """What the peer reads of an error: its sentence, and the code of its type or of the nearest
    type above it."""
    code = next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), "")
    return Reply(False, str(error), code)
