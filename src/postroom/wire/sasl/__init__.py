"""SASL mechanisms, both sides: messages to values and back, and SCRAM's exchange. RFC 4422.

PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login), SCRAM-SHA-256 and SCRAM-SHA-256-PLUS
(RFC 5802, RFC 7677) bound to TLS by tls-server-end-point (RFC 5929 §4); a client also speaks
SCRAM-SHA-1, which many servers have alone. OAUTHBEARER (RFC 7628), XOAUTH2 and EXTERNAL (RFC 4422)
show what others vouch by. Called by access (server side), by clients that
sign in elsewhere, by tests and fuzzers. May import: core. No socket, clock or randomness: a
nonce is passed in, and base64 belongs to the protocol around.

    server = ScramServer(parse_client_first(heard), plus=False, binding=b"")
    say(server.challenge(verifier, nonce))
    said = server.finish(heard)  # None: not the password
"""

from __future__ import annotations

from postroom.wire.sasl.bearer import (
    EXTERNAL,
    OAUTHBEARER,
    UNDERSTOOD,
    XOAUTH2,
    Bearer,
    BearerClient,
    ExternalClient,
    parse_external,
    parse_oauthbearer,
    parse_xoauth2,
    refusal,
    xoauth2_refusal,
)
from postroom.wire.sasl.clients import Client, LoginClient, PlainClient, choose
from postroom.wire.sasl.limits import ITERATIONS_LEAST, ITERATIONS_MOST, LONGEST
from postroom.wire.sasl.passwords import (
    LOGIN,
    PASSWORD_PROMPT,
    PLAIN,
    USERNAME_PROMPT,
    Plain,
    parse_answer,
    parse_plain,
)
from postroom.wire.sasl.saslprep import password_octets, saslprep
from postroom.wire.sasl.scram import (
    SCRAM_SHA_256,
    SCRAM_SHA_256_PLUS,
    BindingMismatch,
    ScramClient,
    ScramServer,
)
from postroom.wire.sasl.scram_messages import (
    ClientFinal,
    ClientFirst,
    ServerFinal,
    ServerFirst,
    parse_client_final,
    parse_client_first,
    parse_server_final,
    parse_server_first,
)
from postroom.wire.sasl.verifier import Verifier, parse_verifier

__all__ = [
    "EXTERNAL",
    "ITERATIONS_LEAST",
    "ITERATIONS_MOST",
    "LOGIN",
    "LONGEST",
    "OAUTHBEARER",
    "PASSWORD_PROMPT",
    "PLAIN",
    "SCRAM_SHA_256",
    "SCRAM_SHA_256_PLUS",
    "UNDERSTOOD",
    "USERNAME_PROMPT",
    "XOAUTH2",
    "Bearer",
    "BearerClient",
    "BindingMismatch",
    "Client",
    "ClientFinal",
    "ClientFirst",
    "ExternalClient",
    "LoginClient",
    "Plain",
    "PlainClient",
    "ScramClient",
    "ScramServer",
    "ServerFinal",
    "ServerFirst",
    "Verifier",
    "choose",
    "parse_answer",
    "parse_client_final",
    "parse_client_first",
    "parse_external",
    "parse_oauthbearer",
    "parse_plain",
    "parse_server_final",
    "parse_server_first",
    "parse_verifier",
    "parse_xoauth2",
    "password_octets",
    "refusal",
    "saslprep",
    "xoauth2_refusal",
]
