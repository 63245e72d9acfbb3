"""What an administrator may decide about tagged reverse-paths."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.core.settings import Scope, group, setting


@group("batv")
@dataclass(frozen=True, slots=True)
class BatvSettings:
    """Reverse-paths that only this server can have written, against bounces of forged mail."""

    sign: bool = setting(
        False,
        "Tag the reverse-path of what the users of a domain send to other servers (BATV), so that "
        "reports about it can be told from those about mail that others forged",
        scopes=(Scope.SERVER, Scope.NODE, Scope.DOMAIN),
    )
    on_untagged: str = setting(
        "accept",
        "What becomes of a message from `<>` to an address of a domain that tags, if the address "
        "bears no tag, or one that is forged or has expired: `accept` records it, `junk` files it "
        "as junk, `refuse` refuses it. Wait two weeks after batv.sign: what is under way has no "
        "tag. Receipts that people ask for (RFC 8098) come without one, too",
        scopes=(Scope.SERVER, Scope.NODE, Scope.LISTENER, Scope.DOMAIN),
        choices=("accept", "junk", "refuse"),
    )
    exempt: tuple[str, ...] = setting(
        (),
        "Networks of peers whose messages from `<>` need no tag, such as 192.0.2.0/24",
        scopes=(Scope.SERVER, Scope.NODE, Scope.LISTENER),
    )
