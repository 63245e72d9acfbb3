"""What this server can do, by state. RFC 3501 §7.2.1; each capability names its RFC.

A capability stands here only if every command, item and code that it promises is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from postroom.wire.imap import SIGNED_IN as LIMITS

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
    "ACL",  # RFC 4314
    "RIGHTS=kxte",  # RFC 4314 §2.1
    "LIST-MYRIGHTS",  # RFC 8440
    "UIDPLUS",  # RFC 4315
    "MOVE",  # RFC 6851
    "REPLACE",  # RFC 8508
    "UNSELECT",  # RFC 3691
    "CHILDREN",  # RFC 3348
    "SPECIAL-USE",  # RFC 6154
    "CREATE-SPECIAL-USE",  # RFC 6154
    "LIST-EXTENDED",  # RFC 5258
    "LIST-STATUS",  # RFC 5819
    "STATUS=SIZE",  # RFC 8438
    "ESEARCH",  # RFC 4731
    "SEARCHRES",  # RFC 5182
    "WITHIN",  # RFC 5032
    "CONDSTORE",  # RFC 7162
    "QRESYNC",  # RFC 7162 §3.2
    "OBJECTID",  # RFC 8474
    "MULTIAPPEND",  # RFC 3502
    "QUOTA",  # RFC 9208
    "QUOTA=RES-STORAGE",  # RFC 9208 §5.1
    "QUOTA=RES-MESSAGE",  # RFC 9208 §5.2
    f"APPENDLIMIT={LIMITS.append}",  # RFC 7889 §2
    "PREVIEW",  # RFC 8970
    "SAVEDATE",  # RFC 8514
    "SORT",  # RFC 5256
    "THREAD=ORDEREDSUBJECT",  # RFC 5256
    "THREAD=REFERENCES",  # RFC 5256
    "ESORT",  # RFC 5267 §3
    "PARTIAL",  # RFC 9394
    "UTF8=ACCEPT",  # RFC 6855
    "UIDONLY",  # RFC 9586
    "UNAUTHENTICATE",  # RFC 8437
)


def offered(mechanisms: Sequence[str], *, signed_in: bool, starttls: bool) -> bytes:
    """The capabilities in this state. Before TLS there are no `mechanisms` (RFC 8314 §3)."""
    names = list(ANY)
    if signed_in:
        names += SIGNED_IN
    elif mechanisms:
        names += [f"AUTH={name}" for name in mechanisms]  # RFC 3501 §7.2.1
    else:
        if starttls:
            names.append("STARTTLS")  # RFC 3501 §6.2.1
        names.append("LOGINDISABLED")  # RFC 3501 §6.2.3
    return " ".join(names).encode("ascii")
