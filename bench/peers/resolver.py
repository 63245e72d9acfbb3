"""A DNS server in a process of its own that answers at once that no name exists.

Postroom asks DNS on every message; a fast local resolver is what a real server has beside it.
The answer carries an SOA, so that it may be cached. RFC 1035 §4.1, RFC 2308 §3.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

_SOA = (
    b"\x00\x00\x06\x00\x01\x00\x00\x01\x2c\x00\x16"  # root, SOA, IN, 300 s, 22 octets
    b"\x00\x00"  # both names are the root
    b"\x00\x00\x00\x01\x00\x00\x0e\x10\x00\x00\x0e\x10\x00\x00\x0e\x10\x00\x00\x01\x2c"
)


def no_such_name(query: bytes) -> bytes | None:
    """The NXDOMAIN that answers `query`, or None if it is not a query with one question."""
    if len(query) < 17 or query[2] & 0x80 or query[4:6] != b"\x00\x01":
        return None
    end = 12
    while end < len(query) and query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    if end + 5 > len(query):
        return None
    recursion = query[2] & 0x01
    head = query[:2] + bytes((0x80 | recursion, 0x83)) + b"\x00\x01\x00\x00\x00\x01\x00\x00"
    return head + question + _SOA


class _Answering(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[str | int, int]) -> None:
        answer = no_such_name(data)
        if answer is not None:
            self._transport.sendto(answer, peer)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(_Answering, local_addr=("127.0.0.1", port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
