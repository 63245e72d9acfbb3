"""One try of one question at one server: UDP, and TCP if the answer does not fit (RFC 7766).

Each UDP question has a connected socket of its own, so the kernel picks a random port and lets
only the server's datagrams in. What does not match is a stray: it is counted and listened past,
for a forger must not end a wait that the true answer would end.
"""

from __future__ import annotations

import asyncio
import socket
from random import Random
from typing import Final

from postroom.core import metrics
from postroom.net.dns.message import (
    Broken,
    Found,
    Match,
    Question,
    Unusable,
    make_question,
    match,
    read_reply,
    truncated,
)
from postroom.net.dns.records import Kind
from postroom.net.dns.servers import Server

STRAYS: Final = metrics.counter("dns.strays", "datagrams", "Datagrams that answer no question")
OVER_TCP: Final = metrics.counter("dns.tcp", "questions", "Questions that were repeated over TCP")

_DATAGRAM: Final = 65535
_BATCH: Final = 16  # datagrams read before the loop serves others


class _AskOverTcp(Exception):
    """UDP cannot carry the answer, or what came over it is in doubt."""


async def ask(
    server: Server, name: str, kind: Kind, rng: Random, seconds: float, octets: int, records: int
) -> Found:
    """Ask once, waiting `seconds` at most; `octets` and `records` cap the answer.

    Raises Unusable; its reason is "timeout" only if the server said nothing at all.
    """
    question = make_question(name, kind, rng)
    doubt: list[Broken] = []
    try:
        async with asyncio.timeout(seconds):
            try:
                return await _over_udp(server, question, records, doubt)
            except _AskOverTcp:
                OVER_TCP.add()
                return await _over_tcp(server, question, octets, records)
    except TimeoutError:
        if doubt:
            raise doubt[-1] from None
        raise Unusable("timeout", f"nothing in {seconds:.1f} s") from None
    except OSError as error:
        raise Unusable("unreachable", str(error)) from error


async def _over_udp(server: Server, question: Question, records: int, doubt: list[Broken]) -> Found:
    """Send and wait. What matches but is broken goes to `doubt`; the wait goes on."""
    loop = asyncio.get_running_loop()
    with socket.socket(server.family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(server.address)
        sock.send(question.octets)
        answer: asyncio.Future[Found] = loop.create_future()
        loop.add_reader(sock, _receive, sock, question, records, answer, doubt)
        try:
            return await answer
        finally:
            loop.remove_reader(sock)


def _receive(
    sock: socket.socket,
    question: Question,
    records: int,
    answer: asyncio.Future[Found],
    doubt: list[Broken],
) -> None:
    """Take what has arrived, up to the first datagram that settles the question."""
    for _ in range(_BATCH):
        if answer.done():
            return
        try:
            octets = sock.recv(_DATAGRAM)
        except BlockingIOError:
            return
        except OSError as error:  # the port is closed, or nothing leads there
            answer.set_exception(error)
            return
        matched = match(octets, question)
        if matched is Match.NO:
            STRAYS.add()
        elif matched is Match.CASE or truncated(octets):
            # A server may fold the case, and a forger may not know it: TCP tells them apart.
            answer.set_exception(_AskOverTcp())
        else:
            try:
                answer.set_result(read_reply(octets, question, records))
            except Broken as error:
                STRAYS.add()
                doubt[:] = [error]
            except Unusable as error:
                answer.set_exception(error)


async def _over_tcp(server: Server, question: Question, most: int, records: int) -> Found:
    """Send and read one reply of at most `most` octets. RFC 1035 §4.2.2."""
    loop = asyncio.get_running_loop()
    octets = question.octets
    with socket.socket(server.family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, server.address)
        await loop.sock_sendall(sock, len(octets).to_bytes(2) + octets)
        size = int.from_bytes(await _exactly(sock, 2))
        if size > most:
            raise Unusable("too-large", f"{size} octets", final=True)
        reply = await _exactly(sock, size)
    if match(reply, question) is Match.NO:
        raise Broken("over TCP came the answer to another question")
    if truncated(reply):
        raise Broken("truncated over TCP")
    return read_reply(reply, question, records)


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    octets = bytearray()
    while len(octets) < size:
        piece = await loop.sock_recv(sock, size - len(octets))
        if not piece:
            raise Unusable("cut-off", "the server closed within its reply")
        octets += piece
    return bytes(octets)
