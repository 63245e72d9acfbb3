"""A certificate authority for tests: it vouches for people, and takes it back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM


class Authority:
    """Signs with a key of its own."""

    def __init__(self, name: str = "Our people") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.now = datetime.now(UTC)
        whole = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        self.certificate = (
            self._builder(self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(whole, critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(hours=1))
            .not_valid_after(self.now + timedelta(days=1))
        )

    def vouch(
        self, *addresses: str, purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH
    ) -> tuple[x509.Certificate, bytes]:
        """A certificate for those addresses, and it with its key as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
        made = (
            self._builder(subject, key.public_key())
            .add_extension(
                x509.SubjectAlternativeName([x509.RFC822Name(each) for each in addresses]),
                critical=False,
            )
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        private = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return made, made.public_bytes(PEM) + private

    def write(self, path: Path, revoked: Iterable[x509.Certificate] | None = None) -> None:
        """What a server is given: the authority, and whom it no longer vouches for."""
        content = self.certificate.public_bytes(PEM)
        if revoked is not None:
            listed = (
                x509.CertificateRevocationListBuilder()
                .issuer_name(self.name)
                .last_update(self.now - timedelta(hours=1))
                .next_update(self.now + timedelta(days=1))
            )
            for each in revoked:
                entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number)
                listed = listed.add_revoked_certificate(entry.revocation_date(self.now).build())
            content += listed.sign(self.key, hashes.SHA256()).public_bytes(PEM)
        path.write_bytes(content)
