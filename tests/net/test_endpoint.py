"""tls-server-end-point: which hash, for which certificate, and that both ends agree."""

from __future__ import annotations

import hashlib
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from postroom.core.clock import to_datetime
from postroom.net.certificates import CertificateStore, endpoint
from postroom.net.tls import TlsEngine, client_context
from postroom.testing.clock import START

EC = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.example.test")])
PSS = padding.PSS(padding.MGF1(hashes.SHA512()), 64)

# Signed with ecdsa-with-SHA1 by `openssl req -x509 -sha1`: few libraries still do that.
OLD = b"""-----BEGIN CERTIFICATE-----
MIIBgDCCASigAwIBAgIUf3kuoaLmxSWsoN85MnW6VzR9SX8wCQYHKoZIzj0EATAW
MRQwEgYDVQQDDAtvbGQuZXhhbXBsZTAgFw0yNjExMjIxOTAxMjdaGA8yMTI2MTAy
OTE5MDEyN1owFjEUMBIGA1UEAwwLb2xkLmV4YW1wbGUwWTATBgcqhkjOPQIBBggq
hkjOPQMBBwNCAATuKrXZYozlA5vny3+aqXdOwuQQ4O5XVZCoOa0aJtg4klO8bE5E
EKvSVF7ZhGNSPsqKz8wnjXWPhkF83zXj5C2ko1MwUTAdBgNVHQ4EFgQUZS9NbnAH
9b8rzb7wGoqUEoVGkfswHwYDVR0jBBgwFoAUZS9NbnAH9b8rzb7wGoqUEoVGkfsw
DwYDVR0TAQH/BAUwAwEB/zAJBgcqhkjOPQQBA0cAMEQCIGJZZm7EOfbKOZOX52l2
flznNM7cghMmrqC7SEbJOHevAiAzCswhhFA73gvVfBDf/o2BWxVNA7Z/rvjNViBp
APerjg==
-----END CERTIFICATE-----
"""


def certificate(
    key: CertificateIssuerPrivateKeyTypes,
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None,
    rsa_padding: padding.PSS | None = None,
    host: str = "mail.example.test",
) -> x509.Certificate:
    start = to_datetime(START)
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, algorithm, rsa_padding=rsa_padding)
    )


def der(leaf: x509.Certificate) -> bytes:
    return leaf.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("leaf", "name"),
    [
        (certificate(EC, hashes.SHA256()), "sha256"),
        (certificate(EC, hashes.SHA384()), "sha384"),
        (certificate(RSA, hashes.SHA256()), "sha256"),
        (certificate(RSA, hashes.SHA512()), "sha512"),
        (certificate(RSA, hashes.SHA512(), PSS), "sha512"),
        (x509.load_pem_x509_certificate(OLD), "sha256"),  # SHA-1 is replaced
    ],
    ids=["ecdsa-256", "ecdsa-384", "rsa-256", "rsa-512", "rsa-pss", "sha-1"],
)
def test_the_hash_is_that_of_the_signature(leaf: x509.Certificate, name: str) -> None:
    """RFC 5929 §4.1."""
    assert endpoint(leaf) == hashlib.new(name, der(leaf)).digest()


def test_where_it_is_not_defined_there_is_none() -> None:
    assert endpoint(certificate(ed25519.Ed25519PrivateKey.generate(), None)) == b""


def shaken(store: CertificateStore, host: str) -> tuple[TlsEngine, TlsEngine]:
    """A server and a client after their handshake."""
    server = TlsEngine(store.context())
    client = TlsEngine(client_context(verify=False), server_side=False, hostname=host)
    done = False
    while not done:
        done = client.handshake()
        server.feed(client.take())
        done = server.handshake() and done
        client.feed(server.take())
    return server, client


def test_both_ends_see_the_certificate_that_sni_chose(tmp_path: Path) -> None:
    store = CertificateStore(str(tmp_path))
    made: dict[str, tuple[x509.Certificate, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]] = {
        "ec": (certificate(EC, hashes.SHA384(), host="ec.example.test"), EC),
        "rsa": (certificate(RSA, hashes.SHA256(), host="rsa.example.test"), RSA),
    }
    for name, (leaf, key) in made.items():
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        store.write(name, leaf.public_bytes(serialization.Encoding.PEM), private)
    store.reload()
    for name, (leaf, _) in made.items():
        server, client = shaken(store, f"{name}.example.test")
        told = server.facts()
        seen = x509.load_der_x509_certificate(client.facts().chain[0])
        assert told.certificate == name
        assert told.endpoint == endpoint(seen) == endpoint(leaf)
        # A connection holds no copy: all of one certificate share its octets.
        assert told.endpoint is store.choose(f"{name}.example.test").endpoint
        assert sys.getsizeof(told.endpoint) < 120
