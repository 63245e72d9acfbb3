from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from postroom.core.clock import Instant, SystemClock
from postroom.core.errors import (
    CertificateRefused,
    ConnectFailed,
    ConnectionLost,
    Malformed,
    Misuse,
    TlsFailed,
)
from postroom.net.certificates import CertificateStore, self_signed
from postroom.net.connect import connect, connect_unix
from postroom.net.connection import LIMITS, Connection, Limits, Peer
from postroom.net.tls import ClientTls, client_context, server_context
from postroom.net.unix import listen_unix
from postroom.net.wheel import TimerWheel

from .lines import TICK, Door, Scenario, door, read_line

LOOPBACK = ip_address("127.0.0.1")
HOST = "mail.example.test"
AN_HOUR = 3_600_000


class Talk:
    """The owner of a connection that we made: keeps what it is given."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.got = b""
        self.events: list[str] = []
        self.error: ConnectionLost | None = None
        self.gone = asyncio.Event()

    def on_connected(self, connection: Connection) -> None:
        self.connection = connection
        self.events.append("connected")

    def on_bytes(self, data: bytes) -> None:
        self.got += data

    def on_eof(self) -> None:
        self.events.append("eof")
        self.connection.close()

    def on_timeout(self) -> None:
        self.events.append("timeout")

    def on_shutdown(self) -> None:
        self.connection.close()

    def on_lost(self, error: ConnectionLost | None) -> None:
        self.error = error
        self.events.append("lost")
        self.gone.set()

    async def line(self) -> bytes:
        async with asyncio.timeout(5):
            while b"\r\n" not in self.got:
                await asyncio.sleep(0.002)
        line, _, self.got = self.got.partition(b"\r\n")
        return line


class Caller:
    """Goes out and keeps the sessions it made."""

    def __init__(self) -> None:
        self.wheel = TimerWheel(asyncio.get_running_loop(), tick=TICK)
        self.talks: list[Talk] = []

    def make(self, peer: Peer) -> Talk:
        self.talks.append(Talk(peer))
        return self.talks[-1]

    async def __call__(
        self,
        port: int,
        *,
        tls: ClientTls | None = None,
        timeout: float = 5,
        limits: Limits = LIMITS,
        host: str = "127.0.0.1",
        source: str | None = None,
    ) -> Talk:
        connection = await connect(
            ip_address(host),
            port,
            self.make,
            self.wheel,
            source=ip_address(source) if source is not None else None,
            timeout=timeout,
            limits=limits,
            tls=tls,
        )
        assert connection.handler is self.talks[-1]
        return self.talks[-1]


@contextmanager
def listening(address: str = "127.0.0.1", backlog: int = 10) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=backlog) as sock:
        sock.settimeout(5)
        yield sock


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def believing() -> ssl.SSLContext:
    return client_context(verify=False)


# --- plain --------------------------------------------------------------------------------


def test_what_a_server_says_arrives_and_what_we_say_is_read(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:
            talk = await Caller()(there.port)
            assert await talk.line() == b"hello"
            talk.connection.write(b"one\r\nQUIT\r\n")
            assert [await talk.line(), await talk.line()] == [b"one", b"bye"]
            await asyncio.wait_for(talk.gone.wait(), 5)
            assert (talk.events, talk.error) == (["connected", "eof", "lost"], None)
            server = there.sessions[0].peer
            assert talk.peer == Peer(LOOPBACK, there.port, LOOPBACK, server.port, "")

    play(scenario)


def test_ipv6_is_reached_as_well(play: Scenario) -> None:
    async def scenario() -> None:
        with listening("::1") as sock:
            talk = await Caller()(port_of(sock), host="::1")
            there, address = await asyncio.to_thread(sock.accept)
            assert (str(talk.peer.local_ip), talk.peer.local_port) == address[:2]
            there.close()

    play(scenario)


def test_the_source_address_is_chosen(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:
            talk = await Caller()(there.port, source="127.0.0.7")
            session = await there.session()
            assert str(session.peer.ip) == str(talk.peer.local_ip) == "127.0.0.7"

    play(scenario)


def test_a_source_that_is_not_ours_fails(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:
            for source in ("192.0.2.1", "::1"):
                with pytest.raises(ConnectFailed):
                    await Caller()(there.port, source=source)

    play(scenario)


def test_a_refusal_says_where_to_the_log(play: Scenario) -> None:
    async def scenario() -> None:
        with listening() as sock:
            port = port_of(sock)
        caller = Caller()
        with pytest.raises(ConnectFailed) as failed:
            await caller(port)
        assert str(failed.value.status) == "4.4.1"
        assert f"127.0.0.1:{port}" in failed.value.detail
        assert "refused" in failed.value.detail
        assert "127.0.0.1" not in str(failed.value)
        assert caller.talks == []

    play(scenario)


def test_an_address_that_does_not_answer_is_given_up_in_time(play: Scenario) -> None:
    async def scenario() -> None:
        with listening(backlog=0) as sock:
            full = []
            for _ in range(4):  # more than its queue takes: the rest gets no answer
                each = socket.socket()
                each.setblocking(False)
                each.connect_ex(sock.getsockname())
                full.append(each)
            begun = time.monotonic()
            with pytest.raises(ConnectFailed) as failed:
                await Caller()(port_of(sock), timeout=0.3)
            assert 0.25 < time.monotonic() - begun < 2
            assert "no answer in 0.3 s" in failed.value.detail
            for each in full:
                each.close()

    play(scenario)


def test_a_deadline_of_the_owner_is_kept(play: Scenario) -> None:
    async def scenario() -> None:
        with listening() as sock:
            talk = await Caller()(port_of(sock))
            talk.connection.set_timeout(0.05)
            await asyncio.sleep(0.05 + 4 * TICK)
            assert "timeout" in talk.events

    play(scenario)


# --- local sockets ------------------------------------------------------------------------


def test_a_local_socket_is_reached_whatever_the_length_of_its_path(
    play: Scenario, tmp_path: Path
) -> None:
    long = tmp_path / ("a" * 120)
    long.mkdir()

    async def scenario() -> None:
        for folder in (tmp_path, long):
            path = str(folder / "socket")
            with listen_unix(path) as sock:
                caller = Caller()
                await connect_unix(path, caller.make, caller.wheel, timeout=5)
                there, _ = await asyncio.to_thread(sock.accept)
                with there:
                    there.sendall(b"hello\r\n")
                    assert await caller.talks[0].line() == b"hello"
                assert caller.talks[0].peer.ip is None

    play(scenario)


def test_a_local_socket_that_is_not_there_fails(play: Scenario, tmp_path: Path) -> None:
    async def scenario() -> None:
        caller = Caller()
        for path in (tmp_path / "none", tmp_path):
            with pytest.raises(ConnectFailed):
                await connect_unix(str(path), caller.make, caller.wheel, timeout=5)

    play(scenario)


def test_a_busy_local_socket_is_waited_for(play: Scenario, tmp_path: Path) -> None:
    """Its system call says at once that the queue is full, and no event says more."""

    async def scenario() -> None:
        path = str(tmp_path / "socket")
        with listen_unix(path, backlog=0) as sock, socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            caller = Caller()
            with pytest.raises(ConnectFailed):
                await connect_unix(path, caller.make, caller.wheel, timeout=0.1)
            later = asyncio.create_task(connect_unix(path, caller.make, caller.wheel, timeout=5))
            await asyncio.sleep(0.1)
            assert not later.done()
            sock.accept()[0].close()
            connection = await later
            there, _ = await asyncio.to_thread(sock.accept)
            with there:
                there.sendall(b"hello\r\n")
                assert await caller.talks[0].line() == b"hello"
            connection.abort()

    play(scenario)


# --- implicit TLS -------------------------------------------------------------------------


def test_tls_comes_first_and_says_whom_it_met(
    play: Scenario, certificates: CertificateStore, tmp_path: Path
) -> None:
    shown = ssl.PEM_cert_to_DER_cert(_certificate(tmp_path))

    async def scenario() -> None:
        async with door(tls=certificates.context()) as there:
            talk = await Caller()(there.port, tls=ClientTls(believing(), HOST + "."))
            facts = talk.peer.tls
            assert facts is not None
            assert (facts.version, facts.sni, facts.verified) == ("TLSv1.3", HOST, False)
            assert facts.chain == (shown,)
            assert facts.bits >= 128
            assert await talk.line() == b"hello"
            talk.connection.write(b"QUIT\r\n")
            assert await talk.line() == b"bye"
            await asyncio.wait_for(talk.gone.wait(), 5)
            assert talk.error is None
            server = there.sessions[0].peer.tls
            assert server is not None
            assert (server.sni, server.chain, server.verified) == (HOST, (), False)

    play(scenario)


def _certificate(folder: Path) -> str:
    """The certificate of the store, without its key."""
    text = (folder / "self-signed.pem").read_text()
    end = "-----END CERTIFICATE-----\n"
    start = text.index("-----BEGIN CERTIFICATE-----")
    return text[start : text.index(end) + len(end)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", None])
def test_an_address_is_not_sent_as_a_name(
    play: Scenario, certificates: CertificateStore, host: str | None
) -> None:
    """RFC 6066 §3: SNI holds names only."""

    async def scenario() -> None:
        async with door(tls=certificates.context()) as there:
            talk = await Caller()(there.port, tls=ClientTls(believing(), host))
            await talk.line()
            assert there.sessions[0].peer.tls is not None
            assert there.sessions[0].peer.tls.sni is None

    play(scenario)


@pytest.mark.parametrize("host", [HOST, "MAIL.example.TEST", "127.0.0.1"])
def test_a_certificate_that_is_trusted_and_names_the_host_is_verified(
    play: Scenario, certificates: CertificateStore, tmp_path: Path, host: str
) -> None:
    ca = tmp_path / "ca"
    ca.write_text(_certificate(tmp_path))
    context = client_context(verify=True, ca_file=str(ca))

    async def scenario() -> None:
        async with door(tls=certificates.context()) as there:
            talk = await Caller()(there.port, tls=ClientTls(context, host))
            assert talk.peer.tls is not None
            assert talk.peer.tls.verified
            assert await talk.line() == b"hello"

    play(scenario)


def _serving(folder: Path, hosts: list[str], now: Instant) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of its own, and the file that trusts it."""
    chain, key = self_signed(hosts, now)
    (folder / "pair").write_bytes(chain + key)
    (folder / "ca").write_bytes(chain)
    return server_context(str(folder / "pair")), str(folder / "ca")


