"""BINARYMIME: what came as octets becomes lines before anybody judges it. RFC 3030 §3.

Nothing further on, be it a mailbox, a client or another server, is then given a bare CR or LF or
a NUL: internal hops obey the rules of the edge (attack class 1).
"""

from __future__ import annotations

import asyncio

from postroom.core.errors import MailError, Status
from postroom.domain.transit import Transit
from postroom.formats.recode import binary_to_eight_bit
from postroom.mailflow.house import MailHouse
from postroom.store.blobs import Spool
from postroom.wire.smtp import LineEnds


class CannotConvert(MailError):
    """The content cannot be made lines without breaking it. RFC 3463 §3.7."""

    status = Status(5, 6, 3)
    sentence = "The binary content of this message cannot be converted"


async def make_lines(house: MailHouse, transit: Transit) -> LineEnds:
    """Replace the spooled content by one of lines; returns what its line ends are.

    Raises CannotConvert, or what the spool's file raises.
    """
    spool = transit.spool
    assert spool is not None
    content, made = await asyncio.to_thread(_converted, spool)
    if made is None:
        raise CannotConvert
    seen = LineEnds()
    seen.feed(made)
    seen.close()
    if made != content:
        fresh = house.blobs.spool()
        try:
            await asyncio.to_thread(fresh.write, made)
        except MailError:
            fresh.drop()
            raise
        spool.drop()
        transit.spool = fresh
        transit.amended += ("re-encoded binary parts",)
    return seen


def _converted(spool: Spool) -> tuple[bytes, bytes | None]:
    content = spool.content()
    return content, binary_to_eight_bit(content)
