"""When the house cannot: 4yz with the right status, nothing half kept, well again by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postroom.core.errors import Busy, Corrupt, InDoubt, MailError, Status, StoreFailed, StoreFull
from postroom.store.units import Database
from postroom.testing.faults import Error, Fault, Op
from postroom.testing.smtp import ServerClosed
from tests.mailflow.doors import ANN as ME
from tests.mailflow.doors import Doors
from tests.mailflow.faulty import InFolder, serve_faulty
from tests.mailflow.serving import DOMAIN, Mx, message

BOB = f"bob@{DOMAIN}"
ANN = "ann@elsewhere.example"
LARGE = message() + (b"y" * 70 + b"\r\n") * 8_000  # beyond what stays in memory
MIDDLE = message() + (b"y" * 70 + b"\r\n") * 2_000  # in memory while it comes in, then a file

FULL = (452, Status(4, 3, 1))
FAILED = (451, Status(4, 3, 0))


async def _well_again(mx: Mx, bob: int, before: int = 0) -> None:
    """Without restart: the next messages of each size are taken, and only they are there."""
    async with mx.connect() as client:
        for content in (message(), LARGE):
            assert (await client.deliver(ANN, [BOB], content)).accepted
    kept = await mx.content(bob)
    assert len(kept) == before + 2
    assert kept[-1].endswith(LARGE)
    assert not any("/new/" in path for path in mx.files())
    assert await mx.house.mail.damage() == []
    octets = sum(len(content) for content in kept)
    assert await mx.usage(bob) == (octets, len(kept))


# --- while the content comes in -----------------------------------------------------------------

SPOOLING: dict[str, tuple[Op, Error, int | None, tuple[int, Status]]] = {
    "open": ("open", "full", None, FULL),
    "folder": ("mkdir", "full", None, FULL),
    "first write": ("write", "full", None, FULL),
    "later write": ("write", "full", 400_000, FULL),
    "quota": ("write", "quota", None, FULL),
    "device": ("write", "io", None, FAILED),
}


@pytest.mark.parametrize("which", SPOOLING)
async def test_a_disk_that_fails_while_spooling_is_told_at_the_end_of_data(
    tmp_path: Path, which: str
) -> None:
    op, error, after_bytes, expected = SPOOLING[which]
    async with serve_faulty(tmp_path) as (mx, faults):
        bob = await mx.account(BOB)
        folder = mx.house.blobs.folder
        fault = InFolder(op, error, file=folder, after_bytes=after_bytes)
        async with mx.connect() as client:
            with faults.armed(fault):
                done = await client.deliver(ANN, [BOB], LARGE)
                assert done.end is not None
                assert (done.end.code, done.end.status) == expected
                assert fault.hits
            assert not mx.files()
            await client.ask("NOOP", 250)
            record = await mx.refusal(done.end)
            assert record["verdicts"][-1]["rule"] == "store"
            assert record["verdicts"][-1]["why"] not in ("", record["verdicts"][-1]["reply"])
            assert str(tmp_path) not in done.end.text  # the log's business, not the peer's
        await _well_again(mx, bob)


@pytest.mark.parametrize("content", [MIDDLE, LARGE], ids=["in memory", "spooled"])
@pytest.mark.parametrize(
    ("op", "error", "expected"),
    [("sync", "io", FAILED), ("sync", "full", FULL), ("rename", "full", FULL)],
)
async def test_a_disk_that_fails_when_the_content_is_to_stay_leaves_nothing(
    tmp_path: Path, op: Op, error: Error, expected: tuple[int, Status], content: bytes
) -> None:
    async with serve_faulty(tmp_path) as (mx, faults):
        bob = await mx.account(BOB)
        mx.house.blobs.files.write_durably(mx.house.blobs.folder + "/warm", [b""])
        # The database syncs through the same script: only files of the blob folder are struck.
        fault = InFolder(op, error, file=mx.house.blobs.folder)
        async with mx.connect() as client:
            with faults.armed(fault):
                done = await client.deliver(ANN, [BOB], content)
            assert fault.hits
            assert done.end is not None
            assert (done.end.code, done.end.status) == expected
            await client.ask("NOOP", 250)
        assert [path for path in mx.files() if not path.endswith("/warm")] == []
        await _well_again(mx, bob)


# --- in the unit --------------------------------------------------------------------------------

UNIT: dict[str, tuple[Callable[[], Fault], tuple[int, Status]]] = {
    "full": (lambda: Fault("write", "full", file="-wal"), FULL),
    "full later": (lambda: Fault("write", "full", file="-wal", after=3), FULL),
    "device": (lambda: Fault("write", "io", file="-wal"), FAILED),
    "sync": (lambda: Fault("sync", "io", file="-wal"), FAILED),
}


@pytest.mark.parametrize("which", UNIT)
@pytest.mark.parametrize("content", [message(), LARGE], ids=["small", "spooled"])
async def test_a_unit_that_cannot_be_kept_is_4yz_and_nothing_of_it_is_there(
    tmp_path: Path, which: str, content: bytes
) -> None:
    make, expected = UNIT[which]
    async with serve_faulty(tmp_path) as (mx, faults):
        bob = await mx.account(BOB)
        async with mx.connect() as client:
            assert (await client.deliver(ANN, [BOB], message())).accepted
            with faults.armed(make()) as fault:
                done = await client.deliver(ANN, [BOB], content)
                assert fault.hits
            assert done.end is not None
            assert (done.end.code, done.end.status) == expected
            await client.ask("NOOP", 250)
        assert await mx.count(bob) == 1
        assert len(await mx.traces()) == 1
        if expected == FULL:
            # Else each try of the peer would take more of a disk that has no room.
            assert not mx.files()
        for path in mx.files():
            mx.house.blobs.files.unlink(path)  # the sweeper's work, a day later
        await _well_again(mx, bob, before=1)


# --- when the store does not answer -------------------------------------------------------------


class Failing:
    """A store whose calls fail while `error` is set."""

    def __init__(self, real: Database, error: MailError, which: str) -> None:
        self._real = real
        self._error: MailError | None = error
        self._which = which

    def heal(self) -> None:
        self._error = None

    def _say(self, which: str) -> None:
        if self._error is not None and which == self._which:
            raise self._error

    async def read(self, *arguments: Any, **more: Any) -> Any:
        self._say("read")
        return await self._real.read(*arguments, **more)

    async def write_mail(self, *arguments: Any, **more: Any) -> Any:
        self._say("write")
        return await self._real.write_mail(*arguments, **more)


ERRORS: dict[str, tuple[Callable[[], MailError], tuple[int, Status]]] = {
    "busy": (lambda: Busy(detail="4000 units wait"), (451, Status(4, 3, 2))),
    "failed": (lambda: StoreFailed(detail="gone"), FAILED),
    "corrupt": (lambda: Corrupt(detail="torn page"), FAILED),
    "full": (lambda: StoreFull(detail="no room"), FULL),
}


@pytest.mark.parametrize("which", ERRORS)
@pytest.mark.parametrize("at", ["MAIL", "RCPT", "unit"])
async def test_a_store_that_does_not_answer_is_4yz_at_any_step_and_the_session_goes_on(
    mx: Mx, monkeypatch: pytest.MonkeyPatch, at: str, which: str
) -> None:
    bob = await mx.account(BOB)
    make, expected = ERRORS[which]
    real = mx.house.mail
    failing = Failing(real, make(), "write" if at == "unit" else "read")
    async with mx.connect() as client:
        lines = [f"MAIL FROM:<{ANN}>", f"RCPT TO:<{BOB}>", "DATA"]
        for line in lines:
            if line.startswith(at):
                break
            await client.ask(line)
        monkeypatch.setattr(mx.house, "mail", failing)
        if at in ("MAIL", "RCPT"):
            refused = await client.ask(line)
        else:
            refused = await client.content(LARGE)
        assert (refused.code, refused.status) == expected
        failing.heal()
        record = await mx.refusal(refused)
        assert record["verdicts"][-1]["rule"] == "store"
        await client.ask("RSET", 250)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        monkeypatch.setattr(mx.house, "mail", real)
    assert await mx.count(bob) == 1


@pytest.mark.parametrize("which", ERRORS)
async def test_an_author_that_cannot_be_looked_up_is_4yz_and_the_session_goes_on(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """At DATA only submission reads the store: what it does not say is not taken for good."""
    mx = doors.mx
    bob = await mx.account(BOB)
    make, expected = ERRORS[which]
    real = mx.house.mail
    failing = Failing(real, make(), "read")
    content = LARGE.replace(b"ann@elsewhere.example", ME.encode())
    async with doors.signed_in() as client:
        for line, code in ((f"MAIL FROM:<{ME}>", 250), (f"RCPT TO:<{BOB}>", 250), ("DATA", 354)):
            await client.ask(line, code)
        monkeypatch.setattr(mx.house, "mail", failing)
        refused = await client.content(content)
        assert (refused.code, refused.status) == expected
        failing.heal()
        assert (await client.deliver(ME, [BOB], content)).accepted
        monkeypatch.setattr(mx.house, "mail", real)
    assert await mx.count(bob) == 1


async def test_a_message_in_doubt_gets_no_reply(mx: Mx, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither 250 nor 451 would be true; without either the peer knows that it may be here."""
    bob = await mx.account(BOB)
    failing = Failing(mx.house.mail, InDoubt(detail="nobody tells"), "write")
    async with mx.connect() as client:
        for line in (f"MAIL FROM:<{ANN}>", f"RCPT TO:<{BOB}>", "DATA"):
            await client.ask(line)
        with monkeypatch.context() as patch:
            patch.setattr(mx.house, "mail", failing)
            with pytest.raises((ServerClosed, OSError)):
                await client.content(LARGE)
    await mx.settled(lambda: not mx.acceptor.connections)
    await _well_again(mx, bob, before=0)
