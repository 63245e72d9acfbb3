from __future__ import annotations

import os
import ssl
import stat
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from postroom.core.clock import Instant, SystemClock
from postroom.core.errors import Malformed, Misuse, NotFound
from postroom.net.certificates import CertificateStore, self_signed

NOW = SystemClock().now()
DAY = 86_400_000


def handshake(
    store: CertificateStore, sni: str | None, *, verify: bytes | None = None
) -> x509.Certificate:
    """The certificate that a client of `sni` is shown; `verify` is the PEM that it trusts."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if verify is None:
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
    else:
        client.load_verify_locations(cadata=verify.decode())
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    c = client.wrap_bio(a, b, server_hostname=sni)
    d, e = ssl.MemoryBIO(), ssl.MemoryBIO()
    s = store.context().wrap_bio(d, e, server_side=True)
    for _ in range(4):
        for side in (c, s):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
        d.write(b.read())
        a.write(e.read())
    der = c.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def hosts(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.DNSName)


def put(folder: Path, name: str, *names: str, now: Instant = NOW) -> bytes:
    chain, key = self_signed(names, now)
    (folder / f"{name}.crt.pem").write_bytes(chain)
    (folder / f"{name}.key.pem").write_bytes(key)
    return chain


# --- made ---------------------------------------------------------------------------------


def test_a_self_signed_certificate_is_what_it_says() -> None:
    pem, key_pem = self_signed(["example.test", "bücher.example", "192.0.2.1"], NOW)
    certificate = x509.load_pem_x509_certificate(pem)
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert key.public_key() == certificate.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert hosts(certificate) == ["example.test", "xn--bcher-kva.example", "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ip_address("192.0.2.1"),
        ip_address("127.0.0.1"),
        ip_address("::1"),
    ]
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=397) <= life <= timedelta(days=398)


@pytest.mark.parametrize("bad", ["", "a b", "a\r\nb", "-x.example", "x" * 64 + ".example"])
def test_what_is_no_name_gets_no_certificate(bad: str) -> None:
    with pytest.raises(Malformed):
        self_signed([bad], NOW)


def test_a_client_that_trusts_it_verifies_it_by_name(tmp_path: Path) -> None:
    store = CertificateStore(str(tmp_path))
    chain, key = self_signed(["mail.example.test"], NOW)
    store.write("self-signed", chain, key)
    store.reload()
    for name in ("mail.example.test", "localhost", "127.0.0.1"):
        handshake(store, name, verify=chain)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(store, "other.example", verify=chain)


# --- kept ---------------------------------------------------------------------------------


def test_the_digest_of_a_key_is_that_of_tlsa(tmp_path: Path) -> None:
    store = CertificateStore(str(tmp_path))
    chain, key = self_signed(["mail.a.example"], NOW)
    store.write("default", chain, key)
    store.reload()
    leaf = x509.load_pem_x509_certificate(chain)
    spki = leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    assert store.choose("mail.a.example").public_key == digest.finalize()


def test_what_is_written_is_whole_and_private(tmp_path: Path) -> None:
    store = CertificateStore(str(tmp_path))
    old = os.umask(0)
    try:
        store.write("one", *self_signed(["one.example"], NOW))
        store.write("one", *self_signed(["two.example"], NOW))
    finally:
        os.umask(old)
    assert os.listdir(tmp_path) == ["one.pem"]
    assert stat.S_IMODE((tmp_path / "one.pem").stat().st_mode) == 0o600
    assert store.reload().names == ("one",)
    assert store.choose(None).hosts == {"two.example", "localhost"}


@pytest.mark.parametrize("name", ["", ".hidden", "../out", "a/b", "a\0b"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(Malformed):
        CertificateStore(str(tmp_path)).write(name, *self_signed(["x.example"], NOW))
    assert os.listdir(tmp_path) == []


def test_a_key_of_another_certificate_is_refused_and_the_old_pair_stays(tmp_path: Path) -> None:
    store = CertificateStore(str(tmp_path))
    store.write("one", *self_signed(["one.example"], NOW))
    chain, _ = self_signed(["two.example"], NOW)
    _, key = self_signed(["three.example"], NOW)
    with pytest.raises(Malformed):
        store.write("one", chain, key)
    with pytest.raises(Malformed):
        store.write("one", b"nonsense", key)
    assert os.listdir(tmp_path) == ["one.pem"]
    store.reload()
    assert "one.example" in store.choose(None).hosts


def test_a_locked_key_asks_no_terminal(tmp_path: Path) -> None:
    chain, key = self_signed(["one.example"], NOW)
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "one.pem").write_bytes(chain + locked)
    with pytest.raises(NotFound):
        CertificateStore(str(tmp_path)).reload()


# --- chosen -------------------------------------------------------------------------------


def test_sni_chooses(tmp_path: Path) -> None:
    put(tmp_path, "default", "fallback.example")
    put(tmp_path, "a", "a.example", "www.a.example")
    put(tmp_path, "wild", "*.wild.example")
    put(tmp_path, "exact", "exact.wild.example")
    store = CertificateStore(str(tmp_path))
    assert store.reload().names == ("a", "default", "exact", "wild")
    for sni, expected in (
        (None, "fallback.example"),
        ("unknown.example", "fallback.example"),
        ("a.example", "a.example"),
        ("WWW.A.EXAMPLE", "a.example"),
        ("any.wild.example", "*.wild.example"),
        ("exact.wild.example", "exact.wild.example"),
        ("two.labels.wild.example", "fallback.example"),
        ("wild.example", "fallback.example"),
    ):
        assert hosts(handshake(store, sni))[0] == expected, sni
        assert expected in store.choose(sni).hosts


def test_of_two_for_one_host_the_one_that_lasts_longer_is_shown(tmp_path: Path) -> None:
    put(tmp_path, "new", "a.example", now=Instant(NOW + 30 * DAY))
    put(tmp_path, "old", "a.example")
    store = CertificateStore(str(tmp_path))
    store.reload()
    assert store.choose("a.example").name == "new"
    assert store.choose(None).name == "new"


def test_one_that_somebody_vouches_for_goes_before_a_self_signed_one(tmp_path: Path) -> None:
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Some Authority")])
    signer = ec.generate_private_key(ec.SECP256R1())
    pem, key = self_signed(["a.example"], NOW)
    template = x509.load_pem_x509_certificate(pem)
    issued = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(issuer)
        .public_key(template.public_key())
        .serial_number(7)
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_before_utc + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
        .sign(signer, hashes.SHA384())
    )
    put(tmp_path, "self-signed", "a.example")
    store = CertificateStore(str(tmp_path))
    store.write("acme", issued.public_bytes(serialization.Encoding.PEM), key)
    store.reload()
    chosen = store.choose("a.example")
    assert (chosen.name, chosen.self_signed) == ("acme", False)
    assert chosen.endpoint == issued.fingerprint(hashes.SHA384())  # RFC 5929 §4.1
    assert store.choose(None).name == "acme"


# --- replaced -----------------------------------------------------------------------------


def test_a_reload_is_seen_by_contexts_that_listeners_hold(tmp_path: Path) -> None:
    put(tmp_path, "a", "old.example")
    store = CertificateStore(str(tmp_path))
    store.reload()
    context = store.context()
    assert hosts(handshake(store, None))[0] == "old.example"
    put(tmp_path, "a", "new.example")
    assert hosts(handshake(store, None))[0] == "old.example"
    assert store.reload().problems == ()
    assert hosts(handshake(store, None))[0] == "new.example"
    assert store.context() is context


def test_a_broken_file_keeps_the_earlier_certificate_and_is_reported(tmp_path: Path) -> None:
    put(tmp_path, "a", "a.example")
    put(tmp_path, "b", "b.example")
    store = CertificateStore(str(tmp_path))
    store.reload()
    (tmp_path / "a.crt.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\ngarbage\n")
    put(tmp_path, "b", "b.example", "c.example")
    put(tmp_path, "never", "n.example")
    (tmp_path / "never.key.pem").unlink()
    told = store.reload()
    assert told.names == ("a", "b")
    assert len(told.problems) == 2
    assert told.problems[0].startswith("Certificate a:")
    assert "kept" in told.problems[0]
    assert told.problems[1].startswith("Certificate never:")
    assert hosts(handshake(store, "a.example"))[0] == "a.example"
    assert "c.example" in hosts(handshake(store, "b.example"))


def test_an_empty_folder_changes_nothing_and_is_an_error(tmp_path: Path) -> None:
    store = CertificateStore(str(tmp_path))
    with pytest.raises(NotFound):
        store.choose(None)
    put(tmp_path, "a", "a.example")
    store.reload()
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(NotFound):
        store.reload()
    assert hosts(handshake(store, None))[0] == "a.example"


def test_what_ends_soon_is_told_first_to_last(tmp_path: Path) -> None:
    put(tmp_path, "later", "a.example", now=Instant(NOW - 380 * DAY))
    put(tmp_path, "soon", "b.example", now=Instant(NOW - 390 * DAY))
    put(tmp_path, "fresh", "c.example")
    store = CertificateStore(str(tmp_path))
    store.reload()
    ending = store.expiring(Instant(NOW + 30 * DAY))
    assert [each.name for each in ending] == ["soon", "later"]


def test_an_offer_that_no_listener_was_to_make_is_a_mistake(tmp_path: Path) -> None:
    store = CertificateStore(str(tmp_path), [("h2", "http/1.1")])
    assert store.context(("h2", "http/1.1")) is not store.context()
    with pytest.raises(Misuse):
        store.context(("imap",))
