"""The one HTTP client: what is fetched because a stranger said so. RFC 9110, RFC 9112.

A policy, a key, a calendar, a picture: their addresses come from outside, so each request goes by
the rules of `egress` (attack class 22). The name is resolved once, by our resolver; every address
is judged; the connection goes to one that was judged and to no other, whatever DNS says a moment
later. https and a certificate for that name, unless the caller allows less. No redirects but to
the same place, no cookies, no proxies, no codings that unfold; size and time have an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, zip_longest
from typing import Final

import h11

from postroom.core.errors import (
    ConnectFailed,
    ConnectionLost,
    MailError,
    Malformed,
    Misuse,
    NotAllowed,
    NotFound,
    TooLarge,
)
from postroom.net.connect import connect
from postroom.net.connection import Connection, Peer
from postroom.net.dns import Resolver
from postroom.net.egress import Egress
from postroom.net.tls import ClientTls, TlsFacts, client_context
from postroom.net.url import Url, parse_url
from postroom.net.wheel import TimerWheel

Ip = IPv4Address | IPv6Address
Fields = tuple[tuple[str, str], ...]

_ADDRESSES: Final = 4  # of one host that are tried
_INFORMATIONAL: Final = 10  # answers before the answer
_REDIRECTS: Final = 3
_SPREAD: Final = 8  # octets that came for one of content: in chunks of one octet it is 6
_REDIRECTING: Final = frozenset({301, 302, 303, 307, 308})
_SAFE: Final = frozenset({"GET", "HEAD"})
# Fields that say where a message ends, or whose it is: ours to set, or nobody's.
_OWN: Final = frozenset(
    {
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
        "te",
        "upgrade",
        "expect",
        "cookie",
        "proxy-authorization",
    }
)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a fetch may cost; times in seconds, sizes in octets."""

    deadline: float = 30
    """For all of it: names, connections, redirects, the last octet."""
    connect: float = 10
    """For one address, its TLS handshake included."""
    size: int = 1 << 20
    """Of the content."""
    header: int = 64 << 10
    """Of an answer's header section; of one line between its chunks too."""
    at_once: int = 50
    """Fetches of one fetcher; others wait, within their deadline."""


