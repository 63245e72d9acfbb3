"""tools.manual: the manual holds every declaration, and none lacks its text."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from postroom.admin import cli
from postroom.core.jobs import JOBS, Job
from postroom.core.metrics import METRICS, Counter
from postroom.core.operations import OPERATIONS, Operation, argument
from postroom.core.settings import SETTINGS, Role, Scope, Setting
from tools import manual


@pytest.fixture(scope="module", autouse=True)
def everything_declared() -> None:
    manual.declare_all()


@dataclass(frozen=True)
class Bare:
    what: str = argument("")


async def _run(house: object, asked: object) -> None: ...


async def _job(house: object) -> bool:
    return False


def test_no_declaration_lacks_its_text() -> None:
    found = list(
        manual.lacking(OPERATIONS.values(), SETTINGS.values(), JOBS.values(), METRICS.values())
    )
    assert found == []


def test_what_lacks_its_text_is_found() -> None:
    operation = Operation("x y", Role.ADMIN, Bare, Bare, "X", True, _run)
    setting = Setting("x.y", int, 1, "", "", (), Role.ADMIN, None, None, ())
    found = manual.lacking(
        [operation], [setting], [Job("x", 1.0, 1.0, "", _job)], [Counter("x", "", "", "")]
    )
    assert [finding.what for finding in found] == [
        "operation x y does not say what it does",
        "operation x y: what lacks its help",
        "setting x.y lacks its help",
        "setting x.y can be set nowhere",
        "job x does not say what it does",
        "metric x lacks its help or its unit",
    ]


def test_every_declaration_is_in_the_manual() -> None:
    text = manual.manual()
    for name in OPERATIONS:
        assert f"### {name}\n\n`postroom {name}" in text
    for name in (*SETTINGS, *JOBS, *METRICS):
        assert f"| `{name}` |" in text
    assert text.endswith("|\n")


def test_every_operation_is_on_the_command_line() -> None:
    parser = cli.parser()
    for name, operation in OPERATIONS.items():
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([*name.split(), "--help"])
        assert ended.value.code == 0
        assert operation.name == name


def test_a_setting_shows_its_default_unit_places_and_range() -> None:
    setting = Setting(
        "lamp.watts",
        int,
        60,
        "How bright | how dear",
        "W",
        (Scope.SERVER, Scope.DOMAIN),
        Role.ADMIN,
        5,
        1024**3,
        (),
    )
    assert manual._setting(setting) == (
        "| `lamp.watts` | `60` W | server, domain | How bright \\| how dear. From 5 to 1073741824 |"
    )
