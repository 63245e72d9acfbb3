"""Attack 30: who says where a connection comes from, and who is believed."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from ipaddress import ip_address

import pytest

from postroom.net.accept import Strangers
from postroom.net.certificates import CertificateStore
from postroom.net.connection import Peer
from postroom.net.proxy import parse_networks

from .lines import Door, Scenario, door, read_line, trusting_client

PROXIES = parse_networks("127.0.0.9, ::1")
PROXY = "127.0.0.9"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 25\r\n"
V2 = SIGNATURE + struct.pack(
    "!BBH4s4sHH", 0x21, 0x11, 12, b"\xc0\x00\x02\x01", b"\xc6\x33\x64\x02", 4711, 25
)
V2_SIX = SIGNATURE + struct.pack(
    "!BBH16s16sHH",
    *(0x21, 0x21, 36),
    *(ip_address("2001:db8::1").packed, ip_address("2001:db8::2").packed),
    *(4711, 25),
)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


def talk(there: Door, *parts: bytes, source: str = PROXY, pause: float = 0) -> list[bytes]:
    """Say the parts, then QUIT; all lines that come back until the end."""
    with there.connect(source) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                sock.sendall(part)
                if pause:
                    time.sleep(pause)
            sock.sendall(b"QUIT\r\n")
        except OSError:
            pass  # cut off: what came back before it is the answer
        return said(sock)


def said(sock: socket.socket) -> list[bytes]:
    got = b""
    try:
        while chunk := sock.recv(65536):
            got += chunk
    except ConnectionResetError:
        pass
    return got.split(b"\r\n")[:-1]


def ends(peer: Peer) -> tuple[str, int, str, int, str]:
    """Who the session was told that it speaks with."""
    return str(peer.ip), peer.port, str(peer.local_ip), peer.local_port, str(peer.via)


# --- from a declared proxy ----------------------------------------------------------------


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_attack_30_a_declared_proxy_is_believed_about_its_client(
    play: Scenario, header: bytes
) -> None:
    """The header may come with the first command, alone, or octet by octet."""

    async def scenario() -> None:
        async with door(proxy_from=PROXIES) as there:
            assert await asyncio.to_thread(talk, there, header + b"one\r\n") == [
                *(b"hello", b"one", b"bye")
            ]
            assert await asyncio.to_thread(talk, there, header, pause=0.05) == [b"hello", b"bye"]
            octets = [header[n : n + 1] for n in range(len(header))]
            answer = await asyncio.to_thread(talk, there, *octets, b"two\r\n", pause=0.002)
            assert answer == [b"hello", b"two", b"bye"]
            for session in there.sessions:
                assert ends(session.peer) == ("192.0.2.1", 4711, "198.51.100.2", 25, PROXY)
                assert session.peer.listener == "line"
            assert there.acceptor.bad_headers == 0

    play(scenario)


def test_attack_30_the_greeting_waits_for_the_header(play: Scenario) -> None:
    async def scenario() -> None:
        async with door(proxy_from=PROXIES) as there:
            with there.connect(PROXY) as sock:
                sock.sendall(V2[:20])
                await asyncio.sleep(0.1)
                assert there.sessions == []
                sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    sock.recv(1)
                sock.sendall(V2[20:])
                await there.session()

    play(scenario)


def test_attack_30_an_ipv6_client_behind_an_ipv4_proxy(play: Scenario) -> None:
    async def scenario() -> None:
        async with door(proxy_from=PROXIES) as there:
            assert await asyncio.to_thread(talk, there, V2_SIX) == [b"hello", b"bye"]
            assert ends(there.sessions[0].peer) == (
                *("2001:db8::1", 4711, "2001:db8::2", 25),
                PROXY,
            )

    play(scenario)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_attack_30_tls_follows_the_header(
    play: Scenario, certificates: CertificateStore, header: bytes
) -> None:
    """Not an octet of the ClientHello may be lost, and none of the header may reach TLS."""

    async def scenario() -> None:
        async with door(proxy_from=PROXIES, tls=certificates.context()) as there:

            def glued() -> list[bytes]:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                client = trusting_client().wrap_bio(
                    incoming, outgoing, server_hostname="mail.example.test"
                )
                with there.connect(PROXY) as sock:
                    first = header
                    while True:
                        try:
                            client.do_handshake()
                            break
                        except ssl.SSLWantReadError:
                            sock.sendall(first + outgoing.read())  # in one segment
                            first = b""
                            incoming.write(sock.recv(65536))
                    client.write(b"QUIT\r\n")
                    sock.sendall(outgoing.read())
                    got = b""
                    while not got.endswith(b"bye\r\n"):
                        incoming.write(sock.recv(65536))
                        try:
                            got += client.read(65536)
                        except ssl.SSLWantReadError:
                            continue
                return got.split(b"\r\n")[:-1]

            answer = await asyncio.to_thread(glued)
            assert answer[0] == b"hello"
            assert answer[-1] == b"bye"
            peer = there.sessions[0].connection.peer
            assert ends(peer) == ("192.0.2.1", 4711, "198.51.100.2", 25, PROXY)
            assert peer.tls is not None
            assert peer.tls.sni == "mail.example.test"

    play(scenario)


def test_attack_30_a_proxy_that_speaks_for_itself_stays_who_it_is(play: Scenario) -> None:
    async def scenario() -> None:
        async with door(proxy_from=PROXIES) as there:
            padded = SIGNATURE + struct.pack("!BBH", 0x20, 0x11, 300) + V2.ljust(300, b"x")
            for n, header in enumerate((LOCAL, padded, b"PROXY UNKNOWN 192.0.2.1\r\n")):
                assert await asyncio.to_thread(talk, there, header) == [b"hello", b"bye"]
                peer = there.sessions[n].peer
                assert (str(peer.ip), peer.local_port, peer.via) == (PROXY, there.port, None)

    play(scenario)


# --- headers that are none ----------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO me\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 70000\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 25\n",
        b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 25" + b" " * 10_000,
        SIGNATURE + b"\x21\x11\x00\x0b" + V2[16:],  # shorter than its addresses
        SIGNATURE + b"\x21\x11\xff\xff" + V2[16:],  # longer than any may be
        SIGNATURE + b"\x21\x11\x00\x12" + V2[16:],  # the next six octets are no extension
        SIGNATURE + b"\x21\x11\x00\x13" + V2[16:] + b"\x03\x00\x04abcd",  # a false checksum
        SIGNATURE + b"\x11\x11\x00\x0c" + V2[16:],
        SIGNATURE + b"\x22\x11\x00\x0c" + V2[16:],
    ],
)
def test_attack_30_a_bad_header_of_a_declared_proxy_ends_without_an_answer(
    play: Scenario, header: bytes
) -> None:
    async def scenario() -> None:
        async with door(proxy_from=PROXIES) as there:
            assert await asyncio.to_thread(talk, there, header, pause=0.05) == []
            assert there.sessions == []
            assert there.acceptor.bad_headers == 1
            assert await asyncio.to_thread(talk, there, V1) == [b"hello", b"bye"]

    play(scenario)


def test_attack_30_a_length_that_lies_is_waited_for_no_longer_than_any(
    play: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.net.accept.HEADER", 0.3)
    waiting = SIGNATURE + b"\x21\x11\x10\x00" + V2[16:]

    async def scenario() -> None:
        async with door(proxy_from=PROXIES) as there:
            begun = time.monotonic()
            assert await asyncio.to_thread(talk, there, waiting) == []
            assert 0.25 < time.monotonic() - begun < 2
            assert there.sessions == []
            assert there.acceptor.bad_headers == 1

    play(scenario)


def test_attack_30_a_header_that_drips_gains_no_time(
    play: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slowloris: as many as may wait do; nobody else waits for them, and all are let go."""
    monkeypatch.setattr("postroom.net.accept.HEADER", 0.4)
    strangers = Strangers(unheard_cap=20)

    async def scenario() -> None:
        async with door(proxy_from=PROXIES, strangers=strangers) as there:
            slow = [there.connect(PROXY) for _ in range(25)]
            begun = time.monotonic()

            def drip() -> None:
                ended: set[int] = set()
                while len(ended) < len(slow):
                    for n, sock in enumerate(slow):
                        try:
                            sock.send(b" " if time.monotonic() - begun > 0.1 else b"PROXY UNKNOWN")
                            if sock.recv(10, socket.MSG_DONTWAIT) == b"":
                                ended.add(n)
                        except BlockingIOError:
                            pass
                        except OSError:
                            ended.add(n)
                    time.sleep(0.05)

            dripping = asyncio.create_task(asyncio.to_thread(drip))
            while strangers.unheard < 20:
                await asyncio.sleep(0.005)
            answer = await asyncio.to_thread(talk, there, b"one\r\n", source="127.0.0.1")
            assert answer == [b"hello", b"one", b"bye"]
            assert time.monotonic() - begun < 0.4  # while they all waited
            await asyncio.wait_for(dripping, 5)
            assert 0.35 < time.monotonic() - begun < 2
            assert strangers.unheard == 0
            assert len(there.sessions) == 1
            for sock in slow:
                sock.close()
            assert await asyncio.to_thread(talk, there, V2) == [b"hello", b"bye"]

    play(scenario)


