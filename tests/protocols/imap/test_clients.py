"""Clients that we did not write: Python's imaplib and curl."""

from __future__ import annotations

import asyncio
import imaplib
import re
import shutil
import subprocess
from typing import Any

import pytest

from tests.protocols.imap.serving import ANN, PASSWORD, Room, client_context, message


def _ok(answer: tuple[str, Any]) -> Any:
    kind, data = answer
    assert kind == "OK", answer
    return data


def _converse(port: int, *, tls: bool) -> list[bytes]:
    """What a script does in a life; returns the bodies that it found."""
    if tls:
        client: imaplib.IMAP4 = imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=client_context())
    else:
        client = imaplib.IMAP4("127.0.0.1", port)
        _ok(client.starttls(client_context()))
    _ok(client.login(ANN, PASSWORD))
    assert b" IDLE " in _ok(client.capability())[0]
    _ok(client.create("Scripts"))
    for n in range(3):
        _ok(client.append("Scripts", "(\\Flagged)", "", message(subject=f"n{n}")))
    assert _ok(client.select("Scripts")) == [b"3"]
    assert _ok(client.search(None, "FLAGGED")) == [b"1 2 3"]
    assert _ok(client.uid("SEARCH", "SUBJECT", "n1")) == [b"2"]
    fetched = _ok(client.fetch("1:*", "(UID FLAGS RFC822)"))
    bodies = [each[1] for each in fetched if isinstance(each, tuple)]
    _ok(client.store("2", "+FLAGS", "(\\Deleted)"))
    assert _ok(client.expunge()) == [b"2"]
    _ok(client.copy("1", "INBOX"))
    (answer,) = _ok(client.status("INBOX", "(MESSAGES UNSEEN)"))
    assert re.search(rb"MESSAGES 1\b", answer)
    assert any(b"Scripts" in each for each in _ok(client.list()))
    _ok(client.rename("Scripts", "Renamed"))
    _ok(client.close())
    _ok(client.delete("Renamed"))
    assert client.logout()[0] == "BYE"
    return bodies


@pytest.mark.parametrize("tls", [True, False], ids=["implicit", "starttls"])
async def test_imaplib(room: Room, tls: bool) -> None:
    port = room.workers[0].ports["imaps" if tls else "imap"]
    bodies = await asyncio.to_thread(_converse, port, tls=tls)
    assert bodies == [message(subject=f"n{n}") for n in range(3)]


async def _curl(*arguments: str) -> bytes:
    command = ["curl", "-sS", "-k", "--max-time", "10", "--user", f"{ANN}:{PASSWORD}", *arguments]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl(room: Room) -> None:
    await room.deliver(message("first"), message("second"))
    ports = room.workers[0].ports
    secure, plain = f"imaps://127.0.0.1:{ports['imaps']}", f"imap://127.0.0.1:{ports['imap']}"
    assert await _curl(f"{secure}/INBOX;UID=1") == message("first")
    assert await _curl("--ssl-reqd", f"{plain}/INBOX;UID=2") == message("second")
    assert b'"/" Sent' in await _curl(f"{secure}/")
    assert await _curl(f"{secure}/INBOX?SUBJECT%20second") == b"* SEARCH 2\r\n"
    assert b"EXISTS" in await _curl(f"{secure}", "-X", "EXAMINE INBOX")
    assert await _curl(f"{secure}/INBOX;UID=1;SECTION=HEADER.FIELDS%20(SUBJECT)") == (
        b"Subject: first\r\n\r\n"
    )
