"""The one table from the house's errors to IMAP's response codes. RFC 5530 §3, RFC 9051 §7.1."""

from __future__ import annotations

from typing import Final

from postroom.access import NotOffered
from postroom.core import errors
from postroom.core.errors import MailError
from postroom.domain.mailboxes.rights import MissingRight
from postroom.mailflow.binary import CannotConvert
from postroom.protocols.imap.decoding import UnknownEncoding
from postroom.protocols.imap.session import UidRequired
from postroom.wire.imap import status_line

BUSY: Final = status_line(None, "BYE", b"UNAVAILABLE", "Too many connections, try again later")

CODES: Final[dict[type[MailError], bytes]] = {
    errors.AlreadyExists: b"ALREADYEXISTS",
    errors.InUse: b"HASCHILDREN",  # RFC 9051 §7.1
    errors.NotFound: b"NONEXISTENT",
    errors.NotAllowed: b"CANNOT",
    MissingRight: b"NOPERM",
    errors.OverQuota: b"OVERQUOTA",
    errors.LimitReached: b"LIMIT",
    errors.TooMany: b"LIMIT",
    errors.TooLarge: b"TOOBIG",  # RFC 7889 §4
    errors.NotAuthenticated: b"AUTHENTICATIONFAILED",
    errors.AuthUnavailable: b"UNAVAILABLE",
    errors.EncryptionRequired: b"PRIVACYREQUIRED",
    NotOffered: b"CANNOT",
    errors.Busy: b"UNAVAILABLE",
    errors.StoreFailed: b"UNAVAILABLE",
    errors.StoreFull: b"UNAVAILABLE",
    errors.ShuttingDown: b"UNAVAILABLE",
    errors.Corrupt: b"SERVERBUG",
    UidRequired: b"UIDREQUIRED",  # RFC 9586 §3
    CannotConvert: b"UNKNOWN-CTE",  # RFC 3516 §4.4
    UnknownEncoding: b"UNKNOWN-CTE",  # RFC 3516 §4.3
}


def code_of(error: MailError) -> bytes | None:
    """The response code of an error's type, or of the nearest type above it."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return None


def code_of_content(error: MailError) -> bytes:
    """For content that could not be read: of an unknown encoding, damaged or lost, or out of
    reach just now."""
    if isinstance(error, UnknownEncoding):
        return CODES[UnknownEncoding]
    lasting = isinstance(error, errors.Corrupt | errors.NotFound)
    return b"SERVERBUG" if lasting else b"UNAVAILABLE"  # RFC 5530 §3
