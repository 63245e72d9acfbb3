"""Errors are types with an enhanced status code (RFC 3463); each server maps them to its replies.

Say little to the peer, all to the log: `str(error)` is the sentence a peer may see,
`error.detail` is for the log and the trace alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Status:
    """An enhanced mail system status code: class.subject.detail. RFC 3463 §2."""

    klass: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"

    @property
    def permanent(self) -> bool:
        """True for 5.x.x: trying again unchanged cannot succeed. RFC 3463 §3.1."""
        return self.klass == 5


class MailError(Exception):
    """The root of every error that a peer or an operator may see.

    A subclass fixes `status` and `sentence`; an instance may sharpen the sentence.
    """

    status: ClassVar[Status] = Status(4, 3, 0)
    sentence: ClassVar[str] = "The system could not do this now"

    def __init__(self, sentence: str | None = None, *, detail: str = "") -> None:
        super().__init__(sentence or self.sentence)
        self.detail = detail


# --- what the request itself got wrong ---------------------------------------------------


class Malformed(MailError):
    """The input does not follow its grammar."""

    status = Status(5, 5, 2)  # RFC 3463 §3.6: syntax error
    sentence = "This could not be understood"


class Misuse(MailError):
    """An operation was called with arguments that cannot be right (CLI exit code 2)."""

    status = Status(5, 5, 4)  # RFC 3463 §3.6: invalid command arguments
    sentence = "These arguments do not fit"


class TooLarge(MailError):
    """A message, literal or value beyond a limit."""

    status = Status(5, 3, 4)  # RFC 3463 §3.4: message too big for system
    sentence = "This is larger than this server accepts"


class TooMany(MailError):
    """A count beyond a limit: recipients, placements, keywords."""

    status = Status(4, 5, 3)  # RFC 3463 §3.6: too many recipients
    sentence = "Too many at once"


# --- who asks ----------------------------------------------------------------------------


class NotAuthenticated(MailError):
    """Credentials are wrong, unknown or throttled: never say which. RFC 4954 §6."""

    status = Status(5, 7, 8)
    sentence = "Authentication credentials invalid"


class AuthUnavailable(MailError):
    """Credentials could not be judged now. RFC 4954 §6."""

    status = Status(4, 7, 0)
    sentence = "Temporary authentication failure"


class NotAllowed(MailError):
    """The principal is known but lacks the right."""

    status = Status(5, 7, 1)
    sentence = "Not allowed"


class EncryptionRequired(MailError):
    """This needs TLS first. RFC 4954 §6: 5.7.11."""

    status = Status(5, 7, 11)
    sentence = "Encryption is needed first"


# --- what is asked for -------------------------------------------------------------------


class NotFound(MailError):
    """The object does not exist, or the asker may not know that it does."""

    status = Status(5, 1, 1)
    sentence = "No such object"


class NoSuchRecipient(NotFound):
    """A recipient address of ours that leads nowhere. RFC 3463 §3.2."""

    sentence = "No such recipient here"


class AlreadyExists(MailError):
    """An object of that name is there."""

    status = Status(5, 5, 4)
    sentence = "It exists already"


class InUse(MailError):
    """The object cannot go while others lean on it."""

    status = Status(5, 5, 4)
    sentence = "It is in use"


class OverQuota(MailError):
    """The account has no room. RFC 3463 §3.3: mailbox full."""

    status = Status(4, 2, 2)
    sentence = "The mailbox is full"


class LimitReached(MailError):
    """A structural limit of the store (keywords, folders): RFC 5530 §3 LIMIT."""

    status = Status(5, 5, 3)
    sentence = "The limit of such objects is reached"


# --- what the house cannot do now ----------------------------------------------------------


class Busy(MailError):
    """Too much waits; come back. RFC 3463 §3.4: system not accepting network messages."""

    status = Status(4, 3, 2)
    sentence = "The server is busy, please try again"


class StoreFailed(MailError):
    """The store could not make the change durable; nothing of it was kept."""

    status = Status(4, 3, 0)
    sentence = "The store could not keep this now; nothing was changed"


class StoreFull(StoreFailed):
    """No room on the disk. RFC 3463 §3.4: mail system full."""

    status = Status(4, 3, 1)
    sentence = "The mail system is full"


class InDoubt(MailError):
    """The store went away during a commit and did not come back to say what became of it.

    Who asked for the change must get no answer at all: yes and no may both be wrong.
    """

    status = Status(4, 3, 0)
    sentence = "The store was lost; whether this was kept is not known"


class ShuttingDown(MailError):
    """The server drains. RFC 3463 §3.4."""

    status = Status(4, 3, 2)
    sentence = "The server is shutting down, please try again"


class Corrupt(MailError):
    """Stored bytes do not match their hash or their references."""

    status = Status(4, 3, 0)
    sentence = "A stored object is damaged"


class SecretUnreadable(MailError):
    """A sealed secret cannot be opened, or none sealed. RFC 3463 §3.8: other security status."""

    status = Status(4, 7, 0)
    sentence = "A stored secret cannot be read"


class Unreachable(MailError):
    """The running server did not answer on its local socket."""

    status = Status(4, 4, 1)  # RFC 3463 §3.5: no answer from host
    sentence = "The server does not answer"


# --- the line to a peer ------------------------------------------------------------------


class ConnectionLost(MailError):
    """The peer went away, or took nothing for too long. RFC 3463 §3.5: bad connection."""

    status = Status(4, 4, 2)
    sentence = "The connection was lost"


class TlsFailed(ConnectionLost):
    """The handshake or a record could not be trusted. RFC 3463 §3.8: cryptographic failure."""

    status = Status(4, 7, 5)
    sentence = "TLS could not be established"


class CertificateRefused(TlsFailed):
    """The peer's certificate is not what was asked for. `result`: how TLS-RPT names the reason."""

    sentence = "The certificate could not be verified"

    def __init__(
        self,
        sentence: str | None = None,
        *,
        detail: str = "",
        result: str = "validation-failure",  # RFC 8460 §4.3.2
    ) -> None:
        super().__init__(sentence, detail=detail)
        self.result = result


class ConnectFailed(MailError):
    """No connection came about. RFC 3463 §3.5: no answer from host."""

    status = Status(4, 4, 1)
    sentence = "The host does not answer"


# --- what others say -----------------------------------------------------------------------


class DnsFailed(MailError):
    """DNS gave no answer that can be used: neither a record nor the word that there is none.

    `reason` is short and of a fixed set, for traces and metrics: timeout, servfail, bogus, ...
    """

    status = Status(4, 4, 3)  # RFC 3463 §3.5: directory server failure
    sentence = "A DNS lookup failed, please try again"

    def __init__(self, sentence: str | None = None, *, detail: str = "", reason: str = "") -> None:
        super().__init__(sentence, detail=detail)
        self.reason = reason
