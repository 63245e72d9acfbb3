"""A cursor over one collected command: small functions read one argument grammar each.

The command is a line, or lines with literals between them, never copied together. Every
reader consumes what it returns or raises BadSyntax; none goes back.
The names are those of the formal syntax, RFC 3501 §9 and RFC 9051 §9.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Final, NamedTuple, NoReturn, TypeVar

from postroom.core.errors import Malformed
from postroom.formats import utf7
from postroom.wire.imap import dates
from postroom.wire.imap.sequence import SequenceSet

T = TypeVar("T")

NUMBER64: Final = 0x7FFFFFFFFFFFFFFF
"""The largest number64 and mod-sequence: 63 bits. RFC 9051 §9, RFC 7162 §7."""
NUMBER32: Final = 0xFFFFFFFF

_SPECIALS: Final = rb'(){ %*"\\\x00-\x1f\x7f-\xff'
_ATOM: Final = re.compile(rb"[^%b\]]+" % _SPECIALS)
_ASTRING: Final = re.compile(rb"[^%b]+" % _SPECIALS)
_TAG: Final = re.compile(rb"[^%b+]+" % _SPECIALS)
_PATTERN: Final = re.compile(rb'[^(){ "\\\x00-\x1f\x7f-\xff]+')  # list-char: wildcards too
_PLAIN: Final = re.compile(rb'"([^"\\\r\n\x00]*)"')
_ESCAPED: Final = re.compile(rb'"((?:[^"\\\r\n\x00]++|\\["\\])*+)"')
_ESCAPE: Final = re.compile(rb'\\(["\\])')
_DIGITS: Final = re.compile(rb"[0-9]{1,20}")
_SET: Final = re.compile(rb"\$|[0-9:,*]+")
_FLAG: Final = re.compile(rb"\\?[^%b\]]+" % _SPECIALS)
_FLAGS: Final = re.compile(rb"\(([^()]*)\)")
# C0, DEL, C1 and the line separators: a name that cannot be shown on one line is refused.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

SYSTEM_FLAGS: Final = {
    name.upper(): name
    for name in ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft", "\\Recent")
}


class BadSyntax(Malformed):
    """The arguments do not follow their grammar: BAD, and nothing was done."""

    sentence = "The arguments could not be understood"


class Piece(NamedTuple):
    """A literal and the line that follows it."""

    literal: bytes
    binary: bool  # announced as literal8, `~{n}`: may hold NUL
    line: bytes


class Cursor:
    """Where we are in the arguments of a command. Starts before the first space."""

    __slots__ = ("_at", "_line", "_pieces", "_taken", "depth", "more", "utf8")

    def __init__(
        self,
        line: bytes,
        at: int = 0,
        pieces: Sequence[Piece] = (),
        *,
        utf8: bool = False,
        depth: int = 50,
        more: bool = False,
    ) -> None:
        """`utf8`: mailbox names are UTF-8 (IMAP4rev2 or UTF8=ACCEPT was enabled).
        `depth`: how deep parentheses may nest. `more`: a streamed literal follows the end.
        """
        self._line = line
        self._at = at
        self._pieces = pieces
        self._taken = 0
        self.utf8 = utf8
        self.depth = depth
        self.more = more

    # --- punctuation -----------------------------------------------------------------

    def sp(self) -> None:
        """Exactly one space."""
        if self._line[self._at : self._at + 1] != b" ":
            raise BadSyntax("A space is missing")
        self._at += 1

    def end(self) -> None:
        """Nothing may follow."""
        if not self.at_end:
            raise BadSyntax("There is more than the command takes")

    @property
    def at_end(self) -> bool:
        return self._at == len(self._line) and self._taken == len(self._pieces) and not self.more

    @property
    def at_streamed(self) -> bool:
        """Whether the next thing is a literal that is streamed after this cursor."""
        return self._at == len(self._line) and self._taken == len(self._pieces) and self.more

    def peek(self) -> bytes:
        """The next octet of the line, b"" at its end or before a literal."""
        return self._line[self._at : self._at + 1]

    def accept(self, mark: bytes) -> bool:
        """Consume `mark` if it is next, octet for octet."""
        if self._line.startswith(mark, self._at):
            self._at += len(mark)
            return True
        return False

    def expect(self, mark: bytes) -> None:
        if not self.accept(mark):
            raise BadSyntax(f"{mark.decode('ascii')} is missing")

    def match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """Consume what `pattern` matches here, within the line; a literal stops it."""
        found = pattern.match(self._line, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def look(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """What `pattern` matches here; `take` consumes it."""
        return pattern.match(self._line, self._at)

    def take(self, found: re.Match[bytes]) -> None:
        """Consume what `look` found."""
        self._at = found.end()

    def look_keyword(self) -> bytes:
        """The atom that is next, in upper case, not consumed; b"" if none is."""
        found = _ATOM.match(self._line, self._at)
        return found[0].upper() if found is not None else b""

    def accept_keyword(self, mark: bytes) -> bool:
        """Consume `mark` in any case; it is given in upper case, with the spaces it needs."""
        stop = self._at + len(mark)
        if self._line[self._at : stop].upper() == mark:
            self._at = stop
            return True
        return False

    @property
    def at_set(self) -> bool:
        """Whether a set of message numbers is next."""
        return _SET.match(self._line, self._at) is not None

    def list(self, item: Callable[[Cursor], T], *, empty: bool = False) -> list[T]:
        """`(item SP item …)`; `empty` says whether `()` is one."""
        self.expect(b"(")
        if empty and self.accept(b")"):
            return []
        items = [item(self)]
        while not self.accept(b")"):
            self.sp()
            items.append(item(self))
        return items

    # --- words and strings -------------------------------------------------------------

    def atom(self) -> bytes:
        return self._token(_ATOM, "A word is missing")

    def keyword(self) -> bytes:
        """An atom of the grammar itself, in upper case."""
        return self._token(_ATOM, "A word is missing").upper()

    def tag(self) -> bytes:
        return self._token(_TAG, "A tag is missing")

    def astring(self) -> bytes:
        found = _ASTRING.match(self._line, self._at)
        if found is not None:
            self._at = found.end()
            return found[0]
        return self.string()

    def string(self) -> bytes:
        """Quoted or literal; a literal holds any octet but NUL."""
        found = _PLAIN.match(self._line, self._at)
        if found is not None:
            self._at = found.end()
            return found[1]
        if self.peek() == b'"':
            found = _ESCAPED.match(self._line, self._at)
            if found is None:
                raise BadSyntax("A quoted string does not end, or holds what it may not")
            self._at = found.end()
            return _ESCAPE.sub(rb"\1", found[1])
        literal, binary = self._literal()
        if binary:
            raise BadSyntax("A binary literal is not taken here")
        if b"\0" in literal:
            raise BadSyntax("A literal holds NUL")
        return literal

    def nstring(self) -> bytes | None:
        """A string, or None for NIL."""
        if self.peek() == b'"' or self._before_literal():
            return self.string()
        if self.keyword() != b"NIL":
            raise BadSyntax("A string or NIL is missing")
        return None

    def nstring8(self) -> bytes | None:
        """A string, a literal8, or None for NIL. RFC 5464 §5, `value`."""
        if self._before_literal() and self._pieces[self._taken].binary:
            return self.literal8()
        return self.nstring()

    def literal8(self) -> bytes:
        """`~{n}` and its octets, NUL among them. RFC 3516 §7."""
        literal, binary = self._literal()
        if not binary:
            raise BadSyntax("A binary literal is missing")
        return literal

    def text(self) -> str:
        """An astring that must be UTF-8."""
        return _utf8(self.astring())

    # --- numbers and sets --------------------------------------------------------------

    def number(self) -> int:
        """0 to 4294967295."""
        return self._number(NUMBER32)

    def nz_number(self) -> int:
        """1 to 4294967295."""
        value = self._number(NUMBER32)
        if value == 0:
            raise BadSyntax("A number may not be 0 here")
        return value

    def number64(self) -> int:
        """0 to 2**63 - 1; mod-sequence-valzer is one. RFC 7162 §7."""
        return self._number(NUMBER64)

    def sequence_set(self) -> SequenceSet:
        text = self._token(_SET, "A set of message numbers is missing")
        try:
            return SequenceSet.parse(text)
        except Malformed as error:
            raise BadSyntax(str(error)) from None

    # --- mailboxes, flags, dates -------------------------------------------------------

    def mailbox(self) -> str:
        """A mailbox name decoded; INBOX in any case is "INBOX". RFC 9051 §5.1."""
        return self._name(self.astring())

    def mailbox_pattern(self) -> str | None:
        """`list-mailbox`: a name that may hold the wildcards `%` and `*`. May be empty; None if no
        name can be like that, which is no error: RFC 9051 §6.3.9."""
        found = self.match(_PATTERN)
        raw = found[0] if found is not None else self.string()
        try:
            return self._name(raw, pattern=True)
        except BadSyntax:
            return None

    def flag(self) -> str:
        """A system flag in its usual spelling, or a keyword as given."""
        return _flag(self._token(_FLAG, "A flag is missing"))

    def flag_list(self) -> tuple[str, ...]:
        """`(flag SP flag …)` or `()`, without repetition, in order."""
        found = self.match(_FLAGS)
        if found is None:
            raise BadSyntax("A list of flags is missing")
        inner = found[1]
        if not inner:
            return ()
        words = inner.split(b" ")
        if not all(map(_FLAG.fullmatch, words)):
            raise BadSyntax("Not a flag")
        return tuple(dict.fromkeys(map(_flag, words)))

    def date(self) -> date:
        """`1-Feb-1994`, quoted or not."""
        quoted = self.accept(b'"')
        found = self.match(dates.DATE)
        if found is None:
            raise BadSyntax("A date is missing")
        if quoted:
            self.expect(b'"')
        try:
            return dates.read_date(found)
        except Malformed as error:
            raise BadSyntax(str(error)) from None

    def date_time(self) -> datetime:
        """`"17-Jul-1996 02:44:25 -0700"`, quoted, aware."""
        self.expect(b'"')
        found = self.match(dates.DATE_TIME)
        if found is None:
            raise BadSyntax("A date and time is missing")
        self.expect(b'"')
        try:
            return dates.read_date_time(found)
        except Malformed as error:
            raise BadSyntax(str(error)) from None

    # --- within --------------------------------------------------------------------------

    def _token(self, pattern: re.Pattern[bytes], missing: str) -> bytes:
        found = pattern.match(self._line, self._at)
        if found is None:
            raise BadSyntax(missing)
        self._at = found.end()
        return found[0]

    def _number(self, largest: int) -> int:
        value = int(self._token(_DIGITS, "A number is missing"))
        if value > largest:
            raise BadSyntax("A number is too large")
        return value

    def _before_literal(self) -> bool:
        return self._at == len(self._line) and self._taken < len(self._pieces)

    def _literal(self) -> tuple[bytes, bool]:
        if not self._before_literal():
            raise BadSyntax("A string is missing")
        piece = self._pieces[self._taken]
        self._taken += 1
        self._line = piece.line
        self._at = 0
        return piece.literal, piece.binary

    def _name(self, raw: bytes, *, pattern: bool = False) -> str:
        if raw.upper() == b"INBOX":
            return "INBOX"
        if not raw and not pattern:
            raise BadSyntax("A mailbox has no name")
        try:
            name = raw.decode("utf-8") if self.utf8 else utf7.decode(raw)
        except ValueError:
            raise BadSyntax(
                "A mailbox name is not UTF-8" if self.utf8
                else "A mailbox name is not modified UTF-7"
            ) from None  # fmt: skip
        if not name.isprintable() and _CONTROL.search(name):
            raise BadSyntax("A mailbox name holds a control character")
        return name


def _flag(word: bytes) -> str:
    flag = word.decode("ascii")
    return SYSTEM_FLAGS.get(flag.upper(), flag) if flag[0] == "\\" else flag


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadSyntax("A string is not UTF-8") from None


def unexpected(what: str) -> NoReturn:
    """Refuse a word that the grammar does not know here."""
    raise BadSyntax(f"{what} is not known here")
