"""The server's output: values to bytes. What a peer or a message wrote cannot end a line here.

Every function returns octets ready for the wire; lines come with their CRLF, parts without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal, TypeAlias

from postroom.formats import utf7
from postroom.wire.imap.dates import render_date_time

Kind: TypeAlias = Literal["OK", "NO", "BAD", "BYE", "PREAUTH"]

_QUOTED_MOST: Final = 1024  # beyond this a literal is cheaper for both sides
# Brackets are legal in an astring, but clients that look for BODY[…] stumble over them.
_BARE: Final = re.compile(rb'[^(){ %*"\\\[\]\x00-\x1f\x7f-\xff]+')
_QUOTABLE: Final = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*")
_QUOTABLE_UTF8: Final = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\xff]*")
_FLAG: Final = re.compile(r'\\?[^(){ %*"\\\]\x00-\x1f\x7f-\U0010ffff]+|\\\*')
_TAG: Final = re.compile(rb'[^(){ %*"\\+\x00-\x1f\x7f-\xff]+|\*')
_CODE: Final = re.compile(rb"[A-Za-z0-9][\x20-\x5c\x5e-\x7e]*")  # one line, no "]"
_UNTOLD: Final = re.compile(r"[^\x20-\x7e]")
# Beside controls what is not seen or turns the line around, and half a character.
_UNTOLD_UTF8: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_TEXT_MOST: Final = 900


# --- strings -----------------------------------------------------------------------------------


def quoted_or_literal(data: bytes, *, utf8: bool = False) -> bytes:
    """A `string`: quoted if short and 7-bit (or `utf8` and UTF-8), else a literal.

    NUL may stand in neither (RFC 9051 §9): it becomes `?`.
    """
    if b"\0" in data:
        data = data.replace(b"\0", b"?")
    if len(data) <= _QUOTED_MOST and (
        _QUOTABLE.fullmatch(data) or (utf8 and _QUOTABLE_UTF8.fullmatch(data) and _is_utf8(data))
    ):
        if b"\\" in data or b'"' in data:
            data = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b'"' + data + b'"'
    return literal(data)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def literal(data: bytes) -> bytes:
    """`{n}` CRLF and the octets as they are."""
    return b"{%d}\r\n" % len(data) + data


def literal8(data: bytes) -> bytes:
    """`~{n}` CRLF and octets that may hold NUL. RFC 3516 §7."""
    return b"~{%d}\r\n" % len(data) + data


def literal_header(size: int, *, binary: bool = False) -> bytes:
    """What stands before `size` octets that are sent on their own."""
    return b"~{%d}\r\n" % size if binary else b"{%d}\r\n" % size


def astring(data: bytes, *, utf8: bool = False) -> bytes:
    """An atom where it can be one, else a string. `NIL` is quoted, lest it be read as one."""
    if _BARE.fullmatch(data) and data.upper() != b"NIL":
        return data
    return quoted_or_literal(data, utf8=utf8)


def nstring(data: bytes | None, *, utf8: bool = False) -> bytes:
    return b"NIL" if data is None else quoted_or_literal(data, utf8=utf8)


def mailbox_name(name: str, utf8: bool = False) -> bytes:
    """A mailbox name as an astring: modified UTF-7, or UTF-8 where that was enabled.

    Raises ValueError for a lone surrogate.
    """
    return astring(name.encode("utf-8") if utf8 else utf7.encode(name), utf8=utf8)


def flags(names: Iterable[str]) -> bytes:
    """`(\\Seen $Junk)`; `\\*` passes, for PERMANENTFLAGS. Raises ValueError for no flag."""
    known = list(names)
    for name in known:
        if not _FLAG.fullmatch(name):
            raise ValueError("not a flag")
    return b"(" + " ".join(known).encode("ascii") + b")"


def internal_date(at: datetime) -> bytes:
    """`"17-Jul-1996 02:44:25 -0700"`, quoted."""
    return render_date_time(at)


def parenthesised(parts: Iterable[bytes]) -> bytes:
    """`(a b c)` of parts that are rendered already."""
    return b"(" + b" ".join(parts) + b")"


# --- lines ---------------------------------------------------------------------------------------


def status_line(
    tag: bytes | None, kind: Kind, code: bytes | None, text: str, *, utf8: bool = False
) -> bytes:
    """`tag OK [code] text`; tag None is untagged.

    `text` may hold anything: what is not printable ASCII becomes `?`, a leading `[` a `(`,
    and it is cut at 900 characters. With `utf8` what is printable in any script stays, where
    the client chose a language that needs it: RFC 5255 §3.5. `code` is ours, without its
    brackets; raises ValueError if it or the tag could end early.
    """
    if tag is not None and not _TAG.fullmatch(tag):
        raise ValueError("not a tag")
    start = b"%b %b " % (tag if tag is not None else b"*", kind.encode("ascii"))
    if code is not None:
        if not _CODE.fullmatch(code):
            raise ValueError("not a response code")
        start += b"[" + code + b"] "
    return start + _told(text, bare=code is None, utf8=utf8) + b"\r\n"


def _told(text: str, *, bare: bool, utf8: bool) -> bytes:
    told = (_UNTOLD_UTF8 if utf8 else _UNTOLD).sub("?", text[:_TEXT_MOST]).strip(" ")
    if bare and told.startswith("["):
        told = "(" + told[1:]  # else it would be read as a code
    return told.encode("utf-8") or b"-"  # resp-text is never empty: RFC 3501 §9


def continuation(text: str = "", *, utf8: bool = False) -> bytes:
    """`+ text`, before a literal or in IDLE. A SASL challenge is base64 and fits too.

    The text is not cut: challenges may be long. `utf8` as of `status_line`.
    """
    return b"+ " + (_UNTOLD_UTF8 if utf8 else _UNTOLD).sub("?", text).encode("utf-8") + b"\r\n"


def untagged(*parts: bytes) -> bytes:
    """`* part part …` of parts that are rendered already."""
    return b"* " + b" ".join(parts) + b"\r\n"
