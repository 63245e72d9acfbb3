"""What an administrator may decide about the DMARC reports that this server sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.errors import Malformed
from postroom.core.settings import Scope, group, setting
from postroom.formats.address import BadAddress, parse_mailbox

_HERE: Final = (Scope.SERVER,)
_LONGEST: Final = 100


def _address(text: str) -> str:
    try:
        return str(parse_mailbox(text.strip())) if text.strip() else ""
    except BadAddress as error:
        raise Malformed("Write an address, such as postmaster@example.org") from error


def _organisation(text: str) -> str:
    name = " ".join(text.split())
    if len(name) > _LONGEST or not name.isprintable() or not name.isascii():
        raise Malformed(f"Write a name of at most {_LONGEST} characters, in ASCII")
    return name


@group("dmarc")
@dataclass(frozen=True, slots=True)
class DmarcReportSettings:
    """What is told each day to domains that ask how mail in their name fared. RFC 9990."""

    # Only who asks is told, in the way the RFC expects of receivers (RFC 9989 §5.3.7), and only
    # those reports let a domain reach p=reject, which spares us mail that pretends to be from it.
    send_reports: bool = setting(
        True,
        "Send a report each day to domains that ask for one in their DMARC record: from which "
        "addresses mail in their name came, and what was done with it. It names no recipient",
        scopes=_HERE,
    )
    report_from: str = setting(
        "",
        "From whom these reports are; empty: postmaster of server.default_domain. Its domain has "
        "to vouch for this server by SPF or DKIM: reports that fail DMARC are not believed",
        scopes=_HERE,
        form=_address,
    )
    report_organisation: str = setting(
        "",
        "The name of who reports, as reports tell it; empty: server.default_domain",
        scopes=_HERE,
        form=_organisation,
    )
    report_precedence: bool = setting(
        False,
        "Put `Precedence: bulk` on reports, for receivers that answer mail automatically and do "
        "not know Auto-Submitted. RFC 3834 §5",
        scopes=_HERE,
    )
    report_hour: int = setting(
        1,
        "The hour of the day (UTC) from which reports on the day before are sent. Up to three "
        "hours are added, which follow from the host name: not all servers are to report at once",
        scopes=_HERE,
        at_least=0,
        at_most=20,
    )
