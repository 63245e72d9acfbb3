"""IMAP URLs that carry an authorization. RFC 4467 §2, §3; the grammar: RFC 5092 §11.

    imap://ann@mail.example/Drafts/;UID=20;EXPIRE=2026-12-01T00:00:00Z;URLAUTH=user+bob:INTERNAL:…
    |------------------------------- the rump -------------------------------|

The rump is what was signed, octet for octet: two spellings of one URL are two URLs here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from postroom.wire.imap.url import LONGEST, BadUrlText, MessageUrl, format_url, parse_url

TOKEN_LONGEST: Final = 128
"""Hexadecimal digits of a token; RFC 4467 §9 asks for 32 or more."""
RUMP_LONGEST: Final = LONGEST - TOKEN_LONGEST - len(b":INTERNAL:")
"""Octets of a rump: the whole URL is not to be longer than a URL may be."""

INTERNAL: Final = b"INTERNAL"
_MARK: Final = b":" + INTERNAL + b":"
_TOKEN: Final = re.compile(rb":INTERNAL:([0-9A-F]{32,%d}+)\Z" % TOKEN_LONGEST, re.IGNORECASE)
_SAYS: Final = re.compile(rb";URLAUTH=", re.IGNORECASE)
_END: Final = re.compile(
    rb"(?:;EXPIRE=([0-9TZ:.+-]{1,40}+))?"
    rb";URLAUTH=(?:(submit\+|user\+)([A-Za-z0-9._~!$'()*+,&=%-]{1,1024}+)|(authuser|anonymous))\Z",
    re.IGNORECASE,
)
# RFC 3339 §5.6; a leap second (:60) is not read.
_DATE: Final = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6}+)?"
    rb"(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SAFE: Final = "!$'()*+,&="


class Access(Enum):
    """Who may use a URL. RFC 4467 §3."""

    SUBMIT = "submit+"  # a submission server, for the user that is named
    USER = "user+"  # the user that is named
    AUTHUSER = "authuser"  # who signed in
    ANONYMOUS = "anonymous"  # anybody


@dataclass(frozen=True, slots=True)
class Rump:
    """What is authorized, for whom, and how long."""

    url: MessageUrl  # absolute, with a user: whose key signs
    access: Access
    user: str | None = None  # of SUBMIT and USER
    expire: datetime | None = None  # aware


@dataclass(frozen=True, slots=True)
class Authorized:
    """A whole URL with its token."""

    rump: Rump
    signed: bytes  # the rump as it is written
    token: bytes


def is_authorized(text: bytes) -> bool:
    """Whether a URL says that it carries an authorization."""
    return _SAYS.search(text) is not None


def parse_rump(text: bytes) -> Rump:
    """Raises BadUrlText, BadSyntax for a section that is none."""
    found = _END.search(text) if len(text) <= RUMP_LONGEST else None
    if found is None:
        raise BadUrlText("This is not a URL that can be authorized")
    url = parse_url(text[: found.start()])
    if url.site is None or url.site.user is None:
        raise BadUrlText("The URL names no server, or no user of it")
    expire, named, user, word = found.groups()
    return Rump(
        url,
        Access((word or named).decode("ascii").lower()),
        None if user is None else _user(user),
        None if expire is None else _date(expire),
    )


def parse_authorized(text: bytes) -> Authorized:
    """A URL with a token of INTERNAL, written in any case: RFC 4467 §9. Raises as `parse_rump`."""
    found = _TOKEN.search(text) if len(text) <= LONGEST else None
    if found is None:
        raise BadUrlText("The URL has no token that is known here")
    signed = text[: found.start()]
    return Authorized(parse_rump(signed), signed, found[1])


def with_token(rump: bytes, token: bytes) -> bytes:
    """The whole URL. RFC 4467 §9, `url-full`."""
    return rump + _MARK + token


def format_rump(rump: Rump) -> bytes:
    """The rump as it is written; `parse_rump` reads it again."""
    written = format_url(rump.url)
    if rump.expire is not None:
        written += b";EXPIRE=" + rump.expire.isoformat().encode("ascii")
    written += b";URLAUTH=" + rump.access.value.encode("ascii")
    if rump.user is not None:
        written += quote_from_bytes(rump.user.encode(), _SAFE).encode("ascii")
    return written


def _user(text: bytes) -> str:
    if _BAD_ESCAPE.search(text):
        raise BadUrlText
    try:
        name = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise BadUrlText from None
    if _CONTROL.search(name):
        raise BadUrlText
    return name


def _date(text: bytes) -> datetime:
    """RFC 3339, in any case."""
    upper = text.upper()
    if not _DATE.fullmatch(upper):
        raise BadUrlText("EXPIRE is no date and time")
    try:
        return datetime.fromisoformat(upper.decode("ascii"))
    except ValueError:
        raise BadUrlText("EXPIRE is no date and time") from None
