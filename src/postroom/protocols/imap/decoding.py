"""BINARY: a part without its content transfer encoding. RFC 3516 §4, RFC 9051 §6.4.5.

A large part is decoded a slice at a time, off the loop. Nothing holds more of it than a slice and
what that becomes: less than the slice, but in uuencode, where an octet may stand for a line of 45.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Final, NamedTuple

from postroom.core.errors import MailError, Status
from postroom.formats import transfer
from postroom.formats.transfer import IDENTITY, Decoder
from postroom.mailflow.house import MailHouse

STEP: Final = 128 * 1024
"""Octets of the message that are read and decoded at once: one frame of the store."""

ASIDE: Final = 8 * 1024
"""Octets from which a thread decodes; to wake one costs as much as fewer."""


class UnknownEncoding(MailError):
    """The part has a Content-Transfer-Encoding that nobody knows."""

    status = Status(5, 6, 1)  # RFC 3463 §3.7: media not supported
    sentence = "The encoding of a part is not known; fetch it as BODY"


class Encoded(NamedTuple):
    """Where an encoded part lies, and which of its decoded octets are asked for."""

    blob: int
    start: int
    length: int
    encoding: str  # as `transfer.decode` takes it
    span: tuple[int, int] | None  # the first octet, most octets

    def of(self, content: bytes) -> bytes:
        """What is asked for, from all the octets of the part."""
        if self.span is None:
            return transfer.decode(content, self.encoding)
        first, most = self.span
        return transfer.decode(content, self.encoding, limit=first + most)[first:]

    @property
    def is_coded(self) -> bool:
        """Its octets are not told as they are."""
        return self.encoding != IDENTITY


class Mark(NamedTuple):
    """Where decoding can go on."""

    part: Encoded  # without a span
    decoder: Decoder  # as it was before the octet at `at`
    at: int
    told: int  # octets that were decoded before


class Memory:
    """Where the last piece of a part ended, so that a client that fetches a part piece by piece
    does not pay for its beginning each time. At most some 64 KiB, as a rule four octets."""

    __slots__ = ("mark",)

    def __init__(self) -> None:
        self.mark: Mark | None = None

    def start(self, part: Encoded, first: int) -> Mark:
        """Where to begin, for the decoded octets from `first`."""
        whole, mark = part._replace(span=None), self.mark
        if mark is None or mark.part != whole or mark.told > first:
            return Mark(whole, Decoder(part.encoding), part.start, 0)
        return mark._replace(decoder=deepcopy(mark.decoder))


async def decoded(house: MailHouse, part: Encoded, memory: Memory) -> AsyncIterator[bytes]:
    """What is asked for, in pieces that are not empty. Raises what reading raises."""
    first, left = (0, None) if part.span is None else part.span
    whole, decoder, at, told = memory.start(part, first)
    end = part.start + part.length
    while at <= end and left != 0:
        if part.span is not None:
            memory.mark = Mark(whole, deepcopy(decoder), at, told)
        if at < end:
            size = min(STEP, end - at)
            data = await house.mail.read_much(house.blobs.read, part.blob, at, size)
            piece = await asyncio.to_thread(decoder.feed, data)
            at += size
        else:
            piece = await asyncio.to_thread(decoder.flush)
            at += 1
        skip = max(0, first - told)
        told += len(piece)
        piece = piece[skip:] if left is None else piece[skip : skip + left]
        if left is not None:
            left -= len(piece)
        if piece:
            yield piece