def test_attack_30_beyond_the_cap_a_waiting_proxy_is_told_to_come_back(play: Scenario) -> None:
    strangers = Strangers(unheard_cap=2)

    async def scenario() -> None:
        async with door(proxy_from=PROXIES, strangers=strangers) as there:
            silent = [there.connect(PROXY) for _ in range(2)]
            while strangers.unheard < 2:
                await asyncio.sleep(0.005)
            with there.connect(PROXY) as sock:
                assert await asyncio.to_thread(read_line, sock) == b"busy"
            silent.pop().close()
            while strangers.unheard > 1:
                await asyncio.sleep(0.005)
            assert await asyncio.to_thread(talk, there, V1) == [b"hello", b"bye"]
            # A look whether the port is open is no fault of anybody.
            assert there.acceptor.bad_headers == 0
            silent.pop().close()

    play(scenario)


def test_attack_30_a_proxy_that_leaves_inside_its_header_is_forgotten(play: Scenario) -> None:
    strangers = Strangers()

    async def scenario() -> None:
        async with door(proxy_from=PROXIES, strangers=strangers) as there:
            for part in (V1[:10], V2[:14], V2[:20]):
                with there.connect(PROXY) as sock:
                    sock.sendall(part)
                    while strangers.unheard == 0:
                        await asyncio.sleep(0.005)
                while strangers.unheard:
                    await asyncio.sleep(0.005)
            assert there.acceptor.bad_headers == 3
            assert there.sessions == []

    play(scenario)


