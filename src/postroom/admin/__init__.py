"""Operations declared once and their faces; first of them the command line.

`directory`, `aliases`, `deleted`, `settings`, `changes`, `config`, `mail`, `queue`, `service`,
`sessions`, `searches`, `secrets`, `sender`, `dkim`, `dmarc`, `dmarc_received`, `publishing`,
`updating`, `backup`, `restore`, `recover`, `rehearse`, `posting`, `sharing` and `transfer` declare
the operations, `upkeep` and `scheduled` jobs; `house` says what they are given and who may perform
them, and sees to it that each change leaves a change set; `questions` is what all workers are
asked; `document` is the configuration as a text; `codec` is the form of inputs and outputs on a
line; `cli` the command line, with `typed` in a running server, `offline` for a stopped one, and
`client` for whoever asks for one operation. Called by `server`, which performs them for the control
socket, and by the command `postroom`.

Floor 6. May import the floors below. Importing this package declares every operation.
"""

from postroom.admin import (
    aliases,
    backup,
    changes,
    config,
    deleted,
    directory,
    dkim,
    dmarc,
    dmarc_received,
    mail,
    posting,
    publishing,
    queue,
    recover,
    rehearse,
    restore,
    scheduled,
    searches,
    secrets,
    sender,
    service,
    sessions,
    settings,
    sharing,
    transfer,
    typed,
    updating,
    upkeep,
)
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
    "aliases",
    "backup",
    "changes",
    "config",
    "deleted",
    "directory",
    "dkim",
    "dmarc",
    "dmarc_received",
    "mail",
    "perform",
    "posting",
    "publishing",
    "queue",
    "recover",
    "rehearse",
    "restore",
    "scheduled",
    "searches",
    "secrets",
    "sender",
    "service",
    "sessions",
    "settings",
    "sharing",
    "transfer",
    "typed",
    "updating",
    "upkeep",
]
