"""Content transfer encodings: base64, quoted-printable, uuencode, identity. RFC 2045 §6.

Decoding is lenient, linear and never raises; encoding is strict. Both rest on `binascii`.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

_SLICE: Final = 65_536
_HELD_MAX: Final = 65_536
"""How much of an unfinished line is held back, in bytes."""

BASE64: Final = "base64"
QUOTED_PRINTABLE: Final = "quoted-printable"
UUENCODE: Final = "x-uuencode"
IDENTITY: Final = "identity"

_NAMES: Final = {
    "base64": BASE64,
    "b64": BASE64,
    "b": BASE64,
    "xbase64": BASE64,
    "quotedprintable": QUOTED_PRINTABLE,
    "quotedprint": QUOTED_PRINTABLE,
    "qp": QUOTED_PRINTABLE,
    "q": QUOTED_PRINTABLE,
    "xuuencode": UUENCODE,
    "uuencode": UUENCODE,
    "xuue": UUENCODE,
    "uue": UUENCODE,
    "uu": UUENCODE,
}
_LETTERS: Final = re.compile(r"[a-z0-9]+")


def canonical(encoding: str) -> str:
    """One of BASE64, QUOTED_PRINTABLE, UUENCODE, IDENTITY for a field's value as sent.

    Comments, quotes, a stray semicolon and "quoted printable" are understood. What is not
    known is identity: the bytes are all that a reader can have (RFC 2045 §6.4).
    """
    word = encoding[:64].lower().partition(";")[0].partition("(")[0]
    return _NAMES.get("".join(_LETTERS.findall(word)), IDENTITY)


class Decoder:
    """Decodes a body that arrives in chunks of any size.

    `feed` answers what is certain so far, `flush` the rest. The sum does not depend on where
    the chunks were cut, except that in quoted-printable and uuencode a line of over 64 KiB is
    taken as several.
    """

    __slots__ = ("_step",)

    def __init__(self, encoding: str) -> None:
        self._step: _Base64 | _QuotedPrintable | _UUEncode | _Identity
        match canonical(encoding):
            case "base64":
                self._step = _Base64()
            case "quoted-printable":
                self._step = _QuotedPrintable()
            case "x-uuencode":
                self._step = _UUEncode()
            case _:
                self._step = _Identity()

    def feed(self, chunk: bytes) -> bytes:
        return self._step.feed(chunk)

    def flush(self) -> bytes:
        """What the end of the body makes certain. The decoder is then spent."""
        return self._step.flush()


def decode(data: bytes, encoding: str, *, limit: int | None = None) -> bytes:
    """The decoded body; with a limit, its first `limit` bytes for about the work of those."""
    decoder = Decoder(encoding)
    if limit is None:
        return decoder.feed(data) + decoder.flush()
    out = []
    size = 0
    for start in range(0, len(data), _SLICE):
        if size >= limit:
            break
        out.append(decoder.feed(data[start : start + _SLICE]))
        size += len(out[-1])
    if size < limit:
        out.append(decoder.flush())
    return b"".join(out)[:limit]


class _Identity:
    """7bit, 8bit, binary, and every name that nobody knows."""

    __slots__ = ()

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def flush(self) -> bytes:
        return b""


# --- base64, RFC 2045 §6.8 -----------------------------------------------------------------

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_FOREIGN: Final = bytes(n for n in range(256) if n not in _ALPHABET and n != ord("="))

_PADDINGS: Final = 10_000
"""How many `=` may end a run; later ones are foreign, so a flood of them costs nothing."""


class _Base64:
    """Skips foreign bytes, forgives missing padding, goes on after padding in the middle."""

    __slots__ = ("_paddings", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._paddings = _PADDINGS

    def feed(self, chunk: bytes) -> bytes:
        data = self._tail + chunk.translate(None, _FOREIGN)
        if b"=" not in data:
            whole = len(data) & ~3
            self._tail = data[whole:]
            return binascii.a2b_base64(data[:whole])
        runs = data.split(b"=", self._paddings)
        self._paddings -= len(runs) - 1
        last = runs.pop().replace(b"=", b"")
        whole = len(last) & ~3
        self._tail = last[whole:]
        out = [_run(run) for run in runs if run]
        out.append(binascii.a2b_base64(last[:whole]))
        return b"".join(out)

    def flush(self) -> bytes:
        out = _run(self._tail)
        self._tail = b""
        return out


def _run(run: bytes) -> bytes:
    """One run of alphabet bytes; 1 byte too many carries no whole octet and is dropped."""
    match len(run) & 3:
        case 1:
            run = run[:-1]
        case 2:
            run += b"=="
        case 3:
            run += b"="
    return binascii.a2b_base64(run)


def encode_base64(data: bytes) -> bytes:
    """Lines of 76 characters, each ended by CRLF; nothing for nothing. RFC 2045 §6.8."""
    text = binascii.b2a_base64(data, newline=False)
    return b"".join([text[at : at + 76] + b"\r\n" for at in range(0, len(text), 76)])


# --- quoted-printable, RFC 2045 §6.7 ---------------------------------------------------------

# The look-behind starts each run once, so long runs of blanks stay linear.
_BLANKS_AT_END: Final = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_BLANK_ENDS: Final = (b" \r\n", b"\t\r\n", b" \n", b"\t\n")
_BLANK_BYTES: Final = (b" ", b"\t")
_BAD_ESCAPE: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\r?\Z)")
_CUT_ESCAPE: Final = re.compile(rb"=[0-9A-Fa-f\r]?\Z")


def decode_escapes(data: bytes) -> bytes:
    """`=XX` and soft line breaks; an escape that is none stays as it is.

    `binascii.a2b_qp` alone would swallow text after `=CR` and one of two `=`.
    """
    if b"=" not in data:
        return data
    return binascii.a2b_qp(_BAD_ESCAPE.sub(b"=3D", data))


class _QuotedPrintable:
    """Holds an unfinished line back: its end may be blanks that are not text (rule 3)."""

    __slots__ = ("_held", "_size")

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> bytes:
        cut = chunk.rfind(b"\n") + 1
        self._size += len(chunk)
        if not cut and self._size < _HELD_MAX:
            self._held.append(chunk)
            return b""
        self._held.append(chunk)
        data = b"".join(self._held)
        if cut:
            cut += len(data) - len(chunk)
        elif partial := _CUT_ESCAPE.search(data):
            cut = partial.start()
        else:
            cut = len(data)
        self._held = [data[cut:]]
        self._size = len(data) - cut
        return self._lines(data[:cut], ended=cut > 0 and data[cut - 1] == 0x0A)

    def flush(self) -> bytes:
        data = b"".join(self._held)
        self._held = []
        self._size = 0
        return self._lines(data, ended=True)

    def _lines(self, data: bytes, *, ended: bool) -> bytes:
        if ended and (data[-1:] in _BLANK_BYTES or any(each in data for each in _BLANK_ENDS)):
            data = _BLANKS_AT_END.sub(b"", data)
        return decode_escapes(data)


def encode_quoted_printable(text_bytes: bytes) -> bytes:
    """Text of CRLF (or LF) lines as lines of at most 76 characters and CRLF. RFC 2045 §6.7.

    A bare CR is encoded, so nothing that looks like a line end appears that is none.
    """
    lines = text_bytes.replace(b"\r\n", b"\n").split(b"\n")
    return b"\r\n".join(
        [binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in lines]
    )


# --- uuencode: POSIX.1 uuencode, as mail of the nineties has it ------------------------------

_BEGIN: Final = re.compile(rb"^begin [0-7]{3,4} [^\n]*\n", re.MULTILINE)


class _UUEncode:
    """What stands between `begin` and `end`. Without a `begin` line the body is not
    uuencoded, whatever its header says, and passes as it is.
    """

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._state = "before"
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        if self._state == "identity":
            return chunk
        if self._state == "after":
            return b""
        data = self._held + chunk
        self._held = b""
        if self._state == "before":
            begin = _BEGIN.search(data)
            if begin is None:
                if len(data) <= _HELD_MAX:
                    self._held = data
                    return b""
                self._state = "identity"
                return data
            self._state = "inside"
            data = data[begin.end() :]
        return self._inside(data)

    def _inside(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        held = lines.pop()
        self._held = held if len(held) <= _HELD_MAX else b""  # no uuencoded line is that long
        out = []
        for line in lines:
            if line.rstrip() == b"end":
                self._state = "after"
                self._held = b""
                break
            out.append(_uu_line(line))
        return b"".join(out)

    def flush(self) -> bytes:
        held = self._held
        self._held = b""
        if self._state == "before":
            return held
        if self._state == "inside" and held.rstrip() != b"end":
            return _uu_line(held)
        return b""


def _uu_line(line: bytes) -> bytes:
    line = line.rstrip(b"\r")
    if not line:
        return b""
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        # Encoders add a checksum or filler after the text that the first byte counts.
        count = ((((line[0] - 32) & 63) * 4) + 2) // 3
        try:
            return binascii.a2b_uu(line[: 1 + count])
        except binascii.Error:
            return b""
