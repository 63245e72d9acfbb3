"""The DNS of a small internet: one loopback server that knows every zone, and lies when told.

    zones = Zones()
    zones.zone("a.example", secure=True)
    zones.add("a.example", "MX", "10 mx1.a.example")
    zones.host("mx1.a.example", "192.0.2.1")
    zones.fault("b.example", "MX", Fault(What.SERVFAIL))
    async with DnsServer(zones) as server:
        ...  # ask 127.0.0.1, port server.port, over UDP or TCP

It answers as a recursive server would that knows the whole world: names in no declared zone
belong to an insecure root. Zones and faults may change while it runs, from any thread. With
`with` instead of `async with` it runs in a thread of its own, for servers in other processes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from postroom.testing.zones import ANY, Fault, Result, What, Zones, name_of, rdata_of

__all__ = ["ANY", "Asked", "DnsServer", "Fault", "What", "Zones"]

_PLAIN_UDP: Final = 512  # octets that a question without EDNS can take
_BINDS: Final = 50  # tries to find a port that is free for both UDP and TCP
_IDLE: Final = 30.0  # seconds that a TCP connection may be silent


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that the server saw."""

    name: str  # lower case, no dot at the end
    kind: str
    transport: str  # udp, tcp
    port: int  # the asker's
    id: int
    spelling: str  # the name with the case it came in
    payload: int  # EDNS; 0: none
    dnssec_ok: bool  # DO
    wants_ad: bool  # AD
    checking_disabled: bool  # CD


@dataclass(frozen=True, slots=True)
class _Piece:
    """Octets to send after a wait; over TCP `cut` closes the connection behind them."""

    octets: bytes
    after: float = 0.0
    cut: bool = False


