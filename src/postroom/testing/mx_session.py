"""The exchanger of the small internet at work: one client's conversation, and what is noted.

`mx.RemoteMx` is the face of it. It shares the codecs of wire/smtp with our own server, nothing
else, so that a mistake of one is not a mistake of both.
"""

from __future__ import annotations

import asyncio
import binascii
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from postroom.core.errors import MailError, Malformed, TlsFailed
from postroom.net.tls import TlsEngine, TlsFacts
from postroom.wire.smtp import (
    BadArgument,
    BadBase64,
    BadLine,
    Body,
    ChunkEnd,
    Command,
    DataChunk,
    DataEnd,
    Event,
    Line,
    Mail,
    Rcpt,
    Receiver,
    limits,
    parse_auth,
    parse_auth_line,
    parse_bdat,
    parse_hello,
    parse_mail,
    parse_rcpt,
)

_CHUNK: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST
_LAST: Final = frozenset({"EHLO", "HELO", "LHLO", "STARTTLS", "DATA", "QUIT", "AUTH"})
"""Commands behind which nothing may come unasked. RFC 2920 §3.1, RFC 3207 §4"""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it was taken. `rcpts` are those that were accepted for it."""

    mail: Mail
    rcpts: tuple[Rcpt, ...]
    content: bytes
    hello: str
    tls: TlsFacts | None
    chunks: int  # how many BDATs it came in; 0: by DATA
    user: str | None
    connection: int

    @property
    def recipients(self) -> list[str]:
        """Who it is for."""
        return [str(rcpt.forward_path) for rcpt in self.rcpts]


@dataclass(slots=True)
class Visit:
    """One connection, from its beginning to its end."""

    number: int
    said: bytearray = field(default_factory=bytearray)  # all that the client said, decrypted
    commands: list[str] = field(default_factory=list)
    tls: TlsFacts | None = None
    quit: bool = False
    over: bool = False


@dataclass(slots=True)
class Fault:
    """What happens instead of the ordinary, at a phase. See `RemoteMx.on`."""

    phase: str
    to: str | None
    skip: int
    times: int | None
    reply: str | bytes | None
    slow: float
    octets: int
    drop: bool
    reset: bool
    keep: bool
    stall: bool
    endless: bool

    def strikes(self, phase: str, to: str | None) -> bool:
        """True if its turn has come; counts."""
        if self.phase != phase or (self.to is not None and self.to != to) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class Host:
    """What an exchanger is, what it is to do wrong, and what it has seen."""

    name: str
    offers: Sequence[str]
    tls: ssl.SSLContext | None
    implicit: bool
    lmtp: bool
    users: Mapping[str, str] | None
    mechanisms: str
    messages: list[Received] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def complain(self, visit: Visit, what: str) -> None:
        """Note that the client broke a rule."""
        self.complaints.append(f"connection {visit.number}: {what}")

    def fault(self, phase: str, to: str | None = None) -> Fault | None:
        """The fault that strikes here, if any."""
        return next((fault for fault in self.faults if fault.strikes(phase, to)), None)

    def content_fault(self, octets: int) -> Fault | None:
        """As `fault`, within a message of which so much is here."""
        for fault in self.faults:
            if (
                fault.phase == "CONTENT"
                and octets > fault.octets
                and fault.strikes("CONTENT", None)
            ):
                return fault
        return None


class Gone(Exception):
    """The connection is over."""


class Wire:
    """Octets, with or without TLS."""

    def __init__(self, sock: socket.socket, visit: Visit) -> None:
        self._sock = sock
        self._visit = visit
        self._engine: TlsEngine | None = None

    async def read(self) -> bytes:
        """What came; never empty. Raises Gone at the end."""
        loop = asyncio.get_running_loop()
        while True:
            if self._engine is not None:
                try:
                    plain = self._engine.read()
                except TlsFailed as error:
                    raise Gone from error
                if plain is not None:
                    if not plain:
                        raise Gone
                    self._visit.said += plain
                    return plain
            data = await self._raw(loop)
            if self._engine is None:
                self._visit.said += data
                return data
            self._engine.feed(data)

    async def write(self, data: bytes) -> None:
        """Send it all. Raises Gone."""
        try:
            if self._engine is not None:
                data = self._engine.seal(data)
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except (OSError, TlsFailed) as error:
            raise Gone from error

    async def handshake(self, context: ssl.SSLContext) -> TlsFacts:
        """Speak TLS from here on. Raises Gone."""
        loop = asyncio.get_running_loop()
        engine = TlsEngine(context)
        try:
            while not engine.handshake():
                if answer := engine.take():
                    await self.write(answer)
                engine.feed(await self._raw(loop))
        except TlsFailed as error:
            await self.write(engine.take())
            raise Gone from error
        await self.write(engine.take())
        self._engine = engine
        return engine.facts()

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif self._engine is not None:
            try:
                self._sock.send(self._engine.close())
            except OSError:
                pass  # it was gone before
        self._sock.close()

    async def _raw(self, loop: asyncio.AbstractEventLoop) -> bytes:
        try:
            data = await loop.sock_recv(self._sock, _CHUNK)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        return data


@dataclass(slots=True)
class _Transaction:
    mail: Mail
    rcpts: list[Rcpt] = field(default_factory=list)
    asked: int = 0  # RCPTs, refused ones too
    content: bytearray = field(default_factory=bytearray)
    chunks: int = 0
    broken: bool = False  # a BDAT was refused: only RSET helps


class Conversation:
    """One client, from greeting to goodbye."""

    def __init__(self, host: Host, visit: Visit, wire: Wire) -> None:
        self._host = host
        self._visit = visit
        self._wire = wire
        self._receiver = Receiver()
        self._hello = ""
        self._extended = False  # EHLO, so that extensions may be used
        self._user: str | None = None
        self._transaction: _Transaction | None = None
        self._mails = 0
        self._verbs = {  # what may come, in any state
            **dict.fromkeys(("EHLO", "HELO", "LHLO"), self._on_hello),
            "STARTTLS": self._on_starttls,
            "AUTH": self._on_auth,
            "MAIL": self._on_mail,
            "RCPT": self._on_rcpt,
            "DATA": self._on_data,
            "BDAT": self._on_bdat,
            "RSET": self._on_rset,
            "NOOP": self._on_noop,
            "QUIT": self._on_quit,
        }

    async def serve(self) -> None:
        reset = False
        try:
            if self._host.implicit:
                await self._shake()
            await self._say("CONNECT", "")
            if await self._say("GREETING", f"220 {self._host.name} ESMTP"):
                await self._converse()
            else:
                await self._until_quit()
        except Gone as gone:
            reset = gone.args == ("reset",)
        finally:
            self._visit.over = True
            self._wire.close(reset=reset)

    # --- the conversation ------------------------------------------------------------------

    async def _converse(self) -> None:
        while True:
            event = await self._next()
            if isinstance(event, BadLine):
                self._complain(event.reason.value)
                await self._wire.write(b"500 5.5.2 no\r\n")
                if event.fatal:
                    return
                continue
            assert isinstance(event, Command)
            verb = event.verb.decode("ascii", "replace")
            self._visit.commands.append(verb)
            if len(verb) + len(event.argument) + 3 > limits.COMMAND_LINE_CAP:
                self._complain(f"{verb} is too long")
            if not self._receiver.empty:
                if verb in _LAST:
                    self._complain(f"something follows {verb} before its answer")
                elif not self._offers("PIPELINING") and verb != "BDAT":
                    self._complain(f"{verb} was pipelined without leave")
            handle = self._verbs.get(verb)
            if handle is None:
                self._complain(f"unknown command {verb}")
                await self._wire.write(b"500 5.5.1 unknown\r\n")
                continue
            await handle(verb, event.argument)

    async def _until_quit(self) -> None:
        """After a refused greeting nothing but QUIT makes sense. RFC 5321 §3.1"""
        while True:
            event = await self._next()
            if isinstance(event, Command) and event.verb == b"QUIT":
                await self._on_quit("QUIT", b"")
            self._complain("a command after a refused greeting")
            await self._wire.write(b"503 5.5.1 no\r\n")

    async def _next(self) -> Event:
        while (event := self._receiver.next()) is None:
            self._receiver.feed(await self._wire.read())
        return event

    async def _say(self, phase: str, ordinary: str, *, to: str | None = None) -> bool:
        """Reply as is ordinary, or as a fault has it; True if the reply lets things go on."""
        fault = self._host.fault(phase, to)
        said = _lines(ordinary)
        if fault is not None:
            said = await self._strike(fault, said)
        if said:
            await self._wire.write(said)
        if fault is not None and (fault.drop or fault.reset):
            raise Gone("reset" if fault.reset else "drop")
        return said[:1] in (b"2", b"3")

    async def _strike(self, fault: Fault, ordinary: bytes) -> bytes:
        """Do what the fault says, up to the reply that it leaves."""
        if fault.slow:
            await asyncio.sleep(fault.slow)
        if fault.stall:
            await asyncio.Event().wait()  # until the exchanger stops
        while fault.endless:
            await self._wire.write(b"250-and one more thing\r\n")
            await asyncio.sleep(0.002)
        if fault.reply is not None:
            return fault.reply if isinstance(fault.reply, bytes) else _lines(fault.reply)
        return b"" if fault.drop or fault.reset else ordinary

    async def _refuse(self, phase: str, error: MailError, code: int) -> None:
        self._complain(f"{phase}: {error} {error.detail}".rstrip())
        await self._wire.write(f"{code} {error.status} {error}\r\n".encode())

    def _complain(self, what: str) -> None:
        self._host.complain(self._visit, what)

    def _offers(self, keyword: str) -> bool:
        return keyword in self._keywords()

    def _keywords(self) -> dict[str, str]:
        if not self._extended:
            return {}
        return {key: rest for key, _, rest in (o.partition(" ") for o in self._offered())}

    def _offered(self) -> list[str]:
        offers = list(self._host.offers)
        if self._visit.tls is None:
            offers = [offer for offer in offers if offer != "REQUIRETLS"]  # RFC 8689 §2
            if self._host.tls is not None:
                offers.append("STARTTLS")
        elif self._host.users is not None:
            offers.append(f"AUTH {self._host.mechanisms}")
        return offers

    def _limit(self, name: str) -> int | None:
        """RFC 9422"""
        for word in self._keywords().get("LIMITS", "").split():
            key, _, number = word.partition("=")
            if key == name:
                return int(number)
        return None

    # --- before a transaction --------------------------------------------------------------

    async def _on_hello(self, verb: str, argument: bytes) -> None:
        if (verb == "LHLO") != self._host.lmtp:
            self._complain(f"{verb} is of another protocol")
        try:
            hello = parse_hello(argument)
        except Malformed as error:
            await self._refuse(verb, error, 501)
            return
        extended, self._extended = self._extended, verb != "HELO"
        offers = self._offered() if self._extended else []
        lines = [f"{self._host.name} at your service", *offers]
        told = "\n".join(f"250-{line}" for line in lines[:-1])
        if await self._say(verb, f"{told}\n250 {lines[-1]}".lstrip()):
            self._hello, self._transaction = hello.name, None
        else:
            self._extended = extended

    async def _on_starttls(self, verb: str, argument: bytes) -> None:
        if not self._offers(verb) or argument:
            self._complain("STARTTLS where it is not offered")
            await self._wire.write(b"502 5.5.1 no\r\n")
            return
        if not await self._say(verb, "220 2.0.0 go ahead"):
            return
        fault = self._host.fault("HANDSHAKE")
        if fault is not None:
            await self._wire.write(await self._strike(fault, b""))
            raise Gone("reset" if fault.reset else "drop")
        await self._shake()
        # RFC 3207 §4.2: nothing that was said before counts.
        self._receiver = Receiver()
        self._hello, self._extended, self._transaction = "", False, None

    async def _shake(self) -> None:
        assert self._host.tls is not None
        self._visit.tls = await self._wire.handshake(self._host.tls)

    async def _on_auth(self, verb: str, argument: bytes) -> None:
        users = self._host.users
        if users is None or not self._offers(verb) or self._user is not None:
            self._complain("AUTH where it is not offered")
            await self._wire.write(b"503 5.5.1 no\r\n")
            return
        fault = self._host.fault("AUTH")
        if fault is not None:
            await self._wire.write(await self._strike(fault, b""))
            if fault.drop or fault.reset:
                raise Gone("reset" if fault.reset else "drop")
            return
        try:
            asked = parse_auth(argument)
            if asked.mechanism == "PLAIN":
                said = asked.initial if asked.initial is not None else await self._challenge(b"")
                _, user, password = (said or b"").split(b"\0")
            else:
                user = await self._challenge(b"Username:") or b""
                password = await self._challenge(b"Password:") or b""
        except (Malformed, ValueError) as error:
            self._complain(f"AUTH: {error}")
            await self._wire.write(b"501 5.5.2 no\r\n")
            return
        if users.get(user.decode()) == password.decode():
            self._user = user.decode()
            await self._wire.write(b"235 2.7.0 welcome\r\n")
        else:
            await self._wire.write(b"535 5.7.8 wrong\r\n")

    async def _challenge(self, text: bytes) -> bytes | None:
        await self._wire.write(b"334 " + binascii.b2a_base64(text))
        self._receiver.expect_line(limits.AUTH_LINE_CAP)
        event = await self._next()
        if not isinstance(event, Line):
            raise BadBase64
        return parse_auth_line(event.data)

    # --- the transaction -------------------------------------------------------------------

    async def _on_mail(self, verb: str, argument: bytes) -> None:
        self._mails += 1
        most = self._limit("MAILMAX")
        try:
            if not self._hello:
                raise BadArgument("MAIL before a greeting")
            if self._transaction is not None:
                raise BadArgument("MAIL within a transaction")
            if most is not None and self._mails > most:
                raise BadArgument("more transactions than MAILMAX")
            if self._host.users is not None and self._user is None:
                await self._wire.write(b"530 5.7.0 sign in\r\n")
                return
            mail = parse_mail(argument, offered=self._keywords())
            if mail.body is not Body.SEVEN_BIT and not self._offers("8BITMIME"):
                raise BadArgument("BODY is not offered")
            size = self._keywords().get("SIZE", "")
            if mail.size is not None and int(size or 0) and mail.size > int(size):
                raise BadArgument("SIZE is beyond what was offered")
        except Malformed as error:
            await self._refuse(verb, error, 503)
            return
        if await self._say(verb, "250 2.1.0 sender ok"):
            self._transaction = _Transaction(mail)

    async def _on_rcpt(self, verb: str, argument: bytes) -> None:
        transaction = self._transaction
        if transaction is None:
            if not self._offers("PIPELINING"):
                self._complain("RCPT outside a transaction")
            await self._wire.write(b"503 5.5.1 MAIL first\r\n")
            return
        transaction.asked += 1
        most = self._limit("RCPTMAX")
        try:
            if most is not None and transaction.asked > most:
                raise BadArgument("more recipients than RCPTMAX")
            utf8 = transaction.mail.smtputf8
            rcpt = parse_rcpt(argument, utf8=utf8, offered=self._keywords())
        except Malformed as error:
            await self._refuse(verb, error, 501)
            return
        if await self._say(verb, "250 2.1.5 recipient ok", to=str(rcpt.forward_path)):
            transaction.rcpts.append(rcpt)

    async def _on_data(self, verb: str, argument: bytes) -> None:
        transaction = self._transaction
        if transaction is None or not transaction.rcpts:
            if not self._offers("PIPELINING"):
                self._complain("DATA without a recipient")
            if await self._say(verb, f"{503 if self._host.lmtp else 554} 5.5.1 no recipients"):
                await self._lone_dot()
            return
        if transaction.mail.body is Body.BINARY or transaction.chunks:
            self._complain("DATA where only BDAT may be")
        if not await self._say(verb, "354 go ahead"):
            return
        self._receiver.expect_data()
        while not isinstance(event := await self._next(), DataEnd):
            assert isinstance(event, DataChunk)
            transaction.content += event.data
            await self._within(transaction)
        self._inspect(transaction, event)
        await self._end(transaction)

    async def _on_bdat(self, verb: str, argument: bytes) -> None:
        transaction = self._transaction
        try:
            chunk = parse_bdat(argument)
        except Malformed as error:
            await self._refuse(verb, error, 501)
            raise Gone from error
        self._receiver.expect_chunk(chunk.size, chunk.last)
        wanted = transaction is not None and bool(transaction.rcpts) and not transaction.broken
        if not self._offers("CHUNKING") or not wanted:
            self._complain("BDAT where it cannot be")
        while not isinstance(event := await self._next(), ChunkEnd):
            assert isinstance(event, DataChunk)
            if transaction is not None:
                transaction.content += event.data
                await self._within(transaction)
        if transaction is None or not wanted:
            await self._wire.write(b"503 5.5.1 no\r\n")
            return
        transaction.chunks += 1
        if chunk.last:
            self._inspect(transaction, event)
            await self._end(transaction)
        elif not await self._say(verb, "250 2.0.0 go on"):
            transaction.broken = True

    async def _lone_dot(self) -> None:
        """DATA was taken without a recipient: the client must end it. RFC 2920 §3.1"""
        self._receiver.expect_data()
        while not isinstance(event := await self._next(), DataEnd):
            assert isinstance(event, DataChunk)
            self._complain("content for nobody")
        if await self._say("END", "554 5.5.1 nobody would get this"):
            self._complain("the test has a message for nobody taken")
        self._transaction = None

    async def _within(self, transaction: _Transaction) -> None:
        fault = self._host.content_fault(len(transaction.content))
        if fault is not None:
            await self._wire.write(await self._strike(fault, b""))
            if fault.drop or fault.reset:
                raise Gone("reset" if fault.reset else "drop")

    def _inspect(self, transaction: _Transaction, event: DataEnd | ChunkEnd) -> None:
        """Is it what was announced, and fit to be passed on?"""
        mail = transaction.mail
        if event.size != len(transaction.content):
            self._complain("two readers count differently")
        if mail.size is not None and event.size - mail.size not in (0, 2):  # DATA ends a line
            self._complain(f"SIZE={mail.size}, but {event.size} octets came")
        if mail.body is Body.BINARY:
            return
        if event.bare_cr or event.bare_lf:
            self._complain("a bare CR or LF in the message")
        if event.nul:
            self._complain("a NUL in the message")
        if event.longest_line:
            self._complain(f"a line of {event.longest_line} octets")
        if mail.body is Body.SEVEN_BIT and not transaction.content.isascii():
            self._complain("eight bits without BODY=8BITMIME")

    async def _end(self, transaction: _Transaction) -> None:
        """Reply to the message: once, or by LMTP to each recipient (RFC 2033 §4.2)."""
        kept: list[Rcpt] = []
        fault: Fault | None = None
        for rcpt in transaction.rcpts if self._host.lmtp else transaction.rcpts[:1]:
            fault = self._host.fault("END", str(rcpt.forward_path))
            said = b"250 2.0.0 taken\r\n"
            if fault is not None:
                said = await self._strike(fault, said)
            if said[:1] == b"2" or (fault is not None and fault.keep):
                kept += [rcpt] if self._host.lmtp else transaction.rcpts
            if fault is not None and (fault.drop or fault.reset):
                self._keep(transaction, kept)
                await self._wire.write(said)
                raise Gone("reset" if fault.reset else "drop")
            if not self._host.lmtp:
                self._keep(transaction, kept)  # before it is said, so that a test need not wait
            await self._wire.write(said)
        if self._host.lmtp:
            self._keep(transaction, kept)
        self._transaction = None

    def _keep(self, transaction: _Transaction, rcpts: list[Rcpt]) -> None:
        if rcpts:
            self._host.messages.append(
                Received(
                    transaction.mail,
                    tuple(rcpts),
                    bytes(transaction.content),
                    self._hello,
                    self._visit.tls,
                    transaction.chunks,
                    self._user,
                    self._visit.number,
                )
            )

    # --- the rest --------------------------------------------------------------------------

    async def _on_rset(self, verb: str, argument: bytes) -> None:
        if await self._say(verb, "250 2.0.0 forgotten"):
            self._transaction = None

    async def _on_noop(self, verb: str, argument: bytes) -> None:
        await self._say(verb, "250 2.0.0 still here")

    async def _on_quit(self, verb: str, argument: bytes) -> None:
        self._visit.quit = True
        await self._say(verb, "221 2.0.0 bye")
        raise Gone("drop")


def _lines(text: str) -> bytes:
    return "".join(f"{line}\r\n" for line in text.split("\n")).encode() if text else b""
