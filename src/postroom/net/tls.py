"""TLS as a layer of bytes: how contexts are made, what a handshake settled, and an engine
that knows no socket.

The engine is ours because what the loops offer costs more: with uvloop 23.5 KiB and twice
the CPU of this, with asyncio 277 KiB for each idle connection. One engine also makes
implicit TLS and STARTTLS the same code on both loops.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import CertificateRefused, TlsFailed

RECORD: Final = 16_384  # plaintext bytes of the largest record. RFC 8446 §5.1

# RFC 9325 §4.2: forward secrecy and AEAD only. TLS 1.3 suites are all of that kind.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

# What is better than nothing, where the alternative is plaintext. RFC 7435 §3
_OPPORTUNISTIC: Final = f"{CIPHERS}:DHE+AESGCM:ECDHE+AES:DHE+AES:RSA+AES:!aDSS:!AESCCM:@SECLEVEL=1"


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
    chain: tuple[bytes, ...] = ()  # for a client: what the server showed, DER, its own first
    verified: bool = False  # for a client: the chain leads to a CA that we trust, and names it
    client: bytes = b""  # for a server: the certificate that the client proved to hold, DER


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How a client begins TLS. A name is sent as SNI, and is what a verifying context checks."""

    context: ssl.SSLContext
    hostname: str | None  # A-labels, or an address in text


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


def ask_clients(context: ssl.SSLContext, authorities: str) -> None:
    """Let a server context ask its clients for a certificate of these authorities: a PEM file.

    A client may show none; one that shows another's is shut out within the handshake. Where the
    file holds revocation lists, they are heeded. Raises OSError (ssl.SSLError is one).
    """
    context.load_verify_locations(authorities)
    with open(authorities, "rb") as file:
        if b"-----BEGIN X509 CRL-----" in file.read():
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_OPTIONAL


def client_context(*, verify: bool, ca_file: str | None = None) -> ssl.SSLContext:
    """A context for connections that we make: TLS 1.2 or later.

    With `verify` the chain must lead to a CA of the system or to a certificate of `ca_file`
    (PEM), and name the host in its subjectAltName (RFC 9525 §2). Without, nothing is checked:
    whoever answers is believed, so that it is protected from those who only listen (RFC 7435),
    or it is judged afterwards by `TlsFacts.chain`. Reads the disk: make one, use it often.

    Raises OSError (ssl.SSLError is one) if `ca_file` cannot be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.hostname_checks_common_name = False
    if not verify:
        context.set_ciphers(_OPPORTUNISTIC)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.set_ciphers(CIPHERS)
    # What an operator names is trusted, whether or not it is a root.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if ca_file is not None:
        context.load_verify_locations(ca_file)
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
        """`hostname` is for a client. Raises TlsFailed if it can be no host's."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        host = (
            hostname.removesuffix(".") if hostname is not None else None
        )  # SNI has no last dot. RFC 6066 §3
        try:
            self._object = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_side, server_hostname=host
            )
        except (ValueError, TypeError) as error:  # an empty label, a NUL; none for a check
            raise TlsFailed(detail=f"{hostname!r}: {error}") from error
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
            chain=() if server else _chain(side),
            verified=side.context.verify_mode is ssl.CERT_REQUIRED and not server,
            client=_client_of(server) if server else b"",
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


_DER: Final = 2  # PEM is 1; _ssl.ENCODING_DER

# X509_V_ERR_ codes, x509_vfy.h; every other one has no name of its own in RFC 8460 §4.3.2.
_RESULTS: Final = {
    9: "certificate-not-trusted",  # not yet valid
    10: "certificate-expired",
    18: "certificate-not-trusted",  # self-signed
    19: "certificate-not-trusted",  # self-signed somewhere in the chain
    20: "certificate-not-trusted",  # no issuer
    21: "certificate-not-trusted",  # nothing but itself
    62: "certificate-host-mismatch",
    64: "certificate-host-mismatch",  # an address
}


def _chain(side: ssl.SSLObject) -> tuple[bytes, ...]:
    if sys.version_info >= (3, 13):
        return tuple(side.get_unverified_chain())
    # Without the chain DANE-TA(2) could not be checked.
    inner = side._sslobj  # type: ignore[attr-defined]  # it had no public name before 3.13
    return tuple(each.public_bytes(_DER) for each in inner.get_unverified_chain() or ())


def _client_of(side: ServerSide) -> bytes:
    """What a client showed, if it was asked: then its chain was judged within the handshake."""
    asked = side.context.verify_mode is ssl.CERT_OPTIONAL
    return side.getpeercert(binary_form=True) or b"" if asked else b""


def _failed(error: ssl.SSLError) -> TlsFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        result = _RESULTS.get(error.verify_code, "validation-failure")
        return CertificateRefused(detail=error.verify_message, result=result)
    return TlsFailed(detail=error.reason or str(error))
