"""What others refuse, for now or for good, and who hears of it."""

from __future__ import annotations

from email import policy
from email.parser import BytesParser

from postroom.testing.plays import Play

BOB = "bob@far.example"


async def test_a_refused_recipient_comes_back_as_a_report_that_mail_clients_understand(
    on_both: Play,
) -> None:
    play = on_both
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.refuses(BOB, "550 5.1.1 Nobody of that name")
    letter = await play.submits("ann@a.test", to=BOB, subject="=?utf-8?q?Gr=C3=BC=C3=9Fe?=")
    notice = await play.receives_report("ann@a.test", of="5.1.1", about=BOB)
    said = notice.about(BOB)
    assert said.diagnostic is not None and said.diagnostic.kind == "smtp"
    assert said.diagnostic.value == "550 5.1.1 Nobody of that name"
    assert said.remote_mta is not None and said.remote_mta.value == "mx.far.example"
    told = await letter.became(BOB, "returned", status="5.1.1", host="mx.far.example")
    assert told["notice"].startswith("r")
    # As another program reads it.
    read = BytesParser(policy=policy.default).parsebytes(notice.content)
    assert read.get_content_type() == "multipart/report"
    assert read.get_param("report-type") == "delivery-status"
    text, machine, original = read.iter_parts()
    assert BOB in text.get_content()
    assert machine.get_content_type() == "message/delivery-status"
    assert original.get_content_type() == "message/rfc822"
    assert original.get_content()["Message-ID"] == letter.message_id
    assert "Grüße" in text.get_content()


