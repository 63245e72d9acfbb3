"""The one table from the house's errors to IMAP's response codes. RFC 5530 §3, RFC 9051 §7.1."""

from __future__ import annotations

from typing import Final

from postroom.access import NotOffered
from postroom.core import errors
from postroom.core.errors import MailError
from postroom.domain.mailboxes import annotating
from postroom.domain.mailboxes.rights import MissingRight
from postroom.mailflow.binary import CannotConvert
from postroom.protocols.imap.commands.compress import CompressionActive
from postroom.protocols.imap.commands.copy import SomeGone
from postroom.protocols.imap.decoding import UnknownEncoding
from postroom.protocols.imap.filters import UndefinedFilter
from postroom.protocols.imap.session import UidRequired
from postroom.protocols.imap.urls import BadUrl
from postroom.wire.imap import CHARSETS, BadCharset, BadFilterCharset, status_line

BUSY: Final = status_line(None, "BYE", b"UNAVAILABLE", "Too many connections, try again later")

FILTER_CHARSETS: Final = (b"UTF-8", b"US-ASCII")  # RFC 5466 §3.1

CODES: Final[dict[type[MailError], bytes]] = {
    errors.AlreadyExists: b"ALREADYEXISTS",
    errors.InUse: b"HASCHILDREN",  # RFC 9051 §7.1
    errors.NotFound: b"NONEXISTENT",
    SomeGone: b"EXPUNGEISSUED",
    errors.NotAllowed: b"CANNOT",
    CompressionActive: b"COMPRESSIONACTIVE",  # RFC 4978 §3
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
    errors.Corrupt: b"CORRUPTION",
    UidRequired: b"UIDREQUIRED",  # RFC 9586 §3
    annotating.ValueTooLarge: b"METADATA MAXSIZE %d" % annotating.VALUE_OCTETS,  # RFC 5464 §4.3
    annotating.TooManyAnnotations: b"METADATA TOOMANY",  # RFC 5464 §4.3
    annotating.NoSuchUse: b"USEATTR",  # RFC 6154 §3
    CannotConvert: b"UNKNOWN-CTE",  # RFC 3516 §4.4
    UnknownEncoding: b"UNKNOWN-CTE",  # RFC 3516 §4.3
}


def code_of(error: MailError) -> bytes | None:
    """The response code of an error's type, or of the nearest type above it."""
    if isinstance(error, BadUrl | UndefinedFilter):
        return error.code  # it names the URL, the filter: RFC 4469 §4, RFC 5466 §3.1
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return None


def code_of_charset(error: BadCharset) -> bytes:
    """Those that are known; beside a filter, those that are taken there. RFC 9051 §7.1."""
    known = FILTER_CHARSETS if isinstance(error, BadFilterCharset) else CHARSETS
    return b"BADCHARSET (%b)" % b" ".join(known)


def code_of_literal(command: bytes) -> bytes:
    """For a literal that is too large for the command: a value knows its own limit."""
    annotates = command == b"SETMETADATA"
    return CODES[annotating.ValueTooLarge if annotates else errors.TooLarge]


def code_of_content(error: MailError) -> bytes:
    """For content that could not be read: of an unknown encoding, damaged or lost, or out of
    reach just now."""
    if isinstance(error, UnknownEncoding):
        return CODES[UnknownEncoding]
    lasting = isinstance(error, errors.Corrupt | errors.NotFound)
    return b"CORRUPTION" if lasting else b"UNAVAILABLE"  # RFC 5530 §3
