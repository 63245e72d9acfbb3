"""SMTP, the server's side: RFC 5321, 1870, 2034, 2920, 3207, 6152, 6531.

`session` is the table of verbs and states, `commands` what each verb does, `server` the
connection. What is allowed beyond order and syntax is mailflow's to say. Called by `server`,
which constructs one `SmtpServer` for each worker.
"""

from postroom.protocols.smtp.server import SmtpServer

__all__ = ["SmtpServer"]
