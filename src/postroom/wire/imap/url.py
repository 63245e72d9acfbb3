"""IMAP URLs that name a message, or a part of one. RFC 5092; PARTIAL in CATENATE: RFC 5550.

    imap://ann@mail.example/Drafts;UIDVALIDITY=385759045/;UID=20/;SECTION=1.2/;PARTIAL=0.1024
    /Drafts;UIDVALIDITY=385759045/;UID=20/;SECTION=HEADER
    ;UID=20

The last is of the mailbox that is open. URLs of servers, of mailboxes and of searches, and those
that carry an authorization (`urlauth`), are not read here: BadUrlText.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from postroom.core.errors import Malformed
from postroom.wire.imap.commands.fetch import FetchBody, parse_section
from postroom.wire.imap.cursor import NUMBER32, NUMBER64

LONGEST: Final = 8_192
"""Octets of a URL: room for a mailbox as deep and as long as one can be, most of it encoded."""

# bchar of RFC 5092 §11, and what keeps the parts of a URL apart.
_URL: Final = re.compile(rb"[A-Za-z0-9._~!$'()*+,&=:@/;%-]++")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SCHEME: Final = re.compile(rb"imap://", re.IGNORECASE)
_SERVER: Final = re.compile(
    rb"(?:([A-Za-z0-9._~!$'()*+,&=%-]++)?(;AUTH=[A-Za-z0-9*_-]{1,20}+)?@)?"
    rb"([A-Za-z0-9.-]{1,255}+)(?::([0-9]{1,5}+))?",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(rb"[0-9]{1,19}+")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SAFE: Final = "!$'()*+,&=:@/"


class BadUrlText(Malformed):
    """This is not the URL of a message, or not one that is read here."""

    sentence = "This is not the URL of a message"


@dataclass(frozen=True, slots=True)
class Site:
    """Where an absolute URL leads. RFC 5092 §3."""

    host: str  # in lower case
    port: int | None = None
    user: str | None = None
    mechanism: str | None = None  # of ;AUTH=, in upper case; "*": any


@dataclass(frozen=True, slots=True)
class MessageUrl:
    """A message, or a part of one."""

    mailbox: str | None  # None: the one that is open
    uid: int
    uidvalidity: int | None = None
    section: bytes = b""  # as in BODY[…]; empty: the whole message
    partial: tuple[int, int | None] | None = None  # first octet, most octets
    site: Site | None = None

    def wanted(self) -> FetchBody:
        """What is asked for as FETCH would ask; raises BadSyntax for no section."""
        partial = None
        if self.partial is not None:
            first, most = self.partial
            partial = (first, NUMBER64 if most is None else most)
        return parse_section(self.section, partial)


def parse_url(text: bytes) -> MessageUrl:
    """Raises BadUrlText, BadSyntax for a section that is none. Names of fields are in any case."""
    if len(text) > LONGEST or not _URL.fullmatch(text) or _BAD_ESCAPE.search(text):
        raise BadUrlText
    site = None
    if (scheme := _SCHEME.match(text)) is not None:
        server = _SERVER.match(text, scheme.end())
        if server is None or text[server.end() : server.end() + 1] != b"/":
            raise BadUrlText
        site = _site(server)
        text = text[server.end() :]
    name, *fields = text.split(b";")
    known = _fields(name, fields)
    if b"UID" not in known:
        raise BadUrlText("The URL names no message")
    validity = known.get(b"UIDVALIDITY")
    made = MessageUrl(
        mailbox=_mailbox(name, known=b"UIDVALIDITY" in known, relative=site is None),
        uid=_number(known[b"UID"]),
        uidvalidity=None if validity is None else _number(validity),
        section=unquote_to_bytes(known.get(b"SECTION", b"")),
        partial=_partial(known[b"PARTIAL"]) if b"PARTIAL" in known else None,
        site=site,
    )
    if made.mailbox is None and made.uidvalidity is not None:
        raise BadUrlText("The URL names no mailbox")
    if b"SECTION" in known and not made.section:
        raise BadUrlText("The URL names an empty section")
    made.wanted()
    return made


_ORDER: Final = (b"UIDVALIDITY", b"UID", b"SECTION", b"PARTIAL")


def _fields(name: bytes, fields: list[bytes]) -> dict[bytes, bytes]:
    """The values by name. Each but UIDVALIDITY stands after a slash; the order is the RFC's."""
    known: dict[bytes, bytes] = {}
    least = 0
    before = name or b"/"  # `;UID=20` is relative to a mailbox
    for n, field in enumerate(fields):
        key, is_, value = field.partition(b"=")
        key = key.upper()
        if not is_ or key not in _ORDER[least:]:
            raise BadUrlText
        if key != b"UIDVALIDITY" and not before.endswith(b"/"):
            raise BadUrlText
        least = _ORDER.index(key) + 1
        before = field
        if n + 1 < len(fields):
            if not value.endswith(b"/"):
                raise BadUrlText
            value = value[:-1]
        known[key] = value
    return known


