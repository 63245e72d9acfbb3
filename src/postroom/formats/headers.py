"""Header blocks: found, read and composed. RFC 5322 §2.2 and §3.6, RFC 6532, RFC 2231.

`scan` gives offsets into the source, so that nobody copies what nobody reads. `field` is the
only composer of a header field in the house: what it returns is one field, or it raises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as declared
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from postroom.core.errors import Malformed
from postroom.formats import address, address_list, charsets, words

HEADER_MAX: Final = 1 << 20
"""Bytes of one header block; what lies beyond is opaque."""
FIELDS_MAX: Final = 5_000
PARAMETERS_MAX: Final = 128
PARAMETERS_BYTES: Final = 65_536
"""How much of one value is searched for parameters."""


class Field(NamedTuple):
    """Where one field lies in its source. A tuple, as there are some thirty in each message."""

    name: bytes
    """As written, without the blanks that obsolete syntax allows before the colon."""
    start: int
    end: int
    """Past the line end of its last line."""
    value_start: int
    """Just past the colon."""

    def raw(self, source: bytes) -> bytes:
        """The whole field as sent: folds, line end and all."""
        return source[self.start : self.end]

    def raw_value(self, source: bytes) -> bytes:
        """What follows the colon, with its folds, without its last line end."""
        end = self.end
        if source.endswith(b"\n", self.value_start, end):
            end -= 1
            if source.endswith(b"\r", self.value_start, end):
                end -= 1
        return source[self.value_start : end]

    def value(self, source: bytes) -> bytes:
        """The value unfolded, without blanks around it."""
        return unfold(source[self.value_start : self.end]).strip(b" \t\r\n")


@dataclass(slots=True)
class Headers:
    """The fields of one header block, in order."""

    fields: tuple[Field, ...]
    end: int
    """Where the body starts: past the blank line, or at the first line that is no field."""
    over_cap: bool
    """More than 1 MiB or 5,000 fields: the rest, up to `end`, was not looked at."""
    source: bytes = declared(repr=False)
    _index: dict[bytes, list[Field]] | None = declared(default=None, init=False, repr=False)

    def named(self, lowered: bytes) -> Sequence[Field]:
        """The fields of a name that is written in lower case, in order; not to be changed."""
        index = self._index
        if index is None:
            index = {}
            for each in self.fields:
                index.setdefault(each.name.lower(), []).append(each)
            self._index = index
        return index.get(lowered, ())

    def find(self, name: bytes) -> list[Field]:
        """The fields of that name, whatever its case, in order."""
        return list(self.named(name.lower()))

    def first(self, name: bytes) -> bytes | None:
        """The first such field's unfolded value, blanks around it gone; None without one."""
        found = self.named(name.lower())
        return found[0].value(self.source) if found else None

    def all(self, name: bytes) -> list[bytes]:
        """The unfolded values of all such fields."""
        return [each.value(self.source) for each in self.named(name.lower())]


# A name, obsolete blanks (RFC 5322 §4.5.8), a colon. Then lines up to one that is no fold:
# found by searching, as a repeated group would remember each of 300,000 folds.
_NAME_AND_COLON: Final = re.compile(rb"([!-9;-~]++)[ \t]*+:")
_LAST_LINE_END: Final = re.compile(rb"\n(?![ \t])")
_BLANK_LINE: Final = re.compile(rb"\r?\n")
_BLANK_AFTER: Final = re.compile(rb"\n\r?\n")
_ENVELOPE_LINE: Final = re.compile(rb">?From (?![ \t]*+:)[^\n]*+\n")


