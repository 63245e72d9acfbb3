"""What an administrator may decide about signing in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.settings import Scope, group, setting
from postroom.wire.sasl import ITERATIONS_LEAST, ITERATIONS_MOST

SCRAM_ITERATIONS: Final = 10_000

_PASSWORD_SCOPES = (Scope.SERVER, Scope.DOMAIN)


@group("access")
@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Passwords: what they cost to verify, which are taken, how often one may guess."""

    # OWASP's first choice for Argon2id, m=19 MiB, t=2, p=1, and not the 64 MiB, t=3, p=4 of
    # RFC 9106 §4, which costs six times as much: mail clients sign in for each connection, and
    # a server of 2 cores has to verify some tens a second with all its memory at other work.
    hash_memory: int = setting(
        19 * 1024,
        "Memory that verifying a password costs (Argon2id). A verifier made at another cost is "
        "replaced when its owner signs in",
        unit="KiB",
        at_least=8 * 1024,
        at_most=1024 * 1024,
    )
    hash_passes: int = setting(2, "Passes over that memory. RFC 9106 §3.1", at_least=1, at_most=100)
    hash_lanes: int = setting(1, "Lanes of that memory. RFC 9106 §3.1", at_least=1, at_most=16)
    # Between RFC 7677 §4, at least 4,096, and the 600,000 that OWASP asks of PBKDF2 where the
    # server does the work. Here the client does, for every connection that it opens: ten of
    # them on a telephone would take seconds.
    scram_iterations: int = setting(
        SCRAM_ITERATIONS,
        "What proving a password by SCRAM costs the client, and each guess whoever steals the "
        "store. A verifier made at another count is replaced when its owner next says the "
        "password (PLAIN, LOGIN)",
        unit="iterations",
        at_least=ITERATIONS_LEAST,
        at_most=ITERATIONS_MOST,
    )
    channel_binding: bool = setting(
        True,
        "Offer SCRAM bound to the TLS channel (SCRAM-SHA-256-PLUS), which finds out who sits in "
        "between with a certificate of their own. It is bound by tls-server-end-point (RFC 5929 "
        "§4); a client that knows only other bindings, as GNU SASL does, may pass over SCRAM "
        "altogether when it is offered",
    )
    hash_queue: int = setting(
        200,
        "Passwords that may wait in a worker to be verified; beyond, peers are asked to come back",
        at_least=1,
        at_most=100_000,
    )
    remember: int = setting(
        300,
        "How long a worker knows a right password without hashing it again; a change of the "
        "password or of rights ends that at once. 0 never remembers",
        unit="seconds",
        at_least=0,
        at_most=3600,
    )
    wrong_passwords: int = setting(
        10,
        "Different wrong passwords for one account from one address before further ones are "
        "refused unheard; other addresses are not touched. 0 never refuses",
        at_least=0,
        at_most=10_000,
    )
    wrong_from_address: int = setting(
        100,
        "Wrong passwords for any accounts from one address before it is refused unheard. "
        "0 never refuses",
        at_least=0,
        at_most=1_000_000,
    )
    wrong_window: int = setting(
        900,
        "The time in which wrong passwords are counted, and after which all are forgotten",
        unit="seconds",
        at_least=1,
        at_most=86_400,
    )
    password_length: int = setting(
        8,
        "The shortest password that can be set",
        unit="characters",
        scopes=_PASSWORD_SCOPES,
        at_least=1,
        at_most=200,
    )
    password_without_name: bool = setting(
        True,
        "Refuse a new password that holds the local part of its address",
        scopes=_PASSWORD_SCOPES,
    )
