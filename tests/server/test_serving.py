"""A running server: one on a directory, its certificates, what the service manager hears."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from pathlib import Path

from postroom.core.clock import SystemClock
from postroom.net.certificates import CertificateStore, self_signed
from postroom.net.unix import connect_unix
from postroom.server.instance import Layout, wait_ready
from postroom.testing.notify import NotifySocket

from .running import (
    Serve,
    ask,
    connect,
    port,
    status,
)

# --- one instance -------------------------------------------------------------------------


def test_a_second_server_on_the_directory_gives_up_with_a_sentence(
    serve: Serve, layout: Layout, tmp_path: Path
) -> None:
    first = serve()
    begun = time.monotonic()
    second = serve("--wait", "1", ready=False)
    assert second.wait(10) == 1
    assert time.monotonic() - begun > 1
    assert second.stderr().strip() == (f"Another server runs on {tmp_path} (process {first.pid})")
    assert status(layout).pid == first.pid
    with connect(layout) as sock:
        assert ask(sock, b"x") == b"x"


def test_a_second_server_waits_for_one_that_is_just_ending(serve: Serve, layout: Layout) -> None:
    first = serve()
    second = serve(ready=False)
    time.sleep(0.3)
    first.terminate(10)
    second.wait_ready(10)
    assert status(layout).pid == second.pid


def test_ready_waits_for_a_directory_that_does_not_exist_yet(
    serve: Serve, layout: Layout, tmp_path: Path
) -> None:
    assert not wait_ready(Layout(str(tmp_path / "none")), 0.1)
    threading.Timer(0.2, lambda: serve(ready=False)).start()
    assert wait_ready(layout, 10)


def test_the_control_socket_is_the_owners_alone(serve: Serve, layout: Layout) -> None:
    serve()
    assert os.stat(layout.control_socket).st_mode & 0o777 == 0o600
    assert os.stat(layout.run).st_mode & 0o777 == 0o700
    with connect_unix(layout.control_socket, timeout=5) as sock:
        assert ask(sock, b"x") == b"x"


# --- reload -------------------------------------------------------------------------------


def _secret(layout: Layout) -> tuple[ssl.SSLSocket, bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    raw = socket.create_connection(("127.0.0.1", port(layout, "secret")), timeout=5)
    sock = context.wrap_socket(raw)
    shown = sock.getpeercert(binary_form=True)
    assert shown is not None
    return sock, shown


def test_sighup_shows_the_new_certificate_to_newcomers_and_disturbs_nobody(
    serve: Serve, layout: Layout
) -> None:
    layout.create()
    store = CertificateStore(layout.tls)
    store.write("self-signed", *self_signed(["old.example"], SystemClock().now()))
    with NotifySocket() as notify:
        server = serve(env=notify.environment)
        notify.wait_for("READY=1", timeout=5)
        open_one, old = _secret(layout)
        before = set(server.workers())
        store.write("self-signed", *self_signed(["new.example"], SystemClock().now()))
        again, shown = _secret(layout)
        again.close()
        assert shown == old
        notify.messages.clear()
        server.signal(signal.SIGHUP)
        notify.wait_for("READY=1", timeout=5)
        told = notify.collect()
        assert told.index("RELOADING=1") < told.index("READY=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in told)
        for _ in range(8):  # whichever worker it is
            again, shown = _secret(layout)
            again.close()
            assert shown != old
        assert ask(open_one, b"still here") == b"still here"
        open_one.close()
        assert set(server.workers()) == before
        assert status(layout).state == "ready"


# --- the service manager ------------------------------------------------------------------


def test_the_service_manager_is_told_of_start_and_stop(serve: Serve, layout: Layout) -> None:
    with NotifySocket() as notify:
        server = serve(env=notify.environment)
        notify.wait_for("READY=1", timeout=5)
        with connect(layout) as sock:
            assert ask(sock, b"x") == b"x"
        server.terminate(10)
        notify.wait_for("STOPPING=1", timeout=1)
        assert notify.messages.index("READY=1") < notify.messages.index("STOPPING=1")
        assert "STATUS=2 of 2 workers serve" in notify.messages
        assert "WATCHDOG=1" not in notify.messages


def test_the_watchdog_is_kept_quiet_only_while_workers_answer(serve: Serve, layout: Layout) -> None:
    with NotifySocket() as notify:
        serve(env={**notify.environment, "WATCHDOG_USEC": "400000"})
        notify.wait_for("WATCHDOG=1", timeout=5)
        notify.messages.clear()
        notify.wait_for("WATCHDOG=1", timeout=2)
        with connect(layout) as sock:
            sock.sendall(b"BLOCK\n")
            time.sleep(0.5)
            notify.collect()
            notify.messages.clear()
            time.sleep(0.5)
            assert "WATCHDOG=1" not in notify.collect()
