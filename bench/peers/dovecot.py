"""Dovecot 2.3 for IMAP and LMTP, with its shipped process model and durability.

Left as shipped: one process for each sign-in and each session, caching decisions,
`mail_fsync=optimized` (flag changes are not synced). Changed: limits on the number of processes
and on connections of one user, since all load comes from one address. Clients sign in over TLS,
as they do at Postroom, which takes no password without it. Variants change the storage format,
set `mail_fsync=always` or sign in without TLS, and their names say so.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from bench.load.imap import Imap
from bench.model import ACCOUNTS, PASSWORD, Endpoint, Filling
from bench.peers.certificate import write_certificate
from bench.peers.process import Daemon, forget_pages, free_endpoint
from postroom.access import AccessSettings, make_secret
from postroom.access.passwords import Cost

_CONF = """\
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{root}/cert.pem
ssl_key = <{root}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain
{auth}
first_valid_uid = 1
mail_location = {format}:~/{format}
mail_fsync = {fsync}
mail_max_userip_connections = 5000
passdb {{
  driver = passwd-file
  args = scheme={scheme} username_format=%u {root}/users
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={root}/home/%n
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  process_limit = 2000
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 2000
}}
service anvil {{
  client_limit = 8000
}}
service auth {{
  client_limit = 8000
}}
service stats {{
  client_limit = 8000
}}
service lmtp {{
  unix_listener {root}/lmtp {{
    mode = 0666
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@bench.example
}}
"""


class Argon2:
    """Passwords are kept as Postroom keeps them, and hashed each time: Dovecot remembers none
    that a passwd-file holds."""

    # As much memory as the hash takes is not within the default limit of the process.
    auth = "service auth {\n  vsz_limit = 2 G\n}\n"

    def users(self) -> str:
        """The lines of the file: one hash for all, for its making takes time."""
        made = make_secret(PASSWORD, Cost.of(AccessSettings())).password
        return "".join(f"{user}:{made}\n" for user in ACCOUNTS)


class Dovecot:
    """Dovecot with one storage format."""

    def __init__(
        self,
        storage: str = "sdbox",
        fsync: str = "optimized",
        *,
        plain: bool = False,
        secrets: Argon2 | None = None,
    ) -> None:
        self.name = f"dovecot-{storage}" + ("" if fsync == "optimized" else f"-{fsync}")
        self.name += "-plain" if plain else ""
        self.name += "-argon2" if secrets is not None else ""
        self._secrets = secrets
        self._plain = plain
        self._storage = storage
        self._fsync = fsync
        self._daemon: Daemon | None = None
        self._root: Path | None = None
        self.smtp: Endpoint | None = None
        self.imap: Endpoint | None = None
        self.imap_plain: Endpoint | None = None
        self._imaps: Endpoint | None = None

    @property
    def lmtp(self) -> Path:
        """The LMTP socket, once started."""
        if self._root is None:
            raise RuntimeError("not started")
        return self._root / "lmtp"

    def missing(self) -> str | None:
        """Why Dovecot cannot run here, or None."""
        if _program() is None:
            return "dovecot is not installed"
        return None if os.geteuid() == 0 else "Dovecot drops privileges and so starts as root"

    def start(self, directory: Path) -> None:
        """Write the configuration below `directory` and start."""
        self._root = root = directory / "dovecot"
        (root / "home").mkdir(parents=True)
        shutil.chown(root / "home", "mail", "mail")
        self.imap_plain, self._imaps = free_endpoint(), free_endpoint(tls=True)
        self.imap = self.imap_plain if self._plain else self._imaps
        write_certificate(root / "cert.pem", root / "key.pem")
        plain = "".join(f"{user}:{PASSWORD}\n" for user in ACCOUNTS)
        secrets = self._secrets
        (root / "users").write_text(secrets.users() if secrets is not None else plain)
        (root / "dovecot.conf").write_text(
            _CONF.format(
                root=root,
                format=self._storage,
                fsync=self._fsync,
                scheme="ARGON2ID" if secrets is not None else "PLAIN",
                auth=secrets.auth if secrets is not None else "",
                imap=self.imap_plain.port,
                imaps=self._imaps.port,
            )
        )
        self.resume()

    def stop(self) -> None:
        """SIGTERM stops the master and its children."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def restart_cold(self) -> None:
        """Stop, forget the pages of the stores, start again."""
        self.stop()
        if self._root is not None:
            forget_pages(self._root / "home")
        self.resume()

    def fill(self, *fillings: Filling) -> None:
        """APPEND, many messages to a round trip."""
        if self.imap_plain is None:
            raise RuntimeError("not started")
        for filling in fillings:
            client = Imap(self.imap_plain, filling.account, PASSWORD)
            client.append_all(b"INBOX", filling.messages())
            client.close()

    def settle(self) -> None:
        """Dovecot does nothing in the background."""

    def processes(self) -> list[psutil.Process]:
        """The master and its children."""
        return self._daemon.processes() if self._daemon else []

    def resume(self) -> None:
        """Start on the configuration and the stores that are there."""
        if self._root is None or self.imap_plain is None or self._imaps is None:
            raise RuntimeError("not started")
        command = [_program() or "dovecot", "-F", "-c", str(self._root / "dovecot.conf")]
        self._daemon = Daemon(command, self._root / "output.log")
        self._daemon.wait_for(self.imap_plain, self._imaps)


def _program() -> str | None:
    return shutil.which("dovecot", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
