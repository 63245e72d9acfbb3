"""One message to one host: MAIL, RCPT, the content, what became of each recipient.

RFC 5321 §3.3, RFC 2920 (pipelining), RFC 3030 (BDAT), RFC 2033 §4.2 (LMTP).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from postroom.core.errors import ConnectionLost, MailError, Status
from postroom.formats.address import NotAscii
from postroom.net.smtp.framing import Chunked, Dotted, Framing, blocks
from postroom.net.smtp.offers import Offers
from postroom.net.smtp.steps import Peek, Steps, Write, ask, read
from postroom.net.smtp.values import (
    Answer,
    Content,
    Fate,
    NeedsDowngrade,
    Outcome,
    Phase,
    Result,
    answer_of,
    fate_of,
    finding,
)
from postroom.wire.smtp import (
    BadReply,
    BareLineEnd,
    Body,
    ByMode,
    Mail,
    Rcpt,
    Reply,
    command,
    mail_command,
    rcpt_command,
)

WINDOW: Final = 16_384
"""Octets of commands that go out before their replies are read: what fits into the buffers of
any TCP, or both sides could wait for each other. RFC 2920 §3.1"""

_CLOSING: Final = 421  # RFC 5321 §3.8: it may stand in place of any reply
_TOO_MANY: Final = (452, 552)  # RFC 5321 §4.5.3.1.10: an old server says 552


@dataclass(frozen=True, slots=True)
class _Command:
    octets: bytes
    phase: Phase
    recipient: int = -1


class _Closing(Exception):
    """The server said 421."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def downgrade_for(content: Content, offers: Offers) -> NeedsDowngrade | None:
    """In what other form a server with these offers could take the content; None: as it is."""
    if content.binary and not ("BINARYMIME" in offers and "CHUNKING" in offers):
        return NeedsDowngrade.BINARY if "8BITMIME" in offers else NeedsDowngrade.EIGHT_BIT
    if content.eight_bit and not content.binary and "8BITMIME" not in offers:
        return NeedsDowngrade.EIGHT_BIT
    return None


def obstacle(mail: Mail, content: Content, offers: Offers, *, secured: bool) -> Answer | None:
    """Why this server cannot be given the message at all: a table, read from the top."""
    utf8 = "SMTPUTF8" in offers
    for holds, status, text in (
        (
            offers.size is not None and content.size > offers.size,
            Status(5, 3, 4),
            f"The message has {content.size} octets, and this host takes {offers.size}",
        ),
        (  # a bounce goes without, as RFC 8689 §5 has it: its sender keeps the content out
            mail.requiretls and mail.reverse_path is not None and not secured,
            Status(5, 7, 10),
            "The message requires TLS, and there is none",
        ),
        (
            mail.requiretls and mail.reverse_path is not None and "REQUIRETLS" not in offers,
            Status(5, 7, 30),  # RFC 8689 §4.2.1
            "The message requires TLS on the whole way, and this host does not promise it",
        ),
        (
            mail.reverse_path is not None and not mail.reverse_path.ascii and not utf8,
            Status(5, 6, 7),  # RFC 6531 §3.5
            "The sender's address is not ASCII, and this host takes no such addresses",
        ),
        (
            mail.smtputf8 and not utf8,
            Status(5, 6, 9),  # RFC 6531 §3.5: a header in UTF-8
            "The header is not ASCII, and this host takes no such header",
        ),
        (
            mail.deliver_by is not None
            and mail.deliver_by.mode is ByMode.RETURN
            and "DELIVERBY" not in offers,
            Status(5, 3, 3),  # RFC 2852 §4
            "The message has a deadline, and this host does not know of such",
        ),
        (
            downgrade_for(content, offers) is not None,
            Status(5, 6, 3),  # RFC 3463 §3.7: conversion required but not supported
            "The message cannot be sent to this host as it is, nor be converted",
        ),
    ):
        if holds:
            return Answer(None, status, text)
    return None


