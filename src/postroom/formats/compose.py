"""Composing messages of our own: notices, DSNs, replies, and the trace fields of others' mail.

What is composed here can be read back by a strict parser, and no argument, however hostile, adds
a header field or leaves its comment: every field goes through `headers.field`, which refuses
what it cannot hold; what a peer said (HELO, the TLS cipher) is reduced to what a comment may hold.

Time and randomness are arguments. Lines end in CRLF. RFC 5322, RFC 2045, RFC 6522.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Self

from postroom.core.errors import Misuse
from postroom.formats import headers, transfer, words
from postroom.formats.address import Address, BadAddress, canonical_domain
from postroom.formats.dates import format_date

Random = Callable[[int], bytes]  # so many random octets
Peer = IPv4Address | IPv6Address

_LINE_MAX: Final = 998  # octets without the line end; RFC 5322 §2.1.1
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_IS_ATOM: Final = re.compile(_ATOM).fullmatch
_IS_DOT_ATOM: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*").fullmatch
_LABEL: Final = r"[A-Za-z0-9_]++(?:-++[A-Za-z0-9_]++)*+"
_IS_DOMAIN: Final = re.compile(rf"(?=.{{1,255}}\Z){_LABEL}(?:\.{_LABEL})*+").fullmatch
_RESTRICTED: Final = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"  # RFC 6838 §4.2
_IS_MEDIA_TYPE: Final = re.compile(f"{_RESTRICTED}/{_RESTRICTED}").fullmatch
_LINE_ENDS: Final = re.compile(r"\r\n|\r|\n")
_LONG_LINE: Final = re.compile(rb"[^\n]{%d}" % (_LINE_MAX + 1))
_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")
_UNFIT: Final = re.compile(r"[^ -~]")
_UNFIT_IN_COMMENT: Final = re.compile(r"[^ -'*-\[\]-~]")  # also ( ) and backslash

# Fields that may stand once. RFC 5322 §3.6.
_ONCE: Final = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "bcc", "subject", "in-reply-to", "references"}
    | {"auto-submitted", "precedence"}
)
# Fields that `Message` itself writes.
_OURS: Final = frozenset({"date", "message-id", "mime-version"})

# RFC 3848, RFC 6531 §4.3: what may stand after WITH.
PROTOCOLS: Final = frozenset(
    {"SMTP", "ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA", "LMTP", "LMTPA", "LMTPS", "LMTPSA"}
    | {"UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"}
    | {"UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA", "HTTP"}
)


# --- values ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageId:
    """`<left@right>`. RFC 5322 §3.6.4. Raises Misuse where a side is not a dot-atom."""

    left: str
    right: str

    def __post_init__(self) -> None:
        if not (_IS_DOT_ATOM(self.left) and _IS_DOT_ATOM(self.right)) or len(str(self)) > 250:
            raise Misuse("This is not a message id", detail=f"{self.left!a} {self.right!a}"[:300])

    def __str__(self) -> str:
        return f"<{self.left}@{self.right}>"


def printable(text: str, limit: int = 255) -> str:
    """The first `limit` characters, all but printable ASCII as `?`: for a peer's own words."""
    return _UNFIT.sub("?", text[:limit])


# --- body parts --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entity:
    """A body part: its Content-* fields and its body, both as they go on the wire."""

    fields: bytes
    body: bytes

    def __bytes__(self) -> bytes:
        return self.fields + b"\r\n" + self.body


def _entity(media_type: str, body: bytes, encoding: str, *more: bytes) -> Entity:
    fields = [headers.field("Content-Type", media_type)]
    if encoding:
        fields.append(headers.field("Content-Transfer-Encoding", encoding))
    return Entity(b"".join([*fields, *more]), body)


def text(content: str, subtype: str = "plain") -> Entity:
    """A text part in UTF-8, each line end as CRLF. `subtype` is plain, html, and the like.

    Sent as it is where that is plain ASCII, else in the shorter of quoted-printable and base64.
    """
    data = _LINE_ENDS.sub("\r\n", content).encode("utf-8", "replace")
    body, encoding = _encoded_text(data)
    return _entity(_checked(f"text/{subtype}") + "; charset=utf-8", body, encoding)


def attachment(
    content: bytes, media_type: str, filename: str, *, content_id: MessageId | None = None
) -> Entity:
    """A file in base64. With a Content-ID it is inline: HTML shows it by `cid:`. RFC 2392.

    Raises Misuse for a media type that is none, Malformed for control characters in the name.
    """
    named = "attachment" if content_id is None else "inline"
    disposition = f"{named}; {words.encode_parameter('filename', filename).decode('ascii')}"
    more = [headers.field("Content-Disposition", disposition)]
    if content_id is not None:
        more.append(headers.field("Content-ID", str(content_id)))
    return _entity(_checked(media_type), transfer.encode_base64(content), "base64", *more)


