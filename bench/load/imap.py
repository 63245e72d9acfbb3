"""A blocking IMAP client for measuring one connection, and for filling mailboxes.

It reads whole responses and looks only for the tagged line at their end. RFC 9051 §2.2.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from functools import cache

from bench.model import BenchError, Endpoint

_BUFFER = 1 << 20
_TIMEOUT = 300.0  # s
_BATCH = 100  # messages in one MULTIAPPEND, or commands sent ahead

METADATA = b"(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"


class Imap:
    """One connection, signed in if a user is given.

    Commands raise BenchError unless they end in OK.
    """

    def __init__(
        self,
        to: Endpoint,
        user: str | None = None,
        password: str = "",
    ) -> None:
        plain = socket.create_connection((to.host, to.port), timeout=_TIMEOUT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = insecure_tls().wrap_socket(plain) if to.tls else plain
        self._number = 0
        self._buffer = bytearray(_BUFFER)
        greeting = self._socket.recv(4096)
        if not greeting.startswith(b"* OK"):
            raise BenchError(f"no greeting: {greeting!r}")
        self.capabilities: frozenset[bytes] = frozenset()
        if user is not None:
            self.command(f'LOGIN "{user}" "{password}"'.encode())
            self.capabilities = frozenset(self.command(b"CAPABILITY").upper().split())

    def close(self) -> None:
        """Leave without LOGOUT; nothing is owed."""
        self._socket.close()

    def command(self, text: bytes) -> bytes:
        """Send one command; return its whole response, the tagged line included."""
        return self.timed(text)[1]

    def timed(self, text: bytes) -> tuple[float, bytes]:
        """Like `command`, with the seconds from sending to the end of the tagged line."""
        tag = self._tag()
        began = time.perf_counter()
        self._socket.sendall(tag + b" " + text + b"\r\n")
        length = self._read_to(tag)
        took = time.perf_counter() - began
        response = bytes(memoryview(self._buffer)[:length])
        _require_ok(response, tag)
        return took, response

    def append_all(self, mailbox: bytes, messages: Iterable[bytes]) -> int:
        """APPEND every message, many to a round trip where the server allows it.

        Returns how many. RFC 3502, RFC 7888.
        """
        pieces = iter(messages)
        if b"MULTIAPPEND" in self.capabilities and b"LITERAL+" in self.capabilities:
            return self._append_batches(mailbox, pieces)
        count = 0
        for message in pieces:
            self.append(mailbox, message)
            count += 1
        return count

    def append(self, mailbox: bytes, message: bytes) -> None:
        """APPEND one message, with a synchronising literal unless LITERAL+ is offered."""
        tag = self._tag()
        head = tag + b" APPEND " + mailbox
        if b"LITERAL+" in self.capabilities:
            self._socket.sendall(head + b" {%d+}\r\n" % len(message) + message + b"\r\n")
        else:
            self._socket.sendall(head + b" {%d}\r\n" % len(message))
            invited = self._socket.recv(4096)
            if not invited.startswith(b"+"):
                raise BenchError(f"APPEND not continued: {invited!r}")
            self._socket.sendall(message + b"\r\n")
        length = self._read_to(tag)
        _require_ok(bytes(memoryview(self._buffer)[:length]), tag)

    def idle(self) -> None:
        """Enter IDLE and stay. RFC 9051 §6.3.13."""
        self._socket.sendall(self._tag() + b" IDLE\r\n")
        invited = self._socket.recv(4096)
        if not invited.startswith((b"+", b"* ")):
            raise BenchError(f"IDLE not continued: {invited!r}")

    def release(self) -> None:
        """Give up the buffer; the connection is only held from here on."""
        self._buffer = bytearray()

    def _append_batches(self, mailbox: bytes, pieces: Iterator[bytes]) -> int:
        count = 0
        while True:
            tag = self._tag()
            command = [tag, b" APPEND ", mailbox]
            for _ in range(_BATCH):
                message = next(pieces, None)
                if message is None:
                    break
                command += (b" {%d+}\r\n" % len(message), message)
                count += 1
            if len(command) == 3:
                return count
            command.append(b"\r\n")
            self._socket.sendall(b"".join(command))
            length = self._read_to(tag)
            _require_ok(bytes(memoryview(self._buffer)[:length]), tag)

    def _tag(self) -> bytes:
        self._number += 1
        return b"b%07x" % self._number

    def _read_to(self, tag: bytes) -> int:
        """Read until the line that begins with `tag`; return how much the buffer holds."""
        length = 0
        while True:
            if length == len(self._buffer):
                self._buffer.extend(bytes(len(self._buffer)))
            with memoryview(self._buffer) as view:
                got = self._socket.recv_into(view[length:])
            if not got:
                raise BenchError("the server closed the connection")
            length += got
            if ends_with_tagged(self._buffer, length, tag):
                return length


def ends_with_tagged(buffer: bytes | bytearray, length: int, tag: bytes) -> bool:
    """Whether `buffer[:length]` ends with a whole line that begins with `tag`.

    A line of over 2,000 octets is not found; no server sends such a tagged line.
    """
    if length < 2 or buffer[length - 2 : length] != b"\r\n":
        return False
    before = buffer.rfind(b"\r\n", max(0, length - 2_000), length - 2)
    start = before + 2 if before >= 0 else max(0, length - 2_000)
    return buffer.startswith(tag, start)


def _require_ok(response: bytes, tag: bytes) -> None:
    last = response[response.rfind(b"\r\n", 0, -2) + 2 if b"\r\n" in response[:-2] else 0 :]
    if not last.startswith(tag + b" OK"):
        raise BenchError(f"not OK: {last!r}")


@cache
def insecure_tls() -> ssl.SSLContext:
    """A context for self-signed certificates on loopback; one for all connections."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
