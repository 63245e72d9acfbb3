"""What an administrator sees of the DMARC reports that were sent."""

from __future__ import annotations

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import Misuse
from postroom.domain.feedback import failures, sent
from postroom.domain.feedback.failures import Limits, Owed
from postroom.domain.feedback.sent import Told
from tests.admin.housing import Admin

DAY = 20_454  # 2026-01-01
NOW = Instant((DAY + 1) * 24 * 3600 * 1000)


async def test_what_was_sent_is_listed_and_what_was_not_with_its_reason(admin: Admin) -> None:
    mail = admin.house.flow.mail
    told = (Told("d@a.example", 900, 7), Told("x@b.example", why="b.example does not want it"))
    await mail.write(sent.settle, "a.example", DAY, "r1@mail", told, "", NOW)
    await mail.write(sent.postpone, "c.example", DAY, "DNS is silent", Instant(NOW + 1), NOW)
    await mail.write(sent.settle, "d.example", DAY, "", (), "it has no DMARC record any more", NOW)
    listed = await admin.json("dmarc reports sent")
    assert [(each.domain, each.to, each.outcome) for each in listed] == [
        ("a.example", "d@a.example", "sent"),
        ("a.example", "x@b.example", "b.example does not want it"),
        ("c.example", "", "waits: DNS is silent"),
        ("d.example", "", "it has no DMARC record any more"),
    ]
    assert (listed[0].day, listed[0].octets, listed[0].report_id) == ("2026-01-01", 900, "r1@mail")
    assert listed[0].message and not listed[1].message
    assert len(await admin.json("dmarc reports sent", domain="A.Example.")) == 2
    assert len(await admin.json("dmarc reports sent", limit=1)) == 1
    with pytest.raises(Misuse):
        await admin.do("dmarc reports sent", limit=0)


async def test_reports_on_single_messages_are_listed_with_what_they_are_about(admin: Admin) -> None:
    mail = admin.house.flow.mail
    for n, domain in enumerate(("a.example", "b.example", "c.example"), 1):
        owed = Owed(n, domain, NOW, {"told": {}}, b"Subject: x\r\n", Limits(10, 10))
        assert await mail.write(failures.owe, owed)
    told = (Told("f@a.example", 900, 7), Told("x@v.example", why="v.example does not want it"))
    assert await mail.write(failures.settle, 1, told, "", NOW)
    await mail.write(failures.postpone, 2, "DNS is silent", Instant(NOW + 1))
    listed = await admin.json("dmarc failures sent")
    assert [(each.domain, each.to, each.outcome) for each in listed] == [
        ("c.example", "", "waits"),
        ("b.example", "", "waits: DNS is silent"),
        ("a.example", "f@a.example", "sent"),
        ("a.example", "x@v.example", "v.example does not want it"),
    ]
    assert listed[2].octets == 900 and listed[2].message and not listed[3].message
    assert len({each.about for each in listed}) == 3
    assert len(await admin.json("dmarc failures sent", domain="A.Example.")) == 2
    with pytest.raises(Misuse):
        await admin.do("dmarc failures sent", limit=0)
