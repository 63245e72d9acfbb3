"""Who signs in, for every protocol: the one authenticate.

Floor 4. May import the floors below. Called by protocols and admin.
"""

from postroom.access.authenticator import Attempt, Authenticator, Identity, Outcome, Reason
from postroom.access.passwords import make_secret, random_password
from postroom.access.settings import AccessSettings

__all__ = [
    "AccessSettings",
    "Attempt",
    "Authenticator",
    "Identity",
    "Outcome",
    "Reason",
    "make_secret",
    "random_password",
]
