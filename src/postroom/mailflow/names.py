"""The names that this server goes by, as an administrator writes them."""

from __future__ import annotations

from postroom.core.errors import MailError, Malformed
from postroom.formats.address import canonical_domain


def parse_host_name(text: str) -> str:
    """A fully qualified name of a host in lower-case A-labels, without a dot at its end.

    RFC 1123 §2.1, RFC 5321 §2.3.5. Raises Malformed with a sentence that says what is right.
    """
    name = _name(text, "the name of a host, such as mail.example.org")
    if "." not in name:
        raise Malformed(
            f"{name} has no domain: other servers take a full name alone, such as mail.example.org"
        )
    return name


def parse_domain_name(text: str) -> str:
    """The name of a domain, in the same form; raises Malformed likewise."""
    return _name(text, "the name of a domain, such as example.org")


def _name(text: str, right: str) -> str:
    try:
        name = canonical_domain(text.strip().removesuffix("."))
    except MailError as error:
        raise Malformed(
            f"Write {right}: labels of letters, digits and inner hyphens with dots between them, "
            "each of at most 63 octets",
            detail=error.detail,
        ) from error
    # All digits at the end: an address, not a name. RFC 1123 §2.1.
    if name.startswith("[") or name.rpartition(".")[2].isdigit():
        raise Malformed(f"This is an address: write {right}")
    return name