@pytest.mark.parametrize(
    ("hosts", "age", "trusted", "result"),
    [
        (["other.example.test"], 0, True, "certificate-host-mismatch"),
        ([HOST], 500 * 24, True, "certificate-expired"),
        ([HOST], -48, True, "certificate-not-trusted"),
        ([HOST], 0, False, "certificate-not-trusted"),
    ],
)
def test_a_certificate_that_does_not_convince_is_refused_with_its_reason(
    play: Scenario, tmp_path: Path, hosts: list[str], age: int, trusted: bool, result: str
) -> None:
    serving, ca = _serving(tmp_path, hosts, Instant(SystemClock().now() - age * AN_HOUR))
    context = client_context(verify=True, ca_file=ca if trusted else None)

    async def scenario() -> None:
        async with door(tls=serving) as there:
            caller = Caller()
            with pytest.raises(CertificateRefused) as refused:
                await caller(there.port, tls=ClientTls(context, HOST))
            assert refused.value.result == result
            assert refused.value.detail
            assert caller.talks == []
            while there.acceptor.connections:  # it was told, and is gone
                await asyncio.sleep(0.005)

    play(scenario)


def test_a_name_in_the_subject_alone_is_none(tmp_path: Path) -> None:
    """RFC 9525 §2: only subjectAltName counts."""
    assert not client_context(verify=True).hostname_checks_common_name


