"""What an administrator may decide about mail that comes in."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.core.settings import Scope, group, setting


@group("server")
@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The names under which this server speaks."""

    default_domain: str = setting(
        "example.test",
        "The domain of system mail, of `<Postmaster>` and of logins that name none",
        scopes=(Scope.SERVER,),
    )
    hostname: str = setting(
        "",
        "The host name in greetings and Received fields; empty: mail. and the default domain. "
        "It should resolve to this machine",
    )


_MAIL_SCOPES = (Scope.SERVER, Scope.NODE, Scope.LISTENER)


@group("smtp")
@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Limits and refusals of the SMTP server."""

    max_size: int = setting(
        50 * 1024 * 1024,
        "The largest message that is taken. RFC 1870",
        unit="octets",
        scopes=_MAIL_SCOPES,
        at_least=64 * 1024,
        at_most=1024 * 1024 * 1024,
    )
    max_recipients: int = setting(
        1000,
        "Recipients of one transaction; further ones are asked to come in the next. "
        "RFC 5321 §4.5.3.1.8",
        scopes=_MAIL_SCOPES,
        at_least=100,
        at_most=10_000,
    )
    max_refused: int = setting(
        20,
        "Refused recipients after which a connection is closed: who guesses addresses has to "
        "begin again. 0 never closes",
        scopes=_MAIL_SCOPES,
        at_least=0,
    )
    max_hops: int = setting(
        50,
        "Received fields after which a message is taken to go in circles. RFC 5321 §6.3",
        scopes=_MAIL_SCOPES,
        at_least=10,
        at_most=1000,
    )
    local_senders_sign_in: bool = setting(
        True,
        "On port 25, refuse a reverse-path in a domain of this server unless the peer has "
        "signed in",
        scopes=(*_MAIL_SCOPES, Scope.DOMAIN),
    )
    accept_deadline: int = setting(
        20,
        "How long the checks of a message may take in all before it is decided without them",
        unit="seconds",
        scopes=_MAIL_SCOPES,
        at_least=1,
        at_most=300,
    )


@group("quota")
@dataclass(frozen=True, slots=True)
class QuotaSettings:
    """What an account may hold."""

    octets: int = setting(
        0,
        "How much an account may hold; 0 is no limit. What was deleted and can be brought back "
        "does not count",
        unit="octets",
        scopes=(Scope.SERVER, Scope.DOMAIN, Scope.ACCOUNT),
        at_least=0,
    )
    messages: int = setting(
        0,
        "How many messages an account may hold; 0 is no limit",
        scopes=(Scope.SERVER, Scope.DOMAIN, Scope.ACCOUNT),
        at_least=0,
    )


@group("retention")
@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long what is gone can be brought back, and what happened can be explained."""

    deleted_days: int = setting(
        30,
        "How long a deleted message can be brought back",
        unit="days",
        scopes=(Scope.SERVER, Scope.DOMAIN, Scope.ACCOUNT),
        at_least=0,
        at_most=3650,
    )
    traces_days: int = setting(
        90, "How long the trace of a message that was kept is held", unit="days", at_least=1
    )
    refusals_days: int = setting(
        14, "How long the trace of a refusal is held", unit="days", at_least=1
    )
    tombstones_days: int = setting(
        90,
        "How long clients can catch up by what changed; after that they read all anew",
        unit="days",
        at_least=1,
    )
    journal_days: int = setting(
        30, "How long changes of mailboxes are held for undo and audit", unit="days", at_least=1
    )
