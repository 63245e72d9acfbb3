"""Postfix in front of Dovecot: what accepts on SMTP is delivered by LMTP and read by IMAP."""

from __future__ import annotations

from pathlib import Path

import psutil

from bench.model import Endpoint, Filling
from bench.peers.dovecot import Dovecot
from bench.peers.postfix import Postfix


class MailStack:
    """Both servers as one target."""

    name = "postfix+dovecot"

    def __init__(self) -> None:
        self._dovecot = Dovecot("sdbox")
        self._postfix: Postfix | None = None
        self.smtp: Endpoint | None = None
        self.imap: Endpoint | None = None
        self.imap_plain: Endpoint | None = None

    def missing(self) -> str | None:
        """Why one of both cannot run here, or None."""
        return self._dovecot.missing() or Postfix().missing()

    def start(self, directory: Path) -> None:
        """Start Dovecot, then Postfix with its socket."""
        self._dovecot.start(directory)
        self._postfix = Postfix(f"lmtp:unix:{self._dovecot.lmtp}")
        self._postfix.start(directory)
        self.smtp = self._postfix.smtp
        self.imap, self.imap_plain = self._dovecot.imap, self._dovecot.imap_plain

    def stop(self) -> None:
        """End both."""
        if self._postfix is not None:
            self._postfix.stop()
        self._dovecot.stop()

    def resume(self) -> None:
        """Start both again."""
        self._dovecot.resume()
        if self._postfix is not None:
            self._postfix.resume()

    def restart_cold(self) -> None:
        """Restart the half that has stores."""
        self._dovecot.restart_cold()

    def fill(self, *fillings: Filling) -> None:
        """Fill the half that has mailboxes."""
        self._dovecot.fill(*fillings)

    def settle(self) -> None:
        """Wait until Postfix's queue is empty."""
        if self._postfix is not None:
            self._postfix.settle()

    def processes(self) -> list[psutil.Process]:
        """All processes of both."""
        ours = self._postfix.processes() if self._postfix else []
        return ours + self._dovecot.processes()
