"""What changes is audited, and no secret is."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from postroom.core import log
from postroom.core.errors import NotAllowed, NotFound
from tests.admin.housing import Admin


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    before = structlog.get_config()
    stream = io.StringIO()
    log.configure("json", stream=stream, once=False)
    yield stream
    structlog.configure(**before)


async def test_changes_are_audited_without_their_secrets(admin: Admin, lines: io.StringIO) -> None:
    await admin.do("account create", address="ann@example.org", password="correct horse")
    made = await admin.do("account password", address="ann@example.org")
    await admin.do("account list")
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    told = [line for line in told if line["logger"] == "postroom.admin"]
    assert [line["operation"] for line in told] == ["account create", "account password"]
    assert told[0]["asked"]["address"] == "ann@example.org"
    assert told[0]["asked"]["password"] == log.HIDDEN
    assert told[1]["asked"]["password"] in ("", log.HIDDEN)
    for secret in ("correct horse", made.password, "argon2"):
        assert secret not in lines.getvalue()


async def test_what_was_refused_is_logged_with_its_reason(admin: Admin, lines: io.StringIO) -> None:
    with pytest.raises(NotFound):
        await admin.do("account delete", address="nobody@example.org")
    with pytest.raises(NotAllowed):
        await admin.do("account create", address="ann@example.org", password="short")
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line["event"] for line in told] == ["operation refused"] * 2
    assert "no account" in told[0]["reason"]
    assert "short" not in json.dumps(told[1]["asked"])
