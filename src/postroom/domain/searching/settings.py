"""What an administrator may decide about the index of searches."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.core.settings import Scope, group, setting


@group("search")
@dataclass(frozen=True, slots=True)
class SearchSettings:
    """The index that quickens searches of message texts. Answers are the same without it."""

    index: bool = setting(
        True,
        "Keep an index of message texts and narrow searches by it. Without it every message of a "
        "mailbox is read for a search",
        scopes=(Scope.SERVER,),
    )
    realtime: bool = setting(
        True,
        "Index messages within seconds of their arrival. Without it they are indexed every few "
        "minutes; until then a search reads them",
        scopes=(Scope.SERVER,),
    )
