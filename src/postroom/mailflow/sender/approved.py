"""The Approved List: SPF paths and DKIM identities whose mail is taken.

An entry counts only for what passed: whoever writes the name of an approved domain into a
message is not vouched for by it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from postroom.core.errors import MailError, Malformed
from postroom.mailflow.exempt import exempt
from postroom.mailflow.names import parse_domain_name
from postroom.mailflow.sender.evidence import Evidence

ENTRIES_MAX: Final = 1_000
_LONGEST: Final = 400
_RIGHT: Final = (
    "write spf:example.org, dkim:example.org, dkim:@news.example.org or dkim:ann@x.example"
)
_SPF: Final = "spf"
_DKIM: Final = "dkim"


def canonical(text: str) -> str:
    """An entry in its one spelling; raises Malformed with a sentence that says what is right."""
    method, colon, name = text.strip().partition(":")
    method = method.lower()
    if not colon or method not in (_SPF, _DKIM) or len(text) > _LONGEST:
        raise Malformed(f"This is no entry of the Approved List: {_RIGHT}")
    local, at, domain = name.strip().rpartition("@")
    if at and method == _SPF:
        raise Malformed(f"SPF vouches for domains, not for addresses: {_RIGHT}")
    if not local.isprintable() or any(each in local for each in ' "@<>'):
        raise Malformed(f"This is no identity of a signer: {_RIGHT}")
    try:
        domain = parse_domain_name(domain)
    except MailError as error:
        raise Malformed(f"This names no domain: {_RIGHT}", detail=error.detail) from error
    return f"{method}:{local.lower()}{at}{domain}"


def entry_for(listed: tuple[str, ...], found: Evidence) -> str:
    """The entry by which a message is approved; empty if there is none."""
    paths, signers, identities = _read(listed)
    if found.spf_path and paths:
        above = exempt(paths).above(found.spf_path)
        if above:
            return f"{_SPF}:{above}"
    for domain, identity in found.signers or ():
        above = exempt(signers).above(domain) if signers else ""
        if above:
            return f"{_DKIM}:{above}"
        if identity.lower() in identities:
            return f"{_DKIM}:{identity.lower()}"
        of = f"@{identity.lower().rpartition('@')[2]}"
        if of in identities:
            return f"{_DKIM}:{of}"
    return ""


@lru_cache(maxsize=64)
def _read(listed: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str]]:
    """Domains of SPF paths, domains of signers, identities."""
    parted = [each.partition(":") for each in listed]
    signers = [name for method, _, name in parted if method == _DKIM]
    return (
        tuple([name for method, _, name in parted if method == _SPF]),
        tuple([name for name in signers if "@" not in name]),
        frozenset(name for name in signers if "@" in name),
    )
