"""IMAP, the server's side: RFC 3501 and the extensions that `capabilities` names.

`session` is the state and the way of one command, `verbs` the table, `commands` a file for each
family, `view` what a session knows of a mailbox, `server` the connection. Called by `server`,
which constructs one `ImapServer` for each worker.
"""

from postroom.protocols.imap.server import ImapServer

__all__ = ["ImapServer"]
