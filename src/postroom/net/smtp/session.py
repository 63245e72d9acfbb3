"""One connection's conversation, without the connection: what to say when, what it meant.

Each method is a conversation of its own (see steps.py), run to its end before the next one
begins. RFC 5321 §3 and §4, RFC 3207, RFC 4954, RFC 2033.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from postroom.core.errors import (
    ConnectionLost,
    EncryptionRequired,
    MailError,
    Malformed,
    Misuse,
    Status,
)
from postroom.net.smtp.auth import ROUNDS, Credentials, Mechanism, challenge_of, choose
from postroom.net.smtp.offers import NOTHING, Offers, offers_of
from postroom.net.smtp.steps import Steps, ask, read, work
from postroom.net.smtp.transaction import Transaction, downgrade_for
from postroom.net.smtp.values import (
    TEXT_CAP,
    Answer,
    Content,
    NeedsDowngrade,
    OpenFailed,
    Phase,
    Result,
    answer_of,
    fate_of,
    finding,
)
from postroom.wire.smtp import (
    Auth,
    BadArgument,
    BadReply,
    Mail,
    Rcpt,
    Reply,
    auth_command,
    auth_line,
    command,
    parse_hello,
)

_NO_EHLO: Final = (500, 502)  # not known, not implemented: RFC 5321 §4.1.4
_CLOSING: Final = 421  # RFC 5321 §3.8


class Session:
    """What both sides know. The conversations of opening raise OpenFailed."""

    __slots__ = (
        "_host",
        "_lmtp",
        "_name",
        "_open",
        "banner",
        "offers",
        "over",
        "secured",
        "signed_in",
        "transactions",
    )

    def __init__(self, host: str, name: str, *, lmtp: bool = False, secured: bool = False) -> None:
        """`host` is the other one's name, `name` is ours; `secured`: TLS is there already.

        Raises Misuse for a name that cannot be said.
        """
        self._host = host
        try:
            self._name = parse_hello(name.encode("ascii")).name.encode("ascii")
        except (UnicodeEncodeError, BadArgument) as error:
            raise Misuse(f"{name!r} is no name to greet with") from error
        self._lmtp = lmtp
        self._open = False  # the server may hold a transaction that nobody ended
        self.banner = ""
        self.offers: Offers = NOTHING
        self.secured = secured
        self.signed_in = ""
        self.transactions = 0  # MAIL commands that were answered
        self.over = False  # the connection is of no more use

    @property
    def full(self) -> bool:
        """The server takes no more transactions on this connection. RFC 9422"""
        most = self.offers.mail_max
        return most is not None and self.transactions >= most

    # --- opening ---------------------------------------------------------------------------

    def greeting(self) -> Steps[None]:
        """What the server says first. RFC 5321 §3.1"""
        reply = yield from self._guarded(read(Phase.GREETING), Phase.GREETING)
        if not reply.positive:
            raise self._refused(reply, Phase.GREETING)
        self.banner = reply.text[:TEXT_CAP]

    def hello(self) -> Steps[None]:
        """EHLO, and HELO where EHLO is not known; LHLO. RFC 5321 §4.1.1.1, RFC 2033 §4.1"""
        self.offers = NOTHING
        verb = "LHLO" if self._lmtp else "EHLO"
        reply = yield from self._ask(command(verb, self._name), Phase.HELLO)
        if reply.positive:
            self.offers = offers_of(reply)
            return
        if reply.code in _NO_EHLO and not self._lmtp:
            reply = yield from self._ask(command("HELO", self._name), Phase.HELLO)
        if not reply.positive:
            raise self._refused(reply, Phase.HELLO)

    def starttls(self) -> Steps[Reply]:
        """Ask for TLS; the reply. If it is 2yz the handshake is next, then `forget`."""
        reply = yield from self._ask(command("STARTTLS"), Phase.STARTTLS)
        if reply.intermediate:
            raise self._failed(BadReply(detail=f"to STARTTLS: {reply}"), Phase.STARTTLS)
        return reply

    def forget(self) -> None:
        """TLS is there: nothing that was said before counts. RFC 3207 §4.2. `hello` is next."""
        self.offers = NOTHING
        self.secured = True

    def authenticate(self, credentials: Credentials | Mechanism, nonce: str = "") -> Steps[None]:
        """AUTH. RFC 4954 §4. Never without TLS. `nonce` is random, visible ASCII without commas,
        for SCRAM; without one that is not spoken.

        What goes wrong is temporary: that our password was changed is no reason to return
        other people's mail.
        """
        if not self.secured:
            raise OpenFailed(finding(EncryptionRequired()), Phase.AUTH, reason=EncryptionRequired())
        try:
            mechanism = choose(credentials, self.offers.mechanisms, nonce)
        except Malformed as error:
            raise OpenFailed(finding(error), Phase.AUTH, reason=error) from error
        if mechanism is None:
            answer = Answer(None, Status(4, 7, 4), "The server offers no way to sign in that fits")
            raise OpenFailed(answer, Phase.AUTH)
        waiting = mechanism.start()
        octets = auth_command(Auth(mechanism.name))
        if waiting is not None:
            try:
                octets, waiting = auth_command(Auth(mechanism.name, waiting)), None
            except BadArgument:
                pass  # too long for the command: the first 334 asks for it. RFC 4954 §4
        for _ in range(ROUNDS):
            reply = yield from self._ask(octets, Phase.AUTH)
            if reply.positive and mechanism.done:
                self.signed_in = mechanism.name
                return
            if not reply.intermediate:
                raise OpenFailed(_refusal(reply, mechanism), Phase.AUTH)
            challenge = challenge_of(reply.text)
            if challenge is None:
                octets = auth_line(None)
            elif waiting is not None:
                octets, waiting = auth_line(waiting), None
            else:
                octets = auth_line(
                    (yield from work(partial(mechanism.step, challenge), Phase.AUTH))
                )
        raise self._failed(BadReply(detail="AUTH has no end"), Phase.AUTH)

    # --- sending ---------------------------------------------------------------------------

    def needs(self, content: Content) -> NeedsDowngrade | None:
        """In what other form this server could take the content; None: as it is."""
        return downgrade_for(content, self.offers)

    def transact(self, mail: Mail, rcpts: Sequence[Rcpt], content: Content) -> Steps[Result]:
        """One message to at least one recipient. Never raises for what the server does."""
        transaction = Transaction(
            self._host,
            self.offers,
            mail,
            rcpts,
            content,
            lmtp=self._lmtp,
            open_before=self._open,
        )
        served = self.transactions > 0
        self.over, over = True, self.over  # until it has ended well: an error leaves the middle
        result = yield from transaction.run(secured=self.secured)
        self.over = over or transaction.over
        self._open = transaction.open
        self.transactions += transaction.heard
        stale = served and transaction.over and not transaction.heard
        return replace(result, stale=True) if stale else result

    def reset(self) -> Steps[bool]:
        """RSET; False if the connection is of no more use. RFC 5321 §4.1.1.5"""
        try:
            reply = yield from ask(command("RSET"), Phase.RESET)
        except (ConnectionLost, BadReply):
            self.over = True
            return False
        self.over = not reply.positive
        self._open = False
        return reply.positive

    def quit(self) -> Steps[None]:
        """QUIT; whatever is answered. RFC 5321 §4.1.1.10"""
        self.over = True
        try:
            yield from ask(command("QUIT"), Phase.QUIT)
        except (ConnectionLost, BadReply):
            pass  # it is gone, as it should be

    # --- inside ----------------------------------------------------------------------------

    def _ask(self, octets: bytes, phase: Phase) -> Steps[Reply]:
        return (yield from self._guarded(ask(octets, phase), phase))

    def _guarded(self, steps: Steps[Reply], phase: Phase) -> Steps[Reply]:
        """A step of opening: what the line or a garbled reply does ends it."""
        try:
            reply = yield from steps
        except (ConnectionLost, BadReply) as error:
            raise self._failed(error, phase) from error
        if reply.code == _CLOSING:
            raise self._refused(reply, phase)
        return reply

    def _failed(self, error: MailError, phase: Phase) -> OpenFailed:
        self.over = True
        return OpenFailed(finding(error), phase, reason=error)

    def _refused(self, reply: Reply, phase: Phase) -> OpenFailed:
        self.over = self.over or reply.code == _CLOSING
        return OpenFailed(answer_of(reply), phase, fate_of(reply))


def _refusal(reply: Reply, mechanism: Mechanism) -> Answer:
    """Why a sign-in came to nothing: the server's word, or ours if it was we who ended it."""
    if mechanism.problem:
        return Answer(reply.code, Status(4, 7, 0), f"Cancelled: {mechanism.problem}"[:TEXT_CAP])
    if reply.positive:
        # Whoever says yes before it has proved that it knows the password: RFC 5802 §3.
        return Answer(reply.code, Status(4, 7, 0), "The server says yes too early")
    return answer_of(reply)
