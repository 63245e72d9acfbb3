"""What this server can do, by state. RFC 3501 §7.2.1; each capability names its RFC.

A capability stands here only if every command, item and code that it promises is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from postroom.wire.imap import SIGNED_IN as LIMITS


class Capability(NamedTuple):
    """A name that is told, and the RFC and section that say what it promises."""

    name: str
    rfc: int
    section: str = ""


COMPRESS: Final = "COMPRESS=DEFLATE"

ANY: Final = (
    Capability("IMAP4rev1", 3501),
    Capability("IMAP4rev2", 9051),
    Capability("LITERAL+", 7888),
    Capability("SASL-IR", 4959),
    Capability("ID", 2971),
    Capability("ENABLE", 5161),
    Capability("LANGUAGE", 5255, "3"),
)
SIGNED_IN: Final = (
    Capability("IDLE", 2177),
    Capability("NAMESPACE", 2342),
    Capability("ACL", 4314),
    Capability("RIGHTS=kxte", 4314, "2.1"),
    Capability("LIST-MYRIGHTS", 8440),
    Capability("UIDPLUS", 4315),
    Capability("MOVE", 6851),
    Capability("REPLACE", 8508),
    Capability("UNSELECT", 3691),
    Capability("CHILDREN", 3348),
    Capability("SPECIAL-USE", 6154),
    Capability("CREATE-SPECIAL-USE", 6154),
    Capability("LIST-EXTENDED", 5258),
    Capability("LIST-STATUS", 5819),
    Capability("METADATA", 5464),
    Capability("FILTERS", 5466),
    Capability("LIST-METADATA", 9590),
    Capability("STATUS=SIZE", 8438),
    Capability("ESEARCH", 4731),
    Capability("SEARCHRES", 5182),
    Capability("WITHIN", 5032),
    Capability("CONDSTORE", 7162),
    Capability("QRESYNC", 7162, "3.2"),
    Capability("OBJECTID", 8474),
    Capability("MULTIAPPEND", 3502),
    Capability("QUOTA", 9208),
    Capability("QUOTA=RES-STORAGE", 9208, "5.1"),
    Capability("QUOTA=RES-MESSAGE", 9208, "5.2"),
    Capability(f"APPENDLIMIT={LIMITS.append}", 7889, "2"),
    Capability("INPROGRESS", 9585),
    Capability("PREVIEW", 8970),
    Capability("SAVEDATE", 8514),
    Capability("SORT", 5256),
    Capability("SORT=DISPLAY", 5957),
    Capability("THREAD=ORDEREDSUBJECT", 5256),
    Capability("THREAD=REFERENCES", 5256),
    Capability("THREAD=REFS", 5256),  # draft-ietf-morg-inthread is no standard
    Capability("ESORT", 5267, "3"),
    Capability("CONTEXT=SEARCH", 5267, "4"),
    Capability("CONTEXT=SORT", 5267, "4"),
    Capability("PARTIAL", 9394),
    Capability("UTF8=ACCEPT", 6855),
    Capability("I18NLEVEL=1", 5255, "4.1"),
    Capability("UIDONLY", 9586),
    Capability("UNAUTHENTICATE", 8437),
    Capability("BINARY", 3516),
    Capability("CATENATE", 4469),
    Capability(COMPRESS, 4978),
    Capability("URL-PARTIAL", 5550),  # with CATENATE: its URLs may name octets of a part
    Capability("URLAUTH", 4467),
    Capability("URLAUTH=BINARY", 5524),
    Capability("NOTIFY", 5465),
    Capability("MULTISEARCH", 7377),
)


def offered(
    mechanisms: Sequence[str], *, signed_in: bool, starttls: bool, compressed: bool = False
) -> bytes:
    """The capabilities in this state. Before TLS there are no `mechanisms` (RFC 8314 §3)."""
    names = [each.name for each in ANY]
    if signed_in:
        names += [each.name for each in SIGNED_IN if not (compressed and each.name == COMPRESS)]
    elif mechanisms:
        names += [f"AUTH={name}" for name in mechanisms]  # RFC 3501 §7.2.1
    else:
        if starttls:
            names.append("STARTTLS")  # RFC 3501 §6.2.1
        names.append("LOGINDISABLED")  # RFC 3501 §6.2.3
    return " ".join(names).encode("ascii")
