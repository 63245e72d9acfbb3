"""Maildir: what the names of its files and folders say, and the small files beside them.

A message's name is `unique:2,FLAGS`; Dovecot and Courier keep its size in `unique` as `,S=` and
with CRLF as `,W=`. Folders lie beside each other as `.Parent.Child` (Maildir++). Pure functions
over names and octets: who walks the directories is elsewhere. Names of files are text as
`os.fsdecode` gives it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from postroom.core.errors import Malformed
from postroom.formats import utf7

KEYWORDS_MAX: Final = 26
"""Keywords of a folder: the letters a to z."""

# The flags of a name and of RFC 9051 §2.3.2; P is `passed`, a keyword there.
_FLAGS: Final = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "P": "$Forwarded",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
_LETTERS: Final = {flag.lower(): letter for letter, flag in _FLAGS.items()}

# `;` and `!` stand for the colon on file systems that have none.
_INFO: Final = re.compile(r"[:;!]2,([^:;!,]*)(?:,[^:;!]*)?\Z")
_SIZE: Final = re.compile(r",([SW])=([0-9]{1,15})(?=,|\Z)")
_UNFIT: Final = re.compile(r"[/:\x00-\x1f\x7f]|\A\.")


class Name(NamedTuple):
    """What a message's file name says."""

    unique: str
    """What stays when flags change: all before the `:2,`, sizes included."""
    flags: str
    """The letters, in order, each once: D F P R S T, and a to z for keywords."""
    size: int | None
    """Octets of the file."""
    wire_size: int | None
    """Octets with each line end as CRLF."""


def parse_maildir_name(name: str) -> Name:
    """The parts of a file name in `cur` or `new`. Any name is one; never raises.

    Letters that nobody knows are kept (qmail's maildir says so of capitals); a `:1,` or other
    info belongs to the unique part.
    """
    info = _INFO.search(name)
    unique, letters = (name[: info.start()], info[1]) if info else (name, "")
    sizes: dict[str, int] = {}
    for found in _SIZE.finditer(unique):
        sizes.setdefault(found[1], int(found[2]))
    flags = "".join(sorted({letter for letter in letters if letter.isascii() and letter.isalpha()}))
    return Name(unique, flags, sizes.get("S"), sizes.get("W"))


def maildir_name(
    unique: str, flags: str = "", *, size: int | None = None, wire_size: int | None = None
) -> str:
    """A file name for `cur`. Sizes are added to `unique` where given.

    Raises Malformed for a unique part with a slash, colon, control, or a dot in front, and for
    flags that are no letters.
    """
    if not unique or _UNFIT.search(unique):
        raise Malformed("This cannot begin the name of a message", detail=f"{unique[:100]!a}")
    if flags and not (flags.isascii() and flags.isalpha()):
        raise Malformed("Flags in a file name are letters", detail=f"{flags[:100]!a}")
    if size is not None:
        unique += f",S={size}"
    if wire_size is not None:
        unique += f",W={wire_size}"
    return f"{unique}:2,{''.join(sorted(set(flags)))}"


def imap_flags(letters: str, keywords: Sequence[str | None] = ()) -> tuple[str, ...]:
    """The flags and keywords behind the letters of a name; `keywords` as `parse_keywords` gives.

    Letters without a meaning are left out.
    """
    found = []
    for letter in letters:
        if letter in _FLAGS:
            found.append(_FLAGS[letter])
        elif "a" <= letter <= "z":
            n = ord(letter) - ord("a")
            if n < len(keywords) and (keyword := keywords[n]):
                found.append(keyword)
    return tuple(found)


def flag_letters(flags: Iterable[str], keywords: list[str | None]) -> tuple[str, tuple[str, ...]]:
    """The letters for these flags, and the flags for which there is none.

    `keywords` grows by what is new, up to its 26; \\Recent is for nobody to keep.
    """
    letters = set()
    without = []
    known = {keyword.lower(): n for n, keyword in enumerate(keywords) if keyword}
    for flag in flags:
        key = flag.lower()
        if key in _LETTERS:
            letters.add(_LETTERS[key])
        elif key.startswith("\\"):
            without.append(flag)
        elif key in known:
            letters.add(chr(ord("a") + known[key]))
        elif len(keywords) < KEYWORDS_MAX:
            known[key] = len(keywords)
            keywords.append(flag)
            letters.add(chr(ord("a") + known[key]))
        else:
            without.append(flag)
    return "".join(sorted(letters)), tuple(without)


# --- the files beside the messages -------------------------------------------------------------

_KEYWORD_LINE: Final = re.compile(rb"([0-9]{1,2}) ([!-~]{1,255})")


