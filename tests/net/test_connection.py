from __future__ import annotations

import asyncio
import socket
import ssl
import time
import timeit
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import pytest

from postroom.core.errors import ConnectionLost, Malformed, TlsFailed
from postroom.net.accept import Strangers
from postroom.net.certificates import CertificateStore
from postroom.net.connection import Limits
from postroom.net.tls import TlsFacts

from .lines import TICK, Door, LineSession, Scenario, door, read_line, trusting_client

# --- plain --------------------------------------------------------------------------------


def test_lines_come_back_and_the_last_reply_arrives(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:

            def client() -> None:
                with there.connect() as sock:
                    assert read_line(sock) == b"hello"
                    sock.sendall(b"one\r\ntwo\r\nQUIT\r\nthree\r\n")
                    assert [read_line(sock) for _ in range(3)] == [b"one", b"two", b"bye"]
                    assert sock.recv(10) == b""

            await asyncio.to_thread(client)
            session = await there.session()
            await asyncio.wait_for(session.gone.wait(), 5)
            assert session.lines == [b"one", b"two", b"QUIT"]
            assert session.events == ["connected", "lost"]
            assert session.error is None
            assert not there.acceptor.connections

    play(scenario)


def test_the_peer_is_described(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:
            with there.connect() as sock:
                session = await there.session()
                assert (str(session.peer.ip), session.peer.port) == sock.getsockname()
                assert (str(session.peer.local_ip), session.peer.local_port) == sock.getpeername()
                assert session.peer.listener == "line"
                assert session.peer.tls is None

    play(scenario)


def test_a_half_closed_peer_gets_its_answer(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:

            def client() -> None:
                with there.connect() as sock:
                    sock.sendall(b"one\r\n")
                    sock.shutdown(socket.SHUT_WR)
                    assert [read_line(sock) for _ in range(2)] == [b"hello", b"one"]
                    assert sock.recv(10) == b""

            await asyncio.to_thread(client)
            session = await there.session()
            await asyncio.wait_for(session.gone.wait(), 5)
            assert session.events == ["connected", "eof", "lost"]

    play(scenario)


def test_a_refused_talker_reads_the_refusal_not_a_reset(play: Scenario) -> None:
    """Closing with unread bytes in the socket would reset it and may void the reply."""

    async def scenario() -> None:
        async with door() as there:

            def client() -> bytes:
                with there.connect() as sock:
                    assert read_line(sock) == b"hello"
                    sock.sendall(b"QUIT\r\n")
                    for _ in range(50):
                        sock.sendall(b"and another thing\r\n" * 100)
                        time.sleep(0.001)
                    return read_line(sock)

            assert await asyncio.to_thread(client) == b"bye"

    play(scenario)


def test_a_peer_that_lingers_for_ever_is_cut_off(play: Scenario) -> None:
    async def scenario() -> None:
        async with door(limits=Limits(linger=0.1)) as there:
            with there.connect() as sock:
                sock.sendall(b"QUIT\r\n")
                session = await there.session()
                await asyncio.wait_for(session.gone.wait(), 5)
                assert session.error is None

    play(scenario)


def test_a_paused_owner_gets_no_bytes_until_it_resumes(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:
            with there.connect() as sock:
                sock.sendall(b"HOLD\r\n")
                session = await there.session()
                while session.lines != [b"HOLD"]:
                    await asyncio.sleep(0.005)
                sock.sendall(b"one\r\n")
                sock.shutdown(socket.SHUT_WR)
                await asyncio.sleep(0.05)
                assert session.lines == [b"HOLD"]
                assert session.events == ["connected"]
                session.connection.resume()
                await asyncio.wait_for(session.gone.wait(), 5)
                assert session.lines == [b"HOLD", b"one"]
                assert session.events == ["connected", "eof", "lost"]

    play(scenario)


def test_no_session_is_given_more_than_16_kib_at_once(
    play: Scenario, certificates: CertificateStore
) -> None:
    """Or a peer could make us hold more than its budget before anybody can object."""

    async def scenario() -> None:
        for tls in (None, certificates.context()):
            sizes: list[int] = []

            def watched(session: LineSession, sizes: list[int] = sizes) -> None:
                on_bytes = session.on_bytes

                def measured(data: bytes) -> None:
                    sizes.append(len(data))
                    on_bytes(data)

                session.on_bytes = measured  # type: ignore[method-assign]  # it watches itself

            async with door(tls=tls, prepare=watched) as there:

                def client(secret: bool = tls is not None, there: Door = there) -> None:
                    sock = there.connect()
                    if secret:
                        sock = trusting_client().wrap_socket(sock)
                    with sock:
                        assert read_line(sock) == b"hello"
                        sock.sendall(b"QUIT" + b"x" * (2 << 20) + b"\r\nQUIT\r\n")
                        while sock.recv(65536):
                            pass

                await asyncio.to_thread(client)
            assert sum(sizes) >= 2 << 20
            assert max(sizes) <= 16 * 1024

    play(scenario)


def test_after_a_pause_nothing_more_is_read(play: Scenario) -> None:
    async def scenario() -> None:
        def hasty(session: LineSession) -> None:
            def paused(data: bytes) -> None:
                session.buffer += data
                session.connection.pause()

            session.on_bytes = paused  # type: ignore[method-assign]  # it pauses at once

        async with door(prepare=hasty) as there:
            with there.connect() as sock:
                session = await there.session()
                await asyncio.to_thread(sock.sendall, b"x" * 200_000)
                await asyncio.sleep(0.1)
                assert 0 < len(session.buffer) <= 16 * 1024
                while len(session.buffer) < 200_000:
                    before = len(session.buffer)
                    session.connection.resume()
                    await asyncio.sleep(0.01)
                    assert len(session.buffer) - before <= 16 * 1024

    play(scenario)


def test_two_connections_that_talk_at_once_are_not_mixed(play: Scenario) -> None:
    """They read into the same memory, one after the other."""

    async def scenario() -> None:
        async with door() as there:

            def client(letter: bytes) -> None:
                with there.connect() as sock:
                    assert read_line(sock) == b"hello"
                    for n in range(50):
                        line = letter * (n * 997 % 30_000 + 1)
                        sock.sendall(line + b"\r\n")
                        got = b""
                        while not got.endswith(b"\r\n"):
                            got += sock.recv(65536)
                        assert got == line + b"\r\n"

            await asyncio.gather(*(asyncio.to_thread(client, each) for each in (b"a", b"b", b"c")))

    play(scenario)


# --- slow readers -------------------------------------------------------------------------


def test_drain_waits_for_the_peer_and_raises_when_it_leaves(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:
            with there.connect() as sock:
                session = await there.session()
                connection = session.connection
                await connection.drain()  # nothing is in the way
                written = 0

                async def produce() -> None:
                    nonlocal written
                    while True:
                        connection.write(b"x" * 16384)
                        written += 16384
                        await connection.drain()

                task = asyncio.create_task(produce())
                await asyncio.sleep(0.2)
                stuck_at = written
                await asyncio.sleep(0.1)
                assert written == stuck_at
                await asyncio.to_thread(_take, sock, stuck_at // 2)
                await asyncio.sleep(0.1)
                assert written > stuck_at
            with pytest.raises(ConnectionLost):
                await asyncio.wait_for(task, 5)
            with pytest.raises(ConnectionLost):
                await connection.drain()

    play(scenario)


def _take(sock: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(sock.recv(65536))


def test_a_slow_reader_is_not_read_and_is_cut_off_when_it_takes_nothing(play: Scenario) -> None:
    async def scenario() -> None:
        async with door(limits=Limits(stall=0.3)) as there:
            with there.connect() as sock:
                sock.setblocking(False)
                sock.sendall(b"BULK\r\n")
                session = await there.session()
                while not session.lines:
                    await asyncio.sleep(0.005)
                # Each command would add to what waits for a peer that takes nothing.
                begun = time.monotonic()
                sock.sendall(b"more\r\n")
                await asyncio.sleep(0.1)
                assert session.lines == [b"BULK"]
                await asyncio.wait_for(session.gone.wait(), 5)
                assert 0.15 < time.monotonic() - begun < 2
                assert isinstance(session.error, ConnectionLost)

    play(scenario)


def test_a_reader_that_is_only_slow_is_served_to_the_end(play: Scenario) -> None:
    async def scenario() -> None:
        async with door(limits=Limits(stall=0.3)) as there:

            def client() -> None:
                with there.connect() as sock:
                    sock.sendall(b"BULK\r\nQUIT\r\n")
                    wanted = len(b"hello\r\n") + (4 << 20) + len(b"bye\r\n")
                    begun = time.monotonic()
                    while wanted > 0:
                        wanted -= len(sock.recv(65536))
                        if time.monotonic() - begun < 0.9:  # three stalls long
                            time.sleep(0.02)
                    assert sock.recv(10) == b""

            await asyncio.to_thread(client)

    play(scenario)


def test_closing_does_not_wait_for_ever_for_a_peer_that_takes_nothing(play: Scenario) -> None:
    async def scenario() -> None:
        limits = Limits(stall=0.2, linger=0.1, high_water=16 << 20, low_water=0)
        async with door(limits=limits) as there:
            with there.connect() as sock:
                sock.sendall(b"BULK\r\nQUIT\r\n")
                session = await there.session()
                await asyncio.wait_for(session.gone.wait(), 5)
                assert isinstance(session.error, ConnectionLost)

    play(scenario)


# --- time ---------------------------------------------------------------------------------


def test_an_idle_session_is_told_and_an_active_one_is_not(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:
            with there.connect() as sock:
                session = await there.session()
                connection = session.connection
                begun = time.monotonic()
                for _ in range(10):
                    connection.set_timeout(0.1)
                    await asyncio.sleep(0.03)
                assert "timeout" not in session.events
                await asyncio.sleep(0.1 + 4 * TICK)
                assert session.events.count("timeout") == 1
                assert time.monotonic() - begun > 0.37
                assert read_line(sock) == b"hello"
                assert read_line(sock) == b"too slow"

    play(scenario)


def test_a_timeout_can_be_shortened_and_taken_back(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:
            with there.connect():
                session = await there.session()
                session.connection.set_timeout(0.1)
                session.connection.set_timeout(None)
                await asyncio.sleep(0.2)
                assert "timeout" not in session.events
                session.connection.set_timeout(60)
                session.connection.set_timeout(0.05)
                await asyncio.sleep(0.05 + 4 * TICK)
                assert "timeout" in session.events

    play(scenario)


async def test_setting_a_timeout_costs_next_to_nothing() -> None:
    async with door() as there:
        with there.connect():
            session = await there.session()
            session.connection.set_timeout(60)
            best = min(
                timeit.repeat(lambda: session.connection.set_timeout(60), number=2000, repeat=5)
            )
            # Under 1 µs when measured alone; a busy machine gets room.
            assert best / 2000 < 5e-6


# --- TLS ----------------------------------------------------------------------------------


def test_implicit_tls_shows_the_session_only_what_is_protected(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(tls=certificates.context(("line",))) as there:

            def client() -> None:
                client_context = trusting_client(["line", "other"])
                with client_context.wrap_socket(
                    there.connect(), server_hostname="mail.example.test"
                ) as sock:
                    assert read_line(sock) == b"hello"
                    assert sock.selected_alpn_protocol() == "line"
                    sock.sendall(b"one\r\nQUIT\r\n")
                    assert [read_line(sock), read_line(sock)] == [b"one", b"bye"]
                    assert sock.recv(10) == b""  # close_notify, or this would raise

            await asyncio.to_thread(client)
            session = await there.session()
            facts = session.peer.tls
            assert isinstance(facts, TlsFacts)
            assert facts.version == "TLSv1.3"
            assert facts.sni == "mail.example.test"
            assert facts.certificate == "self-signed"
            assert facts.alpn == "line"
            assert facts.bits >= 128
            assert facts.endpoint == certificates.choose(None).endpoint

    play(scenario)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bulk_passes_both_ways_unchanged(
    play: Scenario, certificates: CertificateStore, version: ssl.TLSVersion
) -> None:
    async def scenario() -> None:
        async with door(tls=certificates.context()) as there:

            def client() -> None:
                context = trusting_client(maximum=version)
                with context.wrap_socket(there.connect()) as sock:
                    assert read_line(sock) == b"hello"
                    line = bytes(range(32, 127)) * 5000
                    sock.sendall(line + b"\r\nBULK\r\nQUIT\r\n")
                    got = bytearray()
                    while chunk := sock.recv(1 << 20):
                        got += chunk
                    assert bytes(got) == line + b"\r\n" + b"x" * (4 << 20) + b"bye\r\n"

            await asyncio.to_thread(client)

    play(scenario)


def test_a_paused_owner_gets_no_decrypted_bytes_either(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(tls=certificates.context()) as there:

            def connect() -> ssl.SSLSocket:
                sock = trusting_client().wrap_socket(there.connect())
                sock.sendall(b"HOLD\r\n")
                sock.sendall(b"one\r\n")
                return sock

            sock = await asyncio.to_thread(connect)
            with sock:
                session = await there.session()
                await asyncio.sleep(0.1)
                assert session.lines == [b"HOLD"]
                session.connection.resume()
                async with asyncio.timeout(5):
                    while session.lines != [b"HOLD", b"one"]:
                        await asyncio.sleep(0.005)

    play(scenario)


def test_a_silent_handshake_ends_without_a_session(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(tls=certificates.context(), limits=Limits(handshake=0.1)) as there:

            def client() -> bytes:
                with there.connect() as sock:
                    return sock.recv(100)

            assert await asyncio.to_thread(client) == b""
            assert there.sessions == []
            assert not there.acceptor.connections

    play(scenario)


def test_plaintext_to_implicit_tls_ends_without_a_session(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(tls=certificates.context()) as there:

            def client() -> bytes:
                with there.connect() as sock:
                    sock.sendall(b"EHLO me\r\n")
                    return sock.recv(100)

            assert b"hello" not in await asyncio.to_thread(client)
            assert there.sessions == []

    play(scenario)


def test_a_stream_cut_short_is_told_from_one_that_ended(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(tls=certificates.context()) as there:

            def client(announce: bool) -> None:
                sock = trusting_client().wrap_socket(there.connect())
                read_line(sock)
                if announce:
                    sock.unwrap().close()
                else:
                    sock.close()

            await asyncio.to_thread(client, False)
            await asyncio.to_thread(client, True)
            cut, ended = await there.session(0), await there.session(1)
            await asyncio.wait_for(cut.gone.wait(), 5)
            await asyncio.wait_for(ended.gone.wait(), 5)
            assert isinstance(cut.error, TlsFailed)
            assert (ended.error, ended.events) == (None, ["connected", "eof", "lost"])

    play(scenario)


# --- STARTTLS -----------------------------------------------------------------------------


def _upgrade(there: Door) -> ssl.SSLSocket:
    sock = there.connect()
    assert read_line(sock) == b"hello"
    sock.sendall(b"STARTTLS\r\n")
    assert read_line(sock) == b"go ahead"
    return trusting_client().wrap_socket(sock, server_hostname="mail.example.test")


def test_starttls_goes_on_protected_and_knows_nothing_of_before(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(starttls=certificates.context()) as there:

            def client() -> None:
                with _upgrade(there) as sock:
                    sock.sendall(b"one\r\nQUIT\r\n")
                    assert [read_line(sock), read_line(sock)] == [b"one", b"bye"]
                    assert sock.recv(10) == b""

            await asyncio.to_thread(client)
            session = await there.session()
            assert session.lines == [b"one", b"QUIT"]
            assert session.connection.peer.tls is not None
            assert session.connection.peer.tls.sni == "mail.example.test"

    play(scenario)


def test_attack_02_commands_in_the_packet_of_starttls_end_the_session(
    play: Scenario, certificates: CertificateStore
) -> None:
    """CVE-2011-0411: they would run after the handshake as if they had been protected."""

    async def scenario() -> None:
        async with door(starttls=certificates.context()) as there:

            def client() -> list[bytes]:
                with there.connect() as sock:
                    sock.sendall(b"STARTTLS\r\nINJECTED\r\n")
                    return [read_line(sock) for _ in range(3)]

            assert await asyncio.to_thread(client) == [b"hello", b"refused", b""]
            session = await there.session()
            assert session.lines == [b"STARTTLS"]
            assert isinstance(session.failure, Malformed)

    play(scenario)


def test_attack_02_commands_after_starttls_but_before_its_answer_end_the_session(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        def slow(session: LineSession) -> None:
            session.before_upgrade = 0.2

        async with door(starttls=certificates.context(), prepare=slow) as there:

            def client() -> list[bytes]:
                with there.connect() as sock:
                    sock.sendall(b"STARTTLS\r\n")
                    time.sleep(0.05)
                    sock.sendall(b"INJECTED\r\n")
                    return [read_line(sock) for _ in range(3)]

            assert await asyncio.to_thread(client) == [b"hello", b"refused", b""]
            session = await there.session()
            assert session.lines == [b"STARTTLS"]
            assert isinstance(session.failure, Malformed)

    play(scenario)


def test_attack_02_commands_that_meet_a_paused_owner_end_the_session(
    play: Scenario, certificates: CertificateStore
) -> None:
    """They lie in the kernel's buffer when the upgrade begins: only TLS ever sees them."""

    async def scenario() -> None:
        async with door(starttls=certificates.context()) as there:

            def begin() -> socket.socket:
                sock = there.connect()
                sock.sendall(b"HOLD\r\n")
                return sock

            sock = await asyncio.to_thread(begin)
            session = await there.session()
            while session.lines != [b"HOLD"]:
                await asyncio.sleep(0.005)
            sock.sendall(b"INJECTED\r\n")
            await asyncio.sleep(0.05)
            with sock, pytest.raises((Malformed, TlsFailed)):
                await session.connection.start_tls(
                    certificates.context(), b"go ahead\r\n", leftover=False
                )
            await asyncio.wait_for(session.gone.wait(), 5)
            assert session.lines == [b"HOLD"]

    play(scenario)


def test_attack_02_plaintext_after_the_answer_is_never_a_command(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(starttls=certificates.context()) as there:

            def client() -> bytes:
                with there.connect() as sock:
                    assert read_line(sock) == b"hello"
                    sock.sendall(b"STARTTLS\r\n")
                    assert read_line(sock) == b"go ahead"
                    sock.sendall(b"INJECTED\r\n")
                    rest = b""
                    while chunk := sock.recv(100):
                        rest += chunk
                    return rest

            assert b"INJECTED" not in await asyncio.to_thread(client)
            session = await there.session()
            await asyncio.wait_for(session.gone.wait(), 5)
            assert session.lines == [b"STARTTLS"]
            assert isinstance(session.failure, TlsFailed)

    play(scenario)


def test_attack_02_plaintext_glued_behind_the_handshake_is_never_a_command(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(starttls=certificates.context()) as there:

            def client() -> None:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                side = trusting_client().wrap_bio(incoming, outgoing)
                with there.connect() as sock:
                    assert read_line(sock) == b"hello"
                    sock.sendall(b"STARTTLS\r\n")
                    assert read_line(sock) == b"go ahead"
                    while True:
                        try:
                            side.do_handshake()
                            break
                        except ssl.SSLWantReadError:
                            sock.sendall(outgoing.read())
                            incoming.write(sock.recv(65536))
                    sock.sendall(outgoing.read() + b"INJECTED\r\n")
                    while sock.recv(100):
                        pass

            await asyncio.to_thread(client)
            session = await there.session()
            await asyncio.wait_for(session.gone.wait(), 5)
            assert b"INJECTED" not in session.lines
            assert isinstance(session.error, TlsFailed)

    play(scenario)


def test_what_is_written_during_the_handshake_goes_out_protected(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(starttls=certificates.context()) as there:

            def begin() -> socket.socket:
                sock = there.connect()
                read_line(sock)
                sock.sendall(b"STARTTLS\r\n")
                assert read_line(sock) == b"go ahead"
                return sock

            sock = await asyncio.to_thread(begin)
            session = await there.session()
            session.connection.write(b"early\r\n")

            def finish() -> None:
                with trusting_client().wrap_socket(sock) as protected:
                    assert read_line(protected) == b"early"

            await asyncio.to_thread(finish)

    play(scenario)


def test_a_peer_that_leaves_during_starttls_is_lost(
    play: Scenario, certificates: CertificateStore
) -> None:
    async def scenario() -> None:
        async with door(starttls=certificates.context()) as there:

            def client() -> None:
                with there.connect() as sock:
                    read_line(sock)
                    sock.sendall(b"STARTTLS\r\n")
                    read_line(sock)

            await asyncio.to_thread(client)
            session = await there.session()
            await asyncio.wait_for(session.gone.wait(), 5)
            assert session.upgrading is not None
            await session.upgrading
            assert isinstance(session.failure, ConnectionLost)

    play(scenario)


# --- accepting ----------------------------------------------------------------------------


@pytest.fixture
async def narrow() -> AsyncIterator[Door]:
    async with door(strangers=Strangers(2)) as there:
        yield there


def _greeting(there: Door) -> tuple[socket.socket, bytes]:
    sock = there.connect()
    return sock, read_line(sock)


async def test_strangers_of_one_address_are_capped_and_signing_in_frees_the_place(
    narrow: Door,
) -> None:
    socks = []
    for expected in (b"hello", b"hello", b"busy"):
        sock, line = await asyncio.to_thread(_greeting, narrow)
        socks.append(sock)
        assert line == expected
    session = await narrow.session(0)
    session.connection.signed_in()
    session.connection.signed_in()  # counts once
    for expected in (b"hello", b"busy"):
        sock, line = await asyncio.to_thread(_greeting, narrow)
        socks.append(sock)
        assert line == expected
    socks[1].close()
    await asyncio.wait_for((await narrow.session(1)).gone.wait(), 5)
    sock, line = await asyncio.to_thread(_greeting, narrow)
    socks.append(sock)
    assert line == b"hello"
    for sock in socks:
        sock.close()


async def test_a_full_listener_says_so() -> None:
    async with door(cap=1) as there:
        first, line = await asyncio.to_thread(_greeting, there)
        assert line == b"hello"
        second, line = await asyncio.to_thread(_greeting, there)
        assert line == b"busy"
        first.close()
        second.close()


@pytest.mark.parametrize(("verdict", "said"), [(True, b"hello"), (False, b""), (b"no\r\n", b"no")])
async def test_the_connect_rule_decides(verdict: bool | bytes, said: bytes) -> None:
    async with door(admit=lambda peer: verdict) as there:
        sock, line = await asyncio.to_thread(_greeting, there)
        sock.close()
        assert line == said


async def test_a_refusal_says_nothing_in_the_clear_where_tls_comes_first(
    certificates: CertificateStore,
) -> None:
    async with door(admit=lambda peer: b"no\r\n", tls=certificates.context()) as there:
        sock, line = await asyncio.to_thread(_greeting, there)
        sock.close()
        assert line == b""


async def test_without_descriptors_accepting_rests_and_then_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("postroom.net.accept.PAUSE", 0.2)
    async with door() as there:
        accept = socket.socket.accept
        attempts = 0

        def exhausted(self: socket.socket) -> tuple[socket.socket, Any]:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise OSError(24, "Too many open files")
            return accept(self)

        monkeypatch.setattr(socket.socket, "accept", exhausted)
        begun = time.monotonic()
        sock, line = await asyncio.to_thread(_greeting, there)
        sock.close()
        assert line == b"hello"
        assert time.monotonic() - begun >= 0.2
        assert attempts <= 4


async def test_shutdown_asks_sessions_drops_handshakes_and_refuses_newcomers(
    certificates: CertificateStore,
) -> None:
    async with door() as there, door(tls=certificates.context()) as secret:
        sock, _ = await asyncio.to_thread(_greeting, there)
        half = secret.connect()
        while not secret.acceptor.connections:
            await asyncio.sleep(0.005)
        closing = asyncio.create_task(there.acceptor.shutdown())
        await asyncio.wait_for(secret.acceptor.shutdown(), 5)

        def rest() -> list[bytes]:
            with sock:
                return [read_line(sock), read_line(sock)]

        assert await asyncio.to_thread(rest) == [b"closing", b""]
        await asyncio.wait_for(closing, 5)
        assert there.sessions[0].events == ["connected", "shutdown", "lost"]
        with pytest.raises(ConnectionRefusedError):
            there.connect()
        half.close()


def test_an_ipv6_neighbourhood_is_one_address() -> None:
    strangers = Strangers(1)
    leave = strangers.enter(ip_address("2001:db8::1"))
    assert leave is not None
    assert strangers.enter(ip_address("2001:db8::ffff")) is None
    assert strangers.enter(ip_address("2001:db8:0:1::1")) is not None
    leave()
    assert strangers.enter(ip_address("2001:db8::2")) is not None
