"""How much may be noted on mailboxes, and what the server says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import Malformed
from postroom.core.settings import Scope, group, setting

_FILTER: Final = re.compile(r"([!#$&'+,\-.0-9:;<=>?@A-Z\[^_`a-z|}~]{1,100}+) (\S.*+)")


def named_filter(line: str) -> tuple[str, str]:
    """The name, in lower case, and the search of a filter, whose keys are IMAP's to read."""
    found = _FILTER.fullmatch(line)
    if found is None:
        raise Malformed("A filter is its name, a space, and a search")
    return found[1].lower(), found[2]


@group("metadata")
@dataclass(frozen=True, slots=True)
class MetadataSettings:
    """Annotations that clients keep here: colours, comments, whatever they like. RFC 5464."""

    admin: str = setting(
        "",
        "Where users reach who runs the server, as a URI such as mailto:help@my.example; clients "
        "read it as the server's /shared/admin. Empty: it is not told. RFC 5464 §6.2.2",
        scopes=(Scope.SERVER, Scope.DOMAIN),
    )
    comment: str = setting(
        "",
        "A note to the users, which clients read as the server's /shared/comment. Empty: it is "
        "not told. RFC 5464 §6.2.1",
        scopes=(Scope.SERVER, Scope.DOMAIN),
    )
    filters: tuple[str, ...] = setting(
        (),
        "Searches that users find by name, each as its name and what IMAP's SEARCH would take, "
        "such as `urgent OR FLAGGED KEYWORD $Urgent`; a user's own of the same name stands before "
        "it. RFC 5466",
        scopes=(Scope.SERVER, Scope.DOMAIN),
        at_most=64,
        form=named_filter,
    )
    entries: int = setting(
        100,
        "Annotations that one account may have on one mailbox, and as many that all share there. "
        "RFC 5464 §4.1",
        scopes=(Scope.SERVER, Scope.DOMAIN, Scope.ACCOUNT),
        at_least=10,
        at_most=1_000,
    )
    octets: int = setting(
        4 * 1024 * 1024,
        "What all annotations of an account may hold, with those that are shared on its mailboxes",
        unit="octets",
        scopes=(Scope.SERVER, Scope.DOMAIN, Scope.ACCOUNT),
        at_least=64 * 1024,
        at_most=1024 * 1024 * 1024,
    )