def parse_keywords(data: bytes) -> list[str | None]:
    """The keywords of a `dovecot-keywords` file by number, None where a number has none."""
    found: list[str | None] = []
    for line in data.splitlines():
        entry = _KEYWORD_LINE.fullmatch(line.strip())
        if entry is None or int(entry[1]) >= KEYWORDS_MAX:
            continue
        n = int(entry[1])
        found.extend([None] * (n + 1 - len(found)))
        found[n] = entry[2].decode("ascii")
    return found


def format_keywords(keywords: Sequence[str | None]) -> bytes:
    """A `dovecot-keywords` file. Raises Malformed for a keyword that is no IMAP atom."""
    lines = []
    for n, keyword in enumerate(keywords):
        if keyword is None:
            continue
        line = f"{n} {keyword}".encode()
        if n >= KEYWORDS_MAX or not _KEYWORD_LINE.fullmatch(line):
            raise Malformed("This keyword cannot be kept", detail=f"{keyword[:100]!a}")
        lines.append(line + b"\n")
    return b"".join(lines)


_SUBSCRIPTIONS_2: Final = b"V\t2\n\n"
_TAB_ESCAPE: Final = re.compile(rb"\x01([01trn])")
_TAB_ESCAPES: Final = {b"0": b"\0", b"1": b"\x01", b"t": b"\t", b"r": b"\r", b"n": b"\n"}
_TO_TAB_ESCAPE: Final = re.compile(rb"[\x00\x01\t\r\n]")
_TO_TAB_ESCAPES: Final = {octet: b"\x01" + letter for letter, octet in _TAB_ESCAPES.items()}

Path = tuple[str, ...]
"""A folder's name and those above it, outermost first; empty for INBOX itself."""


def parse_subscriptions(data: bytes) -> list[Path]:
    """The folders of a `subscriptions` file (Dovecot, both versions) or `courierimapsubscribed`.

    A leading INBOX is how Courier names the root, and goes; each folder comes once.
    """
    found: dict[Path, None] = {}
    second = data.startswith(_SUBSCRIPTIONS_2)
    for line in data[len(_SUBSCRIPTIONS_2) if second else 0 :].split(b"\n"):
        raw = line.strip(b"\r") if not second else line
        if not raw:
            continue
        names = raw.split(b"\t") if second else raw.split(b".")
        if second:
            names = [_TAB_ESCAPE.sub(lambda each: _TAB_ESCAPES[each[1]], name) for name in names]
        path = tuple(_folder_text(name) for name in names if name)
        if path and path[0].upper() == "INBOX":
            path = path[1:]
        found[path] = None
    return list(found)


def format_subscriptions(paths: Iterable[Path]) -> bytes:
    """A `subscriptions` file in Dovecot's second version.

    Raises Malformed as `folder_directory` does.
    """
    out = [_SUBSCRIPTIONS_2]
    for path in paths:
        names = [_folder_name(name).encode("ascii") for name in path] or [b"INBOX"]
        line = [_TO_TAB_ESCAPE.sub(lambda each: _TO_TAB_ESCAPES[each[0]], name) for name in names]
        out.append(b"\t".join(line) + b"\n")
    return b"".join(out)


# --- folders ------------------------------------------------------------------------------------

_ESCAPE: Final = re.compile(r"\\(2e|2f|5c|7e)", re.IGNORECASE)
_TO_ESCAPE: Final = re.compile(r"[./\\]|\A~")


def parse_folder(directory: str) -> Path | None:
    r"""The folder that a directory below the Maildir holds; () for the Maildir itself (`.`).

    None where its name is no folder's: no dot in front, `..`, an empty level. Names are in
    modified UTF-7, any spelling of it; those that are not are UTF-8, as with Dovecot's UTF-8
    option. `\2e` is a dot within a name, as Dovecot's listescape has it.
    """
    if directory in ("", "."):
        return ()
    if not directory.startswith("."):
        return None
    names = os.fsencode(directory[1:]).split(b".")
    if not all(names):
        return None
    return tuple(_folder_text(name) for name in names)


def _folder_text(raw: bytes) -> str:
    try:
        text = utf7.decode_any(raw)
    except ValueError:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


def folder_directory(path: Path) -> str:
    r"""The directory of a folder: `.` for the empty path, else `.Parent.Child`.

    In modified UTF-7; a dot, slash or backslash within a name as `\2e`, `\2f`, `\5c`. Raises
    Malformed for an empty name or one with a NUL or lone surrogate.
    """
    return "." + ".".join([_folder_name(name) for name in path])


def _folder_name(name: str) -> str:
    if not name or "\0" in name:
        raise Malformed("This cannot name a folder", detail=f"{name[:100]!a}")
    escaped = _TO_ESCAPE.sub(lambda found: f"\\{ord(found[0]):02x}", name)
    try:
        return utf7.encode(escaped).decode("ascii")
    except UnicodeEncodeError as error:
        raise Malformed("This cannot name a folder", detail=f"{name[:100]!a}") from error
