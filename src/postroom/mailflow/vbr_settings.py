"""What an administrator may decide about those who vouch for senders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.settings import Scope, group, setting
from postroom.mailflow.names import parse_domain_name

_MAIL_SCOPES: Final = (Scope.SERVER, Scope.NODE, Scope.LISTENER)
_OF_DOMAIN: Final = (Scope.DOMAIN,)


@group("vbr")
@dataclass(frozen=True, slots=True)
class VbrSettings:
    """Vouch By Reference: third parties that vouch for a domain's mail. RFC 5518."""

    certifiers: tuple[str, ...] = setting(
        (),
        "Who is believed if he vouches for a sender. A message that names one of them in its "
        "VBR-Info is looked up there, if SPF or DKIM vouches for the domain in question. Empty: "
        "nobody is asked. RFC 5518 §3",
        scopes=_MAIL_SCOPES,
        form=parse_domain_name,
        at_most=50,
    )
    over_dmarc: bool = setting(
        False,
        "Take a message that fails DMARC if one of vbr.certifiers vouches for a domain that SPF "
        "or DKIM found behind it. That domain is not the author's: whoever is vouched for may "
        "then write as anybody",
        scopes=_MAIL_SCOPES,
    )
    info: tuple[str, ...] = setting(
        (),
        "Who vouches for this domain: named in a VBR-Info field of mail that its users send to "
        "others, and of reports that the server writes in its name, signed with it. RFC 5518 §4.1",
        scopes=_OF_DOMAIN,
        form=parse_domain_name,
        at_most=10,
    )
    kind: str = setting(
        "all",
        "For what sort of mail they vouch, as told in that field. RFC 5518 §6",
        scopes=_OF_DOMAIN,
        choices=("all", "list", "transaction"),
    )
