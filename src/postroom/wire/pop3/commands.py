"""Commands: what their arguments say, and how a client says them. RFC 1939, RFC 5034."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import Malformed, Status
from postroom.wire.pop3.limits import MECHANISM, NUMBER_DIGITS

_MECHANISM: Final = re.compile(rb"[A-Za-z0-9_-]{1,%d}" % MECHANISM)  # RFC 4422 §3.1
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


class BadArgument(Malformed):
    """A missing, superfluous or malformed argument; nothing of the command was carried out."""

    status = Status(5, 5, 4)
    sentence = "That is not what this command takes"


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH with a mechanism. RFC 5034 §4."""

    mechanism: str  # upper case
    initial: bytes | None = field(default=None, repr=False)  # decoded; b"" was `=`


# --- read by a server ---------------------------------------------------------------------------


def parse_nothing(argument: bytes) -> None:
    """The argument of a command that takes none. COMPAT: spaces at the end are let pass."""
    if argument.strip(b" "):
        raise BadArgument("This command takes no argument")


def parse_number(argument: bytes) -> int:
    """A message number. RFC 1939 §3."""
    return _number(argument.strip(b" "), "A message number is needed")


def parse_optional_number(argument: bytes) -> int | None:
    """A message number or nothing: LIST, UIDL. RFC 1939 §5, §7."""
    return parse_number(argument) if argument.strip(b" ") else None


def parse_top(argument: bytes) -> tuple[int, int]:
    """A message number and how many lines of the body. RFC 1939 §7."""
    words = argument.split()
    if len(words) != 2:
        raise BadArgument("A message number and a number of lines are needed")
    number, lines = (_number(word, "These are no numbers") for word in words)
    return number, lines


def parse_user(argument: bytes) -> str:
    """A user's name: UTF-8, RFC 6856 §2.2. What is not becomes a name that nobody has."""
    name = argument.strip(b" ")
    if not name:
        raise BadArgument("A name is needed")
    return name.decode("utf-8", "replace")


def parse_password(argument: bytes) -> bytes:
    """A password as it was said; spaces are part of it. RFC 1939 §7."""
    if not argument:
        raise BadArgument("A password is needed")
    return argument


def parse_auth(argument: bytes) -> Auth | None:
    """The argument of AUTH; None without one, which asks for the mechanisms. RFC 5034 §4."""
    words = argument.split()
    if not words:
        return None
    if len(words) > 2 or _MECHANISM.fullmatch(words[0]) is None:
        raise BadArgument("A mechanism is needed")
    name = words[0].decode("ascii").upper()
    if len(words) == 1:
        return Auth(name)
    return Auth(name, b"" if words[1] == b"=" else _base64(words[1]))


def parse_auth_line(line: bytes) -> bytes | None:
    """The answer to a challenge, decoded; None if the client cancels with "*". RFC 5034 §4."""
    return None if line == b"*" else _base64(line)


def _number(word: bytes, problem: str) -> int:
    if not word.isdigit() or len(word) > NUMBER_DIGITS:
        raise BadArgument(problem)
    return int(word)


def _base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise BadArgument("This is no base64") from None


# --- said by a client ---------------------------------------------------------------------------


def command(verb: str, *arguments: str | bytes | int) -> bytes:
    """One command line. Raises BadArgument for what could begin a line of its own."""
    words = [each if isinstance(each, bytes) else str(each).encode() for each in arguments]
    line = b" ".join((verb.encode("ascii"), *words))
    if _CONTROL.search(line):
        raise BadArgument("A command holds no control characters")
    return line + b"\r\n"


def auth_command(auth: Auth) -> bytes:
    """AUTH with its initial response, if any. RFC 5034 §4: only if the line then has at most 255
    octets (`limits.COMMAND_LINE`), which is for the caller to see."""
    if auth.initial is None:
        return command("AUTH", auth.mechanism)
    encoded = binascii.b2a_base64(auth.initial, newline=False) or b"="
    return command("AUTH", auth.mechanism, encoded)


def auth_line(response: bytes | None) -> bytes:
    """The answer to a challenge; None cancels. RFC 5034 §4."""
    return b"*\r\n" if response is None else binascii.b2a_base64(response, newline=False) + b"\r\n"
