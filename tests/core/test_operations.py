"""postroom.core.operations and jobs: a declaration says all that the faces need."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from postroom.core.jobs import JOBS, job
from postroom.core.operations import OPERATIONS, argument, operation
from postroom.core.settings import Role


@pytest.fixture(autouse=True)
def fresh_registries() -> Iterator[None]:
    operations, jobs = dict(OPERATIONS), dict(JOBS)
    yield
    OPERATIONS.clear()
    OPERATIONS.update(operations)
    JOBS.clear()
    JOBS.update(jobs)


@dataclass(frozen=True, slots=True)
class Feed:
    animal: str = argument("Whom")
    grams: int = argument("How much", default=10)
    secret: str = argument("What nobody sees", default="", secret=True)


@dataclass(frozen=True, slots=True)
class Hunt:
    reason: str = argument("Hunger, or sport")


async def test_an_operation_knows_its_input_output_and_text() -> None:
    @operation("zoo feed", Role.DOMAIN_ADMIN)
    async def feed(house: str, asked: Feed) -> tuple[str, ...]:
        """Feed an animal."""
        return (house, asked.animal)

    made = OPERATIONS["zoo feed"]
    assert (made.name, made.role, made.summary) == (
        "zoo feed",
        Role.DOMAIN_ADMIN,
        "Feed an animal.",
    )
    assert made.input is Feed
    assert made.output == tuple[str, ...]
    assert made.changes
    assert await made.run("ark", Feed("lion")) == ("ark", "lion")
    assert await feed("ark", Feed("lion")) == ("ark", "lion")


def test_arguments_carry_their_help_and_their_default() -> None:
    fields = {each.name: each for each in dataclasses.fields(Feed)}
    assert fields["animal"].default is dataclasses.MISSING
    assert fields["grams"].default == 10
    assert fields["secret"].metadata["secret"]
    assert all(each.metadata["help"] for each in fields.values())


def test_an_operation_without_a_text_or_declared_twice_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="no docstring"):

        @operation("zoo close", Role.ADMIN)
        async def close(house: str, asked: Feed) -> None: ...

    async def count(house: str, asked: Feed) -> None:
        """Count."""

    operation("zoo count", Role.ADMIN)(count)
    with pytest.raises(ValueError, match="twice"):
        operation("zoo count", Role.ADMIN)(count)


async def test_what_changes_takes_a_reason_besides_its_input() -> None:
    async def act(house: str, asked: Feed) -> None:
        """Act upon an animal."""

    async def hunt(house: str, asked: Hunt) -> None:
        """Hunt, and say why."""

    operation("zoo act", Role.ADMIN)(act)
    operation("zoo see", Role.ADMIN, changes=False)(act)
    operation("zoo watch", Role.ADMIN, changes=False, audited=True)(act)
    operation("zoo hunt", Role.ADMIN)(hunt)
    names = {
        name: [each.field.name for each in OPERATIONS[f"zoo {name}"].arguments()]
        for name in ("act", "see", "hunt")
    }
    assert names["act"] == ["animal", "grams", "secret", "reason"]
    assert names["see"] == ["animal", "grams", "secret"]
    assert names["hunt"] == ["reason"], "once, also where the input has its own"
    kinds = [each.kind for each in OPERATIONS["zoo act"].arguments()]
    assert kinds == [str, int, str, str]
    audited = {name: OPERATIONS[f"zoo {name}"].audited for name in ("act", "see", "watch")}
    assert audited == {"act": True, "see": False, "watch": True}


async def test_a_job_is_declared_once_with_its_schedule() -> None:
    @job("clean", every=60.0, lease=10.0)
    async def clean(house: str) -> bool:
        """Clean the cages."""
        return house == "ark"

    made = JOBS["clean"]
    assert (made.every, made.lease, made.summary) == (60.0, 10.0, "Clean the cages.")
    assert await made.run("ark")
    with pytest.raises(ValueError, match="twice"):
        job("clean", every=1.0)(clean)
