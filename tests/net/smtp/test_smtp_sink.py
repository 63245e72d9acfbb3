"""Against Postfix's own sink: what it dumps is what we were given."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from postroom.net.smtp import Fate, OpenFailed, Phase, SmtpChannel, Target
from postroom.net.wheel import TimerWheel

from .sending import HELLO, SENDER, SHORT, Octets, fates, rcpts, wheel

_PROGRAM = shutil.which("smtp-sink") or shutil.which("smtp-sink", path="/usr/sbin")

pytestmark = pytest.mark.skipif(_PROGRAM is None, reason="smtp-sink is not installed")


@asynccontextmanager
async def sink(folder: Path, *options: str) -> AsyncIterator[int]:
    """A running sink that dumps each message to a file; its port."""
    assert _PROGRAM is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []
    folder.chmod(0o777)
    command = [_PROGRAM, *as_user, *options, "-d", "m.%M.", f"127.0.0.1:{port}", "16"]
    child = await asyncio.create_subprocess_exec(*command, cwd=folder)
    try:
        yield port
    finally:
        child.terminate()
        await child.wait()


async def opened(target: Target, turning: TimerWheel) -> SmtpChannel:
    """A channel, as soon as the sink listens."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await SmtpChannel.open(target, hello=HELLO, wheel=turning, timeouts=SHORT)
            except OpenFailed as failed:
                if failed.phase is not Phase.CONNECT:
                    raise
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("options", [(), ("-p",), ("-e",), ("-8", "-p", "-4"), ("-L",)])
async def test_the_sink_dumps_what_we_sent(options: tuple[str, ...]) -> None:
    """As it is; without PIPELINING; without EHLO; without 8BITMIME; over LMTP."""
    content = Octets(b"Subject: x\r\n\r\n.\r\n..\r\n.x\r\n" + b"y" * 900 + b"\r\nend\r\n")
    # Not pytest's own folder: that is closed to the user as whom the sink runs.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with sink(folder, *options) as port, wheel() as turning:
            target = Target("sink.example", ip_address("127.0.0.1"), port, lmtp="-L" in options)
            channel = await opened(target, turning)
            for _ in range(2):
                result = await channel.send(SENDER, rcpts("ann", "bob"), content)
                assert list(fates(result).values()) == [Fate.DELIVERED] * 2
            await channel.quit()
        dumped = [path.read_bytes() for path in folder.iterdir()]
    assert len(dumped) == 2
    for each in dumped:
        assert content.octets.replace(b"\r\n", b"\n") in each
        assert b"X-Rcpt-Args: <bob@b.example>" in each
