"""Who did what, and what was refused them: in the log and in the audit; no secret in either."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog

from postroom.admin import Caller, upkeep
from postroom.core import log
from postroom.core.errors import MailError, Misuse, NotAllowed, NotFound
from postroom.core.ids import ACCOUNT, internal
from postroom.core.operations import OPERATIONS
from postroom.core.settings import Role
from postroom.store.units import NOTES_SECONDS
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


# --- the audit ----------------------------------------------------------------------------------


async def audited(admin: Admin, **asked: Any) -> list[Any]:
    """What the audit has, once the notes are written: they wait for others, and on PostgreSQL
    several threads write them."""
    before = -1
    while before != (found := len(await admin.json("audit list"))):
        before = found
        await asyncio.sleep(10 * NOTES_SECONDS)
    return list(await admin.json("audit list", **asked))


async def test_what_was_refused_is_in_the_audit_with_its_reason(admin: Admin) -> None:
    eve = admin.by(Caller(77, Role.USER, "example.org"))
    with pytest.raises(NotAllowed):
        await eve.do("account create", reason="for fun", address="x@example.org", password="mine!")
    told = (await audited(admin))[0]
    assert (told.operation, told.outcome, told.reason) == ("account create", "refused", "for fun")
    assert told.by.endswith("which is gone")
    assert "needs the role domain-admin" in told.answer
    assert "address=x@example.org" in told.what
    assert "mine!" not in repr(told)


async def test_what_was_changed_is_in_the_audit_by_its_change_set(admin: Admin) -> None:
    made = await admin.do("account create", address="ann@example.org")
    by = Caller(internal(ACCOUNT, made.id), Role.ADMIN)
    await admin.by(by).do("account name", address="ann@example.org", name="Ann")
    told = (await audited(admin))[0]
    assert (told.operation, told.outcome, told.by) == (
        "account name", "performed", "ann@example.org",
    )  # fmt: skip
    assert told.change_set == (await admin.do("changes list"))[0].id
    assert len(await audited(admin, operation="account name")) == 1


async def test_changes_that_leave_no_change_set_are_in_the_audit(admin: Admin) -> None:
    await admin.do("check", reason="to be sure")
    await admin.do("jobs run", name="audit.forget")
    first, second = (await audited(admin))[:2]
    assert (first.operation, first.what) == ("jobs run", "name=audit.forget")
    assert (second.operation, second.reason, second.change_set) == ("check", "to be sure", "")


async def test_who_looks_at_what_is_others_is_in_the_audit(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org")
    before = len(await audited(admin))
    await admin.do("recoverable list", address="ann@example.org")
    await admin.do("config export", secrets=True)
    await admin.do("account show", address="ann@example.org")
    told = await audited(admin)
    assert [each.operation for each in told[:2]] == ["config export", "recoverable list"]
    assert len(told) == before + 2, "to look at what all may see is no matter"


async def test_what_failed_by_our_fault_is_in_the_audit(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(house: object, asked: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setitem(OPERATIONS, "check", replace(OPERATIONS["check"], run=broken))
    with pytest.raises(RuntimeError):
        await admin.do("check")
    assert [each.operation for each in await audited(admin, outcome="failed")] == ["check"]


async def test_documents_are_audited_by_their_length(admin: Admin) -> None:
    text = 'format = 1\ndomains = ["secret.example"]'
    with pytest.raises(MailError):
        await admin.do("config apply", file=text + "nonsense")
    told = (await audited(admin))[0]
    assert told.what == f"file={len(text) + 8} characters"


async def test_the_audit_is_asked_by_caller_operation_and_outcome(admin: Admin) -> None:
    made = await admin.do("account create", address="ann@example.org", role="admin")
    ann = admin.by(Caller(internal(ACCOUNT, made.id), Role.ADMIN))
    await ann.do("account create", address="bob@example.org")
    with pytest.raises(NotFound):
        await ann.do("account delete", address="nobody@example.org")
    mine = await audited(admin, by="ann@example.org")
    assert [each.operation for each in mine] == ["account delete", "account create"]
    assert [each.outcome for each in mine] == ["refused", "performed"]
    refused = await audited(admin, by="ann@example.org", outcome="refused")
    assert [each.operation for each in refused] == ["account delete"]
    assert len(await audited(admin, operation="account create", limit=1)) == 1
    for wrong in ({"outcome": "odd"}, {"limit": 0}):
        with pytest.raises(Misuse):
            await admin.do("audit list", **wrong)


async def test_what_is_asked_for_is_found_behind_any_number_of_others(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org")
    with pytest.raises(NotFound):
        await admin.do("account delete", address="nobody@example.org")
    for n in range(30):
        admin.clock.advance(1)
        await admin.do("settings set", name="smtp.max_hops", value=str(40 + n))
        with pytest.raises(NotFound):
            await admin.do("domain delete", domain="none.example")
    (made,) = await audited(admin, operation="account create", limit=5)
    assert made.what == "account ann@example.org"
    (refused,) = await audited(admin, operation="account delete", outcome="refused", limit=5)
    assert refused.answer == "There is no account nobody@example.org"
    assert not await audited(admin, operation="account create", outcome="refused")


async def test_old_entries_are_forgotten(admin: Admin) -> None:
    await admin.do("check")
    await audited(admin)
    admin.clock.advance(366 * 24 * 3600)
    assert await upkeep.forget_audit(admin.house.flow)
    assert "check" not in {each.operation for each in await audited(admin)}


async def test_a_reason_is_a_text_of_some_length(admin: Admin) -> None:
    for reason in ("x" * 1001, "a\0b"):
        with pytest.raises(Misuse):
            await admin.do("domain create", reason=reason, domain="b.example")
    await admin.do("domain create", reason="grüße, 世界", domain="b.example")
    assert (await admin.do("changes list"))[0].reason == "grüße, 世界"


async def test_a_long_input_is_cut_and_can_still_be_shown(admin: Admin) -> None:
    with pytest.raises(MailError):
        await admin.do("account show", address="x" * 9000)
    assert (await audited(admin))[0].what.startswith("cut=")
