"""The tables of verbs: which may come when, and what state follows. RFC 5321 §4.1.4.

A command is an async function `(session, argument) -> Reply`; `then` holds if its reply is 2yz
or 3yz.
"""

from __future__ import annotations

from typing import Final

from postroom.domain.transit import Protocol
from postroom.protocols.smtp import replies
from postroom.protocols.smtp.commands import chunks, greeting, message, other, signin
from postroom.protocols.smtp.session import ANY, GREETED, IN_MAIL, Service, State, Verb

_ALWAYS: Final = {
    b"RSET": Verb(other.rset, when=ANY),  # RFC 5321 §4.1.1.5
    b"VRFY": Verb(other.vrfy, when=ANY),  # RFC 5321 §4.1.1.6
    b"EXPN": Verb(other.not_implemented, when=ANY),  # RFC 5321 §4.1.1.7
    b"HELP": Verb(other.help_, when=ANY),  # RFC 5321 §4.1.1.8
    b"NOOP": Verb(other.noop, when=ANY),  # RFC 5321 §4.1.1.9
    b"QUIT": Verb(other.quit_, when=ANY),  # RFC 5321 §4.1.1.10
}
_MESSAGE: Final = {
    b"MAIL": Verb(
        message.mail, when=GREETED, then=State.MAIL, otherwise=replies.NESTED
    ),  # RFC 5321 §4.1.1.2
    b"RCPT": Verb(message.rcpt, when=IN_MAIL, then=State.RCPT),  # RFC 5321 §4.1.1.3
    b"DATA": Verb(message.data, when=IN_MAIL, then=State.DATA),  # RFC 5321 §4.1.1.4
    b"BDAT": Verb(chunks.bdat, when=ANY),  # RFC 3030 §2; its octets follow in any state
}
_TLS: Final = {b"STARTTLS": Verb(greeting.starttls, when=ANY)}  # RFC 3207 §4
_GREETINGS: Final = {
    b"EHLO": Verb(greeting.ehlo, when=ANY, then=State.GREETED),  # RFC 5321 §4.1.1.1
    b"HELO": Verb(greeting.helo, when=ANY, then=State.GREETED),  # RFC 5321 §4.1.1.1
}

MX: Final = Service(Protocol.SMTP, "ESMTP", {**_GREETINGS, **_TLS, **_MESSAGE, **_ALWAYS})
"""Port 25. AUTH is not among its verbs: there it is a command that does not exist (SMTP-01)."""

SUBMISSION: Final = Service(
    Protocol.SUBMISSION,
    "ESMTP",
    {
        **_GREETINGS,
        **_TLS,
        b"AUTH": Verb(signin.auth, when=GREETED),  # RFC 4954 §4
        **_MESSAGE,
        **_ALWAYS,
    },
    signs_in=True,
)
"""Ports 587 and 465. RFC 6409, RFC 8314."""

LMTP: Final = Service(
    Protocol.LMTP,
    "LMTP",
    {
        b"LHLO": Verb(greeting.ehlo, when=ANY, then=State.GREETED),  # RFC 2033 §4.1
        **_MESSAGE,
        **_ALWAYS,
    },
    answers_each=True,
    no_recipients=replies.NO_RECIPIENTS_LMTP,
)
"""A socket of this machine, for programs that deliver here. RFC 2033."""
