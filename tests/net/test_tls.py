"""The engine against OpenSSL's own client, byte by byte and in every slicing."""

from __future__ import annotations

import ssl

import pytest

from postroom.core.errors import TlsFailed
from postroom.net.certificates import CertificateStore
from postroom.net.tls import RECORD, TlsEngine

from .lines import trusting_client


class Pair:
    """A server engine and an OpenSSL client, joined by hand."""

    def __init__(self, store: CertificateStore, client: ssl.SSLContext, host: str | None = None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self.server = TlsEngine(store.context())

    def handshake(self, step: int = 1 << 20) -> None:
        done = False
        for _ in range(10):
            try:
                self.client.do_handshake()
                if done:
                    return
            except ssl.SSLWantReadError:
                pass
            data = self.outgoing.read()
            for start in range(0, len(data), step):
                self.server.feed(data[start : start + step])
                done = self.server.handshake()
                self.incoming.write(self.server.take())
        raise AssertionError("no end of the handshake")

    def receive(self, data: bytes) -> bytes:
        self.incoming.write(data)
        got = b""
        try:
            while chunk := self.client.read(1 << 20):
                got += chunk
        except ssl.SSLWantReadError:
            pass
        return got


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_handshake_in_any_slices(
    certificates: CertificateStore, version: ssl.TLSVersion, step: int
) -> None:
    pair = Pair(certificates, trusting_client(maximum=version))
    pair.handshake(step)
    assert pair.receive(pair.server.seal(b"hello")) == b"hello"
    assert pair.server.facts().version == version.name.replace("_", ".")


@pytest.mark.parametrize("size", [1, RECORD - 1, RECORD, RECORD + 1, 5 * RECORD + 17])
def test_what_is_sealed_can_be_read(certificates: CertificateStore, size: int) -> None:
    pair = Pair(certificates, trusting_client())
    pair.handshake()
    data = bytes(n % 251 for n in range(size))
    for form in (data, bytearray(data), memoryview(data)):
        assert pair.receive(pair.server.seal(form)) == data


@pytest.mark.parametrize("step", [1, 1000, RECORD, 1 << 20])
def test_records_come_out_whole_and_in_order(certificates: CertificateStore, step: int) -> None:
    pair = Pair(certificates, trusting_client())
    pair.handshake()
    size = 3 * RECORD if step > 1 else 300
    data = bytes(n % 251 for n in range(size))
    for start in range(0, size, RECORD):
        pair.client.write(data[start : start + RECORD])
    wire = pair.outgoing.read()
    got = b""
    for start in range(0, len(wire), step):
        pair.server.feed(wire[start : start + step])
        while plain := pair.server.read():
            assert len(plain) <= RECORD
            got += plain
    assert got == data


def test_what_is_fed_while_older_bytes_wait_is_read_after_them(
    certificates: CertificateStore,
) -> None:
    pair = Pair(certificates, trusting_client())
    pair.handshake()
    for part in (b"a" * RECORD, b"b" * RECORD, b"c"):
        pair.client.write(part)
        pair.server.feed(pair.outgoing.read())
    assert pair.server.read() == b"a" * RECORD
    pair.client.write(b"d")
    pair.server.feed(pair.outgoing.read())
    assert pair.server.read() == b"b" * RECORD
    assert [pair.server.read() for _ in range(3)] == [b"c", b"d", None]


def test_close_notify_is_told_from_silence(certificates: CertificateStore) -> None:
    pair = Pair(certificates, trusting_client())
    pair.handshake()
    assert pair.server.read() is None
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.server.feed(pair.outgoing.read())
    assert [pair.server.read(), pair.server.read()] == [b"", None]  # told once
    pair.incoming.write(pair.server.close())
    pair.client.unwrap()


def test_a_forged_record_fails_and_leaves_an_alert(certificates: CertificateStore) -> None:
    pair = Pair(certificates, trusting_client())
    pair.handshake()
    pair.client.write(b"pay 10")
    wire = bytearray(pair.outgoing.read())
    wire[-1] ^= 1
    pair.server.feed(bytes(wire))
    with pytest.raises(TlsFailed):
        pair.server.read()
    assert pair.server.take()
    pair.server.close()  # never raises


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_what_is_too_old_or_too_weak_is_refused(certificates: CertificateStore) -> None:
    weak = trusting_client(maximum=ssl.TLSVersion.TLSv1_2)
    weak.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM:@SECLEVEL=0")  # CBC
    old = trusting_client()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    for client in (weak, old):
        pair = Pair(certificates, client)
        with pytest.raises(TlsFailed):
            pair.handshake()
        assert pair.server.take()


def test_nothing_is_resumed(certificates: CertificateStore) -> None:
    """Ticket keys would open every session of a worker's life; so there are none."""
    client = trusting_client()
    first = Pair(certificates, client)
    first.handshake()
    first.receive(first.server.seal(b"x"))
    session = first.client.session
    assert session is None or not session.has_ticket
