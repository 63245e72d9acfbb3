from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postroom.core.errors import Misuse
from postroom.server.sockets import (
    Kind,
    Listener,
    addresses_for,
    open_sockets,
)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which a foreign server listens, one that would even share it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_each_worker_has_a_socket_of_its_own_on_the_same_port() -> None:
    listeners = (Listener("a"), Listener("b", kind=Kind.TLS))
    with closing(open_sockets(listeners, 3, bind=("127.0.0.1",))) as sockets:
        assert len(sockets.workers) == 3
        for n, name in enumerate(("a", "b")):
            doors = [bound[n] for bound in sockets.workers]
            assert {door.listener.name for door in doors} == {name}
            assert len({door.address for door in doors}) == 1
            assert len({door.sock.fileno() for door in doors}) == 3
        assert [(name, address) for name, address, _ in sockets.describe()] == [
            ("a", "127.0.0.1"),
            ("b", "127.0.0.1"),
        ]


def test_connections_spread_over_the_workers() -> None:
    with closing(open_sockets((Listener("a"),), 2, bind=("127.0.0.1",))) as sockets:
        where = sockets.workers[0][0].address
        clients = [socket.create_connection(where) for _ in range(64)]
        counts = []
        for bound in sockets.workers:
            bound[0].sock.setblocking(False)
            count = 0
            while True:
                try:
                    bound[0].sock.accept()[0].close()
                except BlockingIOError:
                    break
                count += 1
            counts.append(count)
        for client in clients:
            client.close()
        assert sum(counts) == 64
        assert min(counts) >= 8


def test_a_port_that_a_foreign_server_holds_is_an_error_in_words(taken: int) -> None:
    with pytest.raises(Misuse) as error:
        open_sockets((Listener("smtp", taken),), 2, bind=("127.0.0.1",))
    assert str(error.value) == (
        f"Cannot listen for smtp on 127.0.0.1:{taken}: another program listens there"
    )


def test_what_was_opened_before_an_error_is_closed(taken: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    listeners = (Listener("free", free), Listener("taken", taken))
    with pytest.raises(Misuse):
        open_sockets(listeners, 2, bind=("127.0.0.1",))
    with socket.create_server(("127.0.0.1", free)):
        pass


def test_the_offset_moves_ports_and_means_loopback() -> None:
    assert addresses_for((), 20000) == ("127.0.0.1", "::1")
    assert addresses_for((), 0) == ("0.0.0.0", "::")
    assert addresses_for(("192.0.2.1",), 20000) == ("192.0.2.1",)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    with closing(open_sockets((Listener("smtp", 25),), 1, port_offset=free - 25)) as sockets:
        assert ("smtp", "127.0.0.1", free) in sockets.describe()
        assert all(address in ("127.0.0.1", "::1") for _, address, _ in sockets.describe())


@pytest.mark.parametrize("address", ["nonsense", "localhost", "192.0.2.1"])
def test_an_address_that_is_none_of_ours_is_an_error_in_words(address: str) -> None:
    with pytest.raises(Misuse, match=address):
        open_sockets((Listener("smtp"),), 1, bind=(address,))


def test_a_unix_socket_is_shared_and_replaced_when_dead(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    listener = Listener("control", path=path)
    open_sockets((listener,), 2).close()
    with closing(open_sockets((listener,), 2)) as sockets:
        assert sockets.of(0) == sockets.of(1) == sockets.shared
        assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600
        assert sockets.describe() == (("control", path, 0),)


def test_something_else_at_the_path_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(Misuse, match="control"):
        open_sockets((Listener("control", path=str(tmp_path / "file")),), 1)
    assert (tmp_path / "file").read_text() == "kept"
