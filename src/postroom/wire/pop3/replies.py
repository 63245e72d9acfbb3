"""What a server says in one line, and lists of short lines. RFC 1939 §3, RFC 2449 §8."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from postroom.wire.pop3.limits import REPLY_LINE

_NOT_ASCII: Final = re.compile("[^ -~]")
_CODE: Final = re.compile(r"\[([!-.0-Z\\^-~]+(?:/[!-.0-Z\\^-~]+)*)\] ?(.*)")  # RFC 2449 §8
_ROOM: Final = REPLY_LINE - len("\r\n")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of one line, or the first line of a longer one.

    `code` is the response code without its brackets, such as SYS/TEMP; it is for refusals, but
    nothing forbids it in others. RFC 2449 §8, RFC 3206.
    """

    ok: bool
    text: str = ""
    code: str = ""

    def render(self) -> bytes:
        """The octets to send, at most 512. Whatever is not printable ASCII becomes "?", so that
        text from elsewhere cannot begin a line of its own."""
        line = "+OK" if self.ok else "-ERR"
        if self.code:
            line += f" [{self.code}]"
        if self.text:
            line += f" {self.text}"
        return _NOT_ASCII.sub("?", line)[:_ROOM].encode("ascii") + b"\r\n"


def parse_reply(line: bytes) -> Reply | None:
    """A reply from its line, without the line end; None if it is none. For clients.

    COMPAT: the words in any case, since some servers write them so.
    """
    word, _, rest = line.partition(b" ")
    word = word.upper()
    if word not in (b"+OK", b"-ERR"):
        return None
    text = rest.decode("utf-8", "replace")
    coded = _CODE.fullmatch(text)
    if coded is None or word == b"+OK":
        # Only a server that offers RESP-CODES promises that brackets begin a code, and it gives
        # them in refusals: in a greeting they may be anything.
        return Reply(word == b"+OK", text)
    return Reply(False, coded[2], coded[1].upper())


def challenge(data: bytes) -> bytes:
    """What the server says in an AUTH exchange; `data` is base64. RFC 5034 §4."""
    return b"+ " + data + b"\r\n"


def listing(lines: Iterable[str]) -> bytes:
    """Short lines of our own and the dot that ends them. RFC 1939 §3."""
    whole = []
    for line in lines:
        text = _NOT_ASCII.sub("?", line)[: _ROOM - 1]
        whole.append(f".{text}\r\n" if text.startswith(".") else f"{text}\r\n")
    return "".join(whole).encode("ascii") + b".\r\n"
