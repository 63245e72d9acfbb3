"""What this server can do, by state. RFC 2449 §5; each capability names its RFC.

A capability stands here only if every command and code that it promises is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from postroom import __version__

ANY: Final = (
    "TOP",  # RFC 2449 §6.1
    "UIDL",  # RFC 2449 §6.8
    "RESP-CODES",  # RFC 2449 §6.4
    "AUTH-RESP-CODE",  # RFC 3206 §6
    "PIPELINING",  # RFC 2449 §6.6
    "UTF8 USER",  # RFC 6856 §2.2
    f"IMPLEMENTATION Postroom-{__version__}",  # RFC 2449 §6.9
)


def offered(
    mechanisms: Sequence[str], *, signed_in: bool, starttls: bool, expire_days: int
) -> list[str]:
    """The capabilities in this state. Before TLS there are no `mechanisms` (RFC 8314 §3)."""
    names = list(ANY)
    names.append(f"EXPIRE {expire_days or 'NEVER'}")  # RFC 2449 §6.7
    if mechanisms:
        names.append("USER")  # RFC 2449 §6.2
        names.append("SASL " + " ".join(mechanisms))  # RFC 5034 §3
    if starttls and not signed_in:
        names.append("STLS")  # RFC 2595 §4
    return names
