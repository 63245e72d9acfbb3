"""A smart host that is set wrongly: the mail waits for who set it, and is not returned.

The recipient's address has nothing to do with it: only the time of the queue ends such a wait.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from postroom.admin import journey
from postroom.mailflow.nexthop import parse_host
from postroom.testing.dns import Fault, What
from postroom.testing.plays import Letter, Play

ANN, BOB = "ann@a.test", "bob@far.example"
UNFOUND: Final = "We could not find the host that relay.smart_host names: "
HUB: Final = "hub.example"


async def waits_for_the_setting(
    play: Play, letter: Letter, logged: list[Any], setting: str, reply: str
) -> None:
    """It waits with that word, in the log and in the trace, and nobody got a report."""
    assert await letter.waits(BOB) == reply
    errors = [each for each in logged if each["log_level"] == "error"]
    assert [each["setting"] for each in errors] == [setting]
    await play.receives_nothing(ANN)
    told = await letter.became(BOB, "waits", setting=setting)
    assert str(told["status"]).startswith("4.")


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("nowhere.example", "nowhere.example does not exist in DNS"),
        ("localhost", "localhost does not exist in DNS"),
        ("bare.example", "bare.example has no address in DNS"),
        ("null.example:587", "null.example has no address in DNS"),
        ("mail.a.test", "mail.a.test is this server itself"),
        (
            "169.254.1.1",
            "[169.254.1.1] is at 169.254.1.1, where no mail is brought unless --egress-allow "
            "names its network",
        ),
    ],
)
async def test_mail_waits_for_a_smart_host_that_is_not_found(
    play: Play, host: str, found: str
) -> None:
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    play.town.zones.add("bare.example", "TXT", '"no address"')
    play.town.zones.add("null.example", "MX", "0 .")
    await house.set("relay.smart_host", host)
    with capture_logs() as logged:
        letter = await play.submits(ANN, to=BOB)
    await waits_for_the_setting(play, letter, logged, "relay.smart_host", UNFOUND + found)
    told = await letter.became(BOB, "waits", host="", reply=UNFOUND + found)
    (sentence,) = journey.happened([told], BOB)
    assert f"it had to wait: {UNFOUND}{found}." in sentence
    assert not far.visits
    # The trace is told once of each reason, and the next try after the change brings the mail.
    await play.town.passes(minutes=4)
    await letter.became(BOB, "waits")
    await house.set("relay.smart_host", None)
    await play.town.passes(hours=1)
    await letter.became(BOB, "waits", "relayed")
    assert far.mail_for == [BOB]


async def test_a_smart_host_that_is_never_found_returns_mail_when_its_time_is_over(
    play: Play,
) -> None:
    house = await play.town.house("a.test", "ann")
    await house.set("relay.smart_host", "nowhere.example")
    letter = await play.submits(ANN, to=BOB, rcpt="NOTIFY=FAILURE")
    await play.town.passes(days=4, hours=23)
    await play.receives_nothing(ANN)
    await play.town.passes(hours=2)
    notice = await play.receives_report(ANN, of="4.4.7", about=BOB)
    assert notice.about(BOB).remote_mta is None  # no host has said so
    told = await letter.became(BOB, "waits", "returned", status="4.4.7", host="")
    assert told["reply"] == f"{UNFOUND}nowhere.example does not exist in DNS"


async def test_while_dns_does_not_tell_where_the_smart_host_is_mail_waits(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    hub = await play.town.server(name=HUB)
    await house.set("relay.smart_host", HUB)
    play.town.zones.fault(HUB, None, Fault(What.SERVFAIL))
    letter = await play.submits(ANN, to=BOB)
    assert (await letter.waits(BOB) or "").startswith(UNFOUND)
    play.town.zones.fault(HUB, None, None)
    await play.town.passes(minutes=4)
    await letter.became(BOB, "waits", "relayed", host=HUB)
    assert hub.mail_for == [BOB]


async def test_a_smart_host_with_a_null_mx_is_a_host_all_the_same(play: Play) -> None:
    """An administrator named the host: RFC 7505 speaks of domains in addresses."""
    house = await play.town.house("a.test", "ann")
    hub = await play.town.server(name=HUB)
    play.town.zones.add(HUB, "MX", "0 .")
    await house.set("relay.smart_host", HUB)
    letter = await play.submits(ANN, to=BOB)
    await letter.became(BOB, "relayed", host=HUB)
    assert hub.mail_for == [BOB]


@pytest.mark.parametrize("ip", ["127.0.2.9", "::1"])
async def test_a_bare_address_is_a_smart_host_with_a_port_and_without(play: Play, ip: str) -> None:
    house = await play.town.house("a.test", "ann")
    hub = await play.town.server(name=HUB, ip=ip)
    await house.set("relay.smart_host", ip)
    await (await play.submits(ANN, to=BOB)).became(BOB, "relayed", ip=ip)
    port = play.town.port
    await house.set("relay.smart_host", f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}")
    await (await play.submits(ANN, to=BOB)).became(BOB, "relayed", ip=ip)
    assert hub.mail_for == [BOB, BOB]


async def test_a_smart_host_that_is_down_is_waited_for_without_an_alarm(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    hub = await play.town.server(name=HUB)
    await house.set("relay.smart_host", HUB)
    await hub.goes_down()
    with capture_logs() as logged:
        letter = await play.submits(ANN, to=BOB)
    assert (await letter.waits(BOB) or "").startswith(f"{HUB}: ")
    assert not [each for each in logged if each["log_level"] == "error"]
    await hub.comes_back()
    await play.town.passes(minutes=4)
    await letter.became(BOB, "relayed")


# --- refused there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "reply", "setting"),
    [
        ("GREETING", "554 5.7.1 No mail from there", "relay.smart_host"),
        ("GREETING", "521 5.3.2 Takes no mail", "relay.smart_host"),
        ("EHLO", "550 5.7.1 Who are you", "relay.smart_host"),
        ("MAIL", "530 5.7.0 Authentication required", "relay.smart_host_user"),
        ("MAIL", "530 5.7.57 Client not authenticated to send mail", "relay.smart_host_user"),
        ("MAIL", "503 5.5.1 AUTH first", "relay.smart_host_user"),
        ("MAIL", "550 5.7.8 Credentials have been taken back", "relay.smart_host_user"),
        ("RCPT", "530 5.7.0 Must issue a STARTTLS command first", "relay.smart_host_user"),
        ("END", "535 5.7.8 The password has expired", "relay.smart_host_user"),
    ],
)
async def test_mail_waits_where_the_smart_host_does_not_take_us(
    play: Play, phase: str, reply: str, setting: str
) -> None:
    """RFC 5321 §4.2.1 means the client that gives up: here it is the setting that is wrong."""
    house = await play.town.house("a.test", "ann")
    hub = await play.town.server(name=HUB)
    await house.set("relay.smart_host", HUB)
    hub.answers(phase, reply)
    with capture_logs() as logged:
        letter = await play.submits(ANN, to=BOB)
    await waits_for_the_setting(play, letter, logged, setting, f"{HUB}: {reply}")
    await letter.became(BOB, "waits", host=HUB)


@pytest.mark.parametrize(
    ("phase", "reply"),
    [
        ("MAIL", "553 5.7.1 That sender is not yours"),
        ("MAIL", "552 5.3.4 Too large"),
        ("RCPT", "550 5.1.1 Nobody of that name"),
        ("RCPT", "554 5.7.1 Relaying denied"),
        ("RCPT", "503 5.5.1 Not now"),
        ("END", "554 5.6.0 Not such content"),
    ],
)
async def test_what_the_smart_host_refuses_of_a_message_is_returned(
    play: Play, phase: str, reply: str
) -> None:
    house = await play.town.house("a.test", "ann")
    hub = await play.town.server(name=HUB)
    await house.set("relay.smart_host", HUB)
    hub.answers(phase, reply)
    letter = await play.submits(ANN, to=BOB)
    await play.receives_report(ANN, of=reply.split()[1], about=BOB)
    await letter.became(BOB, "returned", host=HUB)


async def test_another_server_that_asks_for_a_sign_in_refuses_for_good(play: Play) -> None:
    """No setting of ours would help: the mail exchanger is the recipient's."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.answers("MAIL", "530 5.7.0 Authentication required")
    await play.submits(ANN, to=BOB)
    await play.receives_report(ANN, of="5.7.0", about=BOB)


async def test_a_smart_host_without_the_tls_that_is_asked_for_is_told_as_a_setting(
    play: Play,
) -> None:
    house = await play.town.house("a.test", "ann")
    hub = await play.town.server(name=HUB, without=("STARTTLS",))
    await house.set("relay.smart_host", HUB)
    await house.set("relay.tls", "must")
    with capture_logs() as logged:
        letter = await play.submits(ANN, to=BOB)
    said = f"{HUB}: The host does not offer STARTTLS"
    await waits_for_the_setting(play, letter, logged, "relay.tls", said)
    assert not hub.messages


async def test_a_host_that_an_earlier_release_took_is_left_as_soon_as_another_is_set(
    play: Play,
) -> None:
    """`192.0.2.1` was once a name, and mail waits in the queue for that."""
    house = await play.town.house("a.test", "ann")
    hub = await play.town.server(name=HUB)
    assert str(parse_host(hub.ip)) == f"host:[{hub.ip}]"
    await house.set("relay.smart_host", HUB)
    await hub.goes_down()
    letter = await play.submits(ANN, to=BOB)
    await hub.comes_back()
    await house.set("relay.smart_host", hub.ip)
    await play.town.passes(minutes=4)
    await letter.became(BOB, "relayed", ip=hub.ip)