class DnsServer:
    """Serves zones over UDP and TCP, on one port of a loopback address."""

    def __init__(self, zones: Zones, *, ip: str = "127.0.0.1", port: int = 0) -> None:
        """`port` 0: a free one, known from the start and kept."""
        self.zones = zones
        self.ip = ip
        self.asked: deque[Asked] = deque(maxlen=100_000)
        """What was asked, in order; the oldest go first."""
        self._udp, self._tcp = _bound(ip, port)
        self.port: int = self._tcp.getsockname()[1]
        self._transport: asyncio.DatagramTransport | None = None
        self._listener: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.TimerHandle] = set()
        self._thread: _Thread | None = None

    def __str__(self) -> str:
        """As `--resolver` takes it."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    def questions(self, name: str | None = None, kind: str | None = None) -> list[Asked]:
        """What was asked about a name, of a kind."""
        wanted = None if name is None else name.rstrip(".").lower()
        return [
            asked
            for asked in tuple(self.asked)
            if wanted in (None, asked.name) and kind in (None, asked.kind)
        ]

    # --- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Udp(self._on_datagram), sock=self._udp
        )
        self._listener = await asyncio.start_server(self._on_connection, sock=self._tcp)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._transport is not None and self._listener is not None
        for handle in self._late:
            handle.cancel()
        self._transport.close()
        self._listener.close()
        for line in tuple(self._lines):
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await self._listener.wait_closed()

    def __enter__(self) -> DnsServer:
        self._thread = _Thread(self)
        self._thread.start_and_wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._thread is not None
        self._thread.stop()

    # --- lines ------------------------------------------------------------------------------

    def _on_datagram(self, octets: bytes, peer: tuple[str, int]) -> None:
        assert self._transport is not None
        for piece in self._replies(octets, peer[1], "udp"):
            if piece.after:
                self._send_later(piece, peer)
            else:
                self._transport.sendto(piece.octets, peer)

    def _send_later(self, piece: _Piece, peer: tuple[str, int]) -> None:
        transport = self._transport
        assert transport is not None

        def send() -> None:
            self._late.discard(handle)
            transport.sendto(piece.octets, peer)

        handle = asyncio.get_running_loop().call_later(piece.after, send)
        self._late.add(handle)

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        try:
            async with asyncio.timeout(None) as idle:
                while True:
                    idle.reschedule(asyncio.get_running_loop().time() + _IDLE)
                    size = int.from_bytes(await reader.readexactly(2))
                    octets = await reader.readexactly(size)
                    if not await self._answer(octets, writer):
                        return
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass  # the asker has what it wanted, or has gone
        except asyncio.CancelledError:
            pass  # the server ends, and waits for this task to be done
        finally:
            self._lines.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()

    async def _answer(self, octets: bytes, writer: asyncio.StreamWriter) -> bool:
        """Send the replies to one question over TCP; False: the line is cut."""
        for piece in self._replies(octets, writer.get_extra_info("peername")[1], "tcp"):
            await asyncio.sleep(piece.after)
            framed = len(piece.octets).to_bytes(2) + piece.octets
            writer.write(framed[: len(framed) // 2] if piece.cut else framed)
            await writer.drain()
            if piece.cut:
                return False
        return True

    # --- answers ----------------------------------------------------------------------------

    def _replies(self, octets: bytes, port: int, transport: str) -> Iterator[_Piece]:
        """What goes back for one question: mostly one reply; none to what is no question."""
        try:
            query = dns.message.from_wire(octets)
        except dns.exception.DNSException:
            if len(octets) >= 12 and not octets[2] & 0x80:
                yield _Piece(octets[:2] + struct.pack("!5H", 0x8081, 0, 0, 0, 0))  # FORMERR
            return
        if query.flags & dns.flags.QR:
            return
        if len(query.question) != 1 or query.opcode() != dns.opcode.QUERY:
            yield _Piece(_plain(query, dns.rcode.NOTIMP).to_wire())
            return
        question = query.question[0]
        asked = _asked(query, port, transport)
        self.asked.append(asked)
        fault = self.zones.next_fault(question.name, asked.kind)
        if fault is None:
            yield _Piece(self._right(query, transport))
        else:
            yield from self._wrong(query, transport, fault)

    def _right(self, query: dns.message.Message, transport: str) -> bytes:
        question = query.question[0]
        result = self.zones.look_up(question.name, question.rdtype)
        return _fitting(query, _filled(query, result), transport)

    def _wrong(self, query: dns.message.Message, transport: str, fault: Fault) -> Iterator[_Piece]:
        """The replies that a fault makes of the right one."""
        what = fault.what
        udp = transport == "udp"
        match what:
            case What.SERVFAIL | What.REFUSED | What.FORMERR:
                rcode = dns.rcode.from_text(what.value)
                yield _Piece(_plain(query, rcode).to_wire())
            case What.SILENT:
                if not udp:
                    yield _Piece(b"", after=_IDLE, cut=True)
            case What.SLOW:
                yield _Piece(self._right(query, transport), after=fault.seconds)
            case What.TRUNCATED | What.CUT_OFF:
                right = self._right(query, transport)
                if udp:
                    yield _Piece(_cut_short(query))
                else:
                    yield _Piece(right, cut=what is What.CUT_OFF)
            case What.WRONG_CASE:
                yield _Piece(_folded(query, self._right(query, transport), transport))
            case What.FORGED | What.LOOP | What.HUGE | What.HALF_CHAIN | What.LAME:
                reply = self._twisted(query, fault)
                yield _Piece(_fitting(query, reply, transport))
            case What.BOGUS:
                yield _Piece(self._bogus(query, transport))
            case What.WRONG_ID | What.WRONG_QUESTION | What.GARBAGE:
                right = self._right(query, transport)
                yield _Piece(_DISTORTIONS[what](right))
                if fault.right_after is not None and udp:
                    yield _Piece(right, after=fault.right_after)

    def _twisted(self, query: dns.message.Message, fault: Fault) -> dns.message.Message:
        """Replies that are well made, and wrong."""
        question = query.question[0]
        name, kind = question.name, question.rdtype
        if fault.what is What.HALF_CHAIN:
            return _filled(query, self.zones.look_up(name, kind, hops=0))
        if fault.what is What.FORGED:
            reply = _filled(query, self.zones.look_up(name, kind))
            for owner, other, text in fault.records:
                rrset = dns.rrset.from_rdata(name_of(owner), 86400, rdata_of(other, text))
                reply.answer.insert(0, rrset)
                reply.additional.append(rrset)
            return reply
        reply = _plain(query, dns.rcode.NOERROR)
        if fault.what is What.LOOP:
            there = dns.name.Name((b"loop", *name.labels))
            for here, target in ((name, there), (there, name)):
                reply.answer.append(
                    dns.rrset.from_rdata(here, 300, rdata_of("CNAME", target.to_text()))
                )
        elif fault.what is What.HUGE:
            records = [rdata_of(kind, _numbered(kind, number)) for number in range(fault.number)]
            reply.answer.append(dns.rrset.from_rdata_list(name, 300, records))
        else:
            reply.flags &= ~dns.flags.RA
            reply.authority.append(
                dns.rrset.from_rdata(name.parent(), 300, rdata_of("NS", "ns.elsewhere.example"))
            )
        return reply

    def _bogus(self, query: dns.message.Message, transport: str) -> bytes:
        """RFC 4035 §5.5: SERVFAIL, unless the asker checks for itself."""
        if query.flags & dns.flags.CD:
            question = query.question[0]
            result = self.zones.look_up(question.name, question.rdtype)
            result.secure = False
            return _fitting(query, _filled(query, result), transport)
        reply = _plain(query, dns.rcode.SERVFAIL)
        if query.edns >= 0:
            reason = dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "signature expired")
            reply.use_edns(0, payload=1232, options=[reason])
        return reply.to_wire()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._receive(data, addr)


class _Thread(threading.Thread):
    """Runs a server on a loop of its own."""

    def __init__(self, server: DnsServer) -> None:
        super().__init__(name=f"dns-{server.port}", daemon=True)
        self._server = server
        self._up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._error: BaseException | None = None

    def start_and_wait(self) -> None:
        self.start()
        self._up.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End it; raises what ended it before."""
        if self._loop is not None and self._end is not None and self.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        async with self._server:
            self._up.set()
            await self._end.wait()


