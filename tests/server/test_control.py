"""postroom.server.control with postroom.admin.client: operations over a real Unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from postroom.admin import CheckReport, client
from postroom.admin.client import NotRunning, Refused
from postroom.core.errors import Malformed, Misuse, Unreachable
from postroom.net.unix import listen_unix
from postroom.server import control
from postroom.server.control import ControlServer
from postroom.testing.clock import ManualClock
from tests.admin.housing import Admin, open_admin
from tests.stores import Stores, open_mail

SRC = str(Path(__file__).parents[2] / "src")


@dataclass
class Desk:
    """A control server, and how to ask it."""

    path: str
    admin: Admin
    server: ControlServer

    async def call(self, operation: str, /, **asked: Any) -> Any:
        return await asyncio.to_thread(client.call, self.path, operation, asked)

    async def raw(self, octets: bytes) -> bytes:
        """What is answered to these octets, up to the end of the connection."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(octets)
        writer.write_eof()
        answered = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answered


@asynccontextmanager
async def a_desk(folder: Path, **changes: Any) -> AsyncIterator[Desk]:
    mail, state = open_mail("sqlite", str(folder))
    path = str(folder / "control.sock")
    try:
        async with open_admin(Stores("sqlite", mail, state), ManualClock(), folder) as admin:
            with listen_unix(path) as listening:
                server = ControlServer(listening, admin.house)
                server.start()
                yield Desk(path, admin, server)
                await server.close()
    finally:
        await mail.close()
        await state.close()


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as opened:
        yield opened


async def test_an_operation_is_performed_for_who_asks(desk: Desk) -> None:
    made = await desk.call("account create", address="ann@example.org", password="correct horse")
    assert made["address"] == "ann@example.org"
    listed = await desk.call("account list")
    assert [each["address"] for each in listed] == ["ann@example.org"]


async def test_the_reason_of_a_change_goes_with_it(desk: Desk) -> None:
    request = client.request("domain create", {"domain": "second.example"}, "we bought it")
    assert json.loads(await desk.raw(request))["ok"]
    (made, *_) = await desk.call("changes list")
    assert (made["operation"], made["reason"]) == ("domain create", "we bought it")
    odd = json.dumps({"operation": "domain list", "reason": ["many"]}).encode() + b"\n"
    assert json.loads(await desk.raw(odd))["error"]["misuse"]


async def test_errors_keep_their_sentence_and_status(desk: Desk) -> None:
    with pytest.raises(Refused, match="There is no account ann@") as refused:
        await desk.call("account show", address="ann@example.org")
    assert refused.value.status_text == "5.1.1"
    with pytest.raises(Misuse, match="whole number"):
        await desk.call("settings set", name="smtp.max_hops", value="many")
    with pytest.raises(Misuse):
        await desk.call("account show", address="not an address")
    with pytest.raises(Misuse, match="address is missing"):
        await desk.call("account show")
    with pytest.raises(Refused, match="no operation"):
        await desk.call("account paint")


async def test_one_connection_may_ask_several_times(desk: Desk) -> None:
    one = client.request("domain list", {})
    two = client.request("domain create", {"domain": "second.example"})
    answers = (await desk.raw(one + two + one)).splitlines()
    assert [json.loads(answer)["ok"] for answer in answers] == [True] * 3
    assert len(json.loads(answers[2])["output"]) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"\xff\xfe\n",
        b"[]\n",
        b'"x"\n',
        b'{"operation": 5}\n',
        b'{"operation": "domain list", "input": []}\n',
        b'{"operation": "domain list", "input": {"x": 1}}\n',
        b'{"operation": "domain create", "input": {"domain": "\\ud800"}}\n',
        b"[" * 100_000 + b"\n",
    ],
)
async def test_what_is_no_request_is_answered_as_misuse(desk: Desk, line: bytes) -> None:
    (answer,) = (await desk.raw(line)).splitlines()
    error = json.loads(answer)
    assert not error["ok"]
    assert error["error"]["misuse"]
    assert await desk.call("domain list")


async def test_an_endless_request_is_cut_off(desk: Desk) -> None:
    answered = b""
    try:
        answered = await desk.raw(b"x" * (client.REQUEST_MAX + 100_000))
    except ConnectionError:
        pass
    assert answered == b""
    with pytest.raises(Misuse, match="too long"):
        await desk.call("domain create", domain="x" * client.REQUEST_MAX)
    assert await desk.call("domain list")


async def test_a_failure_of_ours_says_little_to_the_peer(desk: Desk) -> None:
    async def broken(repair: bool) -> CheckReport:
        raise RuntimeError("a secret of the house")

    object.__setattr__(desk.admin.house, "check", broken)
    with pytest.raises(Refused, match="its log says how") as refused:
        await desk.call("check")
    assert "secret" not in str(refused.value)
    assert await desk.call("domain list")


async def test_only_owner_and_root_are_heard(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []

    def stranger(sock: socket.socket) -> int:
        heard.append(1)
        return 12345

    monkeypatch.setattr(control, "peer_user", stranger)
    with pytest.raises(Unreachable):
        await desk.call("domain list")
    assert heard
    assert os.stat(desk.path).st_mode & 0o777 == 0o600


async def test_without_a_server_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        client.call(str(tmp_path / "nowhere" / "control.sock"), "domain list", {})
    # A socket that a killed server left.
    listen_unix(str(tmp_path / "dead.sock")).close()
    with pytest.raises(NotRunning):
        client.call(str(tmp_path / "dead.sock"), "domain list", {})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", Unreachable),
        (b'{"ok": true', Unreachable),
        (b"nonsense\n", Malformed),
        (b"{}\n", Malformed),
        (b'{"ok": false}\n', Malformed),
        (b'{"ok": false, "error": {"sentence": "No"}}\n', Malformed),
    ],
)
def test_a_broken_answer_is_no_success(answer: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        client.output(answer)


async def test_closing_lets_an_operation_end(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def slow(repair: bool) -> CheckReport:
            entered.set()
            await leave.wait()
            return CheckReport((), {"blobs": 1})

        object.__setattr__(desk.admin.house, "check", slow)
        idle = socket.socket(socket.AF_UNIX)
        await asyncio.get_running_loop().run_in_executor(None, idle.connect, desk.path)
        asking = asyncio.create_task(desk.call("check"))
        await entered.wait()
        closing = asyncio.create_task(desk.server.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        leave.set()
        assert (await asking)["counts"] == {"blobs": 1}
        async with asyncio.timeout(5):
            await closing
        idle.close()


async def test_a_client_that_goes_away_keeps_nobody_up(desk: Desk) -> None:
    for _ in range(control.CONNECTIONS + 10):
        _, writer = await asyncio.open_unix_connection(desk.path)
        writer.write(client.request("domain list", {}))
        writer.close()
    assert await desk.call("domain list")


async def test_two_workers_share_the_socket(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        with socket.socket(fileno=os.dup(desk.server._listening.fileno())) as again:
            second = ControlServer(again, desk.admin.house)
            second.start()
            for _ in range(20):
                assert await desk.call("domain list")
            await desk.server.close()
            assert await desk.call("domain list")
            await second.close()


async def test_a_command_of_another_process_is_performed(desk: Desk) -> None:
    """The client as the command line uses it, in a process of its own."""
    code = (
        "import sys, json; from postroom.admin import client;"
        "print(json.dumps(client.call(sys.argv[1], 'domain list', {})))"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code, desk.path],
        env={**os.environ, "PYTHONPATH": SRC},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert json.loads(done.stdout)[0]["domain"] == "example.org", done.stderr
