"""Reverse-paths with tags go out, and reports come back to them. draft-levine-smtp-batv."""

from __future__ import annotations

import re

import pytest

from postroom.core.settings import Place, Scope
from postroom.testing.internet import Stranger
from postroom.testing.plays import Play

ANN = "ann@a.test"
BOB = "bob@far.example"
TAGGED = re.compile(r"prvs=[0-9]{4}[0-9a-f]{6}=ann@a\.test")


def senders(far: Stranger) -> list[str]:
    """Under which reverse-paths it took messages."""
    return [str(each.mail.reverse_path or "") for each in far.messages]


async def tagging(play: Play) -> tuple[Stranger, str]:
    """Ann's house tags; a server that has a letter of hers, and under which path."""
    house = await play.town.house("a.test", "ann")
    await house.set("batv.sign", True, Place(Scope.DOMAIN, "a.test"))
    far = await play.town.server("far.example")
    await play.submits(ANN, to=BOB)
    (sender,) = senders(far)
    assert TAGGED.fullmatch(sender)
    return far, sender


async def test_what_leaves_is_tagged_and_its_report_comes_back(on_both: Play) -> None:
    play = on_both
    _, sender = await tagging(play)
    house = play.town.house_of(ANN)
    await house.set("batv.on_untagged", "refuse")
    letter = await play.brings("", to=sender)
    assert len(await house.inbox(ANN)) == 1
    told = await house.trace(letter.trace)
    (recipient,) = told["recipients"]
    assert recipient["facts"]["batv"] == {"result": "right", "signs": True}


@pytest.mark.parametrize("to", [ANN, "prvs=1234abcdef=ann@a.test", "prvs=x=ann@a.test"])
async def test_what_answers_nothing_of_ours_is_refused(play: Play, to: str) -> None:
    """Attack class 15."""
    await tagging(play)
    house = play.town.house_of(ANN)
    if to != "prvs=x=ann@a.test":  # nobody's address
        await play.brings("", to=to)
        assert len(await house.inbox(ANN)) == 1  # nothing is said to do about it
    await house.set("batv.on_untagged", "refuse")
    reply = await play.is_refused("", to=to)
    assert reply.code == 550
    await house.set("batv.exempt", ("127.0.0.0/8",))
    if to != "prvs=x=ann@a.test":
        await play.brings("", to=to)


async def test_a_tag_expires_and_goes_to_junk(play: Play) -> None:
    _, sender = await tagging(play)
    house = play.town.house_of(ANN)
    await house.set("batv.on_untagged", "refuse")
    await play.town.passes(days=14)
    await play.brings("", to=sender)
    await play.town.passes(days=1.5)
    assert (await play.is_refused("", to=sender)).code == 550
    await house.set("batv.on_untagged", "junk")
    letter = await play.brings("", to=sender)
    assert (await house.trace(letter.trace))["delivered"][0]["mailbox"] == "junk"


async def test_people_and_strangers_write_as_ever(play: Play) -> None:
    """Only what comes from <> has to bear a tag; one of others' tags is part of their address."""
    far, sender = await tagging(play)
    house = play.town.house_of(ANN)
    await house.set("batv.on_untagged", "refuse")
    for to in (ANN, sender, "prvs=1234abcdef=ann@a.test"):
        await play.brings("prvs=4321fedcba=cid@other.example", to=to)
    assert len(await house.inbox(ANN)) == 3
    await house.alias("postmaster@a.test", ANN)
    await play.brings("", to="postmaster@a.test")
    await house.alias("all@a.test", BOB)
    await play.brings("cid@other.example", to="all@a.test")
    assert senders(far)[-1] == "cid@other.example"  # not ours to tag


async def test_each_attempt_has_one_reverse_path(play: Play) -> None:
    """Greylisting knows a message by it."""
    house = await play.town.house("a.test", "ann")
    await house.set("batv.sign", True)
    far = await play.town.server("far.example")
    far.refuses(BOB, "450 4.2.0 Later", times=6)
    await play.submits(ANN, to=BOB)
    await play.town.passes(days=2)
    assert far.mail_for == [BOB]
    said = b"".join(bytes(visit.said) for visit in far.visits).decode()
    paths = re.findall(r"MAIL FROM:<([^>]*)>", said)
    assert len(paths) == 7 and len(set(paths)) == 1 and TAGGED.fullmatch(paths[0])


async def test_our_own_reports_have_no_sender_to_tag(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    await house.set("batv.sign", True)
    far = await play.town.server("far.example")
    await house.alias("dead@a.test", "nobody@gone.example")
    gone = await play.town.server("gone.example")
    gone.refuses("nobody@gone.example", "550 5.1.1 Nobody of that name")
    await play.brings("cid@far.example", to="dead@a.test")
    assert senders(far) == [""]
