"""The walking server: started as an operator starts it, spoken to by clients that are not ours.

Everything here is a process: the server itself, the command `postroom`, swaks, curl, mbsync.
What a client says is bytes and an exit code; nothing looks into the server.
"""

from __future__ import annotations

import imaplib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from postroom.admin import client
from postroom.server.instance import Layout, read_status
from postroom.testing.dns import DnsServer
from postroom.testing.ports import free_offset
from postroom.testing.process import ProcessDiedError, ServerProcess
from postroom.testing.zones import Zones
from postroom.wire.smtp import dot_stuff

HOST: Final = "127.0.0.1"
DOMAIN: Final = "example.test"
PROGRAM: Final = (sys.executable, "-m", "postroom")
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
PATIENCE: Final = 30.0  # seconds for any one client
RESOLVER: Final = "--resolver"
TRIES: Final = 3  # another process may take a port between the look and the start

_TRACE_ID: Final = re.compile(r"\br[0-9a-z]{13}\b")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a client did: its exit code, and what it wrote."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Both outputs as text, for people."""
        return (self.out + self.err).decode("utf-8", "backslashreplace")

    @property
    def trace_id(self) -> str:
        """The id in the last reply that names one. Raises AssertionError if none does."""
        found = _TRACE_ID.findall(self.text)
        assert found, self.text
        return str(found[-1])


