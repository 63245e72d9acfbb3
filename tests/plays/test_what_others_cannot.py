"""Servers that lack an extension, or allow but little: the letter fits itself, or says why not."""

from __future__ import annotations

from postroom.testing.plays import Play

BOB = "bob@far.example"
OLD = ("8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN", "PIPELINING", "SIZE")


async def test_a_server_without_8bitmime_gets_the_letter_in_seven_bits(play: Play) -> None:
    """RFC 6152 §3."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example", without=OLD)
    fields = (
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n"
    )
    letter = await play.submits(
        "ann@a.test", to=BOB, body="Grüße aus Köln.\r\n".encode(), mail="BODY=8BITMIME",
        fields=fields,
    )  # fmt: skip
    (got,) = far.messages
    assert got.content.isascii()
    assert b"Content-Transfer-Encoding: quoted-printable" in got.content
    assert b"Gr=C3=BC=C3=9Fe aus K=C3=B6ln." in got.content
    assert not far.complaints
    await letter.became(BOB, "relayed")


async def test_an_address_beyond_ascii_comes_back_from_a_server_that_takes_none(
    play: Play,
) -> None:
    """RFC 6531 §3.5: 5.6.7, and whoever can be reached is."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example", without=["SMTPUTF8"])
    letter = await play.submits("ann@a.test", to=[BOB, "jörg@far.example"], mail="SMTPUTF8")
    assert far.mail_for == [BOB]
    await play.receives_report("ann@a.test", of="5.6.7", about="jörg@far.example")
    await letter.became("jörg@far.example", "returned", status="5.6.7", phase="offer")
    await letter.became(BOB, "relayed")


async def test_one_address_beyond_ascii_alone_comes_back_too(play: Play) -> None:
    await play.town.house("a.test", "ann")
    await play.town.server("far.example", without=["SMTPUTF8"])
    await play.submits("ann@a.test", to="jörg@far.example", mail="SMTPUTF8")
    await play.receives_report("ann@a.test", of="5.6.7", about="jörg@far.example")


async def test_a_server_that_takes_utf8_gets_it(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    await play.submits(
        "ann@a.test", to="jörg@far.example", mail="SMTPUTF8", subject="Grüße aus Köln"
    )
    (got,) = far.messages
    assert got.mail.smtputf8
    assert got.recipients == ["jörg@far.example"]
    assert not far.complaints


async def test_a_header_beyond_ascii_comes_back_from_a_server_that_takes_none(play: Play) -> None:
    await play.town.house("a.test", "ann")
    await play.town.server("far.example", without=["SMTPUTF8"])
    letter = await play.submits("ann@a.test", to=BOB, mail="SMTPUTF8", subject="Grüße aus Köln")
    await play.receives_report("ann@a.test", of="5.6.9", about=BOB)
    await letter.became(BOB, "returned", status="5.6.9", phase="offer")


async def test_smtputf8_that_nothing_needs_stands_in_nobodys_way(play: Play) -> None:
    """Many a client says SMTPUTF8 wherever it is offered: an ASCII letter goes everywhere."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example", without=["SMTPUTF8"])
    await play.submits("ann@a.test", to=BOB, mail="SMTPUTF8")
    assert far.mail_for == [BOB]


async def test_a_letter_beyond_a_servers_size_comes_back_unsent(play: Play) -> None:
    """RFC 1870 §6.1."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example", offers=["SIZE 1000", "PIPELINING"])
    letter = await play.submits("ann@a.test", to=BOB, body=(b"s" * 70 + b"\r\n") * 50)
    notice = await play.receives_report("ann@a.test", of="5.3.4", about=BOB)
    assert b"this host takes 1000" in notice.content
    await letter.became(BOB, "returned", status="5.3.4", phase="offer")
    assert "MAIL" not in far.visits[0].commands


async def test_a_server_that_takes_few_recipients_at_once_gets_them_in_turns(play: Play) -> None:
    """RFC 9422."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example", offers=["LIMITS RCPTMAX=3", "PIPELINING"])
    whom = [f"p{n}@far.example" for n in range(8)]
    await play.submits("ann@a.test", to=whom)
    assert sorted(far.mail_for) == whom
    assert [len(got.rcpts) for got in far.messages] == [3, 3, 2]
    assert not far.complaints


async def test_a_server_that_says_452_to_one_too_many_gets_the_rest_at_once(play: Play) -> None:
    """RFC 5321 §4.5.3.1.10."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.refuses(reply="452 4.5.3 Too many recipients", skip=3, times=2)
    whom = [f"p{n}@far.example" for n in range(5)]
    await play.submits("ann@a.test", to=whom)
    assert sorted(far.mail_for) == whom
    assert [len(got.rcpts) for got in far.messages] == [3, 2]


async def test_a_server_that_knows_helo_alone_gets_the_letter(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.answers("EHLO", "502 5.5.1 What?")
    await play.submits("ann@a.test", to=BOB)
    assert far.mail_for == [BOB]
    assert not far.complaints
