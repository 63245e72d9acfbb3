"""The mail log: a line for each message that was taken and for each refusal, and none too many."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from postroom.core.settings import Place, Scope
from postroom.mailflow import maillog
from postroom.mailflow.composed import ComposedQueue
from postroom.mailflow.refusals import BURST
from tests.mailflow.doors import ANN as ME
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, Mx, message

BOB = f"bob@{DOMAIN}"
EVE = f"eve@{DOMAIN}"
ANN = "ann@elsewhere.example"
WHOSE = {"session", "protocol", "peer", "login", "sender", "id"}
EVENTS = {"message accepted", "message refused", "recipient refused"}


def lines(said: list[Any]) -> list[dict[str, Any]]:
    return [each for each in said if each["event"] in EVENTS]


async def test_a_message_that_was_taken_is_one_line(doors: Doors) -> None:
    mx = doors.mx
    await mx.account(BOB)
    await mx.account(EVE)
    with capture_logs() as said:
        async with doors.signed_in() as client:
            content = b"From: <ann@example.test>\r\nMessage-ID: <m@x>\r\n\r\nHi\r\n"
            to = [BOB, EVE, "far@far.example", f"+@{DOMAIN}"]
            done = await client.deliver(ME, to, content)
            assert done.end is not None
    _, line = lines(said)
    stored = (await mx.content(await mx.find(BOB)))[0]
    assert line.pop("session").startswith("s")
    assert line.pop("id") in done.end.text
    assert line == {
        "event": "message accepted",
        "log_level": "info",
        "protocol": "SUBMISSION",
        "peer": "127.0.0.1",
        "login": ME,
        "sender": ME,
        "message_id": "<m@x>",
        "size": len(stored),
        "recipients": 3,
        "delivered": 2,
        "queued": 0,
        "relayed": 1,
    }


async def test_who_has_to_wait_is_counted_as_such(mx: Mx) -> None:
    bob = await mx.account(BOB)
    await mx.account(EVE)
    await mx.set("quota.octets", 100, Place(Scope.ACCOUNT, str(bob)))
    with capture_logs() as said:
        async with mx.connect() as client:
            assert (await client.deliver(ANN, [BOB, EVE], message())).accepted
    (line,) = lines(said)
    assert (line["recipients"], line["delivered"], line["queued"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("command", "action", "rule", "code"),
    [
        (f"MAIL FROM:<{BOB}>", "refuse", "local_sender", "530 5.7.0 "),
        (f"MAIL FROM:<{ANN}> SIZE=999999999", "refuse", "declared_size", "552 5.3.4 "),
        ("RCPT TO:<no@example.test>", "refuse", "known", "550 5.1.1 "),
        ("RCPT TO:<x@far.example>", "refuse", "relay", "550 5.7.1 "),
        (f"RCPT TO:<{BOB}>", "defer", "room", "452 4.2.2 "),
    ],
)
async def test_each_refusal_is_one_line_that_says_why(
    mx: Mx, command: str, action: str, rule: str, code: str
) -> None:
    bob = await mx.account(BOB)
    await mx.set("quota.octets", 1, Place(Scope.ACCOUNT, str(bob)))
    async with mx.connect() as client:
        if command.startswith("RCPT"):
            await client.ask(f"MAIL FROM:<{ANN}> SIZE=100", 250)
        with capture_logs() as said:
            reply = await client.ask(command)
    (line,) = lines(said)
    one = command.startswith("RCPT")
    assert line["event"] == ("recipient refused" if one else "message refused")
    assert (line["action"], line["rule"]) == (action, rule)
    assert line["reply"].startswith(code) and line["why"]
    assert line["id"] in reply.text
    assert (line["to"] is not None) == one
    assert line["to"] is None or line["to"] in command
    assert line.keys() >= WHOSE


async def test_a_refused_content_is_one_line_however_many_it_was_for(doors: Doors) -> None:
    mx = doors.mx
    for each in (BOB, EVE):
        await mx.account(each)
    with capture_logs() as said:
        async with mx.connect() as client:
            bad = message(body=b"a\0b\r\n")
            done = await client.deliver(ANN, [BOB, EVE], bad)
            assert done.last.code == 554
    (line,) = lines(said)
    assert (line["event"], line["recipients"], line["to"]) == ("message refused", 2, None)
    assert line["size"] == len(bad)


async def test_by_lmtp_each_recipient_without_room_is_a_line(doors: Doors) -> None:
    mx = doors.mx
    await mx.set("quota.octets", 100, Place(Scope.ACCOUNT, str(await mx.account(BOB))))
    await mx.account(EVE)
    with capture_logs() as said:
        async with doors.local() as client:
            await client.ask(f"MAIL FROM:<{ANN}>", 250)
            for to in (BOB, EVE):
                await client.ask(f"RCPT TO:<{to}>", 250)
            await client.ask("DATA", 354)
            await client.send(message() + b".\r\n")
            assert [r.code for r in await client.replies(2)] == [452, 250]
    taken, refused = lines(said)
    assert (taken["protocol"], taken["peer"], taken["delivered"]) == ("LMTP", "", 1)
    assert (refused["to"], refused["rule"]) == (BOB, "room")


async def test_what_we_composed_is_a_line_too(doors: Doors) -> None:
    mx = doors.mx
    await mx.account(BOB)
    async with doors.signed_in() as client:
        await client.ask(f"MAIL FROM:<{ME}>", 250)
        await client.ask(f"RCPT TO:<{BOB}> NOTIFY=SUCCESS", 250)
        await client.ask("DATA", 354)
        await client.content(b"From: <ann@example.test>\r\n\r\nHi\r\n")
    with capture_logs() as said:
        await ComposedQueue(mx.house, mx.intake, 1).round()
    (line,) = lines(said)
    assert (line["protocol"], line["sender"], line["delivered"]) == ("COMPOSED", "", 1)


async def test_a_flood_of_refusals_fills_no_log(mx: Mx) -> None:
    """As many lines as traces: the source's budget is one."""
    await mx.set("smtp.max_refused", 0)
    with capture_logs() as said:
        async with mx.connect() as client:
            asked = BURST + 40
            rcpts = b"RCPT TO:<no@example.test>\r\n" * asked
            await client.send(f"MAIL FROM:<{ANN}>\r\n".encode() + rcpts)
            await client.replies(asked + 1)
    assert len(lines(said)) == BURST
    assert mx.intake.refusals.dropped == 40


def test_the_log_has_a_name_of_its_own() -> None:
    """So that an administrator may send it elsewhere."""
    assert maillog._log._logger_factory_args == ("postroom.mail",)
