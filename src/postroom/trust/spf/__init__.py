"""SPF: whether a domain lets an address send in its name. RFC 7208.

`check_mail_from` and `check_helo` are for those who take mail; `check_host` is the function of
RFC 7208 §4 itself. All ask DNS by `Lookups`, never by sockets, and never raise.
"""

from __future__ import annotations

from postroom.trust.spf.check import (
    DEADLINE,
    MOST_TERMS,
    MOST_VOID,
    Client,
    check_helo,
    check_host,
    check_mail_from,
)
from postroom.trust.spf.field import received_spf
from postroom.trust.spf.result import Identity, Result, SpfResult

__all__ = [
    "DEADLINE",
    "MOST_TERMS",
    "MOST_VOID",
    "Client",
    "Identity",
    "Result",
    "SpfResult",
    "check_helo",
    "check_host",
    "check_mail_from",
    "received_spf",
]
