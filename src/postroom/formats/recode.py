"""Making a message fit for a narrower line: 8-bit parts for a server without 8BITMIME, binary
parts for everyone without BINARYMIME. RFC 6152 §3, RFC 3030 §3, RFC 2045 §6.

Only the bodies of leaf parts are encoded anew, and the Content-Transfer-Encoding fields told so;
every other octet of a header stays. A decoded part is the same before and after. What must not
be touched (signed and encrypted parts, RFC 1847 §2) or cannot be (8-bit header fields, what
lies beyond the caps of `mime.scan`) and yet does not fit makes the answer None: the message
cannot travel that way.

A DKIM signature over the body does not survive this; RFC 6376 §5.3 says to sign after it.
Linear: each octet is looked at a few times by C code, whatever the structure.
"""

from __future__ import annotations

import re
from typing import Final

from postroom.formats import headers, transfer
from postroom.formats.mime import LIMITS, Limits, Part, scan

LINE_MAX: Final = 998
"""Octets of a line without its line end. RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1."""

_ENCODING: Final = "Content-Transfer-Encoding"
_ENCODING_NAME: Final = b"content-transfer-encoding"
_LETTERS: Final = re.compile(r"[a-z0-9]+")
_SEALED: Final = frozenset({b"signed", b"encrypted"})  # RFC 1847
_SEVEN_BIT_ONLY: Final = frozenset({b"partial", b"external-body"})  # RFC 2046 §5.2.2, §5.2.3
_DASHED: Final = re.compile(rb"^--[^\r\n]*", re.MULTILINE)

_READABLE: Final = 80  # octets that a text may be longer for, if people can read it
# What quoted-printable leaves as it is, line ends included. RFC 2045 §6.7.
_AS_IS: Final = bytes(n for n in range(32, 127) if n != ord("=")) + b"\t\r\n"


def to_seven_bit(content: bytes, *, limits: Limits = LIMITS) -> bytes | None:
    """The message in ASCII, with CRLF lines of at most 998 octets; None where that cannot be.

    The same object where nothing had to change. A message/global whose own header is 8-bit is
    encoded whole, as RFC 6532 §3.7 allows. RFC 6152 §3.
    """
    return _recoded(content, limits, eight_bit=False)


def binary_to_eight_bit(content: bytes, *, limits: Limits = LIMITS) -> bytes | None:
    """The message without NUL, bare CR or LF and lines over 998 octets, for 8BITMIME.

    Parts that are declared binary, and any others that do not fit, are encoded. None where that
    cannot be; the same object where nothing had to change. RFC 3030 §3.
    """
    return _recoded(content, limits, eight_bit=True)


def fits(data: bytes, *, eight_bit: bool) -> bool:
    """Whether these octets may stand in a message as they are, apart from its dots."""
    if not eight_bit and not data.isascii():
        return False
    pairs = data.count(b"\r\n")
    return (
        data.count(b"\n") == pairs
        and data.count(b"\r") == pairs
        and 0 not in data
        and not _has_long_line(data)
    )


def _has_long_line(data: bytes) -> bool:
    """Hops from line end to line end in strides of a line's most: no step for each line."""
    at, size = 0, len(data)
    while size - at > LINE_MAX:
        end = data.rfind(b"\n", at, at + LINE_MAX + 2)
        if end < 0:
            return True
        at = end + 1
    return False


class _Cannot(Exception):  # an answer of this module to itself
    """Something does not fit and must stay as it is."""


def _recoded(content: bytes, limits: Limits, *, eight_bit: bool) -> bytes | None:
    try:
        return _Recoder(content, limits, eight_bit).run()
    except _Cannot:
        return None


