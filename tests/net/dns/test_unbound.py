"""Against unbound, where it is installed: what a real recursive server makes of our questions."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from postroom.core.errors import DnsFailed
from postroom.net.dns import Kind, Limits, Mx, Resolver, parse_server
from postroom.testing.clock import ManualClock
from postroom.testing.dns import DnsServer, Fault, What, Zones

_PROGRAM = shutil.which("unbound") or shutil.which("unbound", path="/usr/sbin:/usr/local/sbin")
_PATIENCE = 10.0  # seconds for it to come up

pytestmark = pytest.mark.skipif(_PROGRAM is None, reason="unbound is not installed")

_CONFIGURATION = """
server:
    directory: "{folder}"
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    interface: 127.0.0.1@{port}
    do-not-query-localhost: no
    module-config: "iterator"
    num-threads: 1
    local-zone: "local.example." static
    local-data: "local.example. 300 IN SOA ns.local.example. root.local.example. 1 1 1 1 60"
    local-data: "local.example. 300 IN MX 10 mx.local.example."
    local-data: "mx.local.example. 300 IN A 192.0.2.1"
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{upstream}
"""


@pytest.fixture
def zones() -> Zones:
    made = Zones()
    made.zone("a.example", minimum=60)
    made.add("a.example", "MX", "10 mx1.a.example")
    made.host("mx1.a.example", "192.0.2.1")
    made.add("www.a.example", "CNAME", "mx1.a.example")
    made.text("large.a.example", b"x" * 4000)
    return made


@pytest.fixture
def unbound(tmp_path: Path, zones: Zones) -> Iterator[str]:
    """Its ADDR:PORT; it forwards to a server of ours in another thread."""
    assert _PROGRAM is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with DnsServer(zones) as upstream:
        path = tmp_path / "unbound.conf"
        path.write_text(_CONFIGURATION.format(folder=tmp_path, port=port, upstream=upstream.port))
        with subprocess.Popen(
            [_PROGRAM, "-d", "-c", os.fspath(path)], stderr=subprocess.PIPE
        ) as process:
            try:
                _wait_for(port, process)
                yield f"127.0.0.1:{port}"
            finally:
                process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.terminate()
    assert process.stderr is not None
    pytest.fail(f"unbound did not come up: {process.stderr.read()!r}")


async def test_unbound_and_we_understand_each_other(
    unbound: str, zones: Zones, clock: ManualClock
) -> None:
    resolver = Resolver(clock, servers=[parse_server(unbound)], limits=Limits(tries=(5.0, 5.0)))
    try:
        assert (await resolver.mx("local.example")).hosts == (Mx(10, "mx.local.example"),)
        assert (await resolver.mx("a.example")).hosts == (Mx(10, "mx1.a.example"),)
        www = await resolver.query("www.a.example", Kind.A)
        assert (www.records, www.canonical) == ((IPv4Address("192.0.2.1"),), "mx1.a.example")
        assert await resolver.texts("large.a.example") == (b"x" * 4000,)
        nothing = await resolver.query("mx.local.example", Kind.MX)
        assert (nothing.records, nothing.exists, nothing.ttl) == ((), True, 60)
        nobody = await resolver.query("no.local.example", Kind.MX)
        assert (nobody.records, nobody.exists, nobody.ttl) == ((), False, 60)
        assert not (await resolver.query("no.a.example", Kind.MX)).exists
        zones.fault("broken.a.example", None, Fault(What.SERVFAIL))
        with pytest.raises(DnsFailed):
            await resolver.mx("broken.a.example")
        many = await asyncio.gather(
            *(resolver.query(f"host{number}.a.example", Kind.A) for number in range(200))
        )
        assert not any(answer.exists for answer in many)
    finally:
        await resolver.close()
