"""Connections that end where they should not, hosts that fall silent, TLS that does not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.testing.house import HASTE, Ways
from postroom.testing.mx import mx_tls
from postroom.testing.plays import Play

BOB = "bob@far.example"
HURRIED = Ways(timeouts=HASTE)


@pytest.mark.parametrize("without", [(), ("CHUNKING", "BINARYMIME")])
async def test_a_letter_whose_last_reply_is_lost_is_in_doubt_and_tried_again(
    on_both: Play, without: tuple[str, ...]
) -> None:
    """RFC 1047: it may arrive twice, here and nowhere else, and the trace counts it."""
    play = on_both
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example", without=without)
    far.hangs_up("END", keep=True, times=1)
    letter = await play.submits("ann@a.test", to=BOB)
    assert far.mail_for == [BOB]  # they have it, and we cannot know
    told = await letter.became(BOB, "waits")
    assert told["in doubt"] is True
    await play.town.passes(minutes=4)
    assert far.mail_for == [BOB, BOB]
    told = await letter.became(BOB, "waits", "relayed", attempts=2)
    assert "in doubt" not in told
    await play.receives_nothing("ann@a.test")


async def test_every_time_that_a_letter_is_in_doubt_is_told(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.hangs_up("END", keep=True, times=2)
    letter = await play.submits("ann@a.test", to=BOB)
    await play.town.passes(minutes=30)
    assert far.mail_for == [BOB] * 3
    events = await letter.events(BOB)
    assert [each.get("in doubt", False) for each in events] == [True, True, False]


@pytest.mark.parametrize("without", [(), ("CHUNKING", "BINARYMIME")])
async def test_a_connection_that_breaks_within_the_content_leaves_no_doubt(
    play: Play, without: tuple[str, ...]
) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example", without=without)
    far.hangs_up("CONTENT", octets=100_000, times=1)
    body = (b"z" * 70 + b"\r\n") * 10_000
    letter = await play.submits("ann@a.test", to=BOB, body=body)
    assert far.mail_for == []
    told = await letter.became(BOB, "waits")
    assert "in doubt" not in told
    await play.town.passes(minutes=4)
    (got,) = far.messages
    assert got.content.endswith(letter.content)
    assert not far.complaints


@pytest.mark.parametrize("phase", ["GREETING", "EHLO", "MAIL", "RCPT", "END"])
async def test_a_host_that_falls_silent_keeps_the_letter_waiting_only(
    play: Play, phase: str
) -> None:
    await play.town.house("a.test", "ann", ways=HURRIED)
    far = await play.town.server("far.example")
    far.falls_silent(phase, times=1)
    letter = await play.submits("ann@a.test", to=BOB)
    assert "did not answer in time" in (await letter.waits(BOB) or "")
    await play.town.passes(minutes=4)
    assert far.mail_for == [BOB]
    await letter.became(BOB, *(() if phase in ("GREETING", "EHLO") else ("waits",)), "relayed")


async def test_a_silent_host_is_passed_over_for_the_next(play: Play) -> None:
    await play.town.house("a.test", "ann", ways=HURRIED)
    first = await play.town.server("far.example", preference=10)
    second = await play.town.server("far.example", preference=20)
    first.falls_silent("GREETING")
    await play.submits("ann@a.test", to=BOB)
    assert second.mail_for == [BOB]


async def test_a_silent_host_keeps_no_mail_for_others_waiting(play: Play) -> None:
    await play.town.house("a.test", "ann")
    slow = await play.town.server("slow.example")
    slow.falls_silent("GREETING", times=1)
    far = await play.town.server("far.example")
    await play.submits("ann@a.test", to="eve@slow.example", settles=False)
    await play.town.until(lambda: slow.visits)
    await play.submits("ann@a.test", to=BOB, settles=False)
    await play.town.until(lambda: far.messages, seconds=1)
    assert not slow.visits[0].quit


# --- TLS --------------------------------------------------------------------------------------


async def test_a_letter_goes_encrypted_where_that_is_offered(play: Play, tmp_path: Path) -> None:
    await play.town.house("a.test", "ann")
    # Expired, and for another name: RFC 7435 takes it, for plaintext is worse.
    tls = mx_tls(tmp_path, ["other.example"], expired=True)
    far = await play.town.server("far.example", tls=tls.context)
    letter = await play.submits("ann@a.test", to=BOB)
    (got,) = far.messages
    assert got.tls is not None
    told = await letter.became(BOB, "relayed", verified=False)
    assert told["tls"].startswith("TLSv1.3 ")


@pytest.mark.parametrize("how", ["handshake", "ancient", "refused"])
async def test_where_tls_is_offered_and_does_not_work_the_letter_goes_without(
    play: Play, tmp_path: Path, how: str
) -> None:
    await play.town.house("a.test", "ann")
    tls = mx_tls(tmp_path, ["mx.far.example"], ancient=how == "ancient")
    far = await play.town.server("far.example", tls=tls.context)
    if how == "handshake":
        far.hangs_up("HANDSHAKE")
    elif how == "refused":
        far.answers("STARTTLS", "454 4.7.0 Not now")
    letter = await play.submits("ann@a.test", to=BOB)
    (got,) = far.messages
    assert got.tls is None
    await letter.became(BOB, "relayed", tls="")


@pytest.mark.parametrize("how", ["absent", "handshake", "refused"])
async def test_where_encryption_is_a_must_nothing_goes_without(
    play: Play, tmp_path: Path, how: str
) -> None:
    house = await play.town.house("a.test", "ann")
    await house.set("relay.tls", "must")
    tls = mx_tls(tmp_path, ["mx.far.example"])
    far = await play.town.server("far.example", tls=None if how == "absent" else tls.context)
    if how == "handshake":
        far.hangs_up("HANDSHAKE", times=3)
    elif how == "refused":
        far.answers("STARTTLS", "454 4.7.0 Not now", times=3)
    letter = await play.submits("ann@a.test", to=BOB)
    assert await letter.waits(BOB) is not None
    await play.town.passes(hours=3)
    if how == "absent":
        assert far.mail_for == []
        await play.town.passes(days=5)
        await play.receives_report("ann@a.test", of="4.0.0", about=BOB, action="delayed")
        await play.receives_report("ann@a.test", of="4.4.7", about=BOB)
    else:
        (got,) = far.messages
        assert got.tls is not None
