"""Clients that show who they are in TLS: postroom.net.tls and certificates against OpenSSL."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from postroom.core.clock import SystemClock
from postroom.core.errors import TlsFailed
from postroom.net.certificates import CertificateStore, self_signed
from postroom.net.tls import TlsEngine, TlsFacts
from tests.authorities import Authority

ANN = "ann@example.test"
VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)


@pytest.fixture
def store(tmp_path: Path) -> CertificateStore:
    folder = tmp_path / "tls"
    folder.mkdir()
    made = CertificateStore(str(folder))
    for name in ("default", "other"):
        made.write(name, *self_signed([f"{name}.example.test"], SystemClock().now()))
    made.reload()
    return made


def meet(
    store: CertificateStore,
    shown: bytes,
    folder: Path,
    *,
    clients: bool = True,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    host: str = "default.example.test",
) -> TlsFacts:
    """A handshake to its end; `shown` is a certificate with its key. Raises TlsFailed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    if shown:
        path = folder / "shown.pem"
        path.write_bytes(shown)
        context.load_cert_chain(str(path))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=host)
    server = TlsEngine(store.context(clients=clients))
    done = False
    while not done:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        server.feed(outgoing.read())
        done = server.handshake()
        incoming.write(server.take())
    return server.facts()


def reloaded(store: CertificateStore, folder: Path, authority: Authority | None) -> None:
    path = folder / "tls" / "clients.ca"
    if authority is None:
        path.unlink()
    else:
        authority.write(path)
    assert store.reload().problems == ()


@VERSIONS
def test_a_client_may_show_who_it_is_or_not(
    store: CertificateStore, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    authority = Authority()
    reloaded(store, tmp_path, authority)
    certificate, shown = authority.vouch(ANN)
    for host in ("default.example.test", "other.example.test", "unknown.example.test"):
        facts = meet(store, shown, tmp_path, version=version, host=host)
        assert facts.client == certificate.public_bytes(Encoding.DER)
        assert facts.certificate == ("other" if host.startswith("other") else "default")
    assert meet(store, b"", tmp_path, version=version).client == b""


@VERSIONS
def test_whom_nobody_that_we_believe_vouches_for_is_shut_out(
    store: CertificateStore, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    reloaded(store, tmp_path, Authority())
    _, shown = Authority().vouch(ANN)  # of the same name, by another key
    with pytest.raises(TlsFailed):
        meet(store, shown, tmp_path, version=version)


def test_a_certificate_for_servers_is_no_clients(store: CertificateStore, tmp_path: Path) -> None:
    authority = Authority()
    reloaded(store, tmp_path, authority)
    _, shown = authority.vouch(ANN, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    with pytest.raises(TlsFailed):
        meet(store, shown, tmp_path)


def test_whom_the_authority_took_it_back_from(store: CertificateStore, tmp_path: Path) -> None:
    authority = Authority()
    revoked, shown = authority.vouch(ANN)
    _, good = authority.vouch(ANN)
    authority.write(tmp_path / "tls" / "clients.ca", revoked=[revoked])
    store.reload()
    with pytest.raises(TlsFailed):
        meet(store, shown, tmp_path)
    assert meet(store, good, tmp_path).client


def test_doors_for_strangers_ask_nobody(store: CertificateStore, tmp_path: Path) -> None:
    """Servers show what they like when they bring mail: theirs is no reason to shut them out."""
    reloaded(store, tmp_path, Authority())
    _, shown = Authority("Somebody else's").vouch(ANN)
    assert meet(store, shown, tmp_path, clients=False).client == b""


def test_without_authorities_nobody_is_asked(store: CertificateStore, tmp_path: Path) -> None:
    _, shown = Authority().vouch(ANN)
    assert meet(store, shown, tmp_path).client == b""


def test_authorities_come_and_go_with_a_reload(store: CertificateStore, tmp_path: Path) -> None:
    authority = Authority()
    _, shown = authority.vouch(ANN)
    reloaded(store, tmp_path, authority)
    assert meet(store, shown, tmp_path).client
    reloaded(store, tmp_path, None)
    assert meet(store, shown, tmp_path).client == b""
    (tmp_path / "tls" / "clients.ca").write_text("this is none")
    (problem,) = store.reload().problems
    assert problem.startswith("clients.ca: ")
    assert meet(store, shown, tmp_path).client == b""


def test_the_file_of_authorities_is_no_certificate_of_ours(
    store: CertificateStore, tmp_path: Path
) -> None:
    reloaded(store, tmp_path, Authority())
    assert [each.name for each in store.certificates()] == ["default", "other"]
    assert isinstance(
        x509.load_pem_x509_certificate((tmp_path / "tls" / "clients.ca").read_bytes()),
        x509.Certificate,
    )
