"""What an administrator may decide about what the checks of a sender found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.settings import Scope, group, setting
from postroom.mailflow.sender import approved, language

_SCOPES: Final = (Scope.SERVER, Scope.NODE, Scope.LISTENER, Scope.DOMAIN)


@group("sender")
@dataclass(frozen=True, slots=True)
class SenderSettings:
    """What becomes of mail from others by who vouches for it, in any combination."""

    rules: tuple[str, ...] = setting(
        (),
        "Lines that are asked in order, each of conditions and of what is to be done if all of "
        "them hold, such as `spf=fail|softfail dkim!=pass junk`. The first that says `accept`, "
        "`junk`, `quarantine`, `defer`, `refuse` or `close` decides; those that say `score N` add "
        "up, and `tag` marks. `sender test` tries them",
        scopes=_SCOPES,
        at_most=language.LINES_MAX,
        form=language.canonical,
    )
    approved: tuple[str, ...] = setting(
        (),
        "The Approved List: whose mail is taken whatever sender.rules and the author's domain want "
        "done with it. `spf:example.org` is mail whose sender is of that domain or one below it "
        "and passes SPF, `dkim:example.org` what such a domain signed, `dkim:@news.example.org` "
        "and `dkim:ann@example.org` what was signed for exactly this identity",
        scopes=_SCOPES,
        at_most=approved.ENTRIES_MAX,
        form=approved.canonical,
    )
    junk_score: int = setting(
        0,
        "From which sum of the points of sender.rules a message goes to junk, if no line decides; "
        "0 never. The sum is told in the header field X-Postroom-Sender-Score",
        unit="points",
        scopes=_SCOPES,
        at_least=0,
    )
    refuse_score: int = setting(
        0,
        "From which sum it is refused; 0 never",
        unit="points",
        scopes=_SCOPES,
        at_least=0,
    )
