"""Aggregate reports of others, read: RFC 9990 §3, and those that follow RFC 7489 §C still.

A pure function over what `unpacking` opened. Anybody may send a report, so nothing in it is
believed to be short, whole or honest: a document type is refused before the parser sees one,
tags, depth, rows and values are bounded (attack class 10), and what is not known is passed over.
Namespaces are not asked: half of all reporters have none or a wrong one.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeVar, cast

from lxml import etree

from postroom.core.errors import Malformed, TooLarge
from postroom.formats.compose import printable
from postroom.trust.dmarc.unpacking import MOST_UNPACKED, unpack

if TYPE_CHECKING:
    from lxml.etree import ParserTarget

MOST_ROWS: Final = 20_000
MOST_TAGS: Final = 2_000_000
"""Starts and ends of elements: twice what so many rows need."""
LONGEST_TAG: Final = 16 * 1024
"""Octets from one `<` to the next: a tag with its attributes, and the text behind it."""
DEEPEST: Final = 32
MOST_NAMED: Final = 16 * 1024
"""Octets of all names that differ. A report needs 4 KiB; libxml2 keeps names for its thread's
life, so each that a stranger makes up is lost memory."""
A_ROW: Final = 20
"""Signatures, senders or reasons of one row that are kept; errors of a report, too."""
_LONGEST: Final = 255
_T = TypeVar("_T")
_PIECE: Final = 64 * 1024
_LONGEST_NAME: Final = 64
_PIECES: Final = 64  # of one text
_NUMBER: Final = 12  # digits
_ENCODINGS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "iso-8859-1": "cp1252",
    "iso-8859-15": "iso8859-15",
    "windows-1250": "cp1250",
    "windows-1251": "cp1251",
    "windows-1252": "cp1252",
}
_DECLARED: Final = re.compile(rb"""<\?xml[^>]{0,100}?encoding\s{0,9}=\s{0,9}["']([\w.:-]{1,40})""")


