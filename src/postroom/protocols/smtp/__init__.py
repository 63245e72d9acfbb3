"""SMTP, submission and LMTP, the server's side: RFC 5321, RFC 6409, RFC 2033.

With RFC 1870 (SIZE), RFC 2034, RFC 2920 (PIPELINING), RFC 3030 (CHUNKING, BINARYMIME), RFC 3207
(STARTTLS), RFC 3461 (DSN), RFC 4954 (AUTH), RFC 6152, RFC 6531 (SMTPUTF8), RFC 9422 (LIMITS).

`session` is the table of verbs and states, `commands` what each verb does, `server` the
connection. What is allowed beyond order and syntax is mailflow's to say. Called by `server`,
which constructs one `SmtpServer` for each worker.
"""

from postroom.protocols.smtp.server import SmtpServer

__all__ = ["SmtpServer"]
