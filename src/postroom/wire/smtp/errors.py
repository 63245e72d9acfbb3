"""What can be wrong with what a peer said, each with its SMTP code and enhanced status.

`code` is the reply code that a server gives: RFC 5321 §4.2.3. What is wrong with an address is
of formats.address: BadAddress (5.1.3) and BadSender (5.1.7) are answered with 501, NotAscii
(5.6.7) with 553 (RFC 6531 §3.5).
"""

from __future__ import annotations

from typing import ClassVar

from postroom.core.errors import MailError, Malformed, Status


class CommandError(Malformed):
    """A command that cannot be understood; nothing of it was carried out."""

    code: ClassVar[int] = 500
    sentence = "Syntax error, command unrecognised"


class BadArgument(CommandError):
    """A missing, repeated or malformed argument or parameter. RFC 5321 §4.2.3: 501."""

    status = Status(5, 5, 4)
    code = 501
    sentence = "Syntax error in arguments"


class UnknownParameter(CommandError):
    """A well-formed parameter that was not offered. RFC 5321 §4.1.1.11: 555."""

    status = Status(5, 5, 4)
    code = 555
    sentence = "Parameter not recognised or not implemented"


class BadBase64(CommandError):
    """An AUTH response that is not base64. RFC 4954 §6: 501 with 5.5.2."""

    code = 501
    sentence = "Cannot decode this base64"


class BareLineEnd(Malformed):
    """A message of ours holds a CR or LF that is not a CRLF: it must not leave the house."""

    status = Status(5, 6, 0)  # RFC 3463 §3.7: other media error
    sentence = "The message holds a bare CR or LF"


class BadReply(MailError):
    """A server's answer that is no reply of RFC 5321 §4.2; the connection is of no more use."""

    status = Status(4, 5, 0)  # RFC 3463 §3.6: other protocol status; another server may do better
    sentence = "The other server does not speak SMTP properly"
