"""Who is told what, and when: reports of delay, of success, of the end. RFC 3461, RFC 3464."""

from __future__ import annotations

import pytest

from postroom.testing.plays import Play
from postroom.wire.smtp import Notify

BOB = "bob@far.example"


async def test_what_nobody_takes_for_five_days_comes_back(on_both: Play) -> None:
    play = on_both
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    await far.goes_down()
    letter = await play.submits("ann@a.test", to=BOB)
    await play.town.passes(hours=119)
    await play.receives_report("ann@a.test", of="4.0.0", about=BOB, action="delayed")
    await play.receives_nothing("ann@a.test")
    await play.town.passes(hours=1, minutes=5)
    notice = await play.receives_report("ann@a.test", of="4.4.7", about=BOB)
    assert b"mx.far.example" in notice.content
    told = await letter.became(BOB, "delayed", "returned", status="4.4.7")
    assert "mx.far.example" in told["reply"]
    assert not await house.waiting()


async def test_the_sender_hears_of_a_delay_after_four_hours(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.refuses(BOB, "450 4.2.0 Later")
    letter = await play.submits("ann@a.test", to=BOB)
    await play.town.passes(hours=3, minutes=59)
    await play.receives_nothing("ann@a.test")
    await play.town.passes(minutes=2)
    notice = await play.receives_report("ann@a.test", of="4.0.0", about=BOB, action="delayed")
    said = notice.about(BOB)
    assert said.will_retry_until is not None
    assert said.diagnostic is not None and "450 4.2.0 Later" in said.diagnostic.value
    await letter.became(BOB, "waits", "delayed")
    await play.town.passes(hours=20)
    await play.receives_nothing("ann@a.test")  # once is enough


async def test_the_sender_hears_of_a_delay_after_four_hours_if_nobody_answers(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    await far.goes_down()
    await play.submits("ann@a.test", to=BOB)
    await play.town.passes(hours=4, minutes=1)
    await play.receives_report("ann@a.test", of="4.0.0", about=BOB, action="delayed")


@pytest.mark.parametrize(
    ("notify", "delay", "failure"),
    [
        ("NOTIFY=DELAY", True, False),
        ("NOTIFY=FAILURE", False, True),
        ("NOTIFY=DELAY,FAILURE", True, True),
        ("NOTIFY=SUCCESS", False, False),
        ("NOTIFY=NEVER", False, False),
    ],
)
async def test_who_is_told_is_what_the_sender_asked_for(
    play: Play, notify: str, delay: bool, failure: bool
) -> None:
    """RFC 3461 §4.1."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    await far.goes_down()
    letter = await play.submits("ann@a.test", to=BOB, rcpt=notify)
    await play.town.passes(days=6)
    if delay:
        await play.receives_report("ann@a.test", of="4.0.0", about=BOB, action="delayed")
    if failure:
        await play.receives_report("ann@a.test", of="4.4.7", about=BOB)
    await play.receives_nothing("ann@a.test")
    last = (await letter.events(BOB))[-1]
    assert (last["what"], bool(last["notice"])) == ("returned", failure)


async def test_a_refusal_of_one_who_wants_no_report_is_told_to_nobody(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.refuses(BOB)
    letter = await play.submits("ann@a.test", to=BOB, rcpt="NOTIFY=NEVER")
    await play.receives_nothing("ann@a.test")
    await letter.became(BOB, "returned", notice="")


async def test_a_server_that_knows_reports_is_asked_to_send_them(play: Play) -> None:
    """RFC 3461 §5.2.1: NOTIFY, ORCPT, RET and ENVID go on with the message."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    await play.submits(
        "ann@a.test",
        to=BOB,
        mail="RET=HDRS ENVID=a+2Bb",
        rcpt="NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;robert+40far.example",
    )
    (got,) = far.messages
    assert got.mail.envid == "a+b"
    assert got.mail.ret is not None and got.mail.ret.value == "HDRS"
    (rcpt,) = got.rcpts
    assert rcpt.notify == Notify.SUCCESS | Notify.FAILURE
    assert rcpt.orcpt is not None and rcpt.orcpt.address == "robert@far.example"
    await play.receives_nothing("ann@a.test")  # that is theirs to send now


async def test_where_a_server_knows_no_reports_we_say_that_it_was_relayed(play: Play) -> None:
    """RFC 3461 §5.2.2: one report for all of them."""
    await play.town.house("a.test", "ann")
    await play.town.server("far.example", without=["DSN"])
    whom = [BOB, "cid@far.example"]
    await play.submits("ann@a.test", to=whom, mail="ENVID=e1", rcpt="NOTIFY=SUCCESS")
    notice = await play.receives_report("ann@a.test", of="2.0.0", about=BOB, action="relayed")
    notice.about("cid@far.example")
    assert notice.report.original_envelope_id == "e1"
    await play.receives_nothing("ann@a.test")


async def test_a_house_that_delivers_says_so_where_it_was_asked_to(on_both: Play) -> None:
    play = on_both
    await play.town.house("a.test", "ann")
    await play.town.house("b.test", "bob")
    letter = await play.submits("ann@a.test", to="bob@b.test", rcpt="NOTIFY=SUCCESS")
    await play.receives("bob@b.test", letter)
    notice = await play.receives_report(
        "ann@a.test", of="2.0.0", about="bob@b.test", action="delivered"
    )
    assert notice.report.reporting_mta.value == "mail.b.test"
    await play.receives_nothing("ann@a.test")


async def test_one_report_in_the_senders_words(play: Play) -> None:
    """RET=HDRS returns no body, ORCPT names whom the sender meant. RFC 3461 §4.2, §4.3."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.refuses(BOB)
    await play.submits(
        "ann@a.test", to=BOB, body=b"A secret.\r\n", mail="RET=HDRS ENVID=e2",
        rcpt="ORCPT=rfc822;robert@old.example",
    )  # fmt: skip
    notice = await play.receives_report("ann@a.test", of="5.1.1", about=BOB)
    assert b"A secret." not in notice.content
    assert notice.report.original_envelope_id == "e2"
    original = notice.about(BOB).original_recipient
    assert original is not None and original.value == "robert@old.example"


async def test_who_has_no_room_for_days_is_given_up_and_the_sender_told(play: Play) -> None:
    """A copy that could not be placed waits in the local queue, as one for others would."""
    house = await play.town.house("a.test", "ann", "cid")
    near = await play.town.server("near.example")
    await house.alias("both@a.test", "ann@a.test")
    await house.alias("both@a.test", "cid@a.test")
    await house.set("quota.octets", 3_700)
    filler = await play.brings("eve@near.example", to="ann@a.test", body=b"x" * 70 + b"\r\n")
    await play.receives("ann@a.test", filler)
    lines = (b"y" * 70 + b"\r\n") * 45
    letter = await play.brings("eve@near.example", to="both@a.test", body=lines)
    await play.receives("cid@a.test", letter)
    await play.receives_nothing("ann@a.test")
    assert await letter.waits("ann@a.test")
    await play.town.passes(days=5, hours=5)
    assert near.mail_for == ["eve@near.example"] * 2  # of the delay, of the end
    assert b"Status: 4.4.7" in near.messages[1].content
    assert not await house.waiting()
    await letter.became("ann@a.test", "delayed", "returned", status="4.4.7")


async def test_who_makes_room_in_time_gets_the_letter(play: Play) -> None:
    house = await play.town.house("a.test", "ann", "cid")
    await house.alias("both@a.test", "ann@a.test")
    await house.alias("both@a.test", "cid@a.test")
    await house.set("quota.octets", 3_700)
    await play.brings("eve@near.example", to="ann@a.test", body=b"x" * 70 + b"\r\n")
    letter = await play.brings(
        "eve@near.example", to="both@a.test", body=(b"y" * 70 + b"\r\n") * 45
    )
    await house.empty("ann@a.test")
    await play.town.passes(minutes=4)
    await play.receives("ann@a.test", letter)
    await letter.became("ann@a.test", "delivered")
