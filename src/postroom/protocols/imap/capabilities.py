"""What this server can do, by state. RFC 3501 §7.2.1; each capability names its RFC.

A capability stands here only if every command, item and code that it promises is there.
"""

from __future__ import annotations

from typing import Final

ANY: Final = (
    "IMAP4rev1",  # RFC 3501
    "LITERAL+",  # RFC 7888
    "SASL-IR",  # RFC 4959
    "ID",  # RFC 2971
    "ENABLE",  # RFC 5161
)
SIGNED_IN: Final = (
    "IDLE",  # RFC 2177
    "NAMESPACE",  # RFC 2342
    "UIDPLUS",  # RFC 4315
    "MOVE",  # RFC 6851
    "UNSELECT",  # RFC 3691
    "CHILDREN",  # RFC 3348
    "SPECIAL-USE",  # RFC 6154
    "CREATE-SPECIAL-USE",  # RFC 6154
    "LIST-EXTENDED",  # RFC 5258
    "LIST-STATUS",  # RFC 5819
    "STATUS=SIZE",  # RFC 8438
    "ESEARCH",  # RFC 4731
    "WITHIN",  # RFC 5032
    "CONDSTORE",  # RFC 7162
    "OBJECTID",  # RFC 8474
    "MULTIAPPEND",  # RFC 3502
)


def offered(*, encrypted: bool, signed_in: bool, starttls: bool) -> bytes:
    """The capabilities in this state. Before TLS there is no signing in (RFC 8314 §3)."""
    names = list(ANY)
    if signed_in:
        names += SIGNED_IN
    elif encrypted:
        names.append("AUTH=PLAIN")  # RFC 4616
    else:
        if starttls:
            names.append("STARTTLS")  # RFC 3501 §6.2.1
        names.append("LOGINDISABLED")  # RFC 3501 §6.2.3
    return " ".join(names).encode("ascii")
