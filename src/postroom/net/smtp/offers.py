"""What a server offers: the keywords of its reply to EHLO, read. RFC 5321 §4.1.1.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from postroom.wire.smtp import Reply, ehlo_keywords
from postroom.wire.smtp.limits import SIZE_DIGITS

_LIMIT: Final = re.compile(r"([A-Za-z0-9-]+)=([1-9][0-9]{0,5})")  # RFC 9422


@dataclass(frozen=True, slots=True)
class Offers:
    """The keywords, each in upper case with its parameters as one string."""

    keywords: Mapping[str, str]
    size: int | None = None  # octets that a message may have. RFC 1870 §4
    mechanisms: tuple[str, ...] = ()  # of AUTH, in upper case. RFC 4954 §3
    mail_max: int | None = None  # transactions in a connection. RFC 9422
    rcpt_max: int | None = None  # recipients in a transaction. RFC 9422
    domain_max: int | None = None  # domains of these recipients. RFC 9422

    def __contains__(self, keyword: object) -> bool:
        return keyword in self.keywords


NOTHING: Final = Offers(MappingProxyType({}))


def offers_of(reply: Reply) -> Offers:
    """What the reply to EHLO or LHLO offers. What is malformed counts as not said."""
    keywords = ehlo_keywords(reply)
    said = {
        found[1].upper(): int(found[2])
        for word in keywords.get("LIMITS", "").split()
        if (found := _LIMIT.fullmatch(word))
    }
    return Offers(
        MappingProxyType(keywords),
        size=_size(keywords.get("SIZE", "")),
        mechanisms=tuple(keywords.get("AUTH", "").upper().split()),
        mail_max=said.get("MAILMAX"),
        rcpt_max=said.get("RCPTMAX"),
        domain_max=said.get("RCPTDOMAINMAX"),
    )


def _size(text: str) -> int | None:
    # RFC 1870 §4: without a number, or with 0, the server names no limit.
    if not text.isascii() or not text.isdigit() or len(text) > SIZE_DIGITS:
        return None
    return int(text) or None
