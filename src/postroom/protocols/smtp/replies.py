"""Replies that are the protocol's own, and the one way from verdicts and errors to replies.

What policy says comes as a verdict with its code; what goes wrong comes as an error type with
its status. RFC 5321 §4.2, RFC 3463.
"""

from __future__ import annotations

from typing import Final

from postroom.access import NotOffered
from postroom.core.errors import (
    EncryptionRequired,
    MailError,
    NotAuthenticated,
    Status,
)
from postroom.domain.transit import Verdict
from postroom.formats.address import BadAddress, NotAscii
from postroom.wire.smtp import CommandError, Reply

NOT_NOW: Final = Reply(503, Status(5, 5, 1), ("That is out of order",))
GREET_FIRST: Final = Reply(503, Status(5, 5, 1), ("Say EHLO first",))
UNKNOWN: Final = Reply(500, Status(5, 5, 1), ("Command not recognised",))
NOT_OFFERED: Final = Reply(502, Status(5, 5, 1), ("Command not implemented",))
NESTED: Final = Reply(503, Status(5, 5, 1), ("One MAIL at a time; RSET begins afresh",))
GOODBYE: Final = Reply(221, Status(2, 0, 0), ("Goodbye",))
OK: Final = Reply(250, Status(2, 0, 0), ("Ok",))
GO_ON: Final = Reply(354, None, ("Send the message; a line with a dot alone ends it",))
CANNOT_VERIFY: Final = Reply(252, Status(2, 5, 2), ("Send some mail and see",))
HELP: Final = Reply(214, Status(2, 0, 0), ("Postroom speaks RFC 5321; see also RFC 5598",))
READY_FOR_TLS: Final = Reply(220, Status(2, 0, 0), ("Ready for TLS",))
TLS_ALREADY: Final = Reply(503, Status(5, 5, 1), ("TLS is active already",))
AFTER_STARTTLS: Final = Reply(501, Status(5, 5, 2), ("Nothing may follow STARTTLS before TLS",))
NO_RECIPIENTS: Final = Reply(554, Status(5, 5, 1), ("No valid recipients",))
NO_RECIPIENTS_LMTP: Final = Reply(503, Status(5, 5, 1), ("No valid recipients",))
"""RFC 2033 §4.2."""
BINARY_BY_CHUNKS: Final = Reply(503, Status(5, 5, 1), ("BINARYMIME comes by BDAT",))
TOO_MANY_ERRORS: Final = Reply(421, Status(4, 7, 0), ("Too many errors, closing",))
FAILED: Final = Reply(421, Status(4, 3, 0), ("Something went wrong here, closing",))
TIMEOUT: Final = Reply(421, Status(4, 4, 2), ("You took too long, closing",))
SHUTTING_DOWN: Final = Reply(421, Status(4, 3, 2), ("The server is shutting down, closing",))
LINE_TOO_LONG: Final = Reply(500, Status(5, 5, 2), ("The line is too long",))
RESPONSE_TOO_LONG: Final = Reply(500, Status(5, 5, 6), ("The response is too long",))
"""RFC 4954 §6."""
CONTROL: Final = Reply(500, Status(5, 5, 2), ("The line holds control characters",))
BARE: Final = Reply(500, Status(5, 5, 2), ("Lines end with CRLF, closing",))
BUSY: Final = Reply(421, Status(4, 3, 2), ("Too many connections, please try again later",))


def dismissal(sentence: str) -> Reply:
    """The last word to a session that somebody ends. RFC 5321 §3.8."""
    return Reply(421, Status(4, 3, 2), (f"{sentence}, closing",))


def of_verdict(verdict: Verdict) -> Reply:
    """What the peer reads of a verdict; the status follows the code's class if they differ."""
    code = verdict.reply_code
    status = verdict.status
    if status.klass != code // 100:
        status = Status(code // 100, status.subject, status.detail)
    return Reply(code, status, (verdict.sentence,))


_CODES: Final[dict[type[MailError], int]] = {
    EncryptionRequired: 538,  # RFC 4954 §6
    NotOffered: 504,  # RFC 4954 §4
    NotAuthenticated: 535,  # RFC 4954 §6
}


def of_error(error: MailError) -> Reply:
    """What the peer reads of an error that a command's argument or the house raised."""
    if isinstance(error, CommandError):
        return Reply(error.code, error.status, (str(error),))
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return Reply(code, error.status, (str(error),))
    if isinstance(error, NotAscii):
        return Reply(553, error.status, (str(error),))  # RFC 6531 §3.5
    if isinstance(error, BadAddress):
        return Reply(501, error.status, (str(error),))
    return Reply(550 if error.status.permanent else 451, error.status, (str(error),))
