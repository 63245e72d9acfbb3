"""COMPRESS. RFC 4978 §3."""

from __future__ import annotations

from typing import Final

from postroom.core.errors import NotAllowed
from postroom.protocols.imap.session import Session
from postroom.wire.imap import Command, parse_compress

DEFLATE: Final = "DEFLATE"


class CompressionActive(NotAllowed):
    """The connection is compressed already: COMPRESSIONACTIVE. RFC 4978 §3."""

    sentence = "The connection is compressed already"


async def compress(session: Session, command: Command) -> None:
    """The connection says the tagged reply, so that nothing comes between it and the streams."""
    asked = parse_compress(command.args)
    if asked.mechanism != DEFLATE:
        raise NotAllowed("There is no such compression")
    if session.compressed:
        raise CompressionActive
    session.compress = command.tag
