"""Servers that pass mail on to a sink, and servers that take it over TLS from who signed in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.model import Endpoint
from bench.peers.certificate import write_certificate
from bench.peers.postfix import Postfix
from bench.peers.postroom import Postroom
from bench.peers.process import free_endpoint
from bench.peers.sink import Sink


class PostroomRelay(Postroom):
    """Takes mail on 465 from who signed in, and hands it to the sink as its smart host."""

    def __init__(self) -> None:
        self.sink = Sink()
        super().__init__(options=("--outbound-port", str(self.sink.at.port)))

    def start(self, directory: Path) -> None:
        """Start the sink, then the server."""
        self.sink.start(directory)
        super().start(directory)
        self.ask("settings set", name="relay.smart_host", value="[127.0.0.1]")

    def stop(self) -> None:
        """End both."""
        super().stop()
        self.sink.stop()


class PostfixRelay(Postfix):
    """Takes mail over TLS from its own networks, without a sign-in, and hands it to the sink.

    That nobody signs in favours Postfix.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sink = Sink()
        self.submissions: Endpoint | None = None

    def start(self, directory: Path) -> None:
        """Start the sink, then the server."""
        self.sink.start(directory)
        self.submissions = replace(free_endpoint(), tls=True)
        self._listeners = _TLS_LISTENER.format(port=self.submissions.port)
        chain, key = directory / "relay.pem", directory / "relay.key"
        write_certificate(chain, key)
        self._more = _RELAY.format(sink=self.sink.at.port, chain=chain, key=key)
        super().start(directory)

    def stop(self) -> None:
        """End both."""
        super().stop()
        self.sink.stop()


_RELAY = """\
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_tls_cert_file = {chain}
smtpd_tls_key_file = {key}
"""
_TLS_LISTENER = """\
127.0.0.1:{port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_tls_security_level=encrypt
"""
