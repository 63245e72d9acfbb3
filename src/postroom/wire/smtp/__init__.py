"""SMTP and LMTP on the line: octets to values and back. RFC 5321, RFC 2033.

Called by protocols/smtp (server side: Receiver, the parse functions, Reply), net (client side:
ReplyReader, the command functions, DotStuffer), tests and fuzzers. May import: core, formats.
No socket, clock or policy: what is allowed when is the session's affair, and so is LMTP's one
reply for each recipient after the message (RFC 2033 §4.2); on the line the two are framed alike.
"""

from __future__ import annotations

from postroom.wire.smtp import limits
from postroom.wire.smtp.commands import (
    Auth,
    Bdat,
    Hello,
    Mail,
    Query,
    Rcpt,
    parse_auth,
    parse_auth_line,
    parse_bdat,
    parse_hello,
    parse_mail,
    parse_nothing,
    parse_query,
    parse_rcpt,
)
from postroom.wire.smtp.errors import (
    BadArgument,
    BadBase64,
    BadReply,
    BareLineEnd,
    CommandError,
    UnknownParameter,
)
from postroom.wire.smtp.line_ends import LineEnds
from postroom.wire.smtp.parameters import (
    EXTENSIONS,
    Body,
    ByMode,
    DeliverBy,
    Notify,
    OriginalRecipient,
    Return,
    Submitter,
)
from postroom.wire.smtp.receiver import (
    BadLine,
    ChunkEnd,
    Command,
    DataChunk,
    DataEnd,
    Event,
    Fault,
    Line,
    Receiver,
)
from postroom.wire.smtp.replies import Reply, ehlo_keywords, ehlo_reply
from postroom.wire.smtp.reply_reader import ReplyReader
from postroom.wire.smtp.sender import (
    DotStuffer,
    auth_command,
    auth_line,
    bdat_command,
    command,
    dot_stuff,
    mail_command,
    rcpt_command,
)
from postroom.wire.smtp.xtext import decode_xtext, encode_xtext

__all__ = [
    "EXTENSIONS",
    "Auth",
    "BadArgument",
    "BadBase64",
    "BadLine",
    "BadReply",
    "BareLineEnd",
    "Bdat",
    "Body",
    "ByMode",
    "ChunkEnd",
    "Command",
    "CommandError",
    "DataChunk",
    "DataEnd",
    "DeliverBy",
    "DotStuffer",
    "Event",
    "Fault",
    "Hello",
    "Line",
    "LineEnds",
    "Mail",
    "Notify",
    "OriginalRecipient",
    "Query",
    "Rcpt",
    "Receiver",
    "Reply",
    "ReplyReader",
    "Return",
    "Submitter",
    "UnknownParameter",
    "auth_command",
    "auth_line",
    "bdat_command",
    "command",
    "decode_xtext",
    "dot_stuff",
    "ehlo_keywords",
    "ehlo_reply",
    "encode_xtext",
    "limits",
    "mail_command",
    "parse_auth",
    "parse_auth_line",
    "parse_bdat",
    "parse_hello",
    "parse_mail",
    "parse_nothing",
    "parse_query",
    "parse_rcpt",
    "rcpt_command",
]
