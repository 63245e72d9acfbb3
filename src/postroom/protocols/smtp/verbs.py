"""The table of verbs: which may come when, and what state follows. RFC 5321 §4.1.4.

A command is an async function `(session, argument) -> Reply`; `then` holds if its reply is 2yz
or 3yz.
"""

from __future__ import annotations

from typing import Final

from postroom.protocols.smtp import replies
from postroom.protocols.smtp.commands import greeting, message, other
from postroom.protocols.smtp.session import ANY, GREETED, IN_MAIL, State, Verb

MX: Final = {
    b"EHLO": Verb(greeting.ehlo, when=ANY, then=State.GREETED),  # RFC 5321 §4.1.1.1
    b"HELO": Verb(greeting.helo, when=ANY, then=State.GREETED),  # RFC 5321 §4.1.1.1
    b"STARTTLS": Verb(greeting.starttls, when=ANY),  # RFC 3207 §4
    b"MAIL": Verb(
        message.mail, when=GREETED, then=State.MAIL, otherwise=replies.NESTED
    ),  # RFC 5321 §4.1.1.2
    b"RCPT": Verb(message.rcpt, when=IN_MAIL, then=State.RCPT),  # RFC 5321 §4.1.1.3
    b"DATA": Verb(message.data, when=IN_MAIL, then=State.DATA),  # RFC 5321 §4.1.1.4
    b"RSET": Verb(other.rset, when=ANY),  # RFC 5321 §4.1.1.5
    b"VRFY": Verb(other.vrfy, when=ANY),  # RFC 5321 §4.1.1.6
    b"EXPN": Verb(other.not_implemented, when=ANY),  # RFC 5321 §4.1.1.7
    b"HELP": Verb(other.help_, when=ANY),  # RFC 5321 §4.1.1.8
    b"NOOP": Verb(other.noop, when=ANY),  # RFC 5321 §4.1.1.9
    b"QUIT": Verb(other.quit_, when=ANY),  # RFC 5321 §4.1.1.10
}
"""Port 25. AUTH is not among them: there it is a command that does not exist (SMTP-01)."""
