"""POP3 on the line, both sides: octets to values and back. RFC 1939, RFC 2449, RFC 5034.

Called by protocols/pop3 (server side: Receiver, the parse functions, Reply, Crlf, Top, Stuffer),
by whoever fetches mail elsewhere (client side: ResponseReader, the command functions), tests and
fuzzers. May import: core. No socket, clock or policy.

    receiver.feed(octets)
    while (event := receiver.next()) is not None: ...

A client says after a positive reply whether lines follow it, since the reply does not:

    reader.feed(octets)
    if reader.next() == Reply(True, …):
        reader.expect_lines()
"""

from __future__ import annotations

from postroom.wire.pop3 import limits
from postroom.wire.pop3.capabilities import capabilities
from postroom.wire.pop3.commands import (
    Auth,
    BadArgument,
    auth_command,
    auth_line,
    command,
    parse_auth,
    parse_auth_line,
    parse_nothing,
    parse_number,
    parse_optional_number,
    parse_password,
    parse_top,
    parse_user,
)
from postroom.wire.pop3.content import Crlf, Stuffer, Top, Unstuffer
from postroom.wire.pop3.receiver import BadLine, Command, Event, Fault, Line, Receiver
from postroom.wire.pop3.replies import Reply, challenge, listing, parse_reply
from postroom.wire.pop3.responses import (
    BadResponse,
    Challenge,
    Chunk,
    End,
    Response,
    ResponseReader,
)

__all__ = [
    "Auth",
    "BadArgument",
    "BadLine",
    "BadResponse",
    "Challenge",
    "Chunk",
    "Command",
    "Crlf",
    "End",
    "Event",
    "Fault",
    "Line",
    "Receiver",
    "Reply",
    "Response",
    "ResponseReader",
    "Stuffer",
    "Top",
    "Unstuffer",
    "auth_command",
    "auth_line",
    "capabilities",
    "challenge",
    "command",
    "limits",
    "listing",
    "parse_auth",
    "parse_auth_line",
    "parse_nothing",
    "parse_number",
    "parse_optional_number",
    "parse_password",
    "parse_reply",
    "parse_top",
    "parse_user",
]
