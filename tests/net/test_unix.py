from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from postroom.net.unix import LONGEST, connect_unix, listen_unix, peer_user


@pytest.mark.parametrize("depth", [0, 3])
def test_a_local_socket_is_private_and_reachable_at_any_depth(tmp_path: Path, depth: int) -> None:
    folder = tmp_path
    for _ in range(depth):
        folder /= "a-long-name-of-a-folder" * 3
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / "control.sock")
    assert (len(path) > LONGEST) == bool(depth)
    with listen_unix(path) as server:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with connect_unix(path, timeout=5) as client:
            accepted, _ = server.accept()
            with accepted:
                assert peer_user(accepted) == os.geteuid()
                client.sendall(b"x")
                assert accepted.recv(1) == b"x"


def test_a_dead_socket_is_replaced_but_never_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    listen_unix(path).close()
    with pytest.raises(ConnectionRefusedError):
        connect_unix(path)
    with listen_unix(path, mode=0o660):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    file = tmp_path / "precious"
    file.write_text("kept")
    with pytest.raises(FileExistsError):
        listen_unix(str(file))
    assert file.read_text() == "kept"