def run(
    words: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    patience: float = PATIENCE,
) -> Ran:
    """Run a program to its end. Raises subprocess.TimeoutExpired."""
    done = subprocess.run(
        words, input=stdin, env=env, cwd=cwd, capture_output=True, timeout=patience, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def is_installed(program: str) -> bool:
    """Whether a client is there. Where CI runs, all of tools/system-packages.txt must be."""
    return os.environ.get("CI") == "true" or shutil.which(program) is not None


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who signs in."""

    address: str
    password: str


class Walking:
    """One data directory and the server on it; it may be stopped and started again."""

    def __init__(self, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        """Nothing is made or started yet; `options` are more words for `serve`."""
        self.folder = folder
        self.data = folder / "data"
        self.layout = Layout(str(self.data))
        self.offset = 0
        self.said = ""
        """What the first start printed."""
        self._options = options
        self._env = {**ENVIRONMENT, **(env or {})}
        self._server: ServerProcess | None = None
        self._dns: DnsServer | None = None
        self._log = ""  # of the servers before this one

    # --- the server ------------------------------------------------------------------------------

    @property
    def server(self) -> ServerProcess:
        assert self._server is not None, "it was not started"
        return self._server

    def start(self) -> float:
        """Start, on the ports of the last time if there was one: seconds until `ready` ends."""
        first = not self.offset
        for left in reversed(range(TRIES if first else 1)):
            if first:
                self.offset = free_offset()
            began = time.monotonic()
            self._server = self.serve()
            ready = self.postroom("ready", "--timeout", "10", code=None)
            if not ready.code:
                self.said = self.said or self.server.stdout()
                return time.monotonic() - began
            complaint = self.server.stderr()
            self.server.close()  # what it said is no log
            self._server = None
            if not left or "Cannot listen" not in complaint:
                raise ProcessDiedError(f"it did not become ready:\n{complaint[-4000:]}")
        raise AssertionError("unreachable")

    def serve(self) -> ServerProcess:
        """One more `postroom serve` on this directory, whatever becomes of it."""
        words = ["serve", "--port-offset", str(self.offset), "--workers", "2"]
        if RESOLVER not in self._options:
            words += [RESOLVER, self._resolver()]
        return ServerProcess([*PROGRAM, *words, *self._options], self.data, env=self._env)

    def _resolver(self) -> str:
        """A DNS in which nobody exists, and which says so at once: the machine's may be slow."""
        if self._dns is None:
            self._dns = DnsServer(Zones())
            self._dns.__enter__()
        return str(self._dns)

    def stop(self) -> int:
        """SIGTERM and wait: the exit code."""
        code = self.server.terminate()
        self.close()
        return code

    def close(self) -> None:
        """Let the server go, by force if it still runs; its log is kept."""
        if self._server is not None:
            self._log += self._server.stderr()
            self._server.close()
            self._server = None
        if self._dns is not None:
            self._dns.__exit__(None, None, None)
            self._dns = None

    def reload(self) -> None:
        self.server.signal(signal.SIGHUP)

    def log_text(self) -> str:
        """Everything that was logged by all servers so far."""
        return self._log + (self._server.stderr() if self._server is not None else "")

    def log(self) -> list[dict[str, Any]]:
        """The same as values. Raises ValueError if a line is no JSON object."""
        return [dict(json.loads(line)) for line in self.log_text().splitlines()]

    def workers(self) -> dict[int, str]:
        """The workers' process ids and states, as the supervisor tells."""
        status = read_status(self.layout)
        return {w.pid: w.state for w in status.workers} if status is not None else {}

    @property
    def smtp(self) -> int:
        return 25 + self.offset

    @property
    def imap(self) -> int:
        return 143 + self.offset

    @property
    def imaps(self) -> int:
        return 993 + self.offset

    # --- the command -----------------------------------------------------------------------------

    def postroom(self, *words: str, stdin: str = "", code: int | None = 0) -> Ran:
        """Run the command on this directory; any other exit code than `code` is an error."""
        command = [*PROGRAM, "--data", str(self.data), *words]
        done = run(command, stdin=stdin.encode(), env=self._env)
        assert code is None or done.code == code, (words, done)
        return done

    def operation(self, name: str, /, **asked: object) -> Any:
        """An operation over the local socket, without the command's start."""
        return client.call(self.layout.control_socket, name, asked)

    def admin(self) -> Account:
        """Whom the first start made, by what it printed."""
        (address,) = re.findall(r"Sign in as\s+(\S+)", self.said)
        (password,) = re.findall(r"Password\s+(\S+)", self.said)
        return Account(address, password)

    def account(self, local: str, password: str = "correct horse battery staple") -> Account:
        """A new account."""
        made = Account(f"{local}@{DOMAIN}", password)
        self.operation("account create", address=made.address, password=password)
        return made

    # --- SMTP ------------------------------------------------------------------------------------

    def swaks(self, *options: str, to: Account | str) -> Ran:
        """One session; the message is swaks' own unless `options` bring one."""
        address = to.address if isinstance(to, Account) else to
        server = ("--server", HOST, "--port", str(self.smtp), "--helo", "client.example")
        whom = ("--from", "ann@far.example", "--to", address)
        return run(["swaks", *server, *whom, *options])

    def exactly(self, content: bytes) -> tuple[str, ...]:
        """swaks' options for a message that goes octet by octet as it is."""
        path = self.folder / "exactly.eml"
        path.write_bytes(b"".join(dot_stuff([content])))
        return ("--data", f"@{path}", "--no-data-fixup")

    # --- IMAP ------------------------------------------------------------------------------------

    @property
    def certificate(self) -> Path:
        """The certificate that the first start made; clients trust it alone."""
        return Path(self.layout.tls) / "self-signed.pem"

    def trusting(self) -> ssl.SSLContext:
        """A context that believes the server's certificate, and looks at the name in it."""
        return ssl.create_default_context(cafile=str(self.certificate))

    @contextmanager
    def imaplib(self, who: Account) -> Iterator[imaplib.IMAP4_SSL]:
        """Python's own client, signed in."""
        context = self.trusting()
        box = imaplib.IMAP4_SSL("localhost", self.imaps, ssl_context=context, timeout=PATIENCE)
        with box:
            box.login(who.address, who.password)
            yield box

    def curl(self, who: Account, path: str, *options: str, stdin: bytes = b"") -> Ran:
        """curl over TLS from the first octet; `path` stands behind the host of the URL."""
        trust = ("--silent", "--show-error", "--cacert", str(self.certificate))
        user = ("--user", f"{who.address}:{who.password}")
        url = f"imaps://localhost:{self.imaps}/{path}"
        return run(["curl", *trust, *user, *options, url], stdin=stdin)

    def mbsync(self, who: Account) -> Mbsync:
        """mbsync between the account and a folder of its own."""
        folder = self.folder / f"mbsync-{who.address}"
        (folder / "mail").mkdir(parents=True, exist_ok=True)
        return Mbsync(self, who, folder)


class Mbsync:
    """isync's mbsync: every mailbox of an account as a Maildir, both ways."""

    def __init__(self, walking: Walking, who: Account, folder: Path) -> None:
        self.mail = folder / "mail"
        self._config = folder / "mbsyncrc"
        self._config.write_text(
            f"""IMAPAccount server
Host localhost
Port {walking.imaps}
User {who.address}
PassCmd "echo '{who.password}'"
SSLType IMAPS
SystemCertificates no
CertificateFile {walking.certificate}

IMAPStore far
Account server

MaildirStore near
Path {self.mail}/
Inbox {self.mail}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
CopyArrivalDate yes
"""
        )

    def run(self, *options: str, patience: float = PATIENCE) -> Ran:
        """Synchronise everything once."""
        words = ["mbsync", "--config", str(self._config), "--all", *options]
        return run(words, patience=patience)

    def files(self, mailbox: str = "INBOX") -> list[Path]:
        """The messages of a mailbox on this side, by UID."""
        found = [f for sub in ("cur", "new") for f in (self.mail / mailbox / sub).iterdir()]
        return sorted(found, key=uid_of)


def uid_of(file: Path) -> int:
    """The UID that mbsync wrote into a Maildir name; 0 for a message that it has not seen."""
    found = re.search(r",U=(\d+)", file.name)
    return int(found[1]) if found else 0


_MARK: Final = re.compile(rb"^X-TUID: [^\r\n]*\r\n", re.MULTILINE)


def without_mark(content: bytes) -> bytes:
    """A message without the field by which mbsync knows again what it copied."""
    head, gap, body = content.partition(b"\r\n\r\n")
    return _MARK.sub(b"", head + b"\r\n", count=1) + gap[2:] + body


def as_on_the_wire(file: Path) -> bytes:
    """A Maildir file with the line ends of the wire, and without the mark that mbsync adds."""
    return without_mark(file.read_bytes().replace(b"\n", b"\r\n"))


def fetched(box: imaplib.IMAP4, numbers: str = "1:*") -> list[bytes]:
    """The messages of the open mailbox, octet by octet."""
    kind, data = box.fetch(numbers, "(BODY.PEEK[])")
    assert kind == "OK", data
    return [each[1] for each in data if isinstance(each, tuple)]


def eventually(what: Callable[[], bool], within: float = 10.0) -> float:
    """Seconds until `what()` holds. Raises AssertionError if it does not in time."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < within, "it never came true"
        time.sleep(0.01)
    return time.monotonic() - began
