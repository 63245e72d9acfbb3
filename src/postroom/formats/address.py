"""Addresses: the strict ones of the envelope (RFC 5321), and the public face of all.

An `Address` is canonical: two that mean the same mailbox by the rules of mail have the same
`key`. How a header's address list is read, leniently, is in `address_list`.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

import idna

from postroom.core.errors import Malformed, Status
from postroom.formats import words
from postroom.formats.address_list import Group, Mailbox, parse_address_list

__all__ = [
    "Address",
    "BadAddress",
    "BadSender",
    "Group",
    "Mailbox",
    "NotAscii",
    "canonical_domain",
    "format_address_list",
    "format_mailbox",
    "format_phrase",
    "parse_address_list",
    "parse_forward_path",
    "parse_mailbox",
    "parse_reverse_path",
    "to_address",
]

LOCAL_MAX: Final = 64
DOMAIN_MAX: Final = 255
MAILBOX_MAX: Final = 254
"""Octets; a path of 256 with its brackets. RFC 5321 §4.5.3.1.1 to §4.5.3.1.3."""
PATH_MAX: Final = 1_024
"""Octets of a path as sent, with a source route that we drop."""


class BadAddress(Malformed):
    """The address does not follow its grammar. RFC 3463 §3.2."""

    status = Status(5, 1, 3)
    sentence = "This is not a valid address"


class BadSender(BadAddress):
    """The reverse path does not follow its grammar. RFC 3463 §3.2."""

    status = Status(5, 1, 7)
    sentence = "This is not a valid sender address"


class NotAscii(BadAddress):
    """A non-ASCII address where SMTPUTF8 was not asked for. RFC 6531 §3.5."""

    status = Status(5, 6, 7)
    sentence = "Non-ASCII addresses need SMTPUTF8"


# --- the canonical address ---------------------------------------------------------------------

_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff"
_DOT_STRING: Final = rf"[{_ATEXT}]++(?:\.[{_ATEXT}]++)*+"
_QUOTED_STRING: Final = r'"(?:[ !#-\[\]-~\x80-\U0010ffff]++|\\[ -~])*+"'
_IS_DOT_STRING: Final = re.compile(_DOT_STRING).fullmatch
_LOCAL: Final = re.compile(rf"({_DOT_STRING})|({_QUOTED_STRING})")
_ESCAPED: Final = re.compile(r"\\(.)")
_TO_ESCAPE: Final = re.compile(r'(["\\])')

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_IS_LDH: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*").fullmatch
_IS_DOMAIN: Final = re.compile(
    rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9.]+\]|\[IPv6:[0-9a-f:]+\])?"
).fullmatch
_IPV4: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")

# Categories that no local part needs and a reader cannot see: controls, surrogates, separators.
_INVISIBLE: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Zs"))
_JOINERS: Final = frozenset(("\u200c", "\u200d"))  # Persian and Indic words, and emoji, need them


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox's address. RFC 5321 §4.1.2.

    Made by the functions below. The constructor too refuses what would break out of a command
    or a header field, and a domain that is not canonical; it measures no lengths.
    """

    local: str
    """Unquoted, NFC, its case kept."""
    domain: str
    """Lower case, A-labels, or an address literal; empty only for `<Postmaster>`."""

    def __post_init__(self) -> None:
        if not (self.local.isascii() and self.local.isprintable()):
            _refuse_invisible(self.local)
        if not _IS_DOMAIN(self.domain):
            raise BadAddress(detail=f"domain {self.domain[:80]!a}")

    def __str__(self) -> str:
        """The form on the wire, quoted if need be. RFC 5321 §4.1.2 `Mailbox`."""
        local = self.local
        if not _IS_DOT_STRING(local):
            local = '"' + _TO_ESCAPE.sub(r"\\\1", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def key(self) -> str:
        """What equal mailboxes share. Local parts compare without case here, as users expect."""
        local = self.local
        if local.isascii():
            return f"{local.lower()}@{self.domain}"
        return f"{unicodedata.normalize('NFC', local.casefold())}@{self.domain}"

    @property
    def ascii(self) -> bool:
        """True if any server can take it; False if it needs SMTPUTF8. RFC 6531 §3.1."""
        return self.local.isascii()

    def subaddress(self) -> tuple[str, str | None]:
        """The user and the detail: `ann+lists` is ("ann", "lists"). RFC 5233 §1.

        None without a plus, or where it comes first and would leave no user.
        """
        user, plus, detail = self.local.partition("+")
        return (user, detail) if plus and user else (self.local, None)


def _refuse_invisible(local: str) -> None:
    for character in local:
        if character == " " or character in _JOINERS:
            continue
        if unicodedata.category(character) in _INVISIBLE:
            raise BadAddress(detail=f"{character!a} in a local part")


def canonical_domain(text: str) -> str:
    """A domain as lower-case A-labels (RFC 5891, mapped by UTS 46), or a normal address literal.

    A-labels are taken as they are: DNS decides whether they exist. Raises BadAddress.
    """
    lower = text.lower() if text.isascii() else ""
    if lower and len(lower) <= DOMAIN_MAX and _IS_LDH(lower):
        return lower
    if text.startswith("["):
        return _literal(text)
    if lower or not text or len(text) > DOMAIN_MAX:
        raise BadAddress("This is not a valid domain", detail=f"{text[:80]!a}")
    try:
        lower = idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError as error:
        raise BadAddress("This is not a valid domain", detail=str(error)) from error
    if len(lower) > DOMAIN_MAX or not _IS_LDH(lower):
        raise BadAddress("This is not a valid domain", detail=f"{text[:80]!a}")
    return lower


def _literal(text: str) -> str:
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]`. RFC 5321 §4.1.3."""
    inside = text[1:-1]
    try:
        if not text.endswith("]") or "%" in inside or len(text) > 64:
            raise ValueError(text[:64])
        if inside[:5].lower() == "ipv6:":
            found = ipaddress.IPv6Address(inside[5:])
            if found.ipv4_mapped is not None:  # Python's versions spell these differently
                low = int(found) & 0xFFFFFFFF
                return f"[IPv6:::ffff:{low >> 16:x}:{low & 0xFFFF:x}]"
            return f"[IPv6:{found.compressed}]"
        if not _IPV4.fullmatch(inside):
            raise ValueError(inside)
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError as error:
        raise BadAddress("This is not a valid address literal", detail=f"{error!a}") from error


def _made(local: str, domain: str) -> Address:
    """From a local part as sent and a domain that is not canonical yet."""
    if len(local) > LOCAL_MAX or (not local.isascii() and len(local.encode("utf-8")) > LOCAL_MAX):
        raise BadAddress("The local part is longer than 64 octets")
    if local[0] == '"':
        local = _ESCAPED.sub(r"\1", local[1:-1])
    if not local.isascii():
        local = unicodedata.normalize("NFC", local)
    made = Address(local, canonical_domain(domain))
    wire = str(made)
    size = len(wire) if made.ascii else len(wire.encode("utf-8"))
    if size > MAILBOX_MAX or size - len(made.domain) - 1 > LOCAL_MAX:
        raise BadAddress("The address is too long")
    return made


def parse_mailbox(text: str) -> Address:
    """A whole `Mailbox`, nothing around it. RFC 5321 §4.1.2, RFC 6531 §3.3. Raises BadAddress."""
    _refuse_surrogates(text)
    local = _LOCAL.match(text)
    if local is None or not text.startswith("@", local.end()):
        raise BadAddress(detail=f"{text[:80]!a}")
    return _made(local[0], text[local.end() + 1 :])


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadAddress(detail="a lone surrogate") from error


_ROUTE: Final = re.compile(r"@[^\x00-\x20,:<>@\x7f]++(?:,@[^\x00-\x20,:<>@\x7f]++)*+:")
_DOMAIN_END: Final = re.compile(r"@([^\x00-\x20<>@\x7f]++)>")


def parse_reverse_path(data: bytes, *, utf8: bool) -> tuple[Address | None, bytes]:
    """`<mailbox>` or `<>` (None), and what follows. RFC 5321 §4.1.1.2, §4.1.2.

    A source route is checked and dropped (Appendix C). Non-ASCII only with `utf8`, valid
    UTF-8 only (RFC 6531 §3.3). Raises BadSender, or NotAscii.
    """
    if data.startswith(b"<>"):
        return None, data[2:]
    try:
        return _path(data, utf8)
    except NotAscii:
        raise
    except BadAddress as error:
        raise BadSender(detail=error.detail or str(error)) from error


def parse_forward_path(data: bytes, *, utf8: bool) -> tuple[Address, bytes]:
    """`<mailbox>` or `<Postmaster>`, and what follows. RFC 5321 §4.1.1.3.

    Otherwise like `parse_reverse_path`. Raises BadAddress, or NotAscii.
    """
    if data[:12].lower() == b"<postmaster>":
        return Address("postmaster", ""), data[12:]
    return _path(data, utf8)


def _path(data: bytes, utf8: bool) -> tuple[Address, bytes]:
    try:
        text = data.decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError as error:
        if utf8:
            raise BadAddress("The address is not valid UTF-8") from error
        raise NotAscii from error
    if not text.startswith("<"):
        raise BadAddress("An address stands in < and >", detail=f"{text[:80]!a}")
    at = 1
    route = _ROUTE.match(text, at)
    if route is not None:
        at = route.end()
        if at > PATH_MAX:
            raise BadAddress("The path is too long")
        for hop in route[0][1:-1].split(",@"):
            canonical_domain(hop)
    local = _LOCAL.match(text, at)
    domain = _DOMAIN_END.match(text, local.end()) if local else None
    if local is None or domain is None:
        raise BadAddress(detail=f"{text[:80]!a}")
    rest = text[domain.end() :]
    return _made(local[0], domain[1]), rest.encode("utf-8")


# --- header fields: RFC 5322 §3.4 --------------------------------------------------------------

_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def format_phrase(name: str, *, utf8: bool = False) -> str:
    """A display name as syntax: plain, quoted, or encoded words. Raises Malformed for controls."""
    words.refuse_controls(name, "name")
    if "=?" in name or not (utf8 or name.isascii()):
        return words.encode_words(name, phrase=True).decode("ascii")
    if _ATOMS.fullmatch(name):
        return name
    return '"' + _TO_ESCAPE.sub(r"\\\1", name) + '"'


def format_mailbox(name: str, address: Address, *, utf8: bool = False) -> str:
    """`Name <local@domain>`, for the value of `headers.field`. RFC 5322 §3.4.

    Raises Malformed for control characters, and NotAscii for an address that only SMTPUTF8
    mail can hold where `utf8` is not given.
    """
    if not (utf8 or address.ascii):
        raise NotAscii
    return f"{format_phrase(name, utf8=utf8)} <{address}>" if name else str(address)


def to_address(mailbox: Mailbox) -> Address | None:
    """The canonical address of a header's mailbox, if it is one."""
    local = mailbox.local
    if not _IS_DOT_STRING(local):
        local = '"' + _TO_ESCAPE.sub(r"\\\1", local) + '"'
    try:
        return parse_mailbox(f"{local}@{mailbox.domain}")
    except BadAddress:
        return None


def format_address_list(items: list[Mailbox | Group], *, utf8: bool = False) -> str:
    """A whole address list as syntax. Raises Malformed for a mailbox without a valid address."""
    out = []
    for item in items:
        if isinstance(item, Group):
            members = format_address_list(list(item.members), utf8=utf8)
            out.append(f"{format_phrase(item.name, utf8=utf8)}: {members};")
            continue
        canonical = to_address(item)
        if canonical is None:
            raise BadAddress(detail=f"{item.local!a} {item.domain!a}")
        out.append(format_mailbox(item.name, canonical, utf8=utf8))
    return ", ".join(out)
