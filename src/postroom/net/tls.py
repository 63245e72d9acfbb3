"""TLS as a layer of bytes: how contexts are made, what a handshake settled, and an engine
that knows no socket.

The engine is ours because what the loops offer costs more: with uvloop 23.5 KiB and twice
the CPU of this, with asyncio 277 KiB for each idle connection. One engine also makes
implicit TLS and STARTTLS the same code on both loops.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import TlsFailed

RECORD: Final = 16_384  # plaintext bytes of the largest record. RFC 8446 §5.1

# RFC 9325 §4.2: forward secrecy and AEAD only. TLS 1.3 suites are all of that kind.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a handshake settled."""

    version: str  # "TLSv1.3"
    cipher: str  # "TLS_AES_256_GCM_SHA384"
    bits: int
    sni: str | None  # the name that the client asked for, in lower case
    certificate: str  # the name of the certificate in the store; empty for a client
    alpn: str | None
    endpoint: bytes  # tls-server-end-point of that certificate, for SCRAM-PLUS. RFC 5929 §4


class ServerSide(ssl.SSLObject):
    """A server's TLS object that remembers what its SNI callback was asked and chose."""

    sni: str | None = None
    certificate: str = ""
    endpoint: bytes = b""


def base_context(alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """A server context without a certificate: TLS 1.2 or later, RFC 9325 ciphers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # Renegotiation is CPU for the asking. Tickets: the keys would live as long as the worker
    # and open every session that they resumed, and N workers share none, so few would resume.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.sslobject_class = ServerSide
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def server_context(
    cert_file: str, key_file: str | None = None, alpn: Sequence[str] = ()
) -> ssl.SSLContext:
    """A server context for one certificate chain and its key, both PEM (one file or two).

    Raises OSError (ssl.SSLError is one) if a file cannot be read, does not parse, or the key
    is not the certificate's.
    """
    context = base_context(alpn)
    # Without the callback OpenSSL would ask the terminal for an encrypted key's password.
    context.load_cert_chain(cert_file, key_file, password=lambda: "")
    return context


class TlsEngine:
    """One side of a TLS session as bytes in, bytes out.

    Every method may leave bytes for the peer in `take()`, also when it raises TlsFailed: then
    it is the alert.
    """

    __slots__ = ("_held", "_incoming", "_object", "_outgoing", "_position", "_unread")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool = True, hostname: str | None = None
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=hostname
        )
        self._held = b""  # ciphertext that OpenSSL has not seen
        self._position = 0
        self._unread = False  # what OpenSSL has seen may hold a record

    def feed(self, data: bytes) -> None:
        """Ciphertext from the peer; looked at by `handshake` and `read`."""
        if self._position < len(self._held):
            data = self._held[self._position :] + data
        self._held = data
        self._position = 0

    def handshake(self) -> bool:
        """Go on with the handshake: True once it is done. Raises TlsFailed."""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                if not self._show():
                    return False
            except ssl.SSLError as error:
                raise _failed(error) from error
            else:
                self._unread = True
                return True

    def read(self) -> bytes | None:
        """The next plaintext, at most one record; b"" once at close_notify; None: feed me.

        Raises TlsFailed.
        """
        while True:
            if self._unread:
                try:
                    plain = self._object.read(RECORD)
                except ssl.SSLWantReadError:
                    self._unread = False
                except ssl.SSLZeroReturnError:
                    return b""
                except ssl.SSLError as error:
                    raise _failed(error) from error
                else:
                    # Asking only when something is there saves an exception for each read.
                    self._unread = bool(self._incoming.pending or self._object.pending())
                    return plain
            if not self._show():
                return None

    def seal(self, data: bytes | bytearray | memoryview) -> bytes:
        """`data` as ciphertext, with whatever else waits for the peer. Raises TlsFailed."""
        size = len(data)
        try:
            # Record by record, so that OpenSSL's buffer stays small: it never shrinks. A write
            # is partial where the client asked for short records. RFC 6066 §4.
            done = self._object.write(data if size <= RECORD else memoryview(data)[:RECORD])
            if done == size:
                return self._outgoing.read()
            parts = [self._outgoing.read()]
            view = memoryview(data)
            while done < size:
                done += self._object.write(view[done : done + RECORD])
                parts.append(self._outgoing.read())
        except ssl.SSLError as error:
            raise _failed(error) from error
        return b"".join(parts)

    def take(self) -> bytes:
        """The bytes that wait for the peer; may be empty."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def close(self) -> bytes:
        """close_notify (RFC 8446 §6.1) with what waited before it; never raises."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # WantRead: the peer's own close_notify is not awaited; others: nothing to say
        return self.take()

    def facts(self) -> TlsFacts:
        """What the finished handshake settled."""
        side = self._object
        cipher = side.cipher()
        name, _, bits = cipher if cipher is not None else ("", "", 0)
        server = side if isinstance(side, ServerSide) else None
        return TlsFacts(
            version=side.version() or "",
            cipher=name,
            bits=bits or 0,
            sni=server.sni if server else side.server_hostname,
            certificate=server.certificate if server else "",
            alpn=side.selected_alpn_protocol(),
            endpoint=server.endpoint if server else b"",
        )

    def _show(self) -> bool:
        """Show OpenSSL the next slice; False if there is none. Slices keep its buffer small."""
        held, start = self._held, self._position
        if start >= len(held):
            return False
        if start == 0 and len(held) <= RECORD:
            self._incoming.write(held)
            self._held = b""
        else:
            self._position = start + RECORD
            self._incoming.write(memoryview(held)[start : start + RECORD])
            if self._position >= len(held):
                self._held, self._position = b"", 0
        self._unread = True
        return True


def _failed(error: ssl.SSLError) -> TlsFailed:
    return TlsFailed(detail=error.reason or str(error))