class Transaction:
    """Runs once. `open`: the server may hold a transaction that RSET must end. `over`: the
    connection is of no more use."""

    __slots__ = (
        "_accepted",
        "_content",
        "_framed",
        "_host",
        "_lmtp",
        "_mail",
        "_octets",
        "_offers",
        "_outcomes",
        "_phase",
        "_rcpts",
        "_sent_all",
        "_taken",
        "heard",
        "open",
        "over",
    )

    def __init__(
        self,
        host: str,
        offers: Offers,
        mail: Mail,
        rcpts: Sequence[Rcpt],
        content: Content,
        *,
        lmtp: bool,
        open_before: bool,
    ) -> None:
        self._host = host
        self._offers = offers
        self._mail = mail
        self._rcpts = rcpts
        self._content = content
        self._lmtp = lmtp
        self._taken: list[int] = []  # whom this transaction is for, by their number
        self._accepted: list[int] = []  # whom the server takes, and who has no outcome yet
        self._outcomes: dict[int, Outcome] = {}
        self._phase = Phase.MAIL
        self._sent_all = False
        self._framed = False  # the content began to go out
        self._octets = 0
        self.heard = False  # something was said to MAIL
        self.open = open_before
        self.over = False

    def run(self, *, secured: bool) -> Steps[Result]:
        """The whole; never raises for what a server or the line does."""
        wrong = obstacle(self._mail, self._content, self._offers, secured=secured)
        if wrong is not None:
            self._taken = list(range(len(self._rcpts)))
            if "SMTPUTF8" not in self._offers:
                for n, rcpt in enumerate(self._rcpts):
                    if not rcpt.forward_path.ascii:  # of two reasons the one that is its own
                        self._settle_one(n, Fate.PERMANENT, finding(NotAscii()), Phase.OFFER)
            self._settle(Fate.PERMANENT, wrong, Phase.OFFER)
            return self._result()
        self._taken = self._choose()
        try:
            yield from self._converse()
        except _Closing as closing:
            self.over = True
            self._settle(Fate.TEMPORARY, answer_of(closing.reply), self._phase)
        except (ConnectionLost, BadReply) as error:
            self.over = True
            self._settle(Fate.TEMPORARY, finding(error), self._phase, in_doubt=self._sent_all)
        return self._result()

    # --- the conversation ------------------------------------------------------------------

    def _converse(self) -> Steps[None]:
        commands = self._commands()
        if not any(each.phase is Phase.RCPT for each in commands):
            return  # every recipient has failed before a word was said
        yield from self._silent()
        data = yield from self._envelope(commands)
        if not self._accepted:
            if data is not None and data.intermediate:
                yield from self._nothing()
            return
        if "CHUNKING" in self._offers:
            # Preferred: where the message ends is a matter of counting, not of dots.
            framing: Framing = Chunked(self._content.size, binary=self._content.binary)
        else:
            if data is None:
                data = yield from ask(command("DATA"), Phase.DATA)
                self._phase = Phase.DATA
                _refuse_closing(data)
            if not data.intermediate:
                if data.positive:
                    raise BadReply(detail=f"to DATA: {data}")
                self._settle(fate_of(data), answer_of(data), Phase.DATA)
                return
            framing = Dotted(self._content.size)
        if (yield from self._send(framing)):
            yield from self._hear()

    def _envelope(self, commands: deque[_Command]) -> Steps[Reply | None]:
        """RSET, MAIL, RCPT, DATA, as far as it makes sense; the reply to DATA if it was sent."""
        window = WINDOW if "PIPELINING" in self._offers else 0
        data: Reply | None = None
        while commands:
            if commands[0].phase is Phase.DATA and not self._accepted:
                break
            batch = [commands.popleft()]
            size = len(batch[0].octets)
            while commands and size + len(commands[0].octets) <= window:
                size += len(commands[0].octets)
                batch.append(commands.popleft())
            yield Write(b"".join(each.octets for each in batch), batch[0].phase)
            refused = False
            for each in batch:
                reply = yield from read(each.phase)
                self._phase = each.phase
                _refuse_closing(reply)
                match each.phase:
                    case Phase.MAIL:
                        refused = not self._told_mail(reply)
                    case Phase.RCPT:
                        if not refused:  # else it only repeats that there is no transaction
                            self._told_rcpt(each.recipient, reply)
                    case Phase.DATA:
                        data = reply
                    case _:
                        if not reply.positive:
                            raise BadReply(detail=f"to RSET: {reply}")
            if refused:
                break
        return data

    def _told_mail(self, reply: Reply) -> bool:
        self.heard = True
        if reply.intermediate:
            raise BadReply(detail=f"to MAIL: {reply}")
        self.open = reply.positive
        if not reply.positive:
            self._settle(fate_of(reply), answer_of(reply), Phase.MAIL)
        return reply.positive

    def _told_rcpt(self, n: int, reply: Reply) -> None:
        if reply.intermediate:
            raise BadReply(detail=f"to RCPT: {reply}")
        if reply.positive:
            self._accepted.append(n)
            return
        fate = fate_of(reply)
        if _says_too_many(reply):
            fate = Fate.TEMPORARY
            if self._accepted:
                self._taken.remove(n)  # RFC 5321 §4.5.3.1.10: a transaction of their own
                return
        self._settle_one(n, fate, answer_of(reply), Phase.RCPT)

    def _nothing(self) -> Steps[None]:
        """DATA was pipelined and taken although no recipient was: an empty message ends it.

        RFC 2920 §3.1. Over LMTP nobody would answer it (RFC 2033 §4.2), so there it is the end.
        """
        self._phase = Phase.END
        if self._lmtp:
            self.over = True
            return
        reply = yield from ask(b".\r\n", Phase.END)
        _refuse_closing(reply)
        self.open = False

    def _send(self, framing: Framing) -> Steps[bool]:
        """The content; False if it could not be sent whole.

        A block leaves only when the next one was found good, the last one when all is: what a
        server has of a message that we then give up is never a message.
        """
        self._phase = Phase.CONTENT
        self._framed = True
        held, size = b"", 0
        try:
            for block in blocks(self._content):
                octets = framing.feed(block)
                if held and not (yield from self._write(held)):
                    return False
                self._octets += size
                held, size = octets, len(block)
            held += framing.finish()
        except (ConnectionLost, BadReply):
            raise
        except MailError as error:  # of the content: BareLineEnd, or what its store says
            self.over = True
            fate = Fate.PERMANENT if isinstance(error, BareLineEnd) else Fate.TEMPORARY
            self._settle(fate, finding(error), Phase.CONTENT)
            return False
        self._octets += size
        return (yield from self._write(held, last=True))

    def _write(self, octets: bytes, *, last: bool = False) -> Steps[bool]:
        """Send on, unless the server has spoken: then that was its answer to the message."""
        reply = yield Peek(Phase.CONTENT)
        if reply is None:
            self._sent_all = last  # even if only a part gets out, nobody can tell
            reply = yield Write(octets, Phase.CONTENT)
            if reply is None:
                return True
            self._sent_all = False  # the end is still with us
        _refuse_closing(reply)
        if self._lmtp or reply.positive or reply.intermediate:
            # Nothing was due, and a "250" before the end must never count as one.
            raise BadReply("The other server spoke out of turn", detail=str(reply))
        self.over = True
        self._settle(fate_of(reply), answer_of(reply), Phase.CONTENT)
        return False

    def _hear(self) -> Steps[None]:
        """What the server says to the message: once, by LMTP to each recipient in order."""
        self._phase = Phase.END
        refused = False
        for n in tuple(self._accepted) if self._lmtp else (-1,):
            reply = yield from read(Phase.END)
            if reply.intermediate:
                raise BadReply(detail=f"to the message: {reply}")
            refused = refused or not reply.positive
            fate, answer = fate_of(reply), answer_of(reply)
            if n < 0:
                self._settle(fate, answer, Phase.END)
            else:
                self._settle_one(n, fate, answer, Phase.END)
            if reply.code == _CLOSING:
                raise ConnectionLost(detail=str(reply))  # whom it leaves unanswered is in doubt
        # After a refused BDAT the transaction is in no known state: RFC 3030 §2.
        self.open = refused

    def _silent(self) -> Steps[None]:
        """Nothing is due: a word can only be a goodbye, or an answer made up in advance."""
        reply = yield Peek(Phase.MAIL)
        if reply is not None:
            _refuse_closing(reply)
            raise BadReply("The other server spoke out of turn", detail=str(reply))

    # --- the commands ----------------------------------------------------------------------

    def _choose(self) -> list[int]:
        """As many recipients as one transaction may have. RFC 9422"""
        most, domains = self._offers.rcpt_max, self._offers.domain_max
        if most is None and domains is None:
            return list(range(len(self._rcpts)))
        chosen: list[int] = []
        seen: set[str] = set()
        for n, rcpt in enumerate(self._rcpts):
            if most is not None and len(chosen) >= most:
                break
            domain = rcpt.forward_path.domain
            if domain not in seen and domains is not None and len(seen) >= domains:
                continue
            seen.add(domain)
            chosen.append(n)
        return chosen

    def _commands(self) -> deque[_Command]:
        """Everything up to the content. A recipient who cannot be said is settled here."""
        offers = self._offers
        commands: deque[_Command] = deque()
        if self.open:
            commands.append(_Command(command("RSET"), Phase.RESET))
        mail = self._offered(self._mail)
        try:
            commands.append(_Command(mail_command(mail), Phase.MAIL))
        except MailError as error:
            self._settle(_fate_of_error(error), finding(error), Phase.OFFER)
            return deque()
        for n in tuple(self._taken):
            rcpt = self._rcpts[n]
            if "DSN" not in offers:
                rcpt = Rcpt(rcpt.forward_path)
            try:
                octets = rcpt_command(rcpt, utf8=mail.smtputf8)
            except MailError as error:  # NotAscii for want of SMTPUTF8 above all
                self._settle_one(n, _fate_of_error(error), finding(error), Phase.OFFER)
            else:
                commands.append(_Command(octets, Phase.RCPT, n))
        if "PIPELINING" in offers and "CHUNKING" not in offers:
            commands.append(_Command(command("DATA"), Phase.DATA))
        return commands

    def _offered(self, mail: Mail) -> Mail:
        """MAIL with what this server knows of what is wanted, and what the content is."""
        offers, content = self._offers, self._content
        wants_utf8 = mail.smtputf8 or any(
            not path.ascii
            for path in (mail.reverse_path, *(self._rcpts[n].forward_path for n in self._taken))
            if path is not None
        )
        body = Body.SEVEN_BIT
        if content.binary:
            body = Body.BINARY
        elif content.eight_bit:
            body = Body.EIGHT_BIT
        dsn = "DSN" in offers
        return replace(
            mail,
            size=content.size if "SIZE" in offers else None,
            body=body,
            smtputf8=wants_utf8 and "SMTPUTF8" in offers,
            auth=mail.auth if "AUTH" in offers else None,
            ret=mail.ret if dsn else None,
            envid=mail.envid if dsn else None,
            requiretls=mail.requiretls and "REQUIRETLS" in offers,
            hold_for=None,  # it was held here: RFC 4865
            hold_until=None,
            priority=mail.priority if "MT-PRIORITY" in offers else None,
            deliver_by=mail.deliver_by if "DELIVERBY" in offers else None,
        )

    # --- the outcomes ----------------------------------------------------------------------

    def _settle(self, fate: Fate, answer: Answer, phase: Phase, *, in_doubt: bool = False) -> None:
        """For everyone who has no outcome yet."""
        for n in self._taken:
            if n not in self._outcomes:
                self._settle_one(n, fate, answer, phase, in_doubt=in_doubt)

    def _settle_one(
        self, n: int, fate: Fate, answer: Answer, phase: Phase, *, in_doubt: bool = False
    ) -> None:
        self._outcomes[n] = Outcome(self._rcpts[n], fate, answer, phase, in_doubt)

    def _result(self) -> Result:
        taken = set(self._taken)
        return Result(
            self._host,
            tuple(self._outcomes[n] for n in self._taken),
            untried=tuple(rcpt for n, rcpt in enumerate(self._rcpts) if n not in taken),
            dsn="DSN" in self._offers,
            chunked=self._framed and "CHUNKING" in self._offers,
            octets=self._octets if self._framed else 0,
        )


def _refuse_closing(reply: Reply) -> None:
    if reply.code == _CLOSING:
        raise _Closing(reply)


def _says_too_many(reply: Reply) -> bool:
    """452 and 552 to RCPT mean too many recipients, if the enhanced status says nothing else."""
    if reply.code not in _TOO_MANY:
        return False
    return reply.status is None or (reply.status.subject, reply.status.detail) == (5, 3)


def _fate_of_error(error: MailError) -> Fate:
    return Fate.PERMANENT if error.status.permanent else Fate.TEMPORARY
