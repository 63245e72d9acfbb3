"""A served directory runs every declared job, and takes the backup that it is told to take."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.walking import Walking


def test_every_job_is_run_and_the_backup_taken(tmp_path: Path) -> None:
    walking = Walking(tmp_path)
    try:
        walking.start()
        folder = tmp_path / "backups"
        walking.postroom("settings", "set", "backup.folder", str(folder))
        walking.postroom("jobs", "run", "backup.make")
        walking.stop()
        walking.start()  # what is due is then begun at once
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            held = json.loads(walking.postroom("jobs", "list", "--json").text)
            if next(each["last_done"] for each in held if each["job"] == "backup.make") != "never":
                break
            time.sleep(0.2)
        listed = json.loads(walking.postroom("backup", "list", str(folder), "--json").text)
        assert len(listed) == 1
        assert [each["job"] for each in held if each["due"] == "when the server starts"] == []
        assert "postroom.backup: backup made" in walking.log_text()
        assert "WARNING" not in walking.postroom("status").text
    finally:
        walking.close()
