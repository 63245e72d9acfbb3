"""The sender policy shown and tried: by which line, and what a peer would be told."""

from __future__ import annotations

import pytest

from postroom.core.errors import Malformed, Misuse, NotFound
from postroom.core.ids import TRACE, external
from postroom.core.settings import SERVER, Place, Scope, Value
from postroom.domain import trace
from postroom.domain.policy import Assignment, change
from tests.admin.housing import Admin

LINES = (
    "spf=softfail score 2",
    "dkim=none score 2",
    "arc=pass tag Forwarded",
    "wish=reject signer=lists.example junk",
    'peer=192.0.2.0/24 refuse "That network is shut"',
)


async def put(admin: Admin, name: str, value: Value, place: Place = SERVER) -> None:
    flow = admin.house.flow
    assigned = [Assignment(place, name, value)]
    await flow.mail.write(change, assigned, flow.ids.new(), admin.clock.now(), 0, "a test")


async def test_lines_are_shown_with_their_numbers(admin: Admin) -> None:
    assert "There are no lines" in (await admin.do("sender show")).told()
    await put(admin, "sender.rules", LINES)
    await put(admin, "sender.approved", ("spf:friend.example",))
    await put(admin, "sender.junk_score", 4)
    await put(admin, "sender.refuse_score", 1)
    assert (await admin.json("sender show")).told().splitlines() == [
        *(f"  {n}  {line}" for n, line in enumerate(LINES, 1)),
        "from 4 points on: junk",
        "from 1 point on: refuse",
        "approved: spf:friend.example",
    ]
    await put(admin, "sender.rules", ("spf=fail junk",), Place(Scope.LISTENER, "smtp"))
    assert (await admin.do("sender show", listener="smtp")).lines == ("spf=fail junk",)


async def test_a_domain_may_have_lines_of_its_own(admin: Admin) -> None:
    await admin.do("domain create", domain="b.example")
    await put(admin, "sender.rules", LINES)
    await put(admin, "sender.rules", ("spf=fail refuse",), Place(Scope.DOMAIN, "b.example"))
    assert (await admin.do("sender show", domain="B.example")).lines == ("spf=fail refuse",)
    there = await admin.do("sender test", domain="b.example", results=["spf=fail"])
    here = await admin.do("sender test", results=["spf=fail"])
    assert (there.action, here.action) == ("refuse", "")
    with pytest.raises(NotFound):
        await admin.do("sender show", domain="c.example")


@pytest.mark.parametrize(
    ("results", "action", "by", "reply"),
    (
        ((), "", "", ""),
        (("spf=softfail",), "", "", ""),
        (("spf=softfail", "dkim=none"), "junk", "sender.junk_score", ""),
        (("signer=lists.example", "wish=reject"), "junk", "sender.rules line 4", ""),
        (("signer=lists.example", "dmarc=pass"), "", "", ""),
        (
            ("peer=192.0.2.9",),
            *("refuse", "sender.rules line 5"),
            "550 5.7.1 That network is shut, by rule sender.rules line 5",
        ),
        (
            ("spf=pass", "sender=ann@friend.example", "peer=192.0.2.9"),
            *("accept", "sender.approved, spf:friend.example", ""),
        ),
    ),
)
async def test_what_would_become_of_a_message(
    admin: Admin, results: tuple[str, ...], action: str, by: str, reply: str
) -> None:
    await put(admin, "sender.rules", LINES)
    await put(admin, "sender.approved", ("spf:friend.example",))
    await put(admin, "sender.junk_score", 4)
    tried = await admin.json("sender test", results=list(results))
    assert (tried.action, tried.by, tried.reply) == (action, by, reply)


async def test_each_line_says_whether_it_holds(admin: Admin) -> None:
    await put(admin, "sender.rules", LINES)
    asked = ("spf=softfail", "arc=pass", "dmarc=fail", "wish=reject", "signer=lists.example")
    said = (await admin.do("sender test", results=list(asked))).told().splitlines()
    assert said == [
        "  1  holds      spf=softfail score 2",
        "  2  fails      dkim=none score 2",
        "  3  holds      arc=pass tag Forwarded",
        "  4  holds      wish=reject signer=lists.example junk",
        '  5  not asked  peer=192.0.2.0/24 refuse "That network is shut"',
        "Unknown: helo, iprev, vbr, from.",
        "It is tagged Forwarded.",
        "It has 2 points.",
        "It is filed as junk by sender.rules line 4.",
        "It decides in the place of what is set for DMARC.",
    ]


async def test_lines_that_are_not_set_can_be_tried(admin: Admin) -> None:
    lines = "spf=fail score 1\n\nspf=fail, softfail refuse\n"
    with pytest.raises(Misuse, match=r"sender\.rules, entry 2: A value of spf is missing"):
        await admin.do("sender test", lines="spf=fail score 1\nspf= refuse", results=["spf=fail"])
    with pytest.raises(Misuse, match="entry 2"):
        await admin.do("sender test", lines=lines, results=["spf=fail"])
    tried = await admin.do("sender test", lines="spf=fail close", results=["spf=fail"])
    assert tried.told().endswith("by rule sender.rules line 1")
    assert "It is refused, and the connection closed, by sender.rules line 1." in tried.told()
    assert (await admin.do("sender show")).lines == ()


FACTS = {
    "peer": {
        "ip": "192.0.2.7", "listener": "smtp", "encrypted": False, "helo": "x", "extended": True,
        "signed_in": False, "login": "", "protocol": "SMTP",
    },
    "sender": {"address": "ann@example.com", "local_domain": False, "declared_size": 0},
    "spf": {"result": "softfail", "domain": "of another release"},
    "dkim": {"signatures": [{"code": "pass", "domain": "lists.example", "identity": "@x"}]},
    "dmarc": {"result": "fail", "domain": "a.example", "why": "", "policy": "reject", "new": 1},
    "unknown": ["vbr"],
}  # fmt: skip


@pytest.mark.parametrize("refused", (False, True))
async def test_a_message_that_came_can_be_tried_again(admin: Admin, refused: bool) -> None:
    flow, number = admin.house.flow, 77
    record = {"id": external(TRACE, number), "facts": FACTS}
    if refused:
        kept = trace.Trace(number, admin.clock.now(), record, ())
        await flow.state.write(trace.note_refusals, [kept])
    else:
        await flow.mail.write(trace.keep, number, admin.clock.now(), trace.pack(record), ())
    await put(admin, "sender.rules", LINES)
    tried = await admin.do("sender test", message=external(TRACE, number))
    assert (tried.action, tried.by) == ("junk", "sender.rules line 4")
    assert tried.unknown == ("spf", "helo", "iprev", "vbr", "from")
    lines = "peer!=192.0.2.0/24|198.51.100.1 close\nsender=example.com dkim=pass late=vbr defer"
    tried = await admin.do("sender test", message=external(TRACE, number), lines=lines)
    assert tried.reply.startswith("451 4.7.1 ")
    with pytest.raises(Misuse, match="Name a message, or say"):
        await admin.do("sender test", message=external(TRACE, number), results=["spf=pass"])
    with pytest.raises(NotFound, match="There is no trace of r"):
        await admin.do("sender test", message=external(TRACE, 78))
    with pytest.raises(Malformed, match="is not the id of a message"):
        await admin.do("sender test", message="x")


async def test_what_makes_no_sense_is_told(admin: Admin) -> None:
    with pytest.raises(Malformed, match="There is no condition"):
        await admin.do("sender test", results=["spff=pass"])
