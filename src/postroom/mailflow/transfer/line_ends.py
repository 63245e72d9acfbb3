"""Line ends of files become those of mail: CRLF. RFC 5322 §2.1."""

from __future__ import annotations

import re
from typing import Final

_CRS: Final = 3  # before an LF: what twice made CRLF leaves
# A bounded run, so that a sea of CRs is walked once.
_LINE_END: Final = re.compile(rb"\r{0,%d}+\n|\r" % _CRS)


class ToCrlf:
    """Makes every line of a stream end in CRLF.

    A bare LF is a line end, and so is a bare CR, as for APPEND: the store holds neither. CRs
    before an LF belong to it: a file that was converted once too often has `CR CR LF`, and an
    empty line after each would end the header at its first field. What comes out does not
    depend on where the stream was cut.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""  # CRs at the end: the next octet says what they are

    def feed(self, data: bytes) -> bytes:
        """What is certain so far."""
        if self._held:
            data = self._held + data
            self._held = b""
        if b"\r" not in data:
            return data.replace(b"\n", b"\r\n")
        if data.endswith(b"\r"):
            run = len(data) - len(data.rstrip(b"\r"))
            end = len(data) - min(run, _CRS)
            self._held, data = data[end:], data[:end]
        pairs = data.count(b"\r\n")
        if data.count(b"\n") == pairs and data.count(b"\r") == pairs:
            return data
        return _LINE_END.sub(b"\r\n", data)

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        held, self._held = self._held, b""
        return b"\r\n" * len(held)


class ToLf:
    """Makes every CRLF of a stream an LF, as files have it, wherever it was cut."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What is certain so far."""
        if self._held:
            data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        if self._held:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n")

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        held, self._held = self._held, b""
        return held
