"""The table of commands: which may come in which state. RFC 1939 §9."""

from __future__ import annotations

from typing import Final

from postroom.protocols.pop3.commands import anytime, deleting, looking, reading, signin
from postroom.protocols.pop3.session import State, Verb

ALWAYS: Final = frozenset({State.AUTHORIZATION, State.TRANSACTION})
STRANGER: Final = frozenset({State.AUTHORIZATION})
SIGNED_IN: Final = frozenset({State.TRANSACTION})

VERBS: Final = {
    b"CAPA": Verb(anytime.capa, ALWAYS),  # RFC 2449 §5
    b"QUIT": Verb(deleting.quit_, ALWAYS),  # RFC 1939 §4, §6
    # AUTHORIZATION: RFC 1939 §4. APOP (§7) is not offered.
    b"STLS": Verb(signin.stls, STRANGER),  # RFC 2595 §4
    b"UTF8": Verb(anytime.utf8, STRANGER),  # RFC 6856 §2.1
    b"USER": Verb(signin.user, STRANGER),  # RFC 1939 §7
    b"PASS": Verb(signin.pass_, STRANGER),  # RFC 1939 §7
    b"AUTH": Verb(signin.auth, STRANGER),  # RFC 5034 §4
    # TRANSACTION: RFC 1939 §5
    b"STAT": Verb(looking.stat, SIGNED_IN),
    b"LIST": Verb(looking.list_, SIGNED_IN),
    b"UIDL": Verb(looking.uidl, SIGNED_IN),  # RFC 1939 §7
    b"RETR": Verb(reading.retr, SIGNED_IN),
    b"TOP": Verb(reading.top, SIGNED_IN),  # RFC 1939 §7
    b"DELE": Verb(deleting.dele, SIGNED_IN),
    b"RSET": Verb(deleting.rset, SIGNED_IN),
    b"NOOP": Verb(anytime.noop, SIGNED_IN),
}
