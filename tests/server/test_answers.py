"""What workers answer, asked over the command of a served directory with two of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from postroom.admin.client import Refused
from postroom.core.ids import SESSION, external
from tests.walking import DOMAIN, HOST, Walking, eventually


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walking]:
    walking = Walking(tmp_path_factory.mktemp("answers"))
    try:
        walking.start()
        yield walking
    finally:
        walking.close()


def smtp(house: Walking, *lines: str, port: int = 25) -> socket.socket:
    """A session that has said so many lines and heard their answers."""
    sock = socket.create_connection((HOST, port + house.offset), timeout=10)
    heard(sock, "220 ")
    for each in lines:
        sock.sendall(f"{each}\r\n".encode())
        heard(sock, "250 " if each != "DATA" else "354 ")
    return sock


def heard(sock: socket.socket, beginning: str) -> str:
    """What the server says up to the end of the line that begins so; b"" ends it too."""
    text = ""
    while not any(line.startswith(beginning) for line in text.splitlines(keepends=True)[-1:]):
        piece = sock.recv(4096)
        if not piece:
            return text
        text += piece.decode()
    return text


def sessions(house: Walking, **asked: object) -> list[dict[str, Any]]:
    found = house.operation("session list", **asked)
    assert found["missing"] == []
    return list(found["sessions"])


def rest(sock: socket.socket) -> str:
    text = b""
    while piece := sock.recv(4096):
        text += piece
    sock.close()
    return text.decode()


def test_sessions_are_listed_and_closed_in_their_protocol(house: Walking) -> None:
    who = house.account("lia")
    raw = socket.create_connection(("localhost", house.imaps), timeout=10)
    with house.trusting().wrap_socket(raw, server_hostname="localhost") as imap:
        imap.recv(4096)
        imap.sendall(f'a LOGIN {who.address} "{who.password}"\r\n'.encode())
        heard(imap, "a OK")
        imap.sendall(b"b SELECT INBOX\r\n")
        heard(imap, "b OK")
        imap.sendall(b"c IDLE\r\n")
        heard(imap, "+ ")
        (found,) = sessions(house, protocol="imap")
        assert found["who"] == who.address
        assert (found["listener"], found["state"]) == ("imaps", "idle in INBOX")
        assert found["tls"].startswith("TLSv1.3 ")
        assert found["sent"] > 1000
        assert sessions(house, account="LIA@example.test") == [found]
        assert sessions(house, domain="other.test") == []
        assert sessions(house, domain=DOMAIN) != []
        # As an operator does it.
        told = json.loads(house.postroom("session", "list", "--ip", found["peer"], "--json").out)
        assert found["id"] in [each["id"] for each in told["sessions"]]
        assert sessions(house, ip="192.0.2.0/24") == []
        closed = house.postroom("session", "close", found["id"])
        assert closed.text == f"{found['id']} was told goodbye and closed.\n"
        assert imap.recv(4096) == b"* BYE An administrator closed this session\r\n"
        assert sessions(house, protocol="imap") == []
    with pytest.raises(Refused, match="There is no session"):
        house.operation("session close", id=found["id"])


def test_a_message_that_comes_in_is_let_go_of_when_its_session_is_closed(house: Walking) -> None:
    bob = house.account("bob").address
    sock = smtp(
        house, "EHLO far.example", "MAIL FROM:<ann@far.example>", f"RCPT TO:<{bob}>", "DATA"
    )
    sock.sendall(b"Subject: half\r\n\r\nnot yet all of")
    eventually(lambda: [s["state"] for s in sessions(house, protocol="smtp")] == ["in DATA"])
    (found,) = sessions(house, listener="smtp")
    house.operation("session close", id=found["id"])
    assert rest(sock) == "421 4.3.2 An administrator closed this session, closing\r\n"
    assert house.operation("queue list") == []
    assert sessions(house, protocol="smtp") == []


def test_a_handshake_is_no_session_yet_but_is_seen(house: Walking) -> None:
    with socket.create_connection((HOST, house.imaps), timeout=10):
        eventually(lambda: len(sessions(house, listener="imaps")) == 1)
        (found,) = sessions(house, listener="imaps")
        assert (found["id"], found["state"]) == ("", "in its TLS handshake")
    with pytest.raises(Refused, match="no session"):
        house.operation("session close", id=external(SESSION, 5))


def test_many_connections_are_listed_over_both_workers_up_to_the_limit(house: Walking) -> None:
    socks = [smtp(house, "EHLO far.example", port=587) for _ in range(40)]
    try:
        found = house.operation("session list", protocol="submission", limit=15)
        assert (len(found["sessions"]), found["more"]) == (15, 25)
        assert found["sessions"] == sorted(found["sessions"], key=lambda s: s["since"])
        everyone = sessions(house, protocol="submission")
        assert {s["worker"] for s in everyone} == {0, 1}
        assert {s["state"] for s in everyone} == {"between messages"}
    finally:
        for sock in socks:
            sock.close()


def test_the_log_of_both_workers_is_one_and_hides_secrets(house: Walking) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    ids = []
    workers: set[int] = set()
    while workers != {0, 1}:
        with context.wrap_socket(socket.create_connection((HOST, house.imaps), 10)) as imap:
            imap.recv(4096)
            (mine,) = [s for s in sessions(house, protocol="imap") if s["state"] == "not signed in"]
            workers.add(mine["worker"])
            ids.append(mine["id"])
            imap.sendall(b'a LOGIN nobody@example.test "open sesame"\r\n')
            heard(imap, "a NO")
        eventually(lambda: sessions(house, protocol="imap") == [])
        assert len(ids) < 100
    found = house.operation("log tail", lines=2000)
    assert found["missing"] == []
    assert {each["worker"] for each in found["lines"]} == {0, 1}
    times = [each["line"]["time"] for each in found["lines"]]
    assert times == sorted(times)
    assert "open sesame" not in json.dumps(found)
    of_one = house.operation("log tail", session=ids[-1])["lines"]
    assert all(each["line"]["session"] == ids[-1] for each in of_one)
    by_id = house.operation("log tail", id=ids[-1])["lines"]
    assert of_one == by_id or len(by_id) > len(of_one)
    told = house.postroom("log", "tail", "--lines", "3").text.splitlines()
    assert len(told) == 3
    assert "postroom." in told[0]


def test_status_adds_up_what_both_workers_counted(house: Walking) -> None:
    for _ in range(8):  # whichever worker performs it
        told = house.operation("status")
    assert told["missing"] == []
    done = told["metrics"]["admin.operations"]["values"]["status"]
    again = house.operation("status")["metrics"]["admin.operations"]["values"]["status"]
    assert (done, again) == (8, 9)


def test_a_worker_that_is_stuck_is_named(house: Walking) -> None:
    stuck, _ = house.workers()
    os.kill(stuck, signal.SIGSTOP)
    try:
        told = json.loads(house.postroom("session", "list", "--json").out)
        assert told["missing"] == [{"worker": 0, "why": "it did not answer in time"}]
    finally:
        os.kill(stuck, signal.SIGCONT)
    eventually(lambda: house.operation("session list")["missing"] == [])
