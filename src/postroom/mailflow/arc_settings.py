"""What an administrator may decide about what forwarders vouch for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.settings import Scope, group, setting

_MAIL_SCOPES: Final = (Scope.SERVER, Scope.NODE, Scope.LISTENER)


@group("arc")
@dataclass(frozen=True, slots=True)
class ArcSettings:
    """Chains of forwarders that say what they found when a message came to them. RFC 8617."""

    verify: bool = setting(
        True,
        "Check the ARC chains of mail that comes in from others",
        scopes=_MAIL_SCOPES,
    )
    trusted: tuple[str, ...] = setting(
        (),
        "Forwarders and mailing lists that are believed: the domains in whose name they seal, "
        "those below them included. A message that fails DMARC is taken if its chain holds and "
        "the first of them found that it passed. RFC 8617 §7.2",
        scopes=_MAIL_SCOPES,
    )
    seal: bool = setting(
        True,
        "Seal mail of others that is sent on, as by an alias that leads elsewhere, in the name of "
        "the domain that it came to, with its RSA key for DKIM. RFC 8617 §5.1",
        scopes=_MAIL_SCOPES,
    )