def scan(raw: bytes, start: int = 0, end: int | None = None) -> Headers:
    """The header block at `start`, in one pass; never raises.

    Lines may end in a bare LF, as in imported mail. A line of blanks alone goes on with the
    field before it (RFC 5322 §4.2). A line that is neither field nor fold ends the block and
    starts the body, as Postfix and sendmail do: nothing is lost, and a later `From:` cannot
    count for one reader and not for another. An mbox `From ` line before all is skipped.
    """
    if end is None:
        end = len(raw)
    fields: list[Field] = []
    at = start
    envelope = _ENVELOPE_LINE.match(raw, at, end)
    if envelope is not None:
        at = envelope.end()
    match = _NAME_AND_COLON.match
    search = _LAST_LINE_END.search
    add = fields.append
    limit = start + HEADER_MAX
    while found := match(raw, at, end):
        value_start = found.end()
        line_end = search(raw, value_start, end)
        after = line_end.end() if line_end else end
        if after > limit or len(fields) == FIELDS_MAX:
            return Headers(tuple(fields), _past_blank_line(raw, at, end), True, raw)
        add(Field(found[1], at, after, value_start))
        at = after
    blank = _BLANK_LINE.match(raw, at, end)
    return Headers(tuple(fields), at if blank is None else blank.end(), False, raw)


def _past_blank_line(raw: bytes, at: int, end: int) -> int:
    blank = _BLANK_AFTER.search(raw, at, end)
    return end if blank is None else blank.end()


def unfold(value: bytes) -> bytes:
    """A value on one line: the line end before a blank goes, the blank stays. RFC 5322 §2.2.3.

    A last line end goes too; any other CR or LF stays, so that it can be seen and refused.
    """
    if value.endswith(b"\n"):
        value = value[:-2] if value.endswith(b"\r\n") else value[:-1]
    return words.join_folds(value)


# --- composing -----------------------------------------------------------------------------

LINE_SOFT: Final = 78
"""Octets of a line without its CRLF, where there is a place to break it. RFC 5322 §2.1.1."""
LINE_WORDS: Final = 76
"""The same for a line with an encoded word. RFC 2047 §2."""
LINE_HARD: Final = 998
"""Octets of a line without its CRLF that nothing may pass. RFC 5322 §2.1.1."""

_NAME: Final = re.compile(r"[!-9;-~]{1,100}")
_PIECE: Final = re.compile(rb"[ \t]*[^ \t]+")

_ADDRESS_FIELDS: Final = """
    from sender reply-to to cc bcc resent-from resent-sender resent-to resent-cc resent-bcc
    resent-reply-to disposition-notification-to return-receipt-to mail-followup-to
"""
_OTHER_STRUCTURED: Final = """
    date message-id in-reply-to references resent-date resent-message-id received return-path
    mime-version content-type content-disposition content-transfer-encoding content-id
    content-location content-language
    list-id list-post list-help list-subscribe list-unsubscribe list-unsubscribe-post
    list-owner list-archive delivered-to auto-submitted precedence expires tls-required autocrypt
    dkim-signature arc-seal arc-message-signature arc-authentication-results
    authentication-results received-spf vbr-info bimi-selector bimi-location
    original-recipient final-recipient reporting-mta action status diagnostic-code remote-mta
    original-envelope-id arrival-date last-attempt-date will-retry-until disposition
    original-message-id
"""
_ADDRESSES: Final = frozenset(_ADDRESS_FIELDS.split())
_STRUCTURED: Final = _ADDRESSES | frozenset(_OTHER_STRUCTURED.split())


def field(name: str, value: str, *, utf8: bool = False) -> bytes:
    """One header field, folded, with its CRLF.

    In a field of free text (Subject, Comments, any that we do not know) `value` is text: what
    is not ASCII, or looks like an encoded word, is encoded (RFC 2047). In a structured field
    `value` is its syntax. There only names of addresses can be encoded; other text belongs
    into `words.encode_parameter`. With `utf8`, for SMTPUTF8 mail, text stays as it is
    (RFC 6532 §3). Blanks at either end go.

    Raises Malformed for a name that is none, for control characters other than a tab, for
    lone surrogates, for text where the field's syntax has no place for it, and for a piece
    without a blank of more than 998 octets.
    """
    if not _NAME.fullmatch(name):
        raise Malformed("This is no name of a header field", detail=f"{name[:120]!a}")
    words.refuse_controls(value, "header field")
    value = value.strip(" \t")
    key = name.lower()
    if key in _STRUCTURED:
        wire = _structured(key, value, utf8)
        folded = _fold(name, wire)
        if folded is None:
            raise Malformed("A header line would be too long", detail=name)
        return folded
    used = len(name) + 2
    plain = utf8 and "=?" not in value
    folded = _fold(name, value.encode("utf-8") if plain else words.encode_words(value, used=used))
    if folded is None:  # a piece, or a run of blanks, longer than a line: only words can part it
        folded = _fold(name, words.encode_words(value, used=used, phrase=True))
    if folded is None:
        raise Malformed("A header line would be too long", detail=name)
    return folded


