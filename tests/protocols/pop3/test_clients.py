"""Clients that we did not write, Python's poplib and curl, and a server: the same script to Dovecot
and to us. tests/peers has fetchmail, getmail, mpop and mutt, against a server as it is started.
"""

from __future__ import annotations

import asyncio
import os
import poplib
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.protocols.imap.serving import ANN, PASSWORD, client_context, message
from tests.protocols.pop3.serving import Pop3Room

DOTS = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n\r\n.\r\n"
CONTENT = [message("first"), DOTS, message("third", b"line\r\n" * 30_000)]


def _converse(port: int, *, tls: bool) -> list[bytes]:
    """What a script does in a life; returns the messages that it found."""
    if tls:
        client: poplib.POP3 = poplib.POP3_SSL("127.0.0.1", port, context=client_context())
    else:
        client = poplib.POP3("127.0.0.1", port)
        client.stls(client_context())
    assert client.getwelcome().startswith(b"+OK")
    client.utf8()
    client.user(ANN)
    client.pass_(PASSWORD)
    count, octets = client.stat()
    assert octets == sum(int(line.split()[1]) for line in client.list()[1])
    assert len(client.uidl()[1]) == count
    found = [b"\r\n".join([*client.retr(n)[1], b""]) for n in range(1, count + 1)]
    top = client.top(3, 2)[1]
    assert b"\r\n".join(top[-3:]) == b"\r\nline\r\nline"
    client.dele(1)
    client.rset()
    client.dele(2)
    with pytest.raises(poplib.error_proto):
        client.retr(2)
    assert client.quit().startswith(b"+OK")
    return found


@pytest.mark.parametrize("tls", [True, False], ids=["implicit", "stls"])
async def test_poplib(room: Pop3Room, tls: bool) -> None:
    await room.imap.deliver(*CONTENT)
    port = room.workers[0].ports["pop3s" if tls else "pop3"]
    assert await asyncio.to_thread(_converse, port, tls=tls) == CONTENT
    assert await room.uids() == [1, 3]


async def _curl(*arguments: str) -> bytes:
    command = ["curl", "-sS", "-k", "--max-time", "10", "--user", f"{ANN}:{PASSWORD}", *arguments]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl(room: Pop3Room) -> None:
    await room.imap.deliver(*CONTENT)
    ports = room.workers[0].ports
    secure, plain = f"pop3s://127.0.0.1:{ports['pop3s']}", f"pop3://127.0.0.1:{ports['pop3']}"
    listed = b"".join(b"%d %d\r\n" % (n, len(each)) for n, each in enumerate(CONTENT, 1))
    assert await _curl(f"{secure}/") == listed
    assert await _curl(f"{secure}/2") == CONTENT[1]
    assert await _curl("--ssl-reqd", f"{plain}/3") == CONTENT[2]
    await _curl(f"{secure}/1", "-X", "DELE", "--head")
    assert await room.uids() == [2, 3]


# --- the same script to another server ---------------------------------------------------------

