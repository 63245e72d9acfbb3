"""postroom.core.log: a line stays one line, and no secret is in it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from postroom.core import log


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def written(form: log.Format, level: str = "info") -> tuple[Any, io.StringIO]:
    stream = io.StringIO()
    log.configure(form, level=level, stream=stream, once=False)
    return log.logger("postroom.test", session="s1"), stream


def test_json_lines_hold_what_was_said() -> None:
    logger, stream = written("json")
    logger.info("signed in", ip="192.0.2.1", tries=2, tags=("a", b"b"), none=None)
    told = json.loads(stream.getvalue())
    assert list(told)[:4] == ["time", "level", "logger", "event"]
    assert told["time"].endswith("Z")
    del told["time"]
    assert told == {
        "level": "info",
        "logger": "postroom.test",
        "event": "signed in",
        "session": "s1",
        "ip": "192.0.2.1",
        "tries": 2,
        "tags": ["a", "b"],
        "none": None,
    }


def test_text_lines_are_for_people() -> None:
    logger, stream = written("text")
    logger.warning("slow", seconds=1.5, who="Ann Other")
    line = stream.getvalue()
    assert line.endswith(' warning postroom.test: slow session=s1 seconds=1.5 who="Ann Other"\n')


@pytest.mark.parametrize("form", log.FORMATS)
@pytest.mark.parametrize(
    "hostile",
    ["a\r\n2026-01-01T00:00:00Z error fake", "\x1b[2J\x1b[1;1H", "\u2028x", "\ud800", "\x9b31m"],
)
def test_hostile_text_stays_in_its_line(form: log.Format, hostile: str) -> None:
    logger, stream = written(form)
    logger.info(hostile, helo=hostile, octets=hostile.encode("utf-8", "surrogatepass"))
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line[:-1].isprintable()


@pytest.mark.parametrize("form", log.FORMATS)
def test_secrets_are_hidden_wherever_they_stand(form: log.Format) -> None:
    logger, stream = written(form)
    logger.info(
        "x", password="hunter2", new_password="hunter2", asked={"token": "hunter2", "of": "ann"},
        many=[{"Secret": "hunter2"}],
    )  # fmt: skip
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count(log.HIDDEN) == 4


def test_long_and_deep_values_are_cut() -> None:
    logger, stream = written("json")
    deep: Any = "end"
    for _ in range(50):
        deep = {"in": deep}
    logger.info("x", long="a" * 100_000, deep=deep, octets=b"\xff" * 100_000)
    assert len(stream.getvalue()) < 40_000
    assert "100000 characters" in json.loads(stream.getvalue())["long"]


def test_what_is_below_the_level_is_not_written() -> None:
    logger, stream = written("json", level="warning")
    logger.info("quiet")
    logger.debug("quieter")
    logger.error("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_an_exception_brings_its_stack() -> None:
    logger, stream = written("json")
    try:
        raise ValueError("what\nhappened")
    except ValueError:
        logger.exception("failed")
    told = json.loads(stream.getvalue())
    assert told["level"] == "error"
    assert "ValueError: what" in told["exception"]
    logger, stream = written("text")
    logger.error("failed", exc_info=ValueError("\x1b[31m"))
    assert "\x1b" not in stream.getvalue()


def test_loggers_made_before_the_setup_follow_it() -> None:
    early = structlog.get_logger("postroom.early")
    _, stream = written("json")
    early.info("hello")
    assert json.loads(stream.getvalue())["logger"] == "postroom.early"


def test_an_unknown_format_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="json, text"):
        log.configure("xml")  # type: ignore[arg-type]  # the mistake


# --- the last lines ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", log.FORMATS)
def test_the_last_lines_are_kept_as_values_whatever_the_form(form: log.Format) -> None:
    log.RECENT.clear()
    logger, _ = written(form)
    logger.info("signed in", password="swordfish", tries=2)
    logger.info("left", trace="r1")
    first, second = log.last_lines(log.RECENT.entries(), 10)
    assert list(json.loads(first))[:4] == ["time", "level", "logger", "event"]
    assert json.loads(first)["password"] == log.HIDDEN
    assert "swordfish" not in first
    assert (json.loads(second)["event"], json.loads(second)["session"]) == ("left", "s1")
    assert log.last_lines(log.RECENT.entries(), 1) == [second]
    assert log.last_lines(log.RECENT.entries(), 5, '"r1"') == [second]
    assert log.last_lines(log.RECENT.entries(), 5, '"r1"', "swordfish") == []


def test_what_is_kept_is_bounded_in_lines_and_in_characters() -> None:
    recent = log.Recent(lines=3, characters=100)
    for n in range(10):
        recent.add(f"line {n}", 6)
    assert recent.entries() == ("line 7", "line 8", "line 9")
    recent.add("x" * 90, 90)
    assert recent.entries() == ("line 9", "x" * 90)
    recent.add("y" * 101, 101)
    assert recent.entries() == ()
    recent.add("again", 5)
    assert recent.entries() == ("again",)
