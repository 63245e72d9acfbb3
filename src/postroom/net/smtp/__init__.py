"""The SMTP and LMTP client: hands one message at a time to one host that somebody has chosen.

Called by mailflow (remote delivery, smart hosts, local LMTP) and by tests. May import: core,
formats, wire, the rest of net. It resolves no name, chooses no host, retries nothing and keeps
nothing: it says for each recipient what became of it here, and why.

    channel = await SmtpChannel.open(target, hello="mail.example.org", wheel=wheel, tls=wish)
    result = await channel.send(Mail(sender), [Rcpt(ann)], content)

RFC 5321, RFC 2033 (LMTP), RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 2920 (PIPELINING), RFC 3030
(CHUNKING, BINARYMIME), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 1870 (SIZE), RFC 3461 (DSN),
RFC 8689 (REQUIRETLS), RFC 9422 (LIMITS), RFC 2034 (ENHANCEDSTATUSCODES).
"""

from __future__ import annotations

from postroom.net.smtp.auth import Credentials, Mechanism
from postroom.net.smtp.channel import SmtpChannel
from postroom.net.smtp.offers import Offers
from postroom.net.smtp.session import Session
from postroom.net.smtp.steps import Peek, Read, Step, Steps, Work, Write
from postroom.net.smtp.values import (
    NO_TLS,
    TIMEOUTS,
    Answer,
    Content,
    Downgrade,
    Facts,
    Fate,
    LocalTarget,
    NeedsDowngrade,
    OpenFailed,
    Outcome,
    Phase,
    Result,
    Target,
    Timeouts,
    TlsMode,
    TlsWish,
)

__all__ = [
    "NO_TLS",
    "TIMEOUTS",
    "Answer",
    "Content",
    "Credentials",
    "Downgrade",
    "Facts",
    "Fate",
    "LocalTarget",
    "Mechanism",
    "NeedsDowngrade",
    "Offers",
    "OpenFailed",
    "Outcome",
    "Peek",
    "Phase",
    "Read",
    "Result",
    "Session",
    "SmtpChannel",
    "Step",
    "Steps",
    "Target",
    "Timeouts",
    "TlsMode",
    "TlsWish",
    "Work",
    "Write",
]
