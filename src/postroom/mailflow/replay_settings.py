"""What an administrator may decide about signed messages that come again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.settings import Scope, group, setting

_SCOPES: Final = (Scope.SERVER, Scope.NODE, Scope.LISTENER)


@group("replay")
@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Copies of one signed message, each brought in a transaction of its own. RFC 6376 §8.6."""

    count: bool = setting(
        True,
        "Count how often each DKIM signature that holds comes within an hour, whoever brings it. "
        "One transaction counts as one, however many its recipients; what is put off counts not, "
        "as it comes again. sender.rules may ask for it, as in `copies=100+ score 3`",
        scopes=_SCOPES,
    )
    tag_at: int = setting(
        0,
        "From how many copies within an hour on a message gets the keyword $Replayed; 0 never",
        unit="copies",
        scopes=_SCOPES,
        at_least=0,
    )
    junk_at: int = setting(
        0,
        "From how many on it is filed as junk; 0 never",
        unit="copies",
        scopes=_SCOPES,
        at_least=0,
    )
    defer_at: int = setting(
        0,
        "From how many on it is put off, so that no more than these are taken in an hour; 0 never",
        unit="copies",
        scopes=_SCOPES,
        at_least=0,
    )
    refuse_at: int = setting(
        0,
        "From how many on it is refused; 0 never",
        unit="copies",
        scopes=_SCOPES,
        at_least=0,
    )
    list_times: int = setting(
        10,
        "How many times as often a message of a mailing list may come, once for each of its "
        "readers here. It is one if its signature covers a List-Id",
        unit="times",
        scopes=_SCOPES,
        at_least=1,
        at_most=1_000_000,
    )
    exempt: tuple[str, ...] = setting(
        (),
        "Whose messages are not counted: networks of peers, such as 192.0.2.0/24, and domains that "
        "sign, those below them included",
        scopes=_SCOPES,
    )
