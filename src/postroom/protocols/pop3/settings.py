"""What an administrator may decide about POP3."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.core.settings import Scope, group, setting


@group("pop3")
@dataclass(frozen=True, slots=True)
class Pop3Settings:
    """Sessions, and what they leave behind."""

    idle_seconds: int = setting(
        600,
        "How long a session that has signed in may be silent before it is let go; it then deletes "
        "nothing. RFC 1939 §3 asks for at least ten minutes",
        unit="seconds",
        scopes=(Scope.SERVER, Scope.NODE, Scope.LISTENER),
        at_least=600,
        at_most=86_400,
    )
    mark_seen: bool = setting(
        True,
        "Mark what a session has downloaded as read (\\Seen), for whoever looks by IMAP; it is "
        "done when the session ends",
        scopes=(Scope.SERVER, Scope.DOMAIN, Scope.ACCOUNT),
    )
    # Off: mutt with GNU SASL takes the mechanism as soon as it is offered, cannot bind that way,
    # says "*" and takes our answer to that for the answer to its next command.
    channel_binding: bool = setting(
        False,
        "Offer SCRAM bound to the TLS channel by POP3 too, where `access.channel_binding` allows "
        "it; mutt then cannot sign in",
        scopes=(Scope.SERVER, Scope.NODE, Scope.LISTENER),
    )
    # Announced before anybody has signed in, so it is the same for all.
    expire_days: int = setting(
        0,
        "How long mail may be left on the server: a session that ends in good order removes from "
        "INBOX what came longer ago and was read. 0 keeps it for ever. RFC 2449 §6.7, EXPIRE",
        unit="days",
        at_least=0,
        at_most=3650,
    )