# --- messages -------------------------------------------------------------------------------


def _asked(query: dns.message.Message, port: int, transport: str) -> Asked:
    question = query.question[0]
    spelling = question.name.to_text(omit_final_dot=True)
    return Asked(
        name=spelling.lower(),
        kind=dns.rdatatype.to_text(question.rdtype),
        transport=transport,
        port=port,
        id=query.id,
        spelling=spelling,
        payload=int(query.payload) if query.edns >= 0 else 0,
        dnssec_ok=bool(query.ednsflags & dns.flags.DO),
        wants_ad=bool(query.flags & dns.flags.AD),
        checking_disabled=bool(query.flags & dns.flags.CD),
    )


def _plain(query: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    """A reply without records."""
    reply = dns.message.make_response(query, recursion_available=True, our_payload=1232)
    reply.set_rcode(rcode)
    return reply


def _filled(query: dns.message.Message, result: Result) -> dns.message.Message:
    reply = _plain(query, result.rcode)
    reply.answer.extend(result.answer)
    reply.authority.extend(result.authority)
    # RFC 6840 §5.8: only to those who understand it.
    if result.secure and (query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO):
        reply.flags |= dns.flags.AD
    return reply


def _fitting(query: dns.message.Message, reply: dns.message.Message, transport: str) -> bytes:
    """Octets of a reply; over UDP an empty one with TC if it is too large for the asker."""
    if transport == "tcp":
        return reply.to_wire(max_size=65535)
    try:
        return reply.to_wire(max_size=max(_PLAIN_UDP, query.payload) if query.edns >= 0 else 512)
    except dns.exception.TooBig:
        return _cut_short(query)


def _cut_short(query: dns.message.Message) -> bytes:
    reply = _plain(query, dns.rcode.NOERROR)
    reply.flags |= dns.flags.TC
    return reply.to_wire()


def _folded(query: dns.message.Message, octets: bytes, transport: str) -> bytes:
    """Over UDP: the question in lower case, whatever case it came in."""
    if transport == "tcp":
        return octets
    end = 12 + len(query.question[0].name.to_wire() or b"")
    return octets[:12] + octets[12:end].lower() + octets[end:]


def _other_id(octets: bytes) -> bytes:
    return (int.from_bytes(octets[:2]) ^ 0x5555).to_bytes(2) + octets[2:]


def _other_question(octets: bytes) -> bytes:
    """The first letter of the name asked becomes another one."""
    return octets[:13] + bytes((octets[13] ^ 0x01,)) + octets[14:]


def _noise(octets: bytes) -> bytes:
    """A header and question that fit, then an answer section of noise."""
    message = dns.message.from_wire(octets, question_only=True)
    end = 12 + len(message.question[0].name.to_wire() or b"") + 4
    return octets[:6] + struct.pack("!3H", 3, 0, 0) + octets[12:end] + b"\xff\x00\xc0\xff" * 9


_DISTORTIONS: Final[dict[What, Callable[[bytes], bytes]]] = {
    What.WRONG_ID: _other_id,
    What.WRONG_QUESTION: _other_question,
    What.GARBAGE: _noise,
}


def _numbered(kind: dns.rdatatype.RdataType, number: int) -> str:
    """The text of one of many records. Raises ValueError for a kind that has no form here."""
    match kind:
        case dns.rdatatype.A:
            return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        case dns.rdatatype.AAAA:
            return f"2001:db8::{number:x}"
        case dns.rdatatype.MX:
            return f"{number & 65535} mx{number}.huge.example"
        case dns.rdatatype.TXT:
            return f'"{number:030d}"'
        case dns.rdatatype.PTR | dns.rdatatype.NS:
            return f"host{number}.huge.example"
    raise ValueError(f"no huge answer of kind {dns.rdatatype.to_text(kind)}")


def _bound(ip: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Sockets on one port, for UDP and TCP. Raises OSError if there is none."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    for left in range(_BINDS, -1, -1):
        tcp = socket.socket(family, socket.SOCK_STREAM)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((ip, port))
            tcp.listen(128)
            udp.bind((ip, tcp.getsockname()[1]))
        except OSError:
            tcp.close()
            udp.close()
            if port or not left:
                raise
        else:
            tcp.setblocking(False)
            udp.setblocking(False)
            return udp, tcp
    raise AssertionError("not reached")