LIMITS: Final = FetchLimits()


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, whatever its status."""

    status: int
    headers: Fields
    """Names in lower case, values as Latin-1 text, in order."""
    body: bytes
    url: str
    """Where it came from, after redirects."""
    ip: Ip
    tls: TlsFacts | None

    def first(self, name: str) -> str | None:
        """The first field of that name, given in lower case."""
        return next((value for key, value in self.headers if key == name), None)


class Fetcher:
    """Fetches for all who have to: one for each worker."""

    def __init__(
        self,
        resolver: Resolver,
        egress: Egress,
        wheel: TimerWheel,
        *,
        https_port: int | None = None,
        ca_file: str | None = None,
        limits: FetchLimits = LIMITS,
    ) -> None:
        """`https_port` replaces 443 where a URL names no other port. Reads the disk.

        Raises OSError as `client_context`.
        """
        self._resolver = resolver
        self._egress = egress
        self._wheel = wheel
        self._https_port = https_port
        self._context = client_context(verify=True, ca_file=ca_file)
        self._context.set_alpn_protocols(["http/1.1"])
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.at_once)

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        redirects: int = 0,
        max_size: int | None = None,
        deadline: float | None = None,
        plain: bool = False,
    ) -> Response:
        """Ask, and take the whole answer.

        `redirects`: how many are followed, at most 3, by GET and HEAD alone, each to the same
        scheme, host and port; one that is not followed is an answer. `plain` allows http.

        Raises Malformed for a URL or an answer that is none, NotAllowed for where we may not go,
        TooLarge, DnsFailed, NotFound if the host has no address, ConnectFailed, TlsFailed,
        CertificateRefused, ConnectionLost also when time is up, Misuse.
        """
        if not 0 <= redirects <= _REDIRECTS:
            raise Misuse(f"at most {_REDIRECTS} redirects are followed")
        at = parse_url(url)
        request = _request(method, headers or {}, body)
        limits = replace(
            self._limits,
            size=self._limits.size if max_size is None else max_size,
            deadline=self._limits.deadline if deadline is None else deadline,
        )
        try:
            async with asyncio.timeout(limits.deadline), self._turns:
                if at.scheme != "https" and not plain:
                    raise NotAllowed("Only https is fetched", detail=str(at))
                ips = await self._addresses(at)
                while True:
                    response = await self._ask(at, ips, request, limits)
                    there = _redirected(at, request, response) if redirects else None
                    if there is None:
                        return response
                    at = there
                    redirects -= 1
        except TimeoutError as error:
            detail = f"{at.authority}: no whole answer in {limits.deadline:g} s"
            raise ConnectionLost("The server did not answer in time", detail=detail) from error

    async def _addresses(self, at: Url) -> Sequence[Ip]:
        """Where the host may be reached: asked of DNS once, and each address judged.

        Raises NotAllowed if none is left, NotFound, DnsFailed.
        """
        found: Sequence[Ip]
        if at.ip is not None:
            found = (at.ip,)
        else:
            known = await self._resolver.addresses(at.host)
            pairs = zip_longest(known.v6, known.v4)
            found = [ip for ip in chain.from_iterable(pairs) if ip is not None]
            if not found:
                raise NotFound("The host has no address", detail=at.host)
        open_ = [ip for ip in found if self._egress.permits_fetching(ip)]
        if not open_:
            told = ", ".join(map(str, found))
            raise NotAllowed("Nothing is fetched from there", detail=f"{at.host}: {told}")
        return open_[:_ADDRESSES]

    async def _ask(
        self, at: Url, ips: Sequence[Ip], request: _Request, limits: FetchLimits
    ) -> Response:
        """One exchange with the first of these addresses that answers."""
        port, tls = at.port, None
        if at.scheme == "https":
            tls = ClientTls(self._context, at.host)
            if self._https_port is not None and at.is_usual_port:
                port = self._https_port
        for n, ip in enumerate(ips, 1):
            exchange = _Exchange(at, request, limits)
            try:
                connection = await connect(
                    ip, port, exchange.at, self._wheel, timeout=limits.connect, tls=tls
                )
            except ConnectFailed:
                if n == len(ips):
                    raise
                continue
            try:
                response = await exchange.answered(ip)
            except BaseException:
                connection.abort()
                raise
            connection.close()
            return response
        raise ConnectFailed(detail=f"{at.authority}: it has no address")


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    fields: Fields
    body: bytes


def _request(method: str, headers: Mapping[str, str], body: bytes) -> _Request:
    """Raises Misuse for what cannot be sent, and for a field that is not the caller's to set."""
    for name in headers:
        if name.lower() in _OWN:
            raise Misuse(f"{name} is not for a caller to set")
    try:
        h11.Request(method=method, target="/", headers=[("Host", "x"), *headers.items()])
    except (h11.LocalProtocolError, UnicodeEncodeError) as error:
        raise Misuse("This request cannot be sent", detail=str(error)) from error
    return _Request(method, tuple(headers.items()), body)


def _redirected(at: Url, request: _Request, response: Response) -> Url | None:
    """Where a redirect leads; None for an answer that is none. Raises NotAllowed, Malformed."""
    location = response.first("location")
    if response.status not in _REDIRECTING or location is None or request.method not in _SAFE:
        return None
    there = at.joined(location)
    if not there.is_same_place(at):
        raise NotAllowed("A redirect that leads elsewhere is not followed", detail=str(there))
    return there


