"""CAPA and UTF8, which say what the two sides can do, and NOOP. RFC 2449 §5, RFC 6856 §2."""

from __future__ import annotations

from postroom.protocols.pop3 import capabilities
from postroom.protocols.pop3.commands.signin import mechanisms
from postroom.protocols.pop3.session import Session
from postroom.protocols.pop3.settings import Pop3Settings
from postroom.wire.pop3 import Reply, listing, parse_nothing


async def capa(session: Session, argument: bytes) -> Reply | None:
    """RFC 2449 §5."""
    parse_nothing(argument)
    house = session.shared.house
    expire_days = house.policies.latest(house.chain("")).of(Pop3Settings).expire_days
    names = capabilities.offered(
        mechanisms(session),
        signed_in=session.identity is not None,
        starttls=session.shared.tls is not None and session.peer.tls is None,
        expire_days=expire_days,
    )
    session.say(Reply(True, "Capabilities follow"))
    session.output.write(listing(names))
    return None


async def utf8(session: Session, argument: bytes) -> Reply | None:
    """RFC 6856 §2.1: the client can read headers in UTF-8.

    One that did not say so gets them all the same. RFC 6856 §4 would allow to refuse such a
    message; but most octets beyond ASCII in headers are of senders who never heard of it, clients
    guess at them, and one that is refused a message comes no further.
    """
    parse_nothing(argument)
    session.utf8 = True
    return Reply(True, "UTF-8 it is")


async def noop(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §5."""
    parse_nothing(argument)
    return Reply(True)
