"""The Received-SPF field. RFC 7208 §9.1."""

from __future__ import annotations

import re
from typing import Final

from postroom.formats import headers
from postroom.formats.address import Address
from postroom.formats.authres import comment, quoted
from postroom.trust.spf.check import Client
from postroom.trust.spf.result import Result, SpfResult

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_IS_DOT_ATOM: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*").fullmatch
_LONGEST: Final = 255
_SENTENCES: Final = {
    Result.PASS: "{domain} names {ip} as a permitted sender",
    Result.FAIL: "{domain} does not name {ip} as a permitted sender",
    Result.SOFTFAIL: "{domain} says that {ip} is probably no permitted sender",
    Result.NEUTRAL: "{domain} neither permits nor denies {ip}",
    Result.NONE: "{domain} says nothing about its senders",
    Result.TEMPERROR: "DNS gave no answer about {domain}",
    Result.PERMERROR: "the record of {domain} cannot be understood",
}


def received_spf(
    result: SpfResult, client: Client, reverse_path: Address | None, *, utf8: bool = False
) -> bytes:
    """One field; whatever strangers chose stays inside of it. `utf8` as in `authres.compose`."""
    told = _SENTENCES[result.result].format(domain=result.domain or "nobody", ip=client.ip)
    pairs = {
        "receiver": client.receiver,
        "client-ip": str(client.ip),
        "envelope-from": str(reverse_path or ""),
        "helo": client.helo,
        "identity": str(result.identity),
        "mechanism": result.mechanism,
    }
    listed = "; ".join(f"{key}={_value(value, utf8)}" for key, value in pairs.items() if value)
    said = comment(f"{client.receiver}: {told}")
    return headers.field("Received-SPF", f"{result.result} ({said}) {listed}", utf8=utf8)


def _value(text: str, utf8: bool) -> str:
    """RFC 7208 §9.1: a dot-atom or a quoted string."""
    return text if len(text) <= _LONGEST and _IS_DOT_ATOM(text) else quoted(text, utf8=utf8)
