"""Who signs in, for every protocol: the one authenticate, and the SASL conversations around it.

Floor 4. May import the floors below. Called by protocols and admin.
"""

from postroom.access.attempts import (
    Attempt,
    Challenge,
    Identity,
    NotOffered,
    Outcome,
    Reason,
    SessionFacts,
)
from postroom.access.authenticator import Authenticator
from postroom.access.conversations import Conversation
from postroom.access.passwords import make_secret, random_password
from postroom.access.settings import AccessSettings

__all__ = [
    "AccessSettings",
    "Attempt",
    "Authenticator",
    "Challenge",
    "Conversation",
    "Identity",
    "NotOffered",
    "Outcome",
    "Reason",
    "SessionFacts",
    "make_secret",
    "random_password",
]
