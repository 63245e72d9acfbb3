"""Dovecot's own session as a peer: the same client, the same words, over its standard streams."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from postroom.testing.imap import ImapClient
from postroom.wire.imap import Untagged

IMAP = Path("/usr/lib/dovecot/imap")
NOBODY = 65_534  # Dovecot refuses to be root
PATIENCE = 20.0


@asynccontextmanager
async def dovecot_home() -> AsyncIterator[Path]:
    """A place for one user's mail; pytest's own folders are closed to Dovecot's user."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        home = folder / "home"
        home.mkdir()
        (folder / "dovecot.conf").write_text(
            f"mail_location = sdbox:{home}/mail\nbase_dir = {folder}/run\nssl = no\n"
            "first_valid_uid = 1\nfirst_valid_gid = 0\n"
        )
        if os.geteuid() == 0:
            os.chown(home, NOBODY, NOBODY)
            folder.chmod(0o755)
        yield folder


@asynccontextmanager
async def dovecot_session(folder: Path) -> AsyncIterator[ImapClient]:
    """A session of that user, signed in already."""
    user: int | None = NOBODY if os.geteuid() == 0 else None
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [str(IMAP), "-c", str(folder / "dovecot.conf")],
        stdin=theirs.fileno(),
        stdout=theirs.fileno(),
        stderr=subprocess.DEVNULL,
        env={"HOME": str(folder / "home"), "USER": "nobody", "PATH": os.environ.get("PATH", "")},
        user=user,
        group=user,
    )
    theirs.close()
    try:
        client = ImapClient(*await asyncio.open_connection(sock=ours), PATIENCE)
        greeting = await client.response()
        assert isinstance(greeting, Untagged)
        client.greeting = greeting
        yield client
        await client.close()
    finally:
        process.kill()
        process.wait()
