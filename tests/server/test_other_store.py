"""A store of another release or build: one sentence says what it is and what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from postroom.server import house
from postroom.server.house import Bootstrap
from postroom.server.instance import Layout
from postroom.store import sqlite_engine
from postroom.testing.ports import free_offset
from tests.walking import ENVIRONMENT, PROGRAM


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("DROP TABLE placement", "This store was made by a build of Postroom whose tables were"),
        ("INSERT INTO schema_step VALUES (999, 'later')", "written by a newer release of Postroom"),
    ],
)
def test_serve_and_commands_say_what_the_store_is(
    tmp_path: Path, change: str, sentence: str
) -> None:
    layout = Layout(str(tmp_path))
    house.migrate(layout, Bootstrap())
    db = sqlite_engine.connect(house.mail_path(layout), durable=False)
    db.execute(change)
    db.close()
    offset = str(free_offset())
    for words in (("account", "list"), ("serve", "--port-offset", offset, "--workers", "1")):
        done = subprocess.run(
            [*PROGRAM, *words, "--data", str(tmp_path)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1, words
        told = [line for line in done.stderr.splitlines() if line.startswith("postroom: ")]
        assert len(told) == 1
        assert sentence in told[0]
        assert "no such table" not in told[0]


@pytest.mark.parametrize("harm", ["other tables", "no database", "half a file"])
def test_a_search_index_that_cannot_be_used_is_made_anew(tmp_path: Path, harm: str) -> None:
    """All of it comes from the mail, so nobody has to do anything about it."""
    layout = Layout(str(tmp_path))
    house.migrate(layout, Bootstrap())
    place = Path(house.index_path(layout))
    if harm == "other tables":
        db = sqlite_engine.connect(str(place), durable=False)
        db.execute("DROP TABLE segment_set")
        db.close()
    elif harm == "no database":
        place.write_bytes(b"nothing of the kind " * 400)
    else:
        place.write_bytes(place.read_bytes()[:5_000])
    house.migrate(layout, Bootstrap())
    db = sqlite_engine.connect(str(place), durable=False)
    assert db.execute("SELECT count(*) FROM segment_set").get == 0
    assert db.execute("PRAGMA integrity_check").get == "ok"
    db.close()
