"""tools.manual: the manual holds every declaration, and none lacks its text."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from postroom.admin import cli
from postroom.admin.settings import spelled
from postroom.core.jobs import JOBS, Job
from postroom.core.metrics import METRICS, Counter
from postroom.core.operations import OPERATIONS, Operation, argument
from postroom.core.settings import SETTINGS, Role, Scope, Setting
from postroom.core.terminal import Answered, Typed
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


def test_every_argument_of_every_operation_is_in_its_manual_entry() -> None:
    commands = manual.manual().partition("\n## Commands\n")[2].partition("\n## ")[0]
    entries = commands.split("\n### ")
    by_name = {entry.partition("\n")[0]: entry for entry in entries}
    for name, operation in OPERATIONS.items():
        for each in operation.arguments():
            said = f"- `{manual._name(each.field)}`: {each.field.metadata['help']}."
            assert said in by_name[name], f"{name} {each.field.name}"


def test_what_changes_takes_a_reason_once_and_what_reads_takes_none() -> None:
    for name, operation in OPERATIONS.items():
        names = [each.field.name for each in operation.arguments()]
        assert names.count("reason") == operation.changes, name


def test_every_operation_is_on_the_command_line_with_its_arguments() -> None:
    for name, operation in OPERATIONS.items():
        answered = cli.understood(Typed((*name.split(), "--help")))
        assert isinstance(answered, Answered)
        assert answered.code == 0
        said = " ".join(answered.out.split())
        for each in operation.arguments():
            assert manual._name(each.field).lower() in said.lower(), f"{name} {each.field.name}"


def test_every_setting_can_be_set_and_shown_by_its_name() -> None:
    """The command line takes the names and values of all settings; none has a form of its own."""
    for name, setting in SETTINGS.items():
        written = spelled(setting.default)
        if written not in ("(none)", "(empty)"):
            assert setting.parse(written) == setting.default, name
        given = cli.parser().parse_args(["settings", "set", name, written])
        assert (given.name, given.value) == (name, written)


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