def test_a_verifying_context_without_a_name_verifies_nothing_and_fails(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(tls=certificates.context()) as there:
            caller = Caller()
            for host in (None, "", ".", "a..example", "x" * 64 + ".example", "a\0.example"):
                with pytest.raises(TlsFailed):
                    await caller(there.port, tls=ClientTls(client_context(verify=True), host))
            assert caller.talks == []

    play(scenario)


def test_a_ca_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    for name in ("ca", "missing"):
        with pytest.raises(OSError, match=r".+"):
            client_context(verify=True, ca_file=str(tmp_path / name))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
@pytest.mark.parametrize("verify", [True, False])
def test_old_tls_is_not_spoken(
    play: Scenario, certificates: CertificateStore, tmp_path: Path, verify: bool
) -> None:
    old = server_context(str(tmp_path / "self-signed.pem"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1

    async def scenario() -> None:
        async with door(tls=old) as there:
            with pytest.raises(TlsFailed):
                await Caller()(there.port, tls=ClientTls(client_context(verify=verify), HOST))

    play(scenario)


def test_only_one_who_verifies_insists_on_good_ciphers(
    play: Scenario, certificates: CertificateStore, tmp_path: Path
) -> None:
    """Without verifying, the alternative is plaintext: RFC 7435 §3."""
    cbc = server_context(str(tmp_path / "self-signed.pem"))
    cbc.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    cbc.maximum_version = ssl.TLSVersion.TLSv1_2

    async def scenario() -> None:
        async with door(tls=cbc) as there:
            talk = await Caller()(there.port, tls=ClientTls(believing(), HOST))
            assert await talk.line() == b"hello"
            with pytest.raises(TlsFailed) as failed:
                await Caller()(there.port, tls=ClientTls(client_context(verify=True), HOST))
            assert not isinstance(failed.value, CertificateRefused)

    play(scenario)


def test_a_handshake_without_an_end_is_given_up(play: Scenario) -> None:
    async def scenario() -> None:
        tls = ClientTls(believing(), HOST)
        with listening() as sock:
            begun = time.monotonic()
            with pytest.raises(ConnectFailed):
                await Caller()(port_of(sock), tls=tls, timeout=0.2)
            with pytest.raises(TlsFailed):
                await Caller()(port_of(sock), tls=tls, limits=Limits(handshake=0.1))
            assert time.monotonic() - begun < 2
            for _ in range(2):  # nothing of them stays behind
                there, _ = await asyncio.to_thread(sock.accept)
                there.settimeout(5)
                with suppress(ConnectionResetError):
                    while there.recv(1000):
                        pass
                there.close()

    play(scenario)


@pytest.mark.parametrize("answer", [b"", b"220 hello\r\n", b"\x15\x03\x03\x00\x02\x02\x28"])
def test_a_server_that_does_not_speak_tls_fails(play: Scenario, answer: bytes) -> None:
    async def scenario() -> None:
        with listening() as sock:

            def serve() -> None:
                there, _ = sock.accept()
                with there:
                    there.recv(65536)
                    there.sendall(answer)

            serving = asyncio.create_task(asyncio.to_thread(serve))
            caller = Caller()
            with pytest.raises(ConnectionLost):
                await caller(port_of(sock), tls=ClientTls(believing(), HOST))
            await serving
            assert caller.talks == []

    play(scenario)


def test_who_is_cancelled_leaves_no_connection(play: Scenario) -> None:
    async def scenario() -> None:
        with listening() as sock:
            for tls in (None, ClientTls(believing(), HOST)):
                for turns in (1, 2, 3, 30):
                    caller = Caller()
                    task = asyncio.create_task(caller(port_of(sock), tls=tls))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    assert tls is None or not task.done()
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        (await task).connection.abort()

                    def see(sock: socket.socket = sock) -> None:
                        sock.settimeout(0.1)
                        try:
                            there, _ = sock.accept()
                        except TimeoutError:
                            return  # it had not gone out yet
                        with there, suppress(ConnectionResetError):
                            there.settimeout(5)
                            while there.recv(1000):
                                pass

                    await asyncio.to_thread(see)
                    assert all(talk.gone.is_set() for talk in caller.talks)

    play(scenario)


def test_a_stream_that_is_cut_short_is_told_from_one_that_ended(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(tls=certificates.context()) as there:
            talk = await Caller()(there.port, tls=ClientTls(believing(), HOST))
            await talk.line()
            there.sessions[0].connection._transport.close()  # type: ignore[union-attr]  # no notify
            await asyncio.wait_for(talk.gone.wait(), 5)
            assert isinstance(talk.error, TlsFailed)

    play(scenario)


# --- STARTTLS, as its client --------------------------------------------------------------


async def _asked(there: Door) -> Talk:
    """A connection whose server has just agreed to STARTTLS."""
    talk = await Caller()(there.port)
    assert await talk.line() == b"hello"
    talk.connection.write(b"STARTTLS\r\n")
    assert await talk.line() == b"go ahead"
    return talk


def test_starttls_goes_on_protected_and_paused(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(starttls=certificates.context()) as there:
            talk = await _asked(there)
            facts = await talk.connection.secure(believing(), HOST, leftover=False)
            assert (facts.version, facts.sni, len(facts.chain)) == ("TLSv1.3", HOST, 1)
            assert talk.connection.peer.tls == facts
            talk.connection.write(b"one\r\n")
            await asyncio.sleep(0.05)
            assert talk.got == b""
            talk.connection.resume()
            assert await talk.line() == b"one"
            with pytest.raises(Misuse):
                await talk.connection.secure(believing(), HOST, leftover=False)
            talk.connection.write(b"QUIT\r\n")
            assert await talk.line() == b"bye"
            assert there.sessions[0].connection.peer.tls is not None
            assert there.sessions[0].connection.peer.tls.sni == HOST

    play(scenario)


def test_a_certificate_is_refused_after_starttls_too(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(starttls=certificates.context()) as there:
            talk = await _asked(there)
            with pytest.raises(CertificateRefused):
                await talk.connection.secure(client_context(verify=True), HOST, leftover=False)
            await asyncio.wait_for(talk.gone.wait(), 5)
            assert isinstance(talk.error, CertificateRefused)
            with pytest.raises(CertificateRefused):
                await talk.connection.secure(believing(), HOST, leftover=False)

            talk = await _asked(there)
            with pytest.raises(TlsFailed):
                await talk.connection.secure(believing(), "a..example", leftover=False)
            await asyncio.wait_for(talk.gone.wait(), 5)

    play(scenario)


def _agreeing(sock: socket.socket, answer: bytes, more: bytes = b"") -> bytes:
    """A server that agrees to STARTTLS with `answer`, then says `more`; what comes after it."""
    there, _ = sock.accept()
    got = b""
    with there, suppress(ConnectionResetError, BrokenPipeError):
        there.settimeout(5)
        there.sendall(b"hello\r\n")
        assert read_line(there) == b"STARTTLS"
        there.sendall(answer)
        if more:
            time.sleep(0.1)
            there.sendall(more)
        while chunk := there.recv(65536):
            got += chunk
    return got


def _against(answer: bytes, more: bytes, check: Callable[[Talk], object]) -> Callable[[], object]:
    async def scenario() -> None:
        with listening() as sock:
            serving = asyncio.create_task(asyncio.to_thread(_agreeing, sock, answer, more))
            talk = await Caller()(port_of(sock))
            assert await talk.line() == b"hello"
            talk.connection.write(b"STARTTLS\r\n")
            assert await talk.line() == b"go ahead"
            result = check(talk)
            if asyncio.iscoroutine(result):
                await result
            await asyncio.wait_for(talk.gone.wait(), 5)
            await asyncio.wait_for(serving, 5)

    return scenario


def test_attack_02_replies_in_the_packet_of_the_agreement_are_not_believed(play: Scenario) -> None:
    """CVE-2021-38371: whoever sits on the way would answer our EHLO, and what comes after it."""

    async def check(talk: Talk) -> None:
        with pytest.raises(Malformed):
            await talk.connection.secure(believing(), HOST, leftover=bool(talk.got))
        assert talk.connection.is_closing

    play(_against(b"go ahead\r\n250 SIZE 1\r\n", b"", check))  # type: ignore[arg-type]  # async


def test_attack_02_replies_that_meet_a_paused_owner_are_not_believed(play: Scenario) -> None:
    """They came in before the handshake began, or lie in the kernel's buffer: either way."""

    async def check(talk: Talk) -> None:
        talk.connection.pause()
        await asyncio.sleep(0.2)
        with pytest.raises((Malformed, TlsFailed)):
            await talk.connection.secure(believing(), HOST, leftover=False)
        assert talk.got == b""

    play(_against(b"go ahead\r\n", b"250 SIZE 1\r\n", check))  # type: ignore[arg-type]  # async


def test_attack_02_replies_during_the_handshake_are_not_believed(play: Scenario) -> None:
    async def check(talk: Talk) -> None:
        with pytest.raises(TlsFailed):
            await talk.connection.secure(believing(), HOST, leftover=False)
        assert talk.got == b""

    play(_against(b"go ahead\r\n", b"250 SIZE 1\r\n", check))  # type: ignore[arg-type]  # async


def test_attack_02_plaintext_glued_behind_the_handshake_is_not_believed(
    play: Scenario, certificates: CertificateStore
) -> None:
    """Behind the server's last flight, where an engine might hand it over undecrypted."""

    async def scenario() -> None:
        with listening() as sock:

            def serve() -> None:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                side = certificates.context().wrap_bio(incoming, outgoing, server_side=True)
                there, _ = sock.accept()
                with there, suppress(OSError):
                    there.settimeout(5)
                    there.sendall(b"hello\r\n")
                    assert read_line(there) == b"STARTTLS"
                    there.sendall(b"go ahead\r\n")
                    incoming.write(there.recv(65536))
                    with suppress(ssl.SSLWantReadError):
                        side.do_handshake()
                    there.sendall(outgoing.read() + b"250 SIZE 1\r\n")
                    while there.recv(65536):
                        pass

            serving = asyncio.create_task(asyncio.to_thread(serve))
            talk = await Caller()(port_of(sock))
            await talk.line()
            talk.connection.write(b"STARTTLS\r\n")
            await talk.line()
            with suppress(TlsFailed):
                await talk.connection.secure(believing(), HOST, leftover=False)
                talk.connection.resume()
            await asyncio.wait_for(talk.gone.wait(), 5)
            await serving
            assert talk.got == b""
            assert isinstance(talk.error, TlsFailed)

    play(scenario)


def test_a_server_that_leaves_after_it_agreed_is_lost(play: Scenario) -> None:
    async def scenario() -> None:
        with listening() as sock:

            def serve() -> None:
                there, _ = sock.accept()
                with there:
                    there.sendall(b"hello\r\n")
                    read_line(there)
                    there.sendall(b"go ahead\r\n")
                    there.recv(65536)

            serving = asyncio.create_task(asyncio.to_thread(serve))
            talk = await Caller()(port_of(sock))
            await talk.line()
            talk.connection.write(b"STARTTLS\r\n")
            await talk.line()
            with pytest.raises(ConnectionLost):
                await talk.connection.secure(believing(), HOST, leftover=False)
            await serving
            with pytest.raises(ConnectionLost):
                await talk.connection.secured()

    play(scenario)