def test_attack_30_who_has_not_been_announced_is_not_waited_for_at_the_end(
    play: Scenario,
) -> None:
    strangers = Strangers()

    async def scenario() -> None:
        async with door(proxy_from=PROXIES, strangers=strangers) as there:
            with there.connect(PROXY) as sock:
                sock.sendall(V1[:10])
                while strangers.unheard == 0:
                    await asyncio.sleep(0.005)
                await asyncio.wait_for(there.acceptor.shutdown(), 1)
                assert strangers.unheard == 0
                assert await asyncio.to_thread(said, sock) == []

    play(scenario)


# --- from anybody else --------------------------------------------------------------------


@pytest.mark.parametrize("header", [V1, V2, V2_SIX, LOCAL], ids=["v1", "v2", "six", "local"])
def test_attack_30_from_an_undeclared_address_a_header_is_bytes_like_any(
    play: Scenario, header: bytes
) -> None:
    """Or anybody could walk around bans, relay rules and counts."""

    async def scenario() -> None:
        async with door(proxy_from=PROXIES) as there:
            answer = await asyncio.to_thread(talk, there, header, b"\r\n", source="127.0.0.1")
            assert answer[0] == b"hello"
            session = there.sessions[0]
            assert b"\r\n".join(session.lines).startswith(header.rstrip(b"\r\n"))
            assert str(session.peer.ip) == "127.0.0.1"
            assert session.peer.via is None

    play(scenario)


def test_attack_30_without_declared_proxies_nobody_is_believed(play: Scenario) -> None:
    async def scenario() -> None:
        async with door() as there:
            await asyncio.to_thread(talk, there, V1)
            assert ends(there.sessions[0].peer)[0] == PROXY
            assert there.sessions[0].lines[0] == V1.rstrip()

    play(scenario)


def test_attack_30_a_second_header_is_not_believed(play: Scenario) -> None:
    """A client behind the proxy sends one of its own: the outer one counts."""
    forged = V1.replace(b"192.0.2.1", b"127.0.0.1")

    async def scenario() -> None:
        async with door(proxy_from=PROXIES) as there:
            await asyncio.to_thread(talk, there, V1 + forged)
            session = there.sessions[0]
            assert str(session.peer.ip) == "192.0.2.1"
            assert session.lines[0] == forged.rstrip()

    play(scenario)


def test_attack_30_rules_and_counts_see_the_client_not_its_proxy(play: Scenario) -> None:
    strangers = Strangers(2)
    seen: list[str] = []

    def admit(peer: Peer) -> bool:
        seen.append(str(peer.ip))
        return str(peer.ip) != "192.0.2.66"

    def header(last: int) -> bytes:
        return b"PROXY TCP4 192.0.2.%d 198.51.100.2 4711 25\r\n" % last

    async def scenario() -> None:
        async with door(proxy_from=PROXIES, strangers=strangers, admit=admit) as there:

            def greeting(last: int) -> tuple[socket.socket, bytes]:
                sock = there.connect(PROXY)
                sock.sendall(header(last))
                return sock, read_line(sock)

            socks = []
            for last, expected in (
                *((1, b"hello"), (1, b"hello"), (1, b"busy")),
                *((2, b"hello"), (66, b"")),
            ):
                sock, line = await asyncio.to_thread(greeting, last)
                socks.append(sock)
                assert line == expected
            assert seen == ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.66"]
            for sock in socks:
                sock.close()

    play(scenario)
