"""What an administrator may decide about names and addresses in From that mislead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.settings import Scope, group, setting

_SCOPES: Final = (Scope.SERVER, Scope.NODE, Scope.LISTENER)
_ACTIONS: Final = ("accept", "tag", "junk", "quarantine", "refuse")


@group("from")
@dataclass(frozen=True, slots=True)
class FromSettings:
    """From fields of strangers that readers may misread."""

    on_mismatch: str = setting(
        "accept",
        "What becomes of a message whose author's name shows an address of another domain than "
        "the author's: `accept` records it, `tag` sets the keyword $Phishing, `junk` files it as "
        "junk, `quarantine` keeps it for an administrator, `refuse` refuses it. Honest lists write "
        "so too",
        scopes=_SCOPES,
        choices=_ACTIONS,
    )
    on_lookalike: str = setting(
        "tag",
        "The same for a message from a domain that looks like one of this server: the same in some "
        "fonts, or one letter away",
        scopes=_SCOPES,
        choices=_ACTIONS,
    )
    on_impersonation: str = setting(
        "accept",
        "The same for a message from elsewhere whose author has the whole name of somebody who "
        "has an account here. People write from home, too",
        scopes=_SCOPES,
        choices=_ACTIONS,
    )
    add_address: str = setting(
        "off",
        "Show the author's address within the name, since many programs show the name alone: "
        '`after` makes "Ann (ann@a.example)" of it, `before` "ann@a.example (Ann)". In the copies '
        "of this server's users alone; the original stays in X-Postroom-Original-From",
        scopes=_SCOPES,
        choices=("off", "after", "before"),
    )
    replace_mismatch: bool = setting(
        False,
        "Replace an address in the author's name that is not the author's by the one that is. In "
        "the copies of this server's users alone; the original stays in X-Postroom-Original-From",
        scopes=_SCOPES,
    )
    exempt: tuple[str, ...] = setting(
        (),
        "Whose From is left alone: networks of peers, such as 192.0.2.0/24, domains of authors, "
        "those below them included, and addresses of authors",
        scopes=_SCOPES,
    )