def message(raw: bytes) -> Entity:
    """Another message whole, as it was: message/rfc822. RFC 2046 §5.2.1.

    One with bare line ends, NUL or overlong lines cannot travel so, and must not be changed: it
    becomes an octet stream in base64.
    """
    if _BARE.search(raw) or _LONG_LINE.search(raw):
        return attachment(raw, "application/octet-stream", "message.eml")
    return _entity("message/rfc822", raw, "7bit" if raw.isascii() else "8bit")


def header_only(raw: bytes) -> Entity:
    """The header block of a returned message: text/rfc822-headers. RFC 6522 §4."""
    body, encoding = _encoded_text(_LINE_ENDS.sub("\r\n", raw.decode("latin-1")).encode("latin-1"))
    return _entity("text/rfc822-headers", body, encoding)


def status(media_type: str, groups: Sequence[Sequence[tuple[str, str]]]) -> Entity:
    """Groups of fields, a blank line between them: message/delivery-status (RFC 3464 §2.1),
    message/disposition-notification (RFC 8098 §3.1) and their kin.

    Values are ASCII: what a peer said passes `printable` first. Raises Malformed otherwise.
    """
    body = b"\r\n".join(
        [b"".join([headers.field(name, value) for name, value in group]) for group in groups]
    )
    return _entity(_checked(media_type), body, "7bit")


def _checked(media_type: str) -> str:
    if not _IS_MEDIA_TYPE(media_type):
        raise Misuse("This is not a media type", detail=f"{media_type[:100]!a}")
    return media_type


def _encoded_text(data: bytes) -> tuple[bytes, str]:
    """Text with CRLF line ends in the plainest encoding that carries it."""
    if data.isascii() and not _LONG_LINE.search(data) and not _BARE.search(data):
        return data, "7bit"
    quoted = transfer.encode_quoted_printable(data)
    if len(quoted) <= 4 * len(data) // 3 + 80:
        return quoted, "quoted-printable"
    return transfer.encode_base64(data), "base64"


def multipart(
    subtype: str, parts: Sequence[Entity], random: Random, *parameters: tuple[str, str]
) -> Entity:
    """Parts under a boundary that none of them holds: 24 random hex digits after `=_`.

    `=_` stands in no base64 and no quoted-printable (RFC 2045 §6.7). More parameters of the
    Content-Type follow, such as ("report-type", "delivery-status"). Raises Misuse without parts.
    """
    if not parts:
        raise Misuse("A multipart needs a part")
    pieces = [bytes(part) for part in parts]
    drawn = f"=_{random(12).hex()}"
    boundary, again = drawn, 0
    while any(boundary.encode("ascii") in piece for piece in pieces):
        again += 1
        boundary = f"{drawn}_{again}"
    delimiter = f"--{boundary}".encode("ascii")
    body = b"".join([delimiter + b"\r\n" + piece + b"\r\n" for piece in pieces])
    body += delimiter + b"--\r\n"
    declared = [_checked(f"multipart/{subtype}")]
    for name, value in (*parameters, ("boundary", boundary)):
        declared.append(words.encode_parameter(name, value).decode("ascii"))
    return _entity("; ".join(declared), body, "" if body.isascii() else "8bit")


# --- whole messages ----------------------------------------------------------------------


class Message:
    """A message being composed: fields first, then bodies, then `to_bytes`.

        Message(MessageId("1", "a.example"), now, random)
            .header("From", format_mailbox("Ann", ann)).header("Subject", "Grüße").text("Hello")

    With `utf8` fields and addresses stay in UTF-8, for SMTPUTF8 (RFC 6532).
    """

    __slots__ = ("_attached", "_bodies", "_fields", "_random", "_report", "_seen", "_utf8")

    def __init__(
        self, message_id: MessageId, date: datetime, random: Random, *, utf8: bool = False
    ) -> None:
        """`date` knows its zone. Raises ValueError otherwise."""
        self._random = random
        self._utf8 = utf8
        self._seen: set[str] = set()
        self._fields = [
            headers.field("Date", format_date(date)),
            headers.field("Message-ID", str(message_id)),
        ]
        self._bodies: list[Entity] = []
        self._attached: list[Entity] = []
        self._report = ""

    def header(self, name: str, value: str) -> Self:
        """Add a field. Raises Malformed as `headers.field` does.

        Raises Misuse for a field that is ours to write, or that RFC 5322 §3.6 allows once only.
        """
        key = name.lower()
        if key in _OURS or key.startswith("content-"):
            raise Misuse("This field is written by the composer", detail=name)
        if key in _ONCE:
            if key in self._seen:
                raise Misuse("This field may stand once only", detail=name)
            self._seen.add(key)
        self._fields.append(headers.field(name, value, utf8=self._utf8))
        return self

    def text(self, content: str) -> Self:
        """The body for everyone. Call it before `html`: the plainest comes first.

        RFC 2046 §5.1.4.
        """
        self._bodies.append(text(content))
        return self

    def html(self, content: str) -> Self:
        """The same body as HTML."""
        self._bodies.append(text(content, "html"))
        return self

    def attach(self, entity: Entity) -> Self:
        """Put a part after the bodies: `attachment`, `message`, `status` and the like."""
        self._attached.append(entity)
        return self

    def report(self, kind: str, machine: Entity, returned: Entity | None = None) -> Self:
        """Make it a multipart/report of this report-type (RFC 6522): the text for people, the
        part for machines, and what is returned.
        """
        self._report = kind
        self._attached = [machine] if returned is None else [machine, returned]
        return self

    def to_bytes(self) -> bytes:
        """The message. Raises Misuse without From (RFC 5322 §3.6) or without any body."""
        if "from" not in self._seen:
            raise Misuse("A message needs a From field")
        if not self._bodies and not self._attached:
            raise Misuse("A message needs a body")
        entity = self._entity()
        ending = b"" if entity.body.endswith(b"\r\n") or not entity.body else b"\r\n"
        version = headers.field("MIME-Version", "1.0")
        return b"".join([*self._fields, version, bytes(entity), ending])

    def _entity(self) -> Entity:
        parts = self._bodies
        if len(parts) > 1:
            parts = [multipart("alternative", parts, self._random)]
        parts = parts + self._attached
        if self._report:
            return multipart("report", parts, self._random, ("report-type", self._report))
        return parts[0] if len(parts) == 1 else multipart("mixed", parts, self._random)


