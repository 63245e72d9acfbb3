"""The client's tongue: commands and messages as octets, never more than was meant.

Nothing here repairs: text that would break out of its line or message raises instead.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator
from typing import Final

from postroom.core.clock import iso
from postroom.formats.address import Address, NotAscii
from postroom.wire.smtp.commands import Auth, Bdat, Mail, Rcpt
from postroom.wire.smtp.errors import BadArgument, BareLineEnd
from postroom.wire.smtp.limits import COMMAND_LINE_CAP
from postroom.wire.smtp.line_ends import LineEnds
from postroom.wire.smtp.parameters import Body, ByMode, Notify, Return, Submitter
from postroom.wire.smtp.xtext import encode_utf8_address, encode_xtext

_CONTROLS: Final = bytes([*range(32), 127])


def command(verb: str, argument: bytes = b"") -> bytes:
    """A command line with its CRLF, at most 4 KiB.

    Raises BadArgument if the verb is not letters or the argument holds a control character,
    CR and LF above all.
    """
    if not (verb.isascii() and verb.isalpha()):
        raise BadArgument("A verb is of letters")
    if argument.translate(None, _CONTROLS) != argument:
        raise BadArgument("Control characters cannot be sent in a command")
    line = verb.encode("ascii") + (b" " + argument if argument else b"") + b"\r\n"
    if len(line) > COMMAND_LINE_CAP:
        raise BadArgument("The command is too long")
    return line


def mail_command(mail: Mail) -> bytes:
    """MAIL with its parameters. The caller leaves out what the server did not offer.

    Raises BadArgument if a value cannot be said, NotAscii for want of SMTPUTF8.
    """
    path = b"FROM:" + _path(mail.reverse_path, mail.smtputf8)
    return command("MAIL", b" ".join((path, *_mail_words(mail))))


def rcpt_command(rcpt: Rcpt, *, utf8: bool = False) -> bytes:
    """RCPT with its parameters, as `mail_command`; `utf8` if MAIL had SMTPUTF8."""
    path = b"TO:" + _path(rcpt.forward_path, utf8)
    return command("RCPT", b" ".join((path, *_rcpt_words(rcpt))))


def bdat_command(bdat: Bdat) -> bytes:
    """BDAT; the caller sends exactly `size` octets after it. RFC 3030 §2."""
    return command("BDAT", b"%d LAST" % bdat.size if bdat.last else b"%d" % bdat.size)


def auth_command(auth: Auth) -> bytes:
    """AUTH with its initial response, if any; raises BadArgument if that does not fit a line.

    RFC 4954 §4: then the client sends AUTH alone and responds to the first 334.
    """
    argument = auth.mechanism.encode("ascii")
    if auth.initial is not None:
        argument += b" " + (binascii.b2a_base64(auth.initial, newline=False) or b"=")
    return command("AUTH", argument)


def auth_line(response: bytes | None) -> bytes:
    """The answer to a 334; None cancels. RFC 4954 §4."""
    return b"*\r\n" if response is None else binascii.b2a_base64(response, newline=False) + b"\r\n"


class DotStuffer:
    """Makes a message fit for DATA: RFC 5321 §4.5.2. Linear; keeps no more than one octet.

    Raises BareLineEnd as soon as the message holds a CR or LF that is not a CRLF, since some
    server would take it for a line end and let a second message out of the first. The caller
    then closes the connection: what went out before is not a message without its end.
    """

    __slots__ = ("_at_line_start", "_cr", "_lines")

    def __init__(self) -> None:
        self._lines = LineEnds()
        self._at_line_start = True
        self._cr = False  # a CR is held back until the LF is seen

    def feed(self, chunk: bytes) -> bytes:
        """The octets to send for the next octets of the message."""
        if not chunk:
            return b""
        self._lines.feed(chunk)
        self._check()
        if self._cr:
            chunk = b"\r" + chunk
        self._cr = chunk[-1] == 0x0D
        if self._cr:
            chunk = chunk[:-1]
            if not chunk:
                return b""
        begins_with_dot = self._at_line_start and chunk[0] == 0x2E
        self._at_line_start = chunk.endswith(b"\r\n")
        if chunk.rfind(b"\r\n.") >= 0:  # with split and join: half the time of replace
            chunk = b"\r\n..".join(chunk.split(b"\r\n."))
        return b"." + chunk if begins_with_dot else chunk

    def finish(self) -> bytes:
        """The end of the message: a CRLF if the last line lacks it, and the dot."""
        self._lines.close()
        self._check()
        return b".\r\n" if self._at_line_start else b"\r\n.\r\n"

    @property
    def longest_line(self) -> int:
        """As DataEnd.longest_line, so far."""
        return self._lines.longest_line

    def _check(self) -> None:
        if self._lines.bare_cr or self._lines.bare_lf:
            raise BareLineEnd


def dot_stuff(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The whole message in `chunks` as DATA wants it, its end included. Raises BareLineEnd."""
    stuffer = DotStuffer()
    for chunk in chunks:
        if stuffed := stuffer.feed(chunk):
            yield stuffed
    yield stuffer.finish()


def _path(address: Address | None, utf8: bool) -> bytes:
    if address is None:
        return b"<>"
    if not utf8 and not address.ascii:
        raise NotAscii
    return b"<" + str(address).encode("utf-8") + b">"


def _mail_words(mail: Mail) -> list[bytes]:
    words = []
    if mail.size is not None:
        words.append(b"SIZE=%d" % mail.size)
    if mail.body is not Body.SEVEN_BIT:
        words.append(b"BODY=" + _choice(mail.body))
    if mail.smtputf8:
        words.append(b"SMTPUTF8")
    if mail.auth is not None:
        words.append(b"AUTH=" + _submitter(mail.auth))
    if mail.ret is not None:
        words.append(b"RET=" + _choice(mail.ret))
    if mail.envid is not None:
        if not mail.envid or not mail.envid.isascii() or not mail.envid.isprintable():
            raise BadArgument("ENVID is of printable ASCII")
        words.append(b"ENVID=" + encode_xtext(mail.envid.encode("ascii")))
    if mail.requiretls:
        words.append(b"REQUIRETLS")
    if mail.hold_for is not None:
        words.append(b"HOLDFOR=%d" % mail.hold_for)
    if mail.hold_until is not None:
        words.append(b"HOLDUNTIL=" + iso(mail.hold_until).encode("ascii"))
    if mail.priority is not None:
        words.append(b"MT-PRIORITY=%d" % mail.priority)
    if mail.deliver_by is not None:
        by = mail.deliver_by
        words.append(b"BY=%d;%s%s" % (by.seconds, _choice(by.mode), b"T" if by.trace else b""))
    return words


def _rcpt_words(rcpt: Rcpt) -> list[bytes]:
    words = []
    if rcpt.notify is not None:
        names = [str(notice.name) for notice in Notify if notice in rcpt.notify]
        words.append(b"NOTIFY=" + (",".join(names) or "NEVER").encode("ascii"))
    if rcpt.orcpt is not None:
        kind, address = rcpt.orcpt.kind.encode("ascii"), rcpt.orcpt.address
        coded = encode_utf8_address(address) if rcpt.orcpt.utf8 else encode_xtext(address.encode())
        words.append(b"ORCPT=%s;%s" % (kind, coded))
    return words


def _choice(choice: Body | Return | ByMode) -> bytes:
    return str(choice.value).encode("ascii")


def _submitter(submitter: Submitter) -> bytes:
    if submitter.mailbox is None:
        return b"<>"
    return encode_xtext(str(submitter.mailbox).encode("utf-8"))
