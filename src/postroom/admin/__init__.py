"""Operations declared once and their faces; first of them the command line.

`directory`, `settings`, `mail` and `service` declare the operations; `house` says what they are
given and who may perform them; `codec` is their form on a line; `cli` the command line, with
`client` for a running server and `offline` for a stopped one. Called by `server`, which performs
them for the control socket, and by the command `postroom`.

Floor 6. May import the floors below. Importing this package declares every operation.
"""

from postroom.admin import directory, mail, service, settings
from postroom.admin.house import (
    OWNER,
    AdminHouse,
    Caller,
    CheckReport,
    ServerView,
    WorkerView,
    perform,
)

__all__ = [
    "OWNER",
    "AdminHouse",
    "Caller",
    "CheckReport",
    "ServerView",
    "WorkerView",
    "directory",
    "mail",
    "perform",
    "service",
    "settings",
]
