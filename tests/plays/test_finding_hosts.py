"""Which host a letter is brought to, and what becomes of it where there is none. RFC 5321 §5."""

from __future__ import annotations

import pytest

from postroom.testing.dns import Fault, What
from postroom.testing.plays import Play

BOB = "bob@far.example"


async def test_the_most_preferred_exchanger_gets_the_letter(on_both: Play) -> None:
    play = on_both
    await play.town.house("a.test", "ann")
    second = await play.town.server("far.example", name="mx2.far.example", preference=20)
    first = await play.town.server("far.example", name="mx1.far.example", preference=10)
    letter = await play.submits("ann@a.test", to=BOB)
    assert first.mail_for == [BOB]
    assert not second.visits
    told = await letter.became(BOB, "relayed", host="mx1.far.example", ip=first.ip)
    assert told["reply"] == "250 2.0.0 taken"


async def test_exchangers_of_equal_preference_share_the_mail(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    await house.set("relay.messages_per_connection", 1)
    hosts = [await play.town.server("far.example") for _ in range(3)]
    for _ in range(20):
        await play.submits("ann@a.test", to=BOB)
    shares = [len(host.messages) for host in hosts]
    assert sum(shares) == 20
    assert min(shares) >= 2, shares


async def test_the_backup_takes_the_letter_while_the_first_is_down(play: Play) -> None:
    await play.town.house("a.test", "ann")
    first = await play.town.server("far.example", preference=10)
    backup = await play.town.server("far.example", preference=20)
    await first.goes_down()
    letter = await play.submits("ann@a.test", to=BOB)
    assert backup.mail_for == [BOB]
    await letter.became(BOB, "relayed", host="mx2.far.example")
    await first.comes_back()
    await play.submits("ann@a.test", to=BOB)
    assert first.mail_for == [BOB]


async def test_a_domain_without_exchangers_takes_mail_itself(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server(name="far.example")
    letter = await play.submits("ann@a.test", to=BOB)
    assert far.mail_for == [BOB]
    await letter.became(BOB, "relayed", host="far.example")


async def test_a_host_with_ipv6_alone_is_reached(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example", ip="::1")
    letter = await play.submits("ann@a.test", to=BOB)
    assert far.mail_for == [BOB]
    await letter.became(BOB, "relayed", ip="::1")


async def test_where_ipv6_does_not_work_the_letter_goes_over_ipv4(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    play.town.zones.host("mx.far.example", "::1")  # nobody listens there
    letter = await play.submits("ann@a.test", to=BOB)
    assert far.mail_for == [BOB]
    await letter.became(BOB, "relayed", ip=far.ip)


async def test_an_address_literal_is_the_host_itself(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server(name="far.example", ip="127.0.2.1")
    letter = await play.submits("ann@a.test", to="bob@[127.0.2.1]")
    assert far.mail_for == ["bob@[127.0.2.1]"]
    await letter.became("bob@[127.0.2.1]", "relayed", ip="127.0.2.1")


async def test_a_domain_that_says_it_takes_no_mail_gets_none(play: Play) -> None:
    """RFC 7505 §4.2: 5.1.10, at once."""
    await play.town.house("a.test", "ann")
    play.town.zones.add("far.example", "MX", "0 .")
    play.town.zones.host("far.example", "127.0.2.9")
    letter = await play.submits("ann@a.test", to=BOB)
    await play.receives_report("ann@a.test", of="5.1.10", about=BOB)
    await letter.became(BOB, "returned", status="5.1.10", host="")


async def test_a_domain_that_does_not_exist_is_told_at_once(play: Play) -> None:
    await play.town.house("a.test", "ann")
    letter = await play.submits("ann@a.test", to="bob@nowhere.example")
    await play.receives_report("ann@a.test", of="5.1.2", about="bob@nowhere.example")
    await letter.became("bob@nowhere.example", "returned", status="5.1.2")


async def test_a_domain_whose_exchanger_has_no_address_is_told_at_once(play: Play) -> None:
    await play.town.house("a.test", "ann")
    play.town.zones.add("far.example", "MX", "10 mx.far.example")
    letter = await play.submits("ann@a.test", to=BOB)
    await play.receives_report("ann@a.test", of="5.4.4", about=BOB)
    await letter.became(BOB, "returned", status="5.4.4")


async def test_mail_whose_best_exchanger_is_this_server_would_go_in_circles(play: Play) -> None:
    """RFC 5321 §5.1: the domain is not served here, and DNS says that it is."""
    await play.town.house("a.test", "ann")
    worse = await play.town.server("loop.example", preference=20)
    play.town.zones.add("loop.example", "MX", "10 mail.a.test")
    letter = await play.submits("ann@a.test", to="bob@loop.example")
    await play.receives_report("ann@a.test", of="5.4.6", about="bob@loop.example")
    await letter.became("bob@loop.example", "returned", status="5.4.6")
    assert not worse.visits  # what is less preferred than we are would bring it back


async def test_a_backup_brings_mail_to_better_exchangers_alone(play: Play) -> None:
    """RFC 5321 §5.1: those that are not better than ourselves are left out."""
    await play.town.house("a.test", "ann")
    best = await play.town.server("far.example", preference=5)
    worse = await play.town.server("far.example", preference=20)
    play.town.zones.add("far.example", "MX", "10 mail.a.test")
    await best.goes_down()
    letter = await play.submits("ann@a.test", to=BOB)
    assert not worse.visits
    assert await letter.waits(BOB) is not None
    await best.comes_back()
    await play.town.passes(minutes=4)
    assert best.mail_for == [BOB]


@pytest.mark.parametrize("what", [What.SERVFAIL, What.SILENT])
async def test_while_dns_is_down_mail_waits(play: Play, what: What) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    play.town.zones.fault("far.example", None, Fault(what))
    letter = await play.submits("ann@a.test", to=BOB)
    reply = await letter.waits(BOB)
    assert reply is not None
    assert "DNS" in reply
    play.town.zones.fault("far.example", None, None)
    await play.town.passes(minutes=4)
    assert far.mail_for == [BOB]
    await letter.became(BOB, "relayed", attempts=2)


async def test_an_exchanger_whose_address_dns_does_not_tell_now_is_waited_for(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    play.town.zones.fault("mx.far.example", None, Fault(What.SERVFAIL))
    letter = await play.submits("ann@a.test", to=BOB)
    assert await letter.waits(BOB) is not None
    play.town.zones.fault("mx.far.example", None, None)
    await play.town.passes(minutes=4)
    assert far.mail_for == [BOB]


# --- smart hosts ------------------------------------------------------------------------------


async def test_a_smart_host_gets_all_that_is_not_ours(play: Play) -> None:
    house = await play.town.house("a.test", "ann", "cid")
    hub = await play.town.server(name="hub.example")
    far = await play.town.server("far.example")
    await house.set("relay.smart_host", "hub.example")
    letter = await play.submits("ann@a.test", to=[BOB, "eve@nowhere.example", "cid@a.test"])
    assert hub.mail_for == [BOB, "eve@nowhere.example"]
    assert not far.visits
    await letter.became(BOB, "relayed", host="hub.example")
    record = await letter.house.trace(letter.trace)
    assert {each["next hop"] for each in record["relayed"]} == {"host:hub.example"}
    await play.receives("cid@a.test", letter)


async def test_mail_that_waits_goes_by_the_smart_host_that_is_set_now(on_both: Play) -> None:
    play = on_both
    house = await play.town.house("a.test", "ann")
    old = await play.town.server(name="old.example")
    new = await play.town.server(name="new.example")
    far = await play.town.server("far.example")
    await house.set("relay.smart_host", "old.example")
    await old.goes_down()
    letter = await play.submits("ann@a.test", to=BOB)
    assert await letter.waits(BOB) is not None
    await house.set("relay.smart_host", "new.example")
    await play.town.passes(minutes=4)
    assert new.mail_for == [BOB]
    await letter.became(BOB, "relayed", host="new.example")
    await new.goes_down()
    letter = await play.submits("ann@a.test", to=BOB)
    await house.set("relay.smart_host", None)
    await house.retry(letter.trace)
    await play.town.settle()
    assert far.mail_for == [BOB]
