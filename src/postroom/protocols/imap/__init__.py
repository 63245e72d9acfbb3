"""IMAP, the server's side: RFC 3501 and the extensions that `capabilities` names.

`session` is the state, `verbs` the table, `commands` a file for each family, `view` what a session
knows of a mailbox, `keeping_up` how it learns and tells what others did there, `server` the
connection. Called by `server`, which constructs one `ImapServer` for each worker.
"""

from postroom.protocols.imap.server import ImapServer

__all__ = ["ImapServer"]