async def test_who_is_put_off_is_tried_again_at_growing_distances(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.refuses(BOB, "450 4.2.0 Later", times=3)
    letter = await play.submits("ann@a.test", to=BOB)
    assert await letter.waits(BOB) == "mx.far.example: 450 4.2.0 Later"
    seen = []
    for _ in range(12):
        seen.append(len(far.visits))
        await play.town.passes(minutes=5)
    assert seen == [1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4]  # after 3, 15 and 30 minutes
    assert far.mail_for == [BOB]
    await letter.became(BOB, "waits", "relayed", attempts=4)


async def test_one_refused_recipient_of_several_comes_back_and_the_others_are_served(
    play: Play,
) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    whom = [BOB, "cid@far.example", "dan@far.example"]
    far.refuses("cid@far.example", "550 5.7.1 Not to him")
    far.refuses("dan@far.example", "451 4.3.0 Later", times=1)
    letter = await play.submits("ann@a.test", to=whom)
    assert far.mail_for == [BOB]
    await play.receives_report("ann@a.test", of="5.7.1", about="cid@far.example")
    await play.town.passes(minutes=4)
    assert far.mail_for == [BOB, "dan@far.example"]
    await play.receives_nothing("ann@a.test")
    await letter.became(BOB, "relayed")
    await letter.became("cid@far.example", "returned", status="5.7.1", phase="rcpt")
    await letter.became("dan@far.example", "waits", "relayed")


async def test_several_refused_recipients_come_back_in_one_report(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    whom = [BOB, "cid@far.example"]
    far.refuses()
    await play.submits("ann@a.test", to=whom)
    notice = await play.receives_report("ann@a.test", of="5.1.1", about=BOB)
    assert len(notice.report.recipients) == 2
    await play.receives_nothing("ann@a.test")


async def test_a_host_that_refuses_to_talk_leaves_the_word_to_the_next(play: Play) -> None:
    """RFC 5321 §3.1, RFC 7504: 554 for a greeting is that host's word alone."""
    await play.town.house("a.test", "ann")
    first = await play.town.server("far.example", preference=10)
    second = await play.town.server("far.example", preference=20)
    first.answers("GREETING", "554 5.3.2 No SMTP service here")
    letter = await play.submits("ann@a.test", to=BOB)
    assert second.mail_for == [BOB]
    await letter.became(BOB, "relayed", host="mx2.far.example")
    assert not first.complaints


async def test_if_every_host_refuses_to_talk_the_letter_comes_back(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.answers("GREETING", "554 5.3.2 No SMTP service here")
    letter = await play.submits("ann@a.test", to=BOB)
    await play.receives_report("ann@a.test", of="5.3.2", about=BOB)
    await letter.became(BOB, "returned", status="5.3.2", host="mx.far.example")


async def test_if_one_host_refuses_and_another_is_down_the_letter_waits(play: Play) -> None:
    await play.town.house("a.test", "ann")
    first = await play.town.server("far.example", preference=10)
    second = await play.town.server("far.example", preference=20)
    first.answers("GREETING", "554 5.3.2 No SMTP service here")
    await second.goes_down()
    letter = await play.submits("ann@a.test", to=BOB)
    assert await letter.waits(BOB) is not None
    await second.comes_back()
    await play.town.passes(minutes=4)
    assert second.mail_for == [BOB]


async def test_a_host_that_says_goodbye_at_mail_gets_it_later(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.answers("MAIL", "421 4.3.2 Going down", times=1, drop=True)
    letter = await play.submits("ann@a.test", to=BOB)
    assert await letter.waits(BOB) == "mx.far.example: 421 4.3.2 Going down"
    await play.town.passes(minutes=4)
    assert far.mail_for == [BOB]
    await letter.became(BOB, "waits", "relayed")


async def test_a_host_that_refuses_the_message_itself_refuses_it_for_all(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.answers("END", "554 5.6.0 Not with this content")
    whom = [BOB, "cid@far.example"]
    letter = await play.submits("ann@a.test", to=whom)
    notice = await play.receives_report("ann@a.test", of="5.6.0", about=BOB)
    notice.about("cid@far.example")
    await letter.became("cid@far.example", "returned", status="5.6.0", phase="end")
    assert far.mail_for == []


# --- nobody to tell ---------------------------------------------------------------------------


async def test_mail_that_nobody_sent_is_answered_by_nobody(play: Play) -> None:
    """RFC 5321 §4.5.5: a refused bounce goes nowhere, attack class 15."""
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    await house.alias("gone@a.test", BOB)
    far.refuses(BOB)
    letter = await play.brings("", to="gone@a.test")
    assert len(far.visits) == 1
    await letter.became(BOB, "returned", status="5.1.1", notice="")
    assert not await house.waiting()
    assert not far.messages


async def test_a_report_that_is_refused_is_not_reported(play: Play) -> None:
    """Double bounces end here."""
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    near = await play.town.server("near.example")
    await house.alias("gone@a.test", BOB)
    far.refuses(BOB)
    near.refuses("eve@near.example", "550 5.1.1 She never wrote")
    letter = await play.brings("eve@near.example", to="gone@a.test")
    told = await letter.became(BOB, "returned", status="5.1.1")
    assert told["notice"]
    assert [v.commands for v in near.visits] and not near.messages
    await play.town.passes(days=6)
    assert len(near.visits) == 1
    assert not await house.waiting()


# --- on the way -------------------------------------------------------------------------------


async def test_an_alias_leads_out_and_its_sender_hears_of_a_refusal_there(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    near = await play.town.server("near.example")
    await house.alias("team@a.test", BOB)
    await house.alias("team@a.test", "ann@a.test")
    letter = await play.brings("eve@near.example", to="team@a.test")
    assert far.mail_for == [BOB]
    assert str(far.messages[0].mail.reverse_path) == "eve@near.example"
    await play.receives("ann@a.test", letter)
    await letter.became(BOB, "relayed")
    (out,) = (await house.trace(letter.trace))["relayed"]
    assert out["because"] == f"team@a.test is an alias of {BOB}"
    far.refuses(BOB)
    await play.brings("eve@near.example", to="team@a.test")
    assert near.mail_for == ["eve@near.example"]
    assert near.messages[0].mail.reverse_path is None


async def test_a_letter_from_house_to_house_keeps_its_octets(play: Play) -> None:
    await play.town.house("a.test", "ann")
    await play.town.house("b.test", "bob")
    letter = await play.submits("ann@a.test", to="bob@b.test")
    got = await play.receives("bob@b.test", letter)
    assert got.startswith(b"Return-Path: <ann@a.test>\r\n")
    assert b"\r\nReceived: from mail.a.test" in got
    assert got.count(b"\nReceived:") == 2
    told = await letter.became("bob@b.test", "relayed", host="mail.b.test")
    assert told["tls"].startswith("TLSv1.3")
    assert "Message accepted as r" in told["reply"]


async def test_a_recipient_whom_another_house_does_not_know_comes_back(play: Play) -> None:
    await play.town.house("a.test", "ann")
    await play.town.house("b.test", "bob")
    letter = await play.submits("ann@a.test", to="nobody@b.test")
    await play.receives_report("ann@a.test", of="5.1.1", about="nobody@b.test")
    await letter.became("nobody@b.test", "returned", status="5.1.1", host="mail.b.test")


async def test_two_houses_that_lead_to_each_other_end_by_counting_hops(play: Play) -> None:
    """RFC 5321 §6.3: one report, to whom sent it, and no end to end it again."""
    here = await play.town.house("a.test", "ann")
    there = await play.town.house("b.test")
    await here.alias("round@a.test", "round@b.test")
    await there.alias("round@b.test", "round@a.test")
    await play.submits("ann@a.test", to="round@a.test")
    await play.receives("ann@a.test")
    await play.receives_nothing("ann@a.test")
    for house in (here, there):
        assert not await house.waiting()
    stirred = here.stirred + there.stirred
    assert stirred < 200
    await play.town.passes(days=6)
    assert here.stirred + there.stirred == stirred


async def test_a_report_in_circles_is_dropped_at_last(play: Play) -> None:
    """The report of a loop goes to somebody who is a loop himself."""
    here = await play.town.house("a.test", "ann")
    there = await play.town.house("b.test")
    await here.alias("round@a.test", "round@b.test")
    await there.alias("round@b.test", "round@a.test")
    await play.brings("", to="round@a.test")
    await play.town.passes(days=6)
    for house in (here, there):
        assert not await house.waiting()
    await play.receives_nothing("ann@a.test")