# --- trace fields ------------------------------------------------------------------------


def received_field(
    *,
    by: str,
    protocol: str,
    identifier: str,
    date: datetime,
    helo: str | None = None,
    peer: Peer | None = None,
    peer_name: str | None = None,
    tls: str | None = None,
    recipient: Address | None = None,
    utf8: bool = False,
) -> bytes:
    """The Received field of a message that came in. RFC 5321 §4.4.

    `helo` is what the peer called itself, as sent: where it is neither a domain nor an address
    literal it moves into the comment, cleaned. `peer_name` is the name that DNS gave and
    confirmed, `tls` a phrase such as "TLS1.3 TLS_AES_128_GCM_SHA256". `recipient` only where
    there is one; it is left out where the field could not show it. Without `helo` and `peer`
    there is no FROM clause, without `protocol` no WITH clause: we made the message ourselves.

    Raises Misuse for a host of ours, a protocol or an id that are none.
    """
    if not _IS_DOMAIN(by):
        raise Misuse("This is not a host name", detail=f"{by[:100]!a}")
    if protocol and protocol not in PROTOCOLS:
        raise Misuse("This is not a mail protocol", detail=f"{protocol[:100]!a}")
    if not _IS_ATOM(identifier):
        raise Misuse("This is not a queue id", detail=f"{identifier[:100]!a}")
    clauses = []
    if helo is not None or peer is not None:
        clauses.append(_from_clause(helo or "", peer, peer_name))
    clauses.append(f"by {by} with {protocol}" if protocol else f"by {by}")
    if tls:
        clauses.append(f"({_comment(tls, 128)})")
    clauses.append(f"id {identifier}")
    if recipient is not None and (utf8 or recipient.ascii):
        clauses.append(f"for <{recipient}>")
    return headers.field("Received", f"{' '.join(clauses)}; {format_date(date)}", utf8=utf8)


def _from_clause(helo: str, peer: Peer | None, peer_name: str | None) -> str:
    """`from domain (TCP-info)`; who is no domain is known by address, or as `unknown`."""
    literal = ""
    if peer is not None:
        literal = f"[IPv6:{peer}]" if isinstance(peer, IPv6Address) else f"[{peer}]"
    comment = [_comment(peer_name, 255)] if peer_name else []
    if name := _host(helo):
        comment += [literal] if literal else []
    else:
        name = literal or "unknown"
        comment = [f"HELO {_comment(helo, 255)}", *comment] if helo else comment
    return f"from {name} ({' '.join(comment)})" if comment else f"from {name}"


def _host(helo: str) -> str:
    """What a peer called itself, if that is a domain or an address literal; or nothing."""
    if _IS_DOMAIN(helo):
        return helo
    try:
        return canonical_domain(helo) if helo.startswith("[") else ""
    except BadAddress:
        return ""


def _comment(text: str, limit: int) -> str:
    """A stranger's words as what a comment may hold: no parenthesis, backslash or control."""
    return _UNFIT_IN_COMMENT.sub("?", text[:limit])


def return_path(address: Address | None) -> bytes:
    """The Return-Path field of final delivery; None is the null path `<>`. RFC 5321 §4.4."""
    if address is None:
        return headers.field("Return-Path", "<>")
    return headers.field("Return-Path", f"<{address}>", utf8=not address.ascii)