def _structured(key: str, value: str, utf8: bool) -> bytes:
    if utf8 or value.isascii():
        return value.encode("utf-8")
    if key in _ADDRESSES:
        listed = address.parse_address_list(value.encode("utf-8"))
        return address.format_address_list(listed).encode("ascii")
    raise Malformed("This header field takes ASCII only", detail=key)


def _fold(name: str, value: bytes) -> bytes | None:
    """The field, broken before blanks; None if a line would pass the hard limit."""
    if value and b"=?" not in value and b"\t" not in value and b"  " not in value:
        folded = _fold_words(b"%b: %b" % (name.encode("ascii"), value), len(name) + 2)
        if folded is not None:
            return folded
    lines: list[bytes] = []
    line = name.encode("ascii") + b":"
    bare = True  # only the name so far
    for piece in _PIECE.findall(value):
        text = b" " + piece if bare else piece
        whole = len(line) + len(text)
        if b"=?" in text or b"=?" in line:
            breaks = whole > LINE_WORDS
        else:
            breaks = whole > (LINE_HARD if bare else LINE_SOFT)
        if breaks:
            lines.append(line)
            line = text
        else:
            line += text
        bare = False
        if len(line) > LINE_HARD:
            return None
    lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"


def _fold_words(whole: bytes, first: int) -> bytes | None:
    """The same for words with one space between them, of which the first starts at `first`; None
    if one is longer than a line should be."""
    lines: list[bytes] = []
    at, least = 0, first
    while len(whole) - at > LINE_SOFT:
        cut = whole.rfind(b" ", least, at + LINE_SOFT + 1)
        if cut < 0:
            return None
        lines.append(whole[at:cut])
        at, least = cut, cut + 1
    lines.append(whole[at:])
    return b"\r\n".join(lines) + b"\r\n"


# --- parameters, RFC 2045 §5.1 and RFC 2231 ------------------------------------------------