class _Recoder:
    """One message under way: what is to be replaced, in any order, and at last the whole."""

    __slots__ = ("_delimiters", "_edits", "_eight_bit", "_fit", "_raw", "_root")

    def __init__(self, raw: bytes, limits: Limits, eight_bit: bool) -> None:
        self._raw = raw
        self._eight_bit = eight_bit
        self._fit = fits(raw, eight_bit=eight_bit)  # then only names of encodings may change
        self._root = scan(raw, limits=limits)
        self._edits: list[tuple[int, int, bytes]] = []
        self._delimiters: frozenset[bytes] | None = None

    def run(self) -> bytes:
        waiting = [self._root]
        while waiting:
            waiting.extend(self._entity(waiting.pop()))
        if not self._edits:
            return self._raw
        out: list[bytes] = []
        at = 0
        for start, end, new in sorted(self._edits):
            out += (self._raw[at:start], new)
            at = end
        out.append(self._raw[at:])
        return b"".join(out)

    def _entity(self, part: Part) -> list[Part]:
        """Do what this part needs; answers the parts inside it that are to be looked at."""
        if not self._fits(part.start, part.body):
            raise _Cannot
        if part.opaque:
            return self._untouched(part)
        if part.is_multipart:
            return self._multipart(part)
        if part.is_message:
            return self._message(part)
        if self._fits(part.body, part.end):
            self._declare(part)
        else:
            self._encode_leaf(part)
        return []

    def _fits(self, start: int, end: int) -> bool:
        return self._fit or fits(self._raw[start:end], eight_bit=self._eight_bit)

    def _untouched(self, part: Part) -> list[Part]:
        """What must stay as it is does, if it fits."""
        if not self._fits(part.body, part.end):
            raise _Cannot
        return []

    # --- what holds other parts ----------------------------------------------------------------

    def _multipart(self, part: Part) -> list[Part]:
        first = part.children[0]
        bare = first.start == part.body  # no delimiter: no place for a header of its own
        if bare or part.subtype in _SEALED:
            self._untouched(part)
            self._declare(part)
            return []
        self._declare(part)
        if not self._fit:
            self._preamble(part.body, first.start)
            for before, after in zip(part.children, part.children[1:], strict=False):
                if not self._fits(before.end, after.start):
                    raise _Cannot
            self._epilogue(part.children[-1].end, part.end)
        return part.children

    def _preamble(self, start: int, end: int) -> None:
        """What stands before the first delimiter goes if it does not fit: nobody reads it.

        RFC 2046 §5.1.1.
        """
        if not self._fits(start, end):
            delimiter = self._raw.rfind(b"\n", start, end - 1) + 1
            delimiter = max(delimiter, start)
            if not self._fits(delimiter, end):
                raise _Cannot
            self._edits.append((start, delimiter, b""))

    def _epilogue(self, start: int, end: int) -> None:
        """The same for what stands after the last delimiter."""
        if not self._fits(start, end):
            delimiter = start + 2 if self._raw.startswith(b"\r\n", start) else start
            after = self._raw.find(b"\n", delimiter, end) + 1
            if not after or not self._fits(start, after):
                raise _Cannot
            self._edits.append((after, end, b""))

    def _message(self, part: Part) -> list[Part]:
        inner = part.children[0]
        if part.subtype == b"global" and not self._fits(inner.start, inner.body):
            self._replace(part, self._raw[part.body : part.end], text=False)
            return []
        self._declare(part)
        return part.children

    # --- leaves --------------------------------------------------------------------------------

    def _encode_leaf(self, part: Part) -> None:
        data = self._raw[part.body : part.end]
        name = transfer.canonical((part.encoding or b"").decode("latin-1"))
        if part.type == b"message" and part.subtype in _SEVEN_BIT_ONLY:
            raise _Cannot
        if name in (transfer.BASE64, transfer.QUOTED_PRINTABLE):  # with octets that are neither
            data = transfer.decode(data, name)
        elif name != transfer.IDENTITY or _label(part.encoding) not in _LABELS:
            raise _Cannot  # an encoding that we cannot write, or do not know
        self._replace(part, data, text=part.type in (b"text", b"message"))

    def _replace(self, part: Part, data: bytes, *, text: bool) -> None:
        """Encode `data` as this part's body, and say so in its header."""
        encoded, name = self._encoded(data, text)
        last = part.end == len(self._raw)
        if name == transfer.BASE64 and not last:
            encoded = encoded.removesuffix(b"\r\n")  # the next delimiter brings its own
        elif name == transfer.QUOTED_PRINTABLE and last and not encoded.endswith(b"\r\n"):
            encoded += b"=\r\n"  # a line end that is no part of the text
        gap = self._field(part, name, needed=True)
        self._edits.append((part.body, part.end, gap + encoded))

    def _encoded(self, data: bytes, text: bool) -> tuple[bytes, str]:
        """Quoted-printable for text, unless base64 is much shorter or line ends would be lost."""
        escapes = len(data.translate(None, _AS_IS))
        readable = 2 * escapes <= len(data) // 3 + _READABLE
        if text and readable and data.count(b"\n") == data.count(b"\r\n"):
            quoted = transfer.encode_quoted_printable(data)
            if data.count(b"\r") == data.count(b"\r\n") and not self._delimits(quoted):
                return quoted, transfer.QUOTED_PRINTABLE
        return transfer.encode_base64(data), transfer.BASE64

    def _delimits(self, quoted: bytes) -> bool:
        """Whether a line that was cut in two begins with what is now a delimiter line."""
        if self._delimiters is None:
            keys = {b"--" + part.boundary for part in self._root.walk() if part.boundary}
            self._delimiters = frozenset(keys | {key + b"--" for key in keys})
        known = self._delimiters
        return bool(known) and any(found[0].rstrip() in known for found in _DASHED.finditer(quoted))

    # --- what the header says --------------------------------------------------------------------

    def _declare(self, part: Part) -> None:
        """Correct the name of an identity encoding: the body is no longer what it says."""
        label = _label(part.encoding)
        if self._eight_bit:
            if label == "binary":
                self._field(part, "8bit", needed=False)
        elif label in ("8bit", "binary"):
            self._field(part, "7bit", needed=False)

    def _field(self, part: Part, encoding: str, *, needed: bool) -> bytes:
        """Put this encoding where the part has its field; with `needed`, add one.

        Answers what must stand before the body to part it from the header.
        """
        head = part.headers or headers.scan(self._raw, part.start, part.body)
        new = headers.field(_ENCODING, encoding)
        named = head.find(_ENCODING_NAME)
        for each in named:  # a second one is another reader's first
            self._edits.append((each.start, each.end, new))
            new = b""
        last = head.fields[-1].end if head.fields else part.start
        if needed and not named:
            if not head.fields and self._raw[part.start : part.body].strip(b"\r\n"):
                raise _Cannot  # an envelope line of mbox and nothing else
            if part.headers is not None and not head.find(b"mime-version"):
                new = headers.field("MIME-Version", "1.0") + new
            self._edits.append((last, last, new))
        return b"" if part.body > last else b"\r\n"


_LABELS: Final = frozenset({"", "7bit", "8bit", "binary"})


def _label(value: bytes | None) -> str:
    """An identity encoding as its field names it: `8bit` for "8-Bit (see below)"."""
    word = (value or b"")[:64].decode("latin-1").lower().partition(";")[0].partition("(")[0]
    return "".join(_LETTERS.findall(word))
