"""An IMAP server as a process of its own, for measuring: prints its ports, ends with its input."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import structlog
import uvloop

from tests.protocols.imap.serving import new_bus, serve
from tests.stores import open_mail


async def main(folder: Path) -> None:
    bus = new_bus()
    mail, state = open_mail("sqlite", str(folder), bus.tell)
    try:
        async with serve(folder, mail, state, bus, workers=1) as room:
            await room.fill(1000)
            ports = room.workers[0].ports
            print(ports["imap"], ports["imaps"], flush=True)
            await asyncio.to_thread(sys.stdin.read)
    finally:
        await mail.close()
        await state.close()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    uvloop.run(main(Path(sys.argv[1])))