class _Exchange:
    """A request and its answer on one connection: its handler."""

    __slots__ = (
        "_answer",
        "_at",
        "_before",
        "_body",
        "_limits",
        "_machine",
        "_request",
        "_response",
        "_size",
        "_tls",
        "_wire",
    )

    def __init__(self, at: Url, request: _Request, limits: FetchLimits) -> None:
        self._at = at
        self._limits = limits
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.header)
        self._request = request
        self._wire = 0  # octets that came
        self._before = 0  # informational answers
        self._response: h11.Response | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._tls: TlsFacts | None = None
        self._answer: asyncio.Future[h11.Response] = asyncio.get_running_loop().create_future()

    def at(self, peer: Peer) -> _Exchange:
        """The connection's handler, once it is there."""
        self._tls = peer.tls
        return self

    async def answered(self, ip: Ip) -> Response:
        """The whole answer; raises what became of it."""
        told = await self._answer
        fields = tuple([(k.decode("latin-1"), v.decode("latin-1")) for k, v in told.headers])
        body = b"".join(self._body)
        return Response(told.status_code, fields, body, str(self._at), ip, self._tls)

    # --- for the connection -----------------------------------------------------------------------

    def on_connected(self, connection: Connection) -> None:
        connection.write(self._sent())

    def on_bytes(self, data: bytes) -> None:
        self._wire += len(data)
        if self._wire > _SPREAD * self._limits.size + _INFORMATIONAL * self._limits.header:
            self._fail(TooLarge("The answer is too large"))
        else:
            self._received(data)

    def on_eof(self) -> None:
        # Announced by TLS: nobody has cut the answer short. Without TLS, who knows.
        self._received(b"")
        self._fail(ConnectionLost("The server went away in the middle of its answer"))

    def on_timeout(self) -> None:
        """The deadline is the caller's."""

    def on_shutdown(self) -> None:
        self._fail(ConnectionLost("The server is shutting down"))

    def on_lost(self, error: ConnectionLost | None) -> None:
        self._fail(error or ConnectionLost())

    # --- within -----------------------------------------------------------------------------------

    def _sent(self) -> bytes:
        """The request in octets."""
        asked = self._request
        fields = [
            ("Host", self._at.authority),
            ("User-Agent", "Postroom"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            *asked.fields,
        ]
        if asked.body or asked.method not in _SAFE:
            fields.append(("Content-Length", str(len(asked.body))))
        request = h11.Request(method=asked.method, target=self._at.target, headers=fields)
        events = (request, h11.Data(data=asked.body), h11.EndOfMessage())
        return b"".join([self._machine.send(event) or b"" for event in events])

    def _received(self, data: bytes) -> None:
        if self._answer.done():
            return
        try:
            self._machine.receive_data(data)
            while self._step():
                pass
        except h11.RemoteProtocolError as error:
            self._fail(Malformed("The answer could not be understood", detail=str(error)))
        except MailError as error:
            self._fail(error)

    def _step(self) -> bool:
        """Take one event; False if there is no more. Raises TooLarge, Malformed."""
        event = self._machine.next_event()
        match event:
            case h11.InformationalResponse():
                self._before += 1
                if self._before > _INFORMATIONAL:
                    raise Malformed("The answer could not be understood", detail="1xx for ever")
            case h11.Response():
                self._begin(event)
            case h11.Data():
                self._size += len(event.data)
                if self._size > self._limits.size:
                    raise TooLarge("The answer is too large")
                self._body.append(bytes(event.data))
            case h11.EndOfMessage():
                assert self._response is not None  # h11 tells it first
                self._answer.set_result(self._response)
                return False
            case _:  # NEED_DATA, PAUSED, ConnectionClosed
                return False
        return True

    def _begin(self, response: h11.Response) -> None:
        self._response = response
        if self._request.method == "HEAD":
            return
        for name, value in response.headers:
            # A small answer may unfold to any size, and nobody asked for one that does.
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                raise Malformed("The answer is in a coding that nobody asked for")
            if name == b"content-length" and int(value) > self._limits.size:
                raise TooLarge("The answer is too large")

    def _fail(self, error: MailError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)