def _mailbox(name: bytes, *, known: bool, relative: bool) -> str | None:
    """The decoded name; a slash ends it unless UIDVALIDITY follows."""
    if relative and not name:
        return None
    if not name.startswith(b"/"):
        raise BadUrlText  # relative to a mailbox's parent: nobody asks for that
    encoded = name[1:] if known else name[1:-1]
    try:
        path = unquote_to_bytes(encoded).decode("utf-8")
    except UnicodeDecodeError:
        raise BadUrlText("The mailbox of a URL is not UTF-8") from None
    # RFC 3986 walks along dots (§5.2.4), and takes //host for a server (§4.2): not so here.
    if path[:1] in ("", "/") or _CONTROL.search(path) or {".", ".."} & set(path.split("/")):
        raise BadUrlText
    return path


def _site(server: re.Match[bytes]) -> Site:
    user, mechanism, host, port = server.groups()
    try:
        name = None if user is None else unquote_to_bytes(user).decode("utf-8")
    except UnicodeDecodeError:
        raise BadUrlText from None
    if name is not None and _CONTROL.search(name):
        raise BadUrlText
    return Site(
        host.decode("ascii").lower(),
        None if port is None else int(port),
        name,
        None if mechanism is None else mechanism[len(b";AUTH=") :].decode("ascii").upper(),
    )


def _number(text: bytes) -> int:
    """1 to 4294967295."""
    if not _NUMBER.fullmatch(text) or not 0 < int(text) <= NUMBER32:
        raise BadUrlText
    return int(text)


def _partial(text: bytes) -> tuple[int, int | None]:
    """`first`, or `first.most`."""
    first, dot, most = text.partition(b".")
    if not _NUMBER.fullmatch(first) or (dot and not _NUMBER.fullmatch(most)):
        raise BadUrlText
    start, length = int(first), int(most) if dot else None
    if start > NUMBER64 or length == 0 or (length or 0) > NUMBER64:
        raise BadUrlText
    return start, length


def format_url(url: MessageUrl) -> bytes:
    """The URL as it is written; `parse_url` reads it again."""
    written: list[str] = []
    if (site := url.site) is not None:
        written.append("imap://")
        if site.user is not None or site.mechanism is not None:
            written.append(quote_from_bytes((site.user or "").encode(), "!$'()*+,&="))
            written.append("" if site.mechanism is None else f";AUTH={site.mechanism}")
            written.append("@")
        written.append(site.host if site.port is None else f"{site.host}:{site.port}")
    if url.mailbox is not None:
        written.append(f"/{quote_from_bytes(url.mailbox.encode(), _SAFE)}")
        if url.uidvalidity is not None:
            written.append(f";UIDVALIDITY={url.uidvalidity}")
        written.append("/")
    written.append(f";UID={url.uid}")
    if url.section:
        written.append(f"/;SECTION={quote_from_bytes(url.section, _SAFE)}")
    if url.partial is not None:
        first, most = url.partial
        written.append(f"/;PARTIAL={first}" if most is None else f"/;PARTIAL={first}.{most}")
    return "".join(written).encode("ascii")