@dataclass(frozen=True, slots=True)
class Found:
    """What one check found. For DKIM `name` is the selector, for SPF the scope."""

    domain: str
    name: str
    result: str  # RFC 8601 §2.7, in small letters; empty if it was not said


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the disposition is not what the domain wished."""

    kind: str
    comment: str


@dataclass(frozen=True, slots=True)
class Row:
    """Messages that had this in common. Values that were not given are empty."""

    source_ip: str
    messages: int
    disposition: str  # none, pass, quarantine, reject
    dkim: str  # pass, fail: with alignment
    spf: str
    header_from: str
    envelope_from: str
    envelope_to: str
    reasons: tuple[Reason, ...]
    signatures: tuple[Found, ...]
    senders: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """The policy that the reporter found, in its own words."""

    domain: str
    p: str
    sp: str
    np: str
    adkim: str
    aspf: str
    testing: str
    fo: str


@dataclass(frozen=True, slots=True)
class Received:
    """One report."""

    version: str
    organisation: str
    email: str
    contact: str
    report_id: str
    begin: int  # seconds since 1970, UTC; 0 if it was not given
    end: int
    errors: tuple[str, ...]
    published: Published
    rows: tuple[Row, ...]
    left_out: int  # rows past the bound, or without an address or a count


def read(content: bytes) -> Received:
    """A report as it was attached: gzip, zip or plain.

    Raises TooLarge past a bound, Malformed for what is no report. Linear in the octets within.
    """
    document = _in_utf8(unpack(content))
    _bound(document)
    target = _Target()
    # The encoding given here overrides the one that the document declares.
    parser = etree.XMLParser(
        # lxml calls those methods that a target has; its stubs ask for all that one may have.
        target=cast("ParserTarget[None]", target),
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        recover=False,
    )
    try:
        for start in range(0, len(document), _PIECE):
            parser.feed(document[start : start + _PIECE])
        parser.close()
    except etree.XMLSyntaxError as error:
        raise Malformed(detail=f"no XML: {printable(str(error), _LONGEST)}") from error
    return target.report()


def _in_utf8(document: bytes) -> bytes:
    """One encoding for all: what is looked for below cannot hide in another."""
    if document.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    else:
        document = document.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
        declared = _DECLARED.match(document[:200])
        said = declared[1].decode("ascii", "replace").lower() if declared else "utf-8"
        known = _ENCODINGS.get(said)
        if known is None:
            raise Malformed(detail=f"a report in the encoding {printable(said, 40)}")
        name = known
    # One bad octet in the name of an organisation is no reason to lose its numbers.
    found = document.decode(name, "replace").strip().encode("utf-8", "replace")
    if len(found) > MOST_UNPACKED:
        raise TooLarge(detail=f"a report of {len(found)} octets")
    return found


def _bound(document: bytes) -> None:
    """Refuse what would cost the parser much, before it sees any of it.

    No `<` can be inside of a tag (XML 1.0 §3.1), so a tag ends before the next one.
    """
    if not document.startswith(b"<"):
        raise Malformed(detail="no XML and nothing that is packed")
    if b"<!DOCTYPE" in document:
        raise Malformed(detail="a report with a document type")
    if document.count(b"<") > MOST_TAGS:
        raise TooLarge(detail=f"a report of more than {MOST_TAGS} tags")
    at = 0
    while at + LONGEST_TAG < len(document):
        at = document.rfind(b"<", at + 1, at + LONGEST_TAG + 1)
        if at < 0:
            raise TooLarge(detail=f"a tag or value of more than {LONGEST_TAG} octets")


_ROW: Final = "/feedback/record"
_DKIM: Final = f"{_ROW}/auth_results/dkim"
_SPF: Final = f"{_ROW}/auth_results/spf"
_REASON: Final = f"{_ROW}/row/policy_evaluated/reason"
_META: Final = "/feedback/report_metadata"
_POLICY: Final = "/feedback/policy_published"
_POLICIES: Final = ("p", "sp", "np", "adkim", "aspf", "testing", "fo")
_HEAD: Final = frozenset(
    {
        "/feedback/version",
        *(f"{_META}/{name}" for name in ("org_name", "email", "extra_contact_info", "report_id")),
        *(f"{_META}/date_range/{name}" for name in ("begin", "end")),
        *(f"{_POLICY}/{name}" for name in ("domain", *_POLICIES)),
    }
)
_PARTS: Final = frozenset(
    {
        *(f"{_ROW}/row/{name}" for name in ("source_ip", "count")),
        *(f"{_ROW}/row/policy_evaluated/{name}" for name in ("disposition", "dkim", "spf")),
        *(f"{_REASON}/{name}" for name in ("type", "comment")),
        *(f"{_ROW}/identifiers/{name}" for name in ("header_from", "envelope_from", "envelope_to")),
        *(f"{_DKIM}/{name}" for name in ("domain", "selector", "result")),
        *(f"{_SPF}/{name}" for name in ("domain", "scope", "result")),
    }
)
"""Of all elements, those whose text is kept."""


class _Target:
    """What the parser tells as it goes: no tree is built."""

    def __init__(self) -> None:
        self._paths = [""]
        self._names: set[str] = set()
        self._named = 0  # octets of them
        self._text: list[str] = []
        self._head: dict[str, str] = {}
        self._errors: list[str] = []
        self._row: dict[str, str] = {}
        self._reasons: list[Reason] = []
        self._signatures: list[Found] = []
        self._senders: list[Found] = []
        self._rows: list[Row] = []
        self._left_out = 0

    def start(self, tag: str, attributes: Mapping[str, str], spaces: Mapping[str, str]) -> None:
        """An element begins; attributes say nothing in a report. `spaces` are the namespaces
        that it declares, by prefix."""
        if len(self._paths) > DEEPEST:
            raise Malformed(detail=f"a report nested more than {DEEPEST} deep")
        self._name(tag)
        if attributes or spaces:
            for name in (*attributes, *(key or "" for key in spaces), *spaces.values()):
                self._name(name)
        name = tag.rpartition("}")[2][:_LONGEST_NAME].lower()
        self._paths.append(f"{self._paths[-1]}/{name}")
        self._text.clear()

    def pi(self, target: str, _data: str | None) -> None:
        """A processing instruction, which is not followed."""
        self._name(target)

    def _name(self, name: str) -> None:
        if name in self._names:
            return
        self._names.add(name)
        self._named += len(name)
        if self._named > MOST_NAMED:
            raise TooLarge(detail=f"a report with more than {MOST_NAMED} octets of names")

    def data(self, text: str) -> None:
        """Text of the innermost element, in pieces; comments may break it into many."""
        if len(self._text) < _PIECES:
            self._text.append(text)

    def end(self, tag: str) -> None:
        """An element ends: keep its value, or what its parts make."""
        path = self._paths.pop()
        value = printable("".join(self._text).strip(), _LONGEST) if self._text else ""
        self._text.clear()
        if path == _ROW:
            self._end_row()
        elif path == _DKIM:
            _keep(self._signatures, self._found(path, "selector"))
        elif path == _SPF:
            _keep(self._senders, self._found(path, "scope"))
        elif path == _REASON:
            kind = self._row.pop(f"{path}/type", "")
            _keep(self._reasons, Reason(kind.lower(), self._row.pop(f"{path}/comment", "")))
        elif path in _PARTS:
            self._row.setdefault(path, value)
        elif path in _HEAD:
            self._head.setdefault(path, value)
        elif path == f"{_META}/error":
            _keep(self._errors, value)

    def close(self) -> None:
        """The document is whole."""

    def report(self) -> Received:
        """What was told. Raises Malformed if it was no report, or of no domain."""
        domain = self._told(_POLICY, "domain").lower().rstrip(".")
        if not domain:
            raise Malformed(detail="no aggregate report: it names no domain whose policy it is")
        policy = {name: self._told(_POLICY, name).lower() for name in _POLICIES}
        return Received(
            version=self._told("/feedback", "version"),
            organisation=self._told(_META, "org_name"),
            email=self._told(_META, "email"),
            contact=self._told(_META, "extra_contact_info"),
            report_id=self._told(_META, "report_id"),
            begin=_number(self._told(f"{_META}/date_range", "begin")) or 0,
            end=_number(self._told(f"{_META}/date_range", "end")) or 0,
            errors=tuple(self._errors),
            published=Published(domain, **policy),
            rows=tuple(self._rows),
            left_out=self._left_out,
        )

    def _told(self, path: str, name: str) -> str:
        return self._head.get(f"{path}/{name}", "")

    def _found(self, path: str, name: str) -> Found:
        domain, named, result = (
            self._row.pop(f"{path}/{each}", "") for each in ("domain", name, "result")
        )
        return Found(domain.lower(), named, result.lower())

    def _end_row(self) -> None:
        row = self._row
        ip = _ip(row.get(f"{_ROW}/row/source_ip", ""))
        messages = _number(row.get(f"{_ROW}/row/count", ""))
        if ip is None or messages is None or len(self._rows) >= MOST_ROWS:
            self._left_out += 1
        else:
            evaluated, named = f"{_ROW}/row/policy_evaluated", f"{_ROW}/identifiers"
            self._rows.append(
                Row(
                    ip,
                    messages,
                    row.get(f"{evaluated}/disposition", "").lower(),
                    row.get(f"{evaluated}/dkim", "").lower(),
                    row.get(f"{evaluated}/spf", "").lower(),
                    row.get(f"{named}/header_from", "").lower(),
                    row.get(f"{named}/envelope_from", "").lower(),
                    row.get(f"{named}/envelope_to", "").lower(),
                    tuple(self._reasons),
                    tuple(self._signatures),
                    tuple(self._senders),
                )
            )
        for part in (row, self._reasons, self._signatures, self._senders):
            part.clear()


def _keep(kept: list[_T], part: _T) -> None:
    if len(kept) < A_ROW:
        kept.append(part)


def _ip(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _number(text: str) -> int | None:
    """A count or a time; some give the latter with a fraction."""
    whole = text.partition(".")[0]
    return int(whole) if whole.isascii() and whole.isdigit() and len(whole) <= _NUMBER else None
