"""postroom.server.options: what `serve` and `ready` take."""

from __future__ import annotations

import os

import pytest

from postroom.server.options import Given, parse_ready, parse_serve


def test_without_options_the_defaults_hold() -> None:
    assert parse_serve([]) == Given(
        "./data", 0, (), os.cpu_count() or 1, "example.test", None, "text"
    )
    assert parse_ready([]) == ("./data", 30.0)


def test_options_as_given() -> None:
    words = (
        "--data d --port-offset 20000 --bind ::1 --bind 192.0.2.1 --workers 3 --domain x.example"
    )
    given = parse_serve([*words.split(), "--user", "mail", "--log-format", "json"])
    assert given == Given("d", 20000, ("::1", "192.0.2.1"), 3, "x.example", "mail", "json")
    assert parse_ready(["--timeout", "0.5", "--data=x"]) == ("x", 0.5)


@pytest.mark.parametrize(
    "words",
    [
        "--port-offset many",
        "--port-offset -1",
        "--port-offset 70000",
        "--workers x",
        "--log-format xml",
        "--work 3",  # no abbreviations
        "extra",
        # Their rooms are not built yet: silence would promise something.
        "--resolver 192.0.2.1:53",
        "--outbound-port 25",
        "--proxy-from 192.0.2.0/24",
    ],
)
def test_what_cannot_be_is_misuse(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_serve(words.split())
    assert ended.value.code == 2
    assert "postroom serve: error" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--timeout soon", "--timeout -1", "--timeout nan", "--workers 2"]
)
def test_ready_takes_only_seconds(words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_ready(words.split())
    assert ended.value.code == 2