# Each alternative consumes all that it looks at, an unclosed string to the end.
_QUOTED_OR_PAREN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[(;]', re.DOTALL)
_AFTER_COMMENT: Final = re.compile(rb"[ \t\r\n]*+(?:[;=/(]|\Z)")
_MAIN: Final = re.compile(rb"[ \t\r\n]*+([^ \t\r\n;\"]*+(?:[ \t]*+/[ \t]*+[^ \t\r\n;\"/]++)?)")
_BETWEEN: Final = re.compile(rb"[ \t\r\n;]*+")
_ATTRIBUTE: Final = re.compile(rb"([^=; \t\r\n\"]++)[ \t\r\n]*+")
_VALUE: Final = re.compile(
    rb'=[ \t\r\n]*+(?:"((?:[^"\\]++|\\.)*+)(?:"[^;]*+|\\?\Z)|([^;]*+))', re.DOTALL
)
_BLANKS: Final = b" \t\r\n"


def raw_parameters(value: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The main value and the parameters as sent: unquoted, not decoded. RFC 2045 §5.1.

    At most 128 parameters, of the first 64 KiB. Comments are skipped. Lenient: unquoted values
    may hold blanks, a string may lack its end, a first semicolon may be missing
    (`text/plain charset=utf-8`).
    """
    value = unfold(value[:PARAMETERS_BYTES])
    if b"(" in value:
        value = _without_comments(value)
    main = _MAIN.match(value)
    at = main.end() if main else 0
    result = main[1] if main else b""
    if b"=" in result:  # no main value at all: a parameter comes first
        result, at = b"", 0
    found: list[tuple[bytes, bytes]] = []
    while len(found) < PARAMETERS_MAX and at < len(value):
        between = _BETWEEN.match(value, at)
        at = between.end() if between else at
        attribute = _ATTRIBUTE.match(value, at)
        content = attribute and _VALUE.match(value, attribute.end())
        if attribute and content:
            quoted = content[1]
            text = content[2].strip(_BLANKS) if quoted is None else address_list.unquote(quoted)
            found.append((attribute[1], text))
            at = content.end()
        elif attribute and not value.startswith(b";", attribute.end()):
            at = attribute.end()  # a stray word before an attribute
        else:
            semicolon = value.find(b";", attribute.end() if attribute else at)
            at = len(value) if semicolon < 0 else semicolon + 1
    return result, found


def _without_comments(value: bytes) -> bytes:
    """The value less its comments, which may nest. RFC 5322 §3.2.2.

    After the first semicolon a parenthesis is a comment only where syntax goes on after it:
    `filename=report (1).pdf` is what mailers send and mean. One that never closes is text.
    """
    out = []
    kept = 0
    at = 0
    main = True
    while found := _QUOTED_OR_PAREN.search(value, at):
        at = found.end()
        if found[0] == b";":
            main = False
        elif found[0] == b"(":
            end = address_list.comment_end(value, at)
            if end < 0:
                break
            if main or _AFTER_COMMENT.match(value, end):
                out.append(value[kept : found.start()])
                kept = end
            at = end
    out.append(value[kept:])
    return b"".join(out)


_SECTION: Final = re.compile(rb"([^*]++)(?:\*(\d{1,5}))?(\*)?")


@dataclass(slots=True)
class _Collected:
    """One parameter's forms: plain, or by section."""

    whole: tuple[bool, bytes] | None = None
    sections: dict[int, tuple[bool, bytes]] = declared(default_factory=dict)


def parameterised(value: bytes) -> tuple[bytes, dict[str, str]]:
    """The main value in lower case, and the parameters as text under names in lower case.

    Sections, charsets and percent escapes of RFC 2231 are resolved, and encoded words, which
    have no place here but are everywhere. A form of RFC 2231 wins over the plain one; among
    equals the first wins. At most 128 parameters or sections are read. Never raises.
    """
    value = value[:PARAMETERS_BYTES]
    main, raw = raw_parameters(value)
    collected: dict[str, _Collected] = {}
    for name, content in raw:
        form = _SECTION.fullmatch(name)
        if form is None:
            key, number, extended = name, None, False
        else:
            key, number, extended = form[1], form[2], form[3] is not None
        slot = collected.setdefault(key.decode("latin-1").lower(), _Collected())
        if number is not None:
            slot.sections.setdefault(int(number), (extended, content))
        elif slot.whole is None or (extended and not slot.whole[0]):
            slot.whole = (extended, content)
    fallback = None if value.isascii() else charsets.guess(value)
    return main.translate(None, _BLANKS).lower(), {
        name: _parameter(slot, fallback) for name, slot in collected.items()
    }


def _parameter(slot: _Collected, fallback: str | None) -> str:
    sections = [slot.sections[n] for n in sorted(slot.sections)]
    if slot.whole is not None and (slot.whole[0] or not sections):
        sections = [slot.whole]
    if not any(extended for extended, _ in sections):
        return words.decode_words(b"".join([text for _, text in sections]), fallback=fallback)
    charset = ""
    first_extended, first = sections[0]
    if first_extended and first.count(b"'") >= 2:
        label, _, first = first.split(b"'", 2)
        charset = label.decode("latin-1")
        sections[0] = (True, first)
    data = b"".join([unquote_to_bytes(text) if extended else text for extended, text in sections])
    return words.clean(charsets.decode(data, charset))
