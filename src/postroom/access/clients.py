"""Whom a client's certificate names. RFC 4422 Appendix A, RFC 5280 §4.2.1.6."""

from __future__ import annotations

from typing import Final

from cryptography import x509

from postroom.core.errors import NotAuthenticated

MOST: Final = 20
"""Addresses of one certificate that are looked at."""


def addresses(certificate: bytes) -> tuple[str, ...]:
    """The mail addresses of a certificate (DER) whose chain and revocation TLS has judged.

    Those of its subject stand for nothing: RFC 8550 §3. Raises NotAuthenticated.
    """
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise NotAuthenticated(detail=f"the certificate names nobody: {error}") from error
    return tuple(names.get_values_for_type(x509.RFC822Name)[:MOST])
