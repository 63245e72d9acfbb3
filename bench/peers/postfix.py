"""Postfix as the MX of one domain, with the durability and the limits that it ships with.

Left as shipped: fsync of each queue file, in_flow_delay, process limits, concurrency of
delivery. Changed: no DNS and no log (there is no syslog daemon to take it), both of which favour
Postfix; no TLS; no limit on connections from one client, since all load comes from one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psutil

from bench.model import DOMAIN, BenchError, Endpoint, Filling
from bench.peers.process import Daemon, free_endpoint, wait_until

_QUEUES = ("maildrop", "incoming", "active", "deferred")
_DRAIN = 300.0  # s

_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/spool
data_directory = {root}/data
command_directory = {commands}
daemon_directory = {daemons}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mx.{domain}
mydestination =
mynetworks =
local_recipient_maps =
alias_maps =
alias_database =
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = static:any
virtual_transport = {transport}
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_client_event_limit_exceptions = static:all
smtpd_client_connection_count_limit = 0
smtpd_tls_security_level = none
smtp_tls_security_level = none
message_size_limit = 52428800
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
lmtp      unix  - - n - - lmtp
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
"""


class Postfix:
    """Postfix that delivers with `transport` (discard, or LMTP to another target)."""

    name = "postfix"

    def __init__(self, transport: str = "discard:") -> None:
        self._transport = transport
        self._more = ""  # further lines of main.cf, which outweigh the earlier ones
        self._listeners = ""  # and of master.cf
        self._daemon: Daemon | None = None
        self._root: Path | None = None
        self.smtp: Endpoint | None = None
        self.imap: Endpoint | None = None
        self.imap_plain: Endpoint | None = None

    def missing(self) -> str | None:
        """Why Postfix cannot run here, or None."""
        if shutil.which("postfix", path=_path()) is None:
            return "postfix is not installed"
        return None if os.geteuid() == 0 else "Postfix starts only as root"

    def start(self, directory: Path) -> None:
        """Write the configuration below `directory` and start."""
        self._root = root = directory / "postfix"
        self.smtp = free_endpoint()
        for part in ("conf", "spool", "data"):
            (root / part).mkdir(parents=True)
        shutil.chown(root / "data", "postfix")
        main = _MAIN.format(
            root=root,
            domain=DOMAIN,
            transport=self._transport,
            commands=_default("command_directory"),
            daemons=_default("daemon_directory"),
        )
        (root / "conf/main.cf").write_text(main + self._more)
        master = _MASTER.format(port=self.smtp.port) + self._listeners
        (root / "conf/master.cf").write_text(master)
        self.resume()

    def resume(self) -> None:
        """Start on the configuration and the queues that are there."""
        if self._root is None or self.smtp is None:
            raise RuntimeError("not started")
        self._daemon = Daemon(_postfix(self._root, "start-fg"), self._root / "output.log")
        self._daemon.wait_for(self.smtp)

    def stop(self) -> None:
        """Ask the master to stop, then make sure."""
        if self._daemon is not None and self._root is not None:
            subprocess.run(_postfix(self._root, "stop"), capture_output=True, check=False)
            self._daemon.stop()
            self._daemon = None

    def restart_cold(self) -> None:
        """Not offered: no workload opens Postfix's stores."""
        raise BenchError("Postfix has no store to reopen")

    def fill(self, *fillings: Filling) -> None:
        """Not offered: it holds no mailboxes."""
        raise BenchError("Postfix has no mailboxes")

    def settle(self) -> None:
        """Wait until no queue holds a message."""
        wait_until(lambda: self._queued() == 0, "an empty queue", _DRAIN)

    def processes(self) -> list[psutil.Process]:
        """The master and its children."""
        return self._daemon.processes() if self._daemon else []

    def _queued(self) -> int:
        if self._root is None:
            return 0
        return sum(
            len(files) for queue in _QUEUES for _, _, files in os.walk(self._root / "spool" / queue)
        )


def _path() -> str:
    """The system administrator's commands are not on everybody's PATH."""
    return os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"


def _postfix(root: Path, verb: str) -> list[str]:
    program = shutil.which("postfix", path=_path()) or "postfix"
    return [program, "-c", str(root / "conf"), verb]


def _default(parameter: str) -> str:
    program = shutil.which("postconf", path=_path()) or "postconf"
    done = subprocess.run(
        [program, "-d", "-h", parameter], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
