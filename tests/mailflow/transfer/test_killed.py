"""An import that is killed in the middle, on a stopped server."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from tests.mailflow.transfer.test_importing import numbered
from tests.mailflow.transfer.trees import maildir
from tests.walking import ENVIRONMENT, PROGRAM, Walking

MANY = 600


def test_a_stopped_server_and_a_kill_in_the_middle(tmp_path: Path) -> None:
    walking = Walking(tmp_path)
    walking.start()
    try:
        walking.account("cleo")
        walking.stop()
    finally:
        walking.close()
    source = maildir(tmp_path / "source")
    numbered(source, MANY)
    receipt = tmp_path / "receipt"
    words = ("import", "maildir", str(source), "cleo@example.test", "--receipt", str(receipt))
    command = [*PROGRAM, "--data", str(walking.data), *words]
    with subprocess.Popen(command, env=ENVIRONMENT) as running:
        until = time.monotonic() + 30
        while not receipt.exists() or len(receipt.read_bytes()) < 20_000:
            assert time.monotonic() < until
            assert running.poll() is None
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
    before = receipt.read_bytes().rpartition(b"\n")[0].count(b'"status":"imported"')
    ran = walking.postroom("--json", *words[:4])  # without the receipt
    done = json.loads(ran.out)
    assert done["imported"] + done["already_there"] == MANY
    assert before <= done["already_there"] < MANY
    ran = walking.postroom("--json", *words)
    done = json.loads(ran.out)
    assert (done["imported"], done["already_there"]) == (0, MANY)
    assert walking.postroom("check").code == 0
