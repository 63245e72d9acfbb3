"""POP3, the server's side: RFC 1939 with the extensions that `capabilities` names.

A session works on its maildrop: INBOX as it was at sign-in. Others may deliver to it and remove
from it meanwhile; the session sees neither, and a number never comes to mean another message.
What it deletes goes at QUIT, and can be brought back as whatever is expunged. APOP is not
offered: it would need passwords that can be read back.

`session` is the state and the way of one command, `verbs` the table, `commands` a file for each
family, `maildrop` what a session knows of its messages, `locks` who has which maildrop, `server`
the connection. Called by `server`, which constructs one `Pop3Server` for each worker.
"""

from postroom.protocols.pop3.server import Pop3Server
from postroom.protocols.pop3.settings import Pop3Settings

__all__ = ["Pop3Server", "Pop3Settings"]