_CONF = """\
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/dovecot.log
protocols = pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
first_valid_uid = 1
mail_location = maildir:~/maildir
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {root}/users
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={root}/home
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""

DOVECOT = shutil.which("dovecot", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
HAS_POP3 = DOVECOT is not None and Path("/usr/lib/dovecot/pop3").exists() and os.geteuid() == 0

SCRIPT = [
    *("NOOP", "STAT", "LIST", "LIST 1", "LIST 4", "LIST 0", "LIST x", "UIDL", "UIDL 2", "UIDL 9"),
    *("RETR 1", "RETR 2", "RETR 3", "RETR 4", "RETR", "RETR 0", "TOP 1 0", "TOP 2 3", "TOP 3 5"),
    *("TOP 2 99", "TOP 9 1", "TOP 1 -1", "DELE 2", "DELE 2", "LIST 2", "RETR 2", "TOP 2 0"),
    *("STAT", "LIST", "UIDL", "RSET", "STAT", "RETR 2", "DELE 4", "DELE 0", "WHAT", "list 1"),
    *("USER ann", "PASS x", "STLS", "DELE 1", "DELE 3", "STAT", "LIST", "QUIT"),
]
LISTINGS = {"LIST", "UIDL", "CAPA"}


class Line:
    """A connection that says a script and takes down what it hears, by blocking calls."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")
        assert self._file.readline().startswith(b"+OK")

    def say(self, command: str) -> tuple[bool, bytes, bytes]:
        """Whether it went well, the rest of its line, and the lines behind it."""
        self._sock.sendall(command.encode() + b"\r\n")
        first = self._file.readline()
        assert first.endswith(b"\r\n")
        verb = command.split(maxsplit=1)[0].upper()
        many = verb in ("RETR", "TOP") or command.upper() in LISTINGS
        ok = first.startswith(b"+OK")
        assert ok or first.startswith(b"-ERR"), first
        lines = b""
        while ok and many and (line := self._file.readline()) != b".\r\n":
            assert line
            lines += line
        return ok, first.partition(b" ")[2].strip(), lines

    def close(self) -> None:
        self._file.close()
        self._sock.close()


@pytest.fixture
def dovecot() -> Iterator[int]:
    """The port of Dovecot, with the same messages in a Maildir."""
    # Not below pytest's own folder, into which nobody but its owner may look.
    with tempfile.TemporaryDirectory(prefix="postroom-dovecot-") as folder:
        yield from _serve_dovecot(Path(folder))


def _serve_dovecot(root: Path) -> Iterator[int]:
    root.chmod(0o755)
    maildir = root / "home" / "maildir"
    for each in ("cur", "new", "tmp"):
        (maildir / each).mkdir(parents=True)
    for n, content in enumerate(CONTENT):
        (maildir / "new" / f"{n}.1.host").write_bytes(content.replace(b"\r\n", b"\n"))
    for folder, _, files in os.walk(root / "home"):
        for name in (folder, *(os.path.join(folder, file) for file in files)):
            shutil.chown(name, "mail", "mail")
    (root / "users").write_text(f"{ANN}:{{PLAIN}}{PASSWORD}\n")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (root / "dovecot.conf").write_text(_CONF.format(root=root, port=port))
    assert DOVECOT is not None
    with subprocess.Popen([DOVECOT, "-F", "-c", str(root / "dovecot.conf")]) as process:
        try:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def _script(line: Line, commands: Sequence[str]) -> list[tuple[str, Any]]:
    """What was heard, without the words that each server chooses for itself."""
    heard: list[tuple[str, Any]] = []
    for said in (f"USER {ANN}", f"PASS {PASSWORD}", *commands):
        ok, rest, lines = line.say(said)
        verb = said.split(maxsplit=1)[0].upper()
        if verb == "UIDL":  # the ids are each server's own
            rest, lines = b"", re.sub(rb"(?m) .*$", b"", lines)
        elif not ok or verb not in ("STAT", "LIST") or lines:
            rest = b""
        heard.append((said, (ok, b" ".join(rest.split()[:2]), lines)))
    line.close()
    return heard


@pytest.mark.skipif(not HAS_POP3, reason="Dovecot's POP3 is not installed, or this is not root")
async def test_a_script_is_answered_as_dovecot_answers_it(room: Pop3Room, dovecot: int) -> None:
    await room.imap.deliver(*CONTENT)

    def theirs() -> list[tuple[str, Any]]:
        return _script(Line(socket.create_connection(("127.0.0.1", dovecot))), SCRIPT)

    def ours() -> list[tuple[str, Any]]:
        sock = socket.create_connection(("127.0.0.1", room.workers[0].ports["pop3s"]))
        return _script(Line(client_context().wrap_socket(sock)), SCRIPT)

    wanted, found = await asyncio.to_thread(theirs), await asyncio.to_thread(ours)
    differing = [(a, b) for a, b in zip(wanted, found, strict=True) if a != b]
    assert differing == []
    assert await room.uids() == [2]
