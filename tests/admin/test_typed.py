"""postroom.admin.typed: a running server answers what somebody typed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from postroom.admin.house import named
from postroom.core.operations import OPERATIONS
from postroom.core.terminal import DONE, LINE, MISUSE, REFUSED, Answered, Typed
from tests.admin.housing import Admin


async def answer(admin: Admin, *words: str, **more: object) -> Answered:
    """The answer as it crosses the socket."""
    asked = {"words": list(words), "folder": "/there", **more}
    answered = await admin.json("typed", **asked)
    assert isinstance(answered, Answered)
    return answered


async def test_words_are_understood_performed_and_told(admin: Admin) -> None:
    made = await answer(admin, "domain", "create", "b.example", "--reason", "bought")
    assert (made.code, made.err) == (DONE, "")
    assert made.out.startswith("domain    b.example\n")
    listed = await answer(admin, "domain", "list", "--json", "--data", "/elsewhere")
    assert [each["domain"] for each in json.loads(listed.out)] == ["b.example", "example.org"]
    (latest, *_) = await admin.do("changes list")
    assert (latest.operation, latest.reason) == ("domain create", "bought")


async def test_errors_are_told_as_without_a_server(admin: Admin) -> None:
    refused = await answer(admin, "account", "show", "nobody@example.org")
    assert refused == Answered(
        err="postroom: There is no account nobody@example.org\n", code=REFUSED
    )
    machine = await answer(admin, "--json", "account", "show", "nobody@example.org")
    assert json.loads(machine.out)["error"]["status"] == "5.1.1"
    assert (await answer(admin, "settings", "set", "smtp.max_hops", "x")).code == MISUSE


@pytest.mark.parametrize("words", [(), ("paint",), ("domain",), ("domain", "list", "--sparkle")])
async def test_words_that_mean_nothing_are_answered(admin: Admin, words: tuple[str, ...]) -> None:
    said = await answer(admin, *words)
    assert (said.code, said.out) == (MISUSE, "")
    assert said.err.startswith("usage: postroom")
    assert "error: " in said.err


async def test_help_is_as_wide_as_the_terminal(admin: Admin) -> None:
    wide = [
        max(map(len, (await answer(admin, "trace", "--help", columns=columns)).out.splitlines()))
        for columns in (50, 0, 100)
    ]
    assert wide[0] <= 50 < wide[1] <= 80 < wide[2] <= 100
    assert (await answer(admin, "help", "domain", "list")).out.startswith("usage: postroom domain")
    assert (await answer(admin, "queue", "list", "--help")).out.count("(100)") == 1


async def test_what_lies_elsewhere_is_wanted_first(admin: Admin) -> None:
    words = ("account", "create", "ann@example.org", "--password-stdin")
    assert await answer(admin, *words) == Answered(wants={"password": LINE})
    missing = await answer(admin, *words, read={"password": ""})
    assert missing.err == "postroom: There is no password on standard input\n"
    made = await answer(admin, *words, read={"password": "correct horse"})
    assert made.code == DONE, made.err
    assert "correct horse" not in made.out
    wanted = await answer(admin, "config", "diff", "town.toml")
    assert wanted == Answered(wants={"file": "/there/town.toml"})
    assert (await answer(admin, "config", "diff", "-")).wants == {"file": "-"}
    done = await answer(admin, "config", "diff", "x", read={"file": "format = 1\n"})
    assert done.out == "All is as the document says.\n"
    unread = await answer(admin, "config", "diff", "x", unread={"file": "x cannot be read"})
    assert unread == Answered(err="postroom: x cannot be read\n", code=MISUSE)


async def test_paths_begin_where_the_words_were_typed(admin: Admin, tmp_path: Path) -> None:
    done = await answer(admin, "backup", "copies/daily", folder=str(tmp_path))
    assert done.code == DONE, done.err
    assert (tmp_path / "copies" / "daily").is_dir()
    lost = await answer(admin, "backup", "copies", folder="")
    assert (lost.code, lost.out) == (MISUSE, "")
    assert "is gone" in lost.err


async def test_what_makes_a_store_is_done_alone(admin: Admin) -> None:
    assert await answer(admin, "restore", "copies") == Answered(alone=True)


async def test_no_face_offers_it_and_no_log_holds_what_was_read() -> None:
    assert "typed" not in OPERATIONS
    fields = {each.name: each for each in dataclasses.fields(Typed)}
    assert fields["read"].metadata["secret"]
    assert named("typed").input is Typed
